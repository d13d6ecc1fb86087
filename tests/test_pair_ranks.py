"""Pairs that find no room, nodes that tell the size of their GPUs, and two real ranks placed as pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from ray.cluster_utils import Cluster

from floe.cluster.memory_plan.card_sizes import ASSUMED_CARD
from floe.cluster.operations.smallest_card import cards_of_nodes
from floe.cluster.ray_actors.placement import check_resources, start_learner
from floe.configs.errors import UserError
from floe.learner import learner_actor
from tests.command_line import config, floe
from tests.test_learner_ranks import THREE_PACKS_AGAINST_ONE
from tests.test_pair_placement import NUM_GPUS, config_of, declared_gpus_and_stand_ins, leave_gpus, started
from tests.tiny_models import save_tiny_llama

pytestmark = [pytest.mark.engine, pytest.mark.long]

REAL_RANK = learner_actor.LearnerActor


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[None]:
    with declared_gpus_and_stand_ins():
        yield


def test_pairs_without_room_end_the_run_in_a_sentence(stand_ins, tmp_path):
    with pytest.raises(UserError, match="The run needs 3 Ray GPUs, the cluster has 2"):
        check_resources(config_of(3))
    said = r"no place for the run's 3 pairs.*1 GPU and 0\.5 CPU each, within cluster\.start_timeout_s = 0\.5 s"
    with pytest.raises(UserError, match=said):
        start_learner(config_of(3, "cluster.start_timeout_s=0.5"), tmp_path, None)
    made = started(config_of(NUM_GPUS), tmp_path)  # nothing of the group is left
    assert len(set(made.places()[0])) == NUM_GPUS
    made.learner.stop()
    made.rollouts.stop()
    leave_gpus()


def test_the_nodes_tell_the_memory_of_their_gpus(stand_ins):
    assert cards_of_nodes(config_of(2)) == [ASSUMED_CARD.usable_bytes]  # declared, and none is there


def test_the_ranks_of_two_pairs_make_the_update_of_one(stand_ins, monkeypatch, tmp_path):
    """Uses gloo, because there is no GPU behind the declared ones."""
    monkeypatch.setattr("floe.learner.learner_actor.LearnerActor", REAL_RANK)
    model_dir = save_tiny_llama(tmp_path)
    wanted = ["model.dtype=float32", "rollout.dtype=float32", "lora.rank=8", "learner.max_grad_norm=1000000"]
    wanted += ["learner.max_pack_tokens=64", "learner.num_threads=1", "algorithm.kl_coefficient=0.01"]
    reports = []
    for num_pairs in (1, 2):
        learner = start_learner(config_of(num_pairs, *wanted), model_dir, None)
        reports.append([learner.update(step, THREE_PACKS_AGAINST_ONE) for step in (1, 2)])
        learner.stop()
        leave_gpus()
    for one, two in zip(*reports, strict=True):
        assert one.grad_norm > 0
        assert asdict(two) == pytest.approx(asdict(one), rel=1e-5, abs=1e-7)


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """The address of a head without GPUs and of two nodes that declare one each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, num_gpus=1, include_dashboard=False)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.cpu_engine
@pytest.mark.soak
def test_a_whole_run_of_two_pairs_takes_turns_on_two_nodes(other_home, two_nodes, tmp_path):
    done = floe(
        "train", "--config", config("smoke.yaml"), "--run-dir", str(tmp_path / "run"), f"cluster.address={two_nodes}",
        "rollout.num_actors=2", "learner.num_ranks=2", "rollout.num_gpus=0.5", "learner.num_gpus=0.5",
        "cluster.colocation=engine_sleeps", "run.num_steps=2", "evaluation.enabled=false",
        "warm_start.max_train_questions=32", "reward.num_workers=2", home=other_home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["grad_norm"] > 0 and step["handover_s"] > 0 for step in steps if "grad_norm" in step] == [True, True]
    assert len(list((tmp_path / "run" / "checkpoints" / "step-000002").glob("optimizer-*"))) == 2
