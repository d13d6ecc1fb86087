"""One policy's evaluation as it is saved: what was asked how, and what became of each question."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from floe.cluster.messages import Outcome
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular

EVALUATIONS_FOLDER = "evaluations"  # of a run
TRAINED = "trained"  # the trained policy's folder in it
HARNESS_VERSION = 1  # raised when the same answers would be counted otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationIdentity:
    """What two evaluations must share to be compared, and, in the last three fields, what may differ."""

    harness_version: int
    prompt_digest: str  # of every prompt's tokens, so of its style, its parts and the tokenizer
    questions_digest: str  # of ids, databases, texts and golds, in their order
    databases_digest: str  # of the names and sizes of the files that were judged on
    comparator: str
    num_samples: int
    temperature: float  # of the samples
    max_new_tokens: int
    model: str
    adapter: str | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyAnswer:
    """Soft F1 is None for a result that was too large to be measured, R-VES for a question that was not timed."""

    outcome: Outcome
    sql: str | None
    is_bird_match: bool
    is_spider_match: bool  # on the main database alone
    soft_f1: float | None
    r_ves: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord:
    """One question. `hardness` is the data set's own difficulty, else Spider's level of the first gold."""

    question_id: str
    database_id: str
    text: str
    hardness: str
    greedy: GreedyAnswer
    num_correct: int  # of the samples
    num_executes: int  # of the samples
    exact_vote_correct: bool
    soft_vote_correct: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Questions without a verdict have no record, and a line or two in `left_out` that say why."""

    identity: EvaluationIdentity
    num_asked: int
    has_suite: bool  # outcomes are then of every database of the suite
    records: tuple[QuestionRecord, ...]
    left_out: tuple[str, ...] = ()
    clock: str = ""  # what SQL got for the present time, in UTC

    def write(self, folder: Path) -> Path:
        """Makes the folder where it lacks. Raises UserError when it can't be written."""
        path = folder / EVALUATION_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as fault:
            raise UserError(f"Can't write {path} ({fault.strerror}): choose another --out.") from fault
        return path


def read_evaluation(path: Path) -> Evaluation:
    """Raises UserError for a file that holds none."""
    try:
        fields: dict[str, Any] = parsed_json(read_regular(path))
        records = tuple(_record(record) for record in fields.pop("records"))
        identity = EvaluationIdentity(**fields.pop("identity"))
        return Evaluation(identity=identity, records=records, **fields | {"left_out": tuple(fields["left_out"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(
            f"{path} holds no evaluation ({fault}): give a folder that 'floe evaluate --out' wrote."
        ) from fault


def _record(fields: dict[str, Any]) -> QuestionRecord:
    greedy = dict(fields["greedy"])
    return QuestionRecord(**fields | {"greedy": GreedyAnswer(**greedy | {"outcome": Outcome(greedy["outcome"])})})
