"""A learner that is lost again and again at one step ends the run; with progress between, it goes on."""

import pytest

from floe.cluster.ray_actors.learner_handle import LearnerLost
from floe.cluster.training.attempts import MAX_LOSSES_AT_A_STEP, Losses


def test_losses_at_one_step_come_to_an_end():
    losses = Losses()
    for _ in range(MAX_LOSSES_AT_A_STEP):
        losses.count(4, LearnerLost("gone"))
    with pytest.raises(LearnerLost, match="gone"):
        losses.count(4, LearnerLost("gone"))


def test_progress_between_them_lets_the_run_go_on():
    losses = Losses()
    for step in range(1, 50):
        for _ in range(MAX_LOSSES_AT_A_STEP):
            losses.count(step, LearnerLost("gone"))
    assert losses.num_all == 49 * MAX_LOSSES_AT_A_STEP
