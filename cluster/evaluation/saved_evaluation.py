"""One policy's evaluation as it is saved: the questions, how they were asked, and the result of each."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from floe.cluster.messages import Outcome
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular

EVALUATIONS_FOLDER = "evaluations"  # folder of a run
TRAINED = "trained"  # the trained policy's folder in it
CONTROL = "control"  # the folder of the start, sampled at the trained policy's entropy; it has no greedy answers
HARNESS_VERSION = 1  # raised when the same answers would be counted differently


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationIdentity:
    """Fields that two evaluations must share to be compared; the last three may differ."""

    harness_version: int
    prompt_digest: str  # digest of every prompt's tokens, so of its style, its parts and the tokenizer
    questions_digest: str  # digest of ids, databases, texts and golds, in their order
    databases_digest: str  # digest of the names and sizes of the files used for judging
    comparator: str
    num_samples: int
    temperature: float  # of the samples
    max_new_tokens: int
    model: str
    adapter: str | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyAnswer:
    """One greedy answer. Soft F1 is None for a result too large to measure, R-VES for a question that was not timed."""

    outcome: Outcome
    sql: str | None
    is_bird_match: bool
    is_spider_match: bool  # on the main database alone
    soft_f1: float | None
    r_ves: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord:
    """One question. `hardness` is the data set's own difficulty, otherwise Spider's level of the first gold."""

    question_id: str
    database_id: str
    text: str
    hardness: str
    greedy: GreedyAnswer
    num_correct: int  # of the samples
    num_executes: int  # of the samples
    exact_vote_correct: bool
    soft_vote_correct: bool
    source: str = ""  # of a mixture; empty without one


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUse:
    """What the answers of a model behind an endpoint took; tokens are those that it reported."""

    num_answers: int
    num_kept: int  # of these, known from an earlier evaluation: they cost nothing now
    num_without_counts: int  # answers whose tokens it did not report
    prompt_tokens: int  # of all answers
    completion_tokens: int
    paid_prompt_tokens: int  # of the answers that were asked for now
    paid_completion_tokens: int
    cost: float | None  # of all answers by the given prices, in their currency; None without both prices
    paid: float | None  # of the answers that were asked for now
    notes: tuple[str, ...] = ()  # settings that it did not take


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation. Questions without a verdict have no record, but a line or two in `left_out` that say why."""

    identity: EvaluationIdentity
    num_asked: int
    has_suite: bool  # outcomes are then over every database of the suite
    records: tuple[QuestionRecord, ...]
    left_out: tuple[str, ...] = ()
    clock: str = ""  # what SQL got for the present time, in UTC
    endpoint: EndpointUse | None = None  # of a model behind one

    def write(self, folder: Path) -> Path:
        """Write it, and make the folder where it is missing. Raises UserError when it can't be written."""
        path = folder / EVALUATION_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(json_fields(self), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as fault:
            raise UserError(f"Can't write {path} ({fault.strerror}): choose another --out.") from fault
        return path


def json_fields(evaluation: Any) -> dict[str, Any]:
    """Return the fields of an evaluation or its summary for JSON; endpoints and sources only where there are such."""
    fields = asdict(evaluation)
    for name in ("endpoint", "by_source"):
        if name in fields and not fields[name]:
            del fields[name]
    for record in fields.get("records", ()):
        if not record["source"]:
            del record["source"]
    return fields


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation, compressed by gzip where the name ends so. Raises UserError for a file that holds none."""
    try:
        content = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else read_regular(path)
        fields: dict[str, Any] = parsed_json(content)
        records = tuple(_record(record) for record in fields.pop("records"))
        identity = EvaluationIdentity(**fields.pop("identity"))
        use = fields.pop("endpoint", None)
        endpoint = None if use is None else EndpointUse(**use | {"notes": tuple(use["notes"])})
        fields["left_out"] = tuple(fields["left_out"])
        return Evaluation(identity=identity, records=records, endpoint=endpoint, **fields)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(
            f"{path} holds no evaluation ({fault}): give a folder that 'floe evaluate --out' wrote."
        ) from fault


def _record(fields: dict[str, Any]) -> QuestionRecord:
    greedy = dict(fields["greedy"])
    return QuestionRecord(**fields | {"greedy": GreedyAnswer(**greedy | {"outcome": Outcome(greedy["outcome"])})})
