"""The register of waits, by a clock that the test sets: who waits for what, the line each minute, the limits."""

from __future__ import annotations

import threading

import pytest

from floe.cluster.loop.generation import Ahead
from floe.cluster.waits import Waits, WaitTooLong, acquire, waits
from floe.configs.errors import UserError


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def register(clock) -> Waits:
    return Waits(clock)


def test_each_wait_that_lasts_is_listed_the_longest_first(register, clock):
    with register.on("learner", "groups of step 7", 900):
        clock.now_s += 5
        with register.on("driver", "adapter 6", 60):
            clock.now_s += 2
            listed = [(one.owner, one.what, one.waited_s, one.limit_s) for one in register.now()]
            assert listed == [("learner", "groups of step 7", 7, 900), ("driver", "adapter 6", 2, 60)]
        assert [one.what for one in register.now()] == ["groups of step 7"]
    assert register.now() == ()


def test_a_wait_that_ends_in_a_fault_is_over(register):
    with pytest.raises(RuntimeError), register.on("driver", "x", 1):
        raise RuntimeError
    assert register.now() == ()


def test_there_is_a_line_for_each_further_minute_of_each_wait(register, clock):
    with register.on("learner", "groups of step 7", 900):
        clock.now_s += 59
        assert register.lines_due() == []
        clock.now_s += 2
        with register.on("driver", "adapter 6", 600):
            assert register.lines_due() == ["learner has waited 1 min for groups of step 7 (limit 15 min)"]
            assert register.lines_due() == []
            clock.now_s += 125
            assert [line.partition(" for ")[0] for line in register.lines_due()] == [
                "learner has waited 3 min",
                "driver has waited 2 min",
            ]
    with register.on("learner", "groups of step 8", 900):
        clock.now_s += 61
        assert len(register.lines_due()) == 1


def test_the_limit_is_counted_from_the_start_and_its_fault_is_one_sentence(register, clock):
    with register.on("driver", "the learner's update of step 7", 100, "do this") as wait:
        clock.now_s += 30
        with register.on("driver", "another", 5):
            clock.now_s += 10
        assert wait.left_s == 60
        clock.now_s += 500
        assert wait.left_s == 0
    fault = wait.too_long()
    assert isinstance(fault, UserError)
    assert str(fault) == ("The driver waited 100 s for the learner's update of step 7, which is the limit: do this.")


def test_a_wait_behind_another_thread_goes_on_while_waits_end_there(register, clock):
    with register.behind("learner", "groups of step 7", 100) as wait:
        for _ in range(10):
            with register.on("driver", "the next group", 90):
                clock.now_s += 80
            assert wait.left_s == 100
        assert register.now()[0].waited_s == 800
        with register.on("driver", "the next group", 200):
            clock.now_s += 101
            assert wait.left_s == 0


def test_threads_may_wait_at_once(register):
    at_once = threading.Barrier(8)

    def wait_often(number: int) -> None:
        at_once.wait(10)
        for _ in range(300):
            with register.on(str(number), "x", 1), register.behind(str(number), "y", 1):
                register.now()
                register.lines_due()

    threads = [threading.Thread(target=wait_often, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert register.now() == ()


def test_a_lock_that_nobody_gives_back_ends_the_wait():
    lock = threading.Lock()
    lock.acquire()
    with pytest.raises(WaitTooLong, match="its turn"), Waits().behind("learner", "its turn", 0.05) as wait:
        acquire(lock, wait)


def test_generation_that_brings_nothing_ends_the_learners_wait_and_is_named_meanwhile():
    go_on = threading.Event()
    ahead = Ahead(lambda *_: go_on.wait(30), num_steps=2, max_staleness=1, in_turns=False, timeout_s=0.3)
    seen: list[str] = []
    watcher = threading.Timer(0.1, lambda: seen.extend(one.what for one in waits.now() if one.owner == "learner"))
    watcher.start()
    try:
        with pytest.raises(WaitTooLong, match=r"learner waited 0\.3 s for the groups of step 1"):
            ahead.take(1)
    finally:
        go_on.set()
        ahead.close()
    assert seen == ["the groups of step 1"]
