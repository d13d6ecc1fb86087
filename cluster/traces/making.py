"""Makes a run's traces: asks and judges what the folder does not have yet, then selects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.checkpoints.inputs import adapter_digest, model_digest
from floe.cluster.messages import Question
from floe.cluster.plugins.sources import plugin_sources
from floe.cluster.ray_actors.placement import start_reward_pool, start_rollout_pool, stored_adapter
from floe.cluster.terminal.progress import Progress
from floe.cluster.traces.given_file import GivenTraces, read_given
from floe.cluster.traces.judging import judged, lacks_verdict, sampled
from floe.cluster.traces.records import AskedQuestion, read_samples, sample_line
from floe.cluster.traces.selection import Selection, select_traces
from floe.cluster.traces.thought_form import ThoughtForm
from floe.configs.errors import UserError
from floe.configs.plugins.kinds import DATABASE_KINDS, PROMPT_STYLES
from floe.configs.schema import RunConfig

SAMPLES_FILE = "samples.jsonl"
OF_JUDGING = {
    "semantics",
    "suite",
    "time_limit_s",
    "max_rows",
    "max_result_bytes",
    "max_memory_bytes",
    "max_cell_bytes",
    "max_sql_bytes",
    "max_expression_depth",
    "max_compound_selects",
    "max_like_pattern_bytes",
    "float_tolerance",
}  # fields of `reward`; not its clock, which follows the run's start
OF_SAMPLING = {"trace_samples", "trace_temperature"}  # fields of `warm_start`


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWork:
    """What traces are made of, and the folder that keeps the judged answers."""

    train: tuple[Question, ...]
    held_back: tuple[Question, ...]
    databases_dir: Path
    model_dir: Path
    initial_adapter: Path | None  # of the policy that is sampled; None: the base model
    encoder: PromptEncoder = field(compare=False)
    given: GivenTraces | None  # None: they are sampled
    key: str  # of everything that decides the judged answers
    folder: Path

    @property
    def asked(self) -> list[tuple[Question, bool]]:
        """Each question that needs answers, with whether it is held back."""
        if self.given is not None:
            return [(one.question, one.is_held_back) for one in self.given.answers]
        return [(one, False) for one in self.train] + [(one, True) for one in self.held_back]


def trace_work(
    config: RunConfig,
    model_dir: Path,
    encoder: PromptEncoder,
    train: Sequence[Question],
    held_back: Sequence[Question],
    databases_dir: Path,
    initial_adapter: Path | None,
) -> TraceWork:
    """Return what the run's traces are made of. Raises UserError for a file that can't be used, ConfigError."""
    ThoughtForm.of(encoder.style, config.prompt.style)
    path = config.warm_start.traces
    given = None if path is None else read_given(path, train, held_back, encoder.answer_start)
    key = _key(config, model_dir, encoder, train, held_back, given, initial_adapter)
    return TraceWork(
        train=tuple(train),
        held_back=tuple(held_back),
        databases_dir=databases_dir,
        model_dir=model_dir,
        initial_adapter=initial_adapter,
        encoder=encoder,
        given=given,
        key=key,
        folder=config.run.home_dir / "warm_starts" / f"traces-{key}",
    )


def num_to_sample(work: TraceWork) -> int:
    """Return the number of questions that the engine still has to answer; 0 where answers are given."""
    if work.given is not None:
        return 0
    path = work.folder / SAMPLES_FILE
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found = read_samples(lines, work.train, work.held_back)
    return sum((is_held, one.question_id) not in found for one, is_held in work.asked)


def make_traces(config: RunConfig, work: TraceWork, progress: Progress) -> Selection:
    """Return the run's traces; answers that an interrupted attempt has left are not asked again.

    Raises UserError where no answer is worth keeping, or too many have no verdict.
    """
    if work.given is not None and work.given.num_unknown:
        progress.note(
            f"{work.given.num_unknown:,} given traces left out, of questions that the run does not learn from"
        )
    with _samples(work) as (file, found):
        if missing := [one for one in work.asked if (one[1], one[0].question_id) not in found]:
            if found:
                progress.note(f"{len(found):,} questions have judged answers in {work.folder}")
            for asked in _answers(config, work, missing, progress):
                key = asked.is_held_back, asked.question.question_id
                if lacks_verdict(asked):
                    found[key] = asked  # not on disk, so that the next attempt asks again
                    continue
                file.write(sample_line(asked).encode() + b"\n")
                file.flush()
                found[key] = asked
    _check_verdicts(config, found.values())
    form, settings = ThoughtForm.of(work.encoder.style, config.prompt.style), config.warm_start
    most, seed = settings.max_traces_per_question, config.warm_start_seed
    asked_all = [found[key] for key in sorted(found)]
    selection = select_traces(asked_all, form, work.encoder.answer_start, most, seed)
    for line in selection.lines():
        progress.note(line)
    if not selection.train:
        raise UserError(_nothing_kept(selection, work))
    return selection


def _answers(
    config: RunConfig, work: TraceWork, missing: Sequence[tuple[Question, bool]], progress: Progress
) -> Iterator[AskedQuestion]:
    """Yield judged answers, from actors that end with it."""
    rewards = start_reward_pool(config, work.databases_dir, "trace-reward")
    try:
        if work.given is not None:
            wanted = {(is_held, one.question_id) for one, is_held in missing}
            given = [one for one in work.given.answers if (one.is_held_back, one.question.question_id) in wanted]
            yield from judged(rewards, work.encoder, config, given)
            return
        rollouts = start_rollout_pool(config, work.model_dir, "trace-rollout")
        try:
            version = None if work.initial_adapter is None else 0
            if work.initial_adapter is not None:
                rollouts.install(stored_adapter(config, work.initial_adapter))
            policy = sampled(rollouts, rewards, work.encoder, config, missing, version)
            num_asked = config.warm_start.trace_samples * len(missing)
            yield from _counted(policy, partial(progress.answers, num_asked=num_asked))
        finally:
            rollouts.stop()
    finally:
        rewards.stop()


def _counted(asked: Iterable[AskedQuestion], note: Callable[[int], object]) -> Iterator[AskedQuestion]:
    num_answered = 0
    for one in asked:
        num_answered += len(one.samples)
        note(num_answered)
        yield one


@contextmanager
def _samples(work: TraceWork) -> Iterator[tuple[BinaryIO, dict[tuple[bool, str], AskedQuestion]]]:
    """Open the folder's answers, without a last line that was cut off. Raises UserError while another run holds it."""
    work.folder.mkdir(parents=True, exist_ok=True)
    path = work.folder / SAMPLES_FILE
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"Another run is making the same traces in {work.folder}: wait for its end, and start this one again."
        ) from None
    try:
        whole = path.read_bytes() if path.exists() else b""
        lines = whole[: whole.rfind(b"\n") + 1]
        with path.open("ab") as file:
            file.truncate(len(lines))
            found = read_samples(lines.splitlines(), work.train, work.held_back)
            wanted = {(is_held, one.question_id) for one, is_held in work.asked}
            yield file, {key: one for key, one in found.items() if key in wanted}
    finally:
        lock.release()


def _check_verdicts(config: RunConfig, asked: Iterable[AskedQuestion]) -> None:
    """Raise UserError where more questions than `run.max_dropped_share` have answers without a verdict."""
    given = list(asked)
    without = [one for one in given if any(not sample.outcome.carries_reward for sample in one.samples)]
    if len(without) > config.run.max_dropped_share * len(given):
        first = without[0]
        outcome = next(one.outcome for one in first.samples if not one.outcome.carries_reward)
        raise UserError(
            f"traces: {len(without)} of {len(given)} questions have answers without a verdict, the first is "
            f"{first.question.question_id} on database {first.question.database_id} ({outcome}): fix that and start "
            "again, which asks for what is missing alone, or raise run.max_dropped_share."
        )


def _nothing_kept(selection: Selection, work: TraceWork) -> str:
    train = selection.coverage["train"]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in train.dropped.items() if count)
    remedy = (
        "give a file whose answers are right"
        if work.given is not None
        else "start from a policy that answers some questions right in this style, as in lora.initial_adapter=RUN_DIR "
        "of a short warm start on golds, or give warm_start.traces"
    )
    return f"No trace is left of {train.num_sampled:,} answers ({reasons or 'there were none'}): {remedy}."


def _key(
    config: RunConfig,
    model_dir: Path,
    encoder: PromptEncoder,
    train: Sequence[Question],
    held_back: Sequence[Question],
    given: GivenTraces | None,
    initial_adapter: Path | None,
) -> str:
    made_by: dict[str, object] = {
        "train": [[asdict(one), encoder.training_prompt(one)] for one in train],
        "held back": [[asdict(one), encoder.prompt(one)] for one in held_back],
        "judging": config.reward.model_dump(mode="json", include=OF_JUDGING),
        "limit": config.rollout.max_new_tokens,
        "plug-ins": [plugin_sources(config, PROMPT_STYLES), plugin_sources(config, DATABASE_KINDS)],
    }
    if given is not None:
        made_by["given"] = [asdict(one) for one in given.answers]
    else:
        made_by["sampling"] = [config.warm_start_seed, config.warm_start.model_dump(include=OF_SAMPLING)]
        made_by["model"] = [
            model_digest(model_dir, config.run.home_dir),
            config.model.model_dump(mode="json", exclude={"path"}),
            config.rollout.dtype,
        ]
        if initial_adapter is not None:
            made_by["adapter"] = adapter_digest(initial_adapter, config.run.home_dir)
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
