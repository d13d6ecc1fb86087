"""All counterparts of the main loop as one fake that records its calls."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from floe.cluster.loop.adapter_broadcast import Exported, Published
from floe.cluster.loop.controller import Stop, train_grpo
from floe.cluster.loop.dynamic_sampling import Refill, collect_step
from floe.cluster.loop.generation import InTurn
from floe.cluster.loop.group_collection import Collected
from floe.cluster.loop.step_clock import StepTimings
from floe.cluster.loop.token_budget import TokenBudget
from floe.cluster.messages import (
    AdapterManifest,
    Completion,
    GroupRequest,
    Outcome,
    Question,
    RolloutGroup,
    Score,
    ScoredGroup,
    ScoreRequest,
    StepReport,
)
from tests.scored_groups import step_report

PREFILL = "SELECT "
NUM_CANDIDATES = 2


def request(name: str, seed: int) -> GroupRequest:
    return GroupRequest(
        group_id=name,
        question=Question(question_id=name, database_id="shop", text="How many?", gold_sql=("SELECT 1",)),
        prompt_token_ids=(1, 2),
        num_samples=NUM_CANDIDATES,
        temperature=0.8,
        max_new_tokens=8,
        seed=seed,
    )


def requests_of_step(step: int) -> list[GroupRequest]:
    """Return five questions a step, named after the step; seeds fall, so that order can't come from sorting them."""
    return [request(f"s{step}q{i}", seed=1000 * step - i) for i in range(5)]


def group_of(one: GroupRequest) -> RolloutGroup:
    completions = tuple(
        Completion(
            text=f"{one.question.question_id}/{candidate}",
            token_ids=(3, 4),
            logprobs=(-0.5, -0.5),
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for candidate in range(one.num_samples)
    )
    return RolloutGroup(
        group_id=one.group_id,
        question=one.question,
        prompt_token_ids=one.prompt_token_ids,
        temperature=one.temperature,
        seed=one.seed,
        completions=completions,
    )


def names_of(groups: Sequence[ScoredGroup]) -> list[str]:
    return [group.rollout.question.question_id for group in groups]


class InstallFailed(RuntimeError):
    pass


class FakeCluster:
    """All four counterparts of the loop; `events` are the calls to it, in order."""

    num_replaced = 0

    def __init__(
        self,
        arrival: Callable[[list[RolloutGroup]], list[RolloutGroup]] = list,
        verdicts: dict[str, tuple[Outcome, ...]] | None = None,
        failing_install: int | None = None,
    ) -> None:
        self.events: list[tuple] = []
        self.trained: dict[int, list[ScoredGroup]] = {}
        self.recorded: list[tuple[list[str], int, int, int]] = []  # questions, dropped, step, version
        self.timings: list[StepTimings] = []
        self.refill_rounds: list[int] = []
        self.last_steps: list[int] = []  # versions that must have a checkpoint
        self.score_requests: list[ScoreRequest] = []
        self._arrival = arrival
        self._verdicts = verdicts or {}
        self._failing_install = failing_install

    # rollouts

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        self.events.append(("generate", [one.question.question_id for one in requests], adapter_version))
        yield from self._arrival([group_of(one) for one in requests])

    # rewards

    def submit(self, request: ScoreRequest) -> ScoreRequest:
        self.score_requests.append(request)
        return request

    def result(self, ticket: ScoreRequest) -> tuple[Score, ...]:
        verdicts = self._verdicts.get(ticket.question_id, (Outcome.MATCH, Outcome.MISMATCH))
        return tuple(
            Score(
                outcome=outcome,
                reward=float(outcome is Outcome.MATCH) if outcome.carries_reward else None,
                seconds=0.0,
                message=f"verdict on {candidate.completion}",
            )
            for outcome, candidate in zip(verdicts, ticket.candidates, strict=True)
        )

    # learner

    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport:
        self.events.append(("update", step))
        self.trained[step] = list(groups)
        return step_report(step=step)

    def export_adapter(self, version: int) -> AdapterManifest:
        self.events.append(("export", version))
        return AdapterManifest(
            version=version,
            rank=8,
            alpha=16,
            target_modules=("q_proj",),
            num_modules=1,
            num_bytes=100,
            digest="",
            slots_digest="",
            blob_ref=None,
        )

    def save_adapter(self, folder: Path) -> None:
        raise AssertionError("saving is the recorder's business")

    # broadcast

    def export(self, version: int) -> Exported:
        return Exported(manifest=self.export_adapter(version), canary_logprobs=(), export_s=0.1, canary_s=0.1)

    def install(self, exported: Exported) -> Published:
        manifest = exported.manifest
        if manifest.version == self._failing_install:
            raise InstallFailed(f"version {manifest.version} did not arrive")
        self.events.append(("install", manifest.version))
        return Published(manifest=manifest, canary_kl=0.001, export_s=0.1, install_s=0.2, canary_s=0.3)

    def prove_on_longest(self, version: int) -> None:
        self.events.append(("prove", version))

    # device

    def to_learner(self) -> None:
        self.events.append(("to learner",))

    def to_rollouts(self) -> None:
        self.events.append(("to rollouts",))

    # recorder

    def record(
        self,
        taken: Collected,
        num_dropped: int,
        report: StepReport,
        published: Published,
        timings: StepTimings,
    ) -> None:
        self.events.append(("record", report.step))
        names = names_of(taken.groups)
        self.recorded.append((names, num_dropped, report.step, published.manifest.version))
        self.timings.append(timings)
        self.refill_rounds.append(taken.num_rounds - 1)

    # health

    def check(self, report: StepReport) -> None:
        self.events.append(("health", report.step))

    wants_roll_back = False

    def roll_back(self, step: int) -> None:
        self.events.append(("roll back", step))
        self.wants_roll_back = False

    # checkpoints

    def is_due(self, step: int, *, is_last: bool) -> bool:
        return True

    def write(self, step: int, *, is_last: bool) -> None:
        self.events.append(("checkpoint", step))
        self.last_steps += [step] * is_last

    # the user, who lets it run

    def end_if_made(self, step: int) -> None:
        pass

    def kinds(self) -> list[str]:
        return [event[0] for event in self.events]


def unasked(*_: object, **__: object) -> list[GroupRequest]:
    raise AssertionError("nobody asked for a refill")


NO_REFILL = Refill(max_rounds=0, carries_gradient=unasked, requests=unasked)


def run(
    cluster: FakeCluster,
    num_steps: int = 1,
    max_dropped_share: float = 0.2,
    requests_of_step: Callable[[int], Sequence[GroupRequest]] = requests_of_step,
    refill: Refill = NO_REFILL,
    first_step: int = 1,
    stop: Stop | None = None,
    max_tokens: int | None = None,
) -> FakeCluster:
    def collect(step: int, version: int) -> Collected:
        return collect_step(cluster, cluster, requests_of_step(step), step, version, PREFILL, refill)

    train_grpo(
        generation=InTurn(collect),
        learner=cluster,
        device=cluster,
        broadcast=cluster,
        recorder=cluster,
        health=cluster,
        checkpoints=cluster,
        stop=stop or cluster,
        first_step=first_step,
        num_steps=num_steps,
        budget=TokenBudget(max_tokens),
        max_dropped_share=max_dropped_share,
    )
    return cluster


def names_of_step(step: int) -> list[str]:
    return [one.question.question_id for one in requests_of_step(step)]
