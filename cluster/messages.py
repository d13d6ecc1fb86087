"""The types that cross a process: frozen, picklable, standard library only."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Outcome(StrEnum):
    """Result of one candidate. `match` alone counts as correct."""

    MATCH = "match"
    MISMATCH = "mismatch"
    SYNTAX_ERROR = "syntax_error"
    RUNTIME_ERROR = "runtime_error"
    REJECTED = "rejected"  # not a single SELECT, WITH or VALUES statement
    NO_SQL = "no_sql"  # nothing could be extracted from the completion
    TIMEOUT = "timeout"
    KILLED = "killed"  # it crashed the executor child twice
    TOO_LARGE = "too_large"
    NOT_EXECUTED = "not_executed"  # the run's reward design judges without running
    GOLD_FAILED = "gold_failed"  # nobody's fault: carries no reward
    INFRASTRUCTURE = "infrastructure"  # nobody's fault: carries no reward

    @property
    def carries_reward(self) -> bool:
        return self not in (Outcome.GOLD_FAILED, Outcome.INFRASTRUCTURE)

    @property
    def executes(self) -> bool:
        return self in (Outcome.MATCH, Outcome.MISMATCH)

    @property
    def says_correctness(self) -> bool:  # tells a right candidate from a wrong one
        return self.carries_reward and self is not Outcome.NOT_EXECUTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question over one database; any of `gold_sql` is accepted as the right answer."""

    question_id: str
    database_id: str
    text: str
    gold_sql: tuple[str, ...]
    evidence: str = ""
    semantics: str = ""  # how its results are compared in place of reward.semantics; empty: as that says
    difficulty: str = ""  # as the data set has it
    source: str = ""  # name of its source in a mixture; empty without one


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest:
    """Driver to rollout actor: sample one group. `seed` alone fixes its random streams."""

    group_id: str  # distinguishes the groups of one call
    question: Question
    prompt_token_ids: tuple[int, ...]
    num_samples: int
    temperature: float  # 0 is greedy
    max_new_tokens: int
    seed: int  # candidate i draws from the stream `seed + i`


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One candidate as the engine sampled it."""

    text: str
    token_ids: tuple[int, ...]  # the end token included when it was sampled
    logprobs: tuple[float, ...]  # of each sampled token, after temperature; NaN where the engine gave NaN
    truncated: bool  # ended by max_new_tokens
    oldest_adapter_version: int
    newest_adapter_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutGroup:
    """Rollout actor to driver: the candidates of one question, in sample order."""

    group_id: str  # the request's
    question: Question
    prompt_token_ids: tuple[int, ...]
    temperature: float
    seed: int  # the request's
    completions: tuple[Completion, ...]
    num_computed_prompt_tokens: int | None = None  # of all candidates' prompts, the rest was there; None: not counted


@dataclass(frozen=True, kw_only=True)  # without slots it is pickled in half the time
class Candidate:
    """Exactly one of `sql` (taken as it is) and `completion` (goes through extraction) is set."""

    sql: str | None = None
    completion: str | None = None


@dataclass(frozen=True, kw_only=True)  # without slots it is pickled in half the time
class ScoreRequest:
    """Anyone to the reward service: score every candidate of one question."""

    question_id: str
    database_id: str
    gold_sql: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    question: str = ""  # its text, and the evidence's: for designs that read them
    evidence: str = ""
    correctness_only: bool = False  # evaluation's: outcomes by the run's semantics, whatever its reward design
    with_profiles: bool = False  # evaluation's; known verdicts are then made again
    num_timings: int = 0  # of gold and match in turn, for their ratio; needs profiles
    semantics: str = ""  # the question's own, in place of reward.semantics; a design's own go before


@dataclass(frozen=True, kw_only=True)
class ResultProfile:
    """What evaluation needs of a candidate's result on the main database, bounded in size."""

    digest: str  # of the set of rows
    num_rows: int
    column_counts: dict[str, dict[str, int]] | None  # column name, hash of a value, occurrences; None: too many
    soft_f1: float  # the best over the golds
    is_bird_match: bool
    is_spider_match: bool
    time_ratio: float | None = None  # CPU time of the gold over the candidate's; for a match that was timed


@dataclass(frozen=True, kw_only=True)  # without slots it is pickled in half the time
class Score:
    """Reward service to anyone: the verdict on one candidate; `reward` is None when none is due."""

    outcome: Outcome
    reward: float | None
    seconds: float  # of CPU time, of running it
    message: str = ""
    sql: str | None = None  # what was executed, after extraction
    profile: ResultProfile | None = None  # asked for, and of a result that is not too large for one
    terms: dict[str, float] | None = None  # what the reward is made of, in the designs that add terms up
    term_weights: dict[str, float] | None = None  # of each term, for advantages that normalise terms one by one
    design_s: float = 0.0  # wall time of the reward design's own work on it, in addition to running it
    is_empty: bool = False  # it ran and returned no rows on the main database


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldInspection:
    """Reward service to data preparation: two runs of a gold query; `match` says that they gave the same."""

    outcome: Outcome
    message: str = ""
    num_rows: int = 0
    is_degenerate: bool = False  # a single row that contains only NULL and 0
    changes_by: tuple[str, ...] = ()  # functions of chance that it calls
    broken_row: int | None = None  # number of the first row with text that is no UTF-8, where that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Reward service to a person: what a statement returned, cut to be shown; `match` says that it ran."""

    outcome: Outcome
    message: str = ""
    num_rows: int = 0
    num_columns: int = 0
    columns: tuple[str, ...] = ()  # the first names
    rows: tuple[tuple[str | None, ...], ...] = ()  # the first rows of these columns; a cell is text, or None for NULL


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWorkerStats:
    """Reward worker to driver: counts since the worker started."""

    num_scores: int
    num_cached: int  # verdicts known from an earlier group
    num_cached_golds: int  # gold answers known from an earlier group
    num_folded: int  # candidates whose SQL another of their group had too
    num_children: int  # executor children started
    num_lost_children: int  # of these, died or were ended while they owed an answer
    num_unread: int = 0  # queries that the design could not read within its limits, or whose parser failed


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """Driver to learner: a group and one score per completion, in the same order."""

    rollout: RolloutGroup
    scores: tuple[Score, ...]

    @property
    def carries_reward(self) -> bool:
        return any(score.outcome.carries_reward for score in self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterManifest:
    """What the learner exported; the blob itself stays in the object store behind `blob_ref`."""

    version: int
    rank: int
    alpha: int
    target_modules: tuple[str, ...]
    num_modules: int
    num_bytes: int
    digest: str  # xxh3-128 of the safetensors blob
    slots_digest: str  # xxh3-128 of what an engine's slots must hold: its type, alpha / rank folded into B
    blob_ref: Any  # a reference that the actors resolve; holds a uint8 array of `num_bytes`


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterReceipt:
    """Rollout actor to driver: what the engine holds after an install, read back from its active slots."""

    version: int
    num_modules: int
    digest: str
    install_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Learner to driver: what one GRPO step did. `kl` (k3), `kl_k1` and `kl_k2` are None when its coefficient is 0."""

    step: int
    loss: float
    kl: float | None
    grad_norm: float
    learning_rate: float
    ratio_clip_share: float
    importance_truncated_share: float  # of the tokens: weight capped, or sequence dropped
    logprob_mismatch_mean: float  # engine against learner, per token, before the first update
    logprob_mismatch_max: float
    effective_sample_size: float  # of the importance weights, as a share of the tokens
    num_nan_logprobs: int  # of the engine, infinite ones included; those tokens' importance is 1
    trained_groups: int
    trained_tokens: int
    kl_k1: float | None = None
    kl_k2: float | None = None
    supervised_loss: float | None = None  # nats per answer token of the supervised term; None without it
    allocated_peak_bytes: int | None = None  # by PyTorch's CUDA allocator in the update, on the fullest rank
    reserved_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerRank:
    """Driver to a learner's process: its number among the learner's ranks, and where rank 0 waits for the others."""

    index: int
    count: int
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartExample:
    """Driver to supervised learner: one question's prompt and its answer, end token included."""

    database_id: str
    prompt_token_ids: tuple[int, ...]
    answer_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptWithAnswers:
    """Driver to learner: a prompt and answers to it, in tokens."""

    prompt_token_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @classmethod
    def doubled(cls, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Self:
        """Return two answers, so that they share the prompt: the given one, and its first half the other way round."""
        return cls(prompt_token_ids=prompt, answers=(answer, answer[: max(2, len(answer) // 2)][::-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualityReport:
    """Learner to driver: how far its packed way and the model's own forward differ."""

    num_tokens: int  # of the pack
    longest_text_tokens: int
    mean_difference: float  # of a token's log-probability, in nats
    max_difference: float
    gradient_difference: float | None  # of A and B together, relative to the norm; None where it was not computed
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartBatch:
    """Supervised learner to driver: a batch is trained, `number` of at most `max_number`."""

    number: int
    max_number: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartReport:
    """Supervised learner to driver: losses in nats per answer token."""

    epoch: float
    train_loss: float
    held_back_loss: float
    is_best: bool
