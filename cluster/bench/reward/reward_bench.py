"""`floe bench reward`: scores per CPU-second, compared with bare SQLite and two published ways, interleaved."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from floe.cluster.bench.reward.reward_figures import Figure, guarantee_figures
from floe.cluster.bench.reward.reward_ways import Ask, Bare, InProcess, bird_way, process_per_query, score_request
from floe.cluster.bench.reward.reward_workload import BenchQuestion, bench_questions, write_bench_database
from floe.cluster.bench.targets import Target, targets_table
from floe.cluster.messages import Outcome
from floe.cluster.ray_actors.placement import ray_session, start_reward_pool
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.configs.schema import RunConfig

NUM_QUESTIONS = 1200  # six times 200, each with different queries, because a machine's speed varies
GROUP_SIZE = 16
NUM_ROUNDS = 30
QUESTIONS_PER_PROCESS_ROUND = 1  # a process per query is slow enough to be measured on few

Clock = Callable[[], float]
Group = tuple[str, Sequence[str]]  # gold and candidates

BARE_DISTINCT, BARE_SAMPLED = "bare sqlite3, distinct", "bare sqlite3, as sampled"
OURS_DISTINCT, OURS_SAMPLED = "executor in process, distinct", "executor in process, as sampled"
BIRD, PROCESSES = "BIRD's way, as sampled", "process per query, as sampled"
RAY_1, RAY_2 = "through Ray, 1 worker, as sampled", "through Ray, 2 workers, as sampled"
ALL_WAYS = (BARE_DISTINCT, OURS_DISTINCT, BARE_SAMPLED, OURS_SAMPLED, BIRD, PROCESSES, RAY_1, RAY_2)


@dataclass
class Tally:
    """Scores of one way so far; CPU seconds by the clock that the way was given."""

    num_scores: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    worker_cpu_s: float = 0.0  # the part of the reward workers and their children
    matches: dict[str, list[bool]] = field(default_factory=dict)  # by gold and candidate, for the ways to agree on

    @property
    def per_cpu_s(self) -> float:
        return self.num_scores / self.cpu_s

    @property
    def per_worker_cpu_s(self) -> float:
        return self.num_scores / self.worker_cpu_s

    @property
    def per_wall_s(self) -> float:
        return self.num_scores / self.wall_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFigures:
    """What the bench measured."""

    tallies: dict[str, Tally]
    targets: tuple[Target, ...]
    figures: tuple[Figure, ...]  # of the guarantees of time


def bench_reward(config: RunConfig, as_json: bool) -> None:
    """Print the table, or JSON. Raises RuntimeError when two ways disagree about a candidate."""
    found = measured_reward(config, NUM_QUESTIONS, NUM_ROUNDS)
    if as_json:
        ways = {
            name: {"scores": t.num_scores, "per_cpu_s": t.per_cpu_s, "per_wall_s": t.per_wall_s}
            for name, t in found.tallies.items()
        }
        judged = [asdict(one) | {"verdict": one.verdict} for one in found.figures]
        targets = [one.record() for one in found.targets]
        print(json.dumps({"ways": ways, "targets": targets, "figures": judged}, indent=2))
    else:
        _render(found.tallies, found.targets, found.figures)


def measured_reward(config: RunConfig, num_questions: int, num_rounds: int) -> RewardFigures:
    """Measure every way. Raises RuntimeError when two ways disagree about a candidate."""
    questions = bench_questions(num_questions, GROUP_SIZE)
    with (
        TemporaryDirectory(prefix="floe-bench-") as folder,
        redirect_stdout(sys.stderr),  # Ray reports the workers that are killed here on stdout
        # An own Ray, because the CPU time of a running one does not count to this process.
        ray_session(config.cluster.model_copy(update={"address": "local"}), "floe-bench"),
    ):
        path = write_bench_database(Path(folder))
        pools = [_pool(config, Path(folder), number) for number in (1, 2)]
        tallies = _measure(config, Path(folder), path, questions, pools, num_rounds)
        figures = guarantee_figures(Path(folder), pools[0])
    return RewardFigures(tallies=tallies, targets=tuple(_targets(tallies)), figures=tuple(figures))


def _own_cpu_s() -> float:
    """Return CPU seconds of this process and of its children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _tree_cpu_s() -> float:
    """Return CPU seconds of this process and all below it: workers, executor children and Ray's own processes."""
    looked_s = time.process_time()
    below_s = _cpu_s(psutil.Process().children(recursive=True))
    return below_s + _own_cpu_s() - (time.process_time() - looked_s)


def _worker_cpu_s() -> float:
    """Return CPU seconds of all reward workers, with their fork servers and executor children."""
    workers = [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]
    return _cpu_s([one for worker in workers for one in (worker, *worker.children(recursive=True))])


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("ray::Scorer")
    except psutil.NoSuchProcess:
        return False


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # ended meanwhile: its parent has its time
        total += times.user + times.system + times.children_user + times.children_system
    return total


@dataclass(frozen=True, slots=True)
class _Way:
    """One way; `answer` takes pairs of gold and candidates."""

    name: str
    answer: Callable[[Sequence[Group]], list[list[bool]]]
    is_sampled: bool = True  # otherwise each distinct candidate once
    cpu_s: Clock = _own_cpu_s
    questions_per_round: int | None = None


def _measure(
    config: RunConfig,
    databases_dir: Path,
    path: Path,
    questions: Sequence[BenchQuestion],
    pools: Sequence[RewardPool],
    num_rounds: int,
) -> dict[str, Tally]:
    bare, ours = Bare(path), InProcess(databases_dir, config.reward)
    ways = (
        _Way(BARE_DISTINCT, _one_by_one(bare.ask), is_sampled=False),
        _Way(OURS_DISTINCT, _one_by_one(ours.ask), is_sampled=False),
        _Way(BARE_SAMPLED, _one_by_one(bare.ask)),
        _Way(OURS_SAMPLED, _one_by_one(ours.ask)),
        _Way(BIRD, _one_by_one(bird_way(path))),
        _Way(PROCESSES, _one_by_one(process_per_query(path)), questions_per_round=QUESTIONS_PER_PROCESS_ROUND),
        _Way(RAY_1, lambda groups: _ask_pool(pools[0], groups), cpu_s=_tree_cpu_s),
        _Way(RAY_2, lambda groups: _ask_pool(pools[1], groups), cpu_s=_tree_cpu_s),
    )
    tallies = {way.name: Tally() for way in ways}
    per_round = len(questions) // num_rounds
    for number in range(num_rounds):
        part = questions[number * per_round : (number + 1) * per_round]
        for question in part:
            bare.prepare(question.gold)
            ours.prepare(question.gold)
        for pool in pools:
            # The gold itself is no candidate: its verdict would be known when it is asked for.
            pool.warm([score_request(question.gold, ("SELECT 1",)) for question in part])
        for way in ways if number % 2 == 0 else ways[::-1]:
            # Distinct and sampled candidates come from different questions: no verdict of one helps the other.
            half = part[1::2] if way.is_sampled else part[::2]
            asked = [(q.gold, q.candidates if way.is_sampled else q.distinct) for q in half[: way.questions_per_round]]
            _time(tallies[way.name], way, asked)
    check_agreement(tallies)
    return tallies


def _one_by_one(ask: Ask) -> Callable[[Sequence[Group]], list[list[bool]]]:
    return lambda groups: [ask(gold, candidates) for gold, candidates in groups]


def _pool(config: RunConfig, databases_dir: Path, num_workers: int) -> RewardPool:
    reward = config.reward.model_copy(update={"num_workers": num_workers})
    return start_reward_pool(
        config.model_copy(update={"reward": reward}), databases_dir, name=f"bench-{num_workers}-reward"
    )


def _ask_pool(pool: RewardPool, groups: Sequence[Group]) -> list[list[bool]]:
    tickets = [pool.submit(score_request(gold, candidates)) for gold, candidates in groups]
    return [[score.outcome is Outcome.MATCH for score in pool.result(ticket)] for ticket in tickets]


def _time(tally: Tally, way: _Way, groups: Sequence[Group]) -> None:
    worker_before_s = _worker_cpu_s()
    cpu_before_s, started_s = way.cpu_s(), time.perf_counter()
    answers = way.answer(groups)
    tally.wall_s += time.perf_counter() - started_s
    tally.cpu_s += way.cpu_s() - cpu_before_s
    tally.worker_cpu_s += _worker_cpu_s() - worker_before_s
    for (gold, _), answer in zip(groups, answers, strict=True):
        tally.num_scores += len(answer)
        tally.matches[gold] = answer


def check_agreement(tallies: dict[str, Tally]) -> None:
    """Raise RuntimeError when two ways gave one candidate different verdicts."""
    for name in ALL_WAYS:
        reference = BARE_DISTINCT if name == OURS_DISTINCT else BARE_SAMPLED
        for gold, answer in tallies[name].matches.items():
            if name != BARE_DISTINCT and answer != tallies[reference].matches[gold]:
                raise RuntimeError(f"'{name}' and '{reference}' disagree on the candidates of: {gold}")


def _targets(tallies: dict[str, Tally]) -> list[Target]:
    def ratio(name: str, to: str) -> float:
        return tallies[name].per_cpu_s / tallies[to].per_cpu_s

    return [
        Target(name="executor / bare, distinct", ratio=ratio(OURS_DISTINCT, BARE_DISTINCT), at_least=0.9),
        Target(name="executor / bare, as sampled", ratio=ratio(OURS_SAMPLED, BARE_SAMPLED), at_least=1.5),
        Target(name="executor / BIRD's way", ratio=ratio(OURS_SAMPLED, BIRD), at_least=3.0),
        Target(name="executor / process per query", ratio=ratio(OURS_SAMPLED, PROCESSES), at_least=None),
        Target(
            name="Ray 1 worker / executor, per CPU-second of the worker's processes",
            ratio=tallies[RAY_1].per_worker_cpu_s / tallies[OURS_SAMPLED].per_cpu_s,
            at_least=0.8,
        ),
        Target(
            name="Ray 1 worker / executor, of all processes, Ray's own too",
            ratio=ratio(RAY_1, OURS_SAMPLED),
            at_least=None,
        ),
        Target(name="Ray 2 workers / 1 worker, per CPU-second", ratio=ratio(RAY_2, RAY_1), at_least=0.9),
        Target(
            name="Ray 2 workers / 1 worker, wall",
            ratio=tallies[RAY_2].per_wall_s / tallies[RAY_1].per_wall_s,
            at_least=None,
        ),
    ]


def _render(tallies: dict[str, Tally], targets: Sequence[Target], figures: Sequence[Figure]) -> None:
    from rich import box
    from rich.table import Table

    from floe.cluster.terminal.progress import make_console

    console = make_console()
    ways = Table("way", "scores", "per CPU-second", "per second", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, tally in tallies.items():
        ways.add_row(name, str(tally.num_scores), f"{tally.per_cpu_s:.0f}", f"{tally.per_wall_s:.0f}")
    console.print(ways)
    console.print(targets_table("ratio, per CPU-second", targets))
    kept = Table("guarantee", "measured", "at most", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for figure in figures:
        kept.add_row(figure.name, f"{figure.value:.3g} {figure.unit}", f"{figure.at_most:g}", figure.verdict)
    console.print(kept)
