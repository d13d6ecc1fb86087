"""The queue of the reward workers: its bound, how much a worker takes, and work taken over from a slow one."""

import threading
from concurrent.futures import Future

import pytest

from floe.cluster.messages import ScoreRequest
from floe.cluster.ray_actors import reward_queue
from floe.cluster.ray_actors.reward_queue import BATCH_S, MAX_BATCH, WAITING_PER_WORKER, GroupQueue, Job


def job(name: str) -> Job:
    return Job(ScoreRequest(question_id=name, database_id="d", gold_sql=(), candidates=()), Future(), 0.0)


def filled(num_workers: int, num_jobs: int, group_s: float | None = None) -> GroupQueue:
    """Return a queue, with `group_s` after many groups that took so long."""
    queue = GroupQueue(num_workers)
    for number in range(num_jobs):
        queue.put(job(str(number)), 60)
    for _ in range(50 if group_s is not None else 0):
        queue.note_batch(1, group_s or 0.0)
    return queue


def names(jobs: list[Job] | None) -> list[str]:
    assert jobs is not None
    return [one.request.question_id for one in jobs]


@pytest.mark.parametrize(
    ("num_workers", "group_s", "num_taken"),
    [(1, 0.001, MAX_BATCH), (1, BATCH_S / 3.5, 3), (1, 0.5, 1), (1, None, 1), (4, 0.001, 4), (16, 0.001, 1)],
)
def test_short_groups_are_taken_together_but_no_more_than_a_fair_share(num_workers, group_s, num_taken):
    taken = filled(num_workers, 16 if num_workers > 1 else WAITING_PER_WORKER, group_s).take(0)
    assert names(taken) == [str(number) for number in range(num_taken)]


def test_every_group_is_taken_once_in_order():
    queue = filled(2, 16, 0.02)
    taken: list[str] = []
    while len(taken) < 16:
        taken += names(queue.take(len(taken) % 2))
    assert taken == [str(number) for number in range(16)]


def test_what_waits_behind_a_slow_group_is_taken_over_one_by_one(monkeypatch):
    monkeypatch.setattr(reward_queue, "OVERDUE_S", 0.01)
    queue = filled(1, 4, 0.001)
    assert names(queue.take(0)) == ["0", "1", "2", "3"]
    assert [names(queue.take(1)) for _ in range(3)] == [["3"], ["2"], ["1"]]
    idle = threading.Thread(target=queue.take, args=(1,), daemon=True)
    idle.start()
    idle.join(0.1)
    assert idle.is_alive()  # the slow group itself is left to its worker
    queue.close()
    idle.join(10)
    assert not idle.is_alive()


def test_a_full_queue_holds_the_caller_back_until_something_is_taken():
    queue = filled(1, WAITING_PER_WORKER)
    caller = threading.Thread(target=queue.put, args=(job("late"), 60), daemon=True)
    caller.start()
    caller.join(0.1)
    assert caller.is_alive()
    queue.take(0)
    caller.join(10)
    assert not caller.is_alive()


def test_closing_returns_what_nobody_took_and_ends_every_wait():
    queue = filled(1, 3)
    queue.take(0)
    assert names(queue.close()) == ["1", "2"]
    assert queue.take(0) is None
    late = job("late")
    queue.put(late, 60)
    assert late.scores.cancelled()
