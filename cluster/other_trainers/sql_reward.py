"""`floe.SqlReward`: runs and judges a trainer's completions in contained executors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.cluster.other_trainers.completion_text import listed, text_of
from floe.cluster.other_trainers.examples import DATABASE, GOLD, Example, examples_of
from floe.cluster.other_trainers.faults import GoldFault
from floe.cluster.other_trainers.gold_check import gold_faults
from floe.cluster.other_trainers.packages import refuse_what_cannot_run
from floe.cluster.other_trainers.settings import databases_folder, reward_section
from floe.configs.errors import UserError
from floe.reward_service.scorer_pool import PoolClosed, ScorerPool

if TYPE_CHECKING:
    from floe.cluster.other_trainers.trl_reward import TrlReward
    from floe.cluster.other_trainers.verl_reward import VerlReward


class SqlReward:
    """The reward of completions that hold SQL, for a trainer of your own.

    SQL runs in child processes that can write nothing and have limits of time and memory; what a model writes can
    neither harm a database nor raise an error. Several threads may use one at once. A process that is forked off, or
    gets a pickled copy, starts children of its own. They end with `close()`, with a `with` block, and at the latest
    with their process.
    """

    def __init__(
        self,
        databases: str | Path,
        *,
        design: str | type | Callable[..., Any] = "arctic",
        arguments: Mapping[str, Any] | None = None,
        semantics: str = "bird",
        num_workers: int = 2,
        time_limit_s: float = 5.0,
        **settings: Any,
    ) -> None:
        """Set up; nothing starts before the first completion.

        `databases` is a folder with `<db_id>/<db_id>.sqlite`. `design` and `arguments` are `reward.design` and
        `reward.arguments` of a configuration; `design` may also be the class, and its module lies among the installed
        packages or in the working folder. `settings` are further fields of the section `reward`. `num_workers` is how
        many children run SQL at once, `time_limit_s` the CPU seconds of one query. Raises UserError, among them
        ConfigError for a setting, also for a package that the design needs and this Python lacks.
        """
        self._databases = databases_folder(databases)
        values = {"semantics": semantics, "num_workers": num_workers, "time_limit_s": time_limit_s, **settings}
        self._section = reward_section(design, arguments, values)
        self._plugin_folder = Path.cwd()
        refuse_what_cannot_run(self._databases, self._section, self._plugin_folder)
        self._pool = ScorerPool(self._databases, self._section, self._plugin_folder)

    def score(
        self,
        completions: Sequence[Any],
        *,
        db_id: str | Sequence[str],
        gold_sql: str | Sequence[str | Sequence[str]],
        question: str | Sequence[str] | None = None,
        evidence: str | Sequence[str] | None = None,
    ) -> list[Score]:
        """Return a score for each completion, in order: outcome, reward, message and the SQL that was run.

        Completions are texts or chats (lists of messages). The others have an entry for each completion, or are one
        text for all; an entry of `gold_sql` is a query or a list of accepted ones, so that `[[a, b]] * n` accepts both
        for n completions. `question` and `evidence` are for designs that read them. A score's `reward` is None where
        no gold query runs, or the machine failed. Raises UserError for arguments that can't be used, never for what a
        completion holds.
        """
        completions = listed(completions)
        return self.score_examples(examples_of(len(completions), db_id, gold_sql, question, evidence), completions)

    def score_examples(self, examples: Sequence[Example], completions: Sequence[Any]) -> list[Score]:
        """Return a score for each completion, in order; completions of equal examples go together."""
        texts = [text_of(one) for one in completions]
        scores = self._scores(examples, texts)
        # What failed through a fault of the machine is tried once more: it may be gone.
        again = [number for number, score in enumerate(scores) if score.outcome is Outcome.INFRASTRUCTURE]
        for number, score in zip(
            again, self._scores([examples[n] for n in again], [texts[n] for n in again]), strict=True
        ):
            scores[number] = score
        return scores

    def check(self, dataset: Iterable[Mapping[str, Any]]) -> list[GoldFault]:
        """Run each gold query of a dataset once, and return those that fail: their rows can't be trained on.

        `dataset` has the columns `db_id` and `gold_sql`: a Dataset, a DataFrame or a list of dicts. A fault's `kind`
        says whether the query is to blame or the database, such as one that can't be read. Raises UserError where a
        column, an entry or a database is missing.
        """
        return gold_faults(_rows(dataset), self._databases, self._map)

    def trl(self, *, on_fault: Literal["raise", "none"] = "raise") -> TrlReward:
        """Return what TRL's `GRPOTrainer(reward_funcs=...)` takes; the dataset has columns `db_id` and `gold_sql`.

        `on_fault` says what a completion gets whose gold query fails, or that the machine couldn't judge: an error
        that ends the training, or None.
        """
        from floe.cluster.other_trainers.trl_reward import TrlReward

        return TrlReward(self, on_fault)

    def verl(self) -> VerlReward:
        """Return what verl's `custom_reward_function` takes; `extra_info` of the dataset has a `db_id`."""
        from floe.cluster.other_trainers.verl_reward import VerlReward

        return VerlReward(self)

    def verifiers(self, dataset: Iterable[Mapping[str, Any]]) -> type[Any]:
        """Return a `Taskset` for verifiers, which its environment's package exports; it reads the last reply.

        `dataset` has the columns `prompt`, `db_id` and `gold_sql`, and may have `id`, `system_prompt`, `question` and
        `evidence`. Raises UserError where verifiers is missing, or a column.
        """
        try:
            from floe.cluster.other_trainers.verifiers_taskset import taskset_of
        except ModuleNotFoundError as error:
            raise UserError(
                f"The environment needs the package verifiers, but there is {error}: install it in an environment of "
                "its own, and floe there with pip install --no-deps, since they need different versions of openai."
            ) from None
        return taskset_of(self, _rows(dataset, "prompt"))

    def close(self) -> None:
        """End the children; the reward can't be used any more. A second call does nothing."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pool"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool = ScorerPool(self._databases, self._section, self._plugin_folder)

    def _scores(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        positions: dict[Example, list[int]] = {}
        for position, example in enumerate(examples):
            positions.setdefault(example, []).append(position)
        scores = self._map([_request(one, [texts[n] for n in numbers]) for one, numbers in positions.items()])
        found = {
            position: score
            for numbers, group in zip(positions.values(), scores, strict=True)
            for position, score in zip(numbers, group, strict=True)
        }
        return [found[position] for position in range(len(texts))]

    def _map(self, requests: Sequence[ScoreRequest]) -> list[tuple[Score, ...]]:
        try:
            return list(self._pool.score_all(requests))
        except (PoolClosed, CancelledError):
            raise UserError("The reward was closed: make another SqlReward, and close it after the training.") from None
        except (KeyboardInterrupt, SystemExit):  # what runs would otherwise be waited for
            self._pool.abandon()
            raise


def _rows(dataset: Any, *more_columns: str) -> list[Mapping[str, Any]]:
    """Return the rows. Raises UserError for rows without the columns that a reward needs."""
    if hasattr(dataset, "itertuples"):  # a DataFrame, which iterates over its columns
        dataset = dataset.to_dict("records")
    rows = list(dataset)
    for number, row in enumerate(rows):
        if missing := [name for name in (*more_columns, DATABASE, GOLD) if name not in row]:
            raise UserError(f"Row {number} of the dataset has no {' and no '.join(missing)}: add the column.")
    return rows


def _request(example: Example, texts: Sequence[str]) -> ScoreRequest:
    return ScoreRequest(
        question_id=example.question or example.gold_sql[0],
        database_id=example.db_id,
        gold_sql=example.gold_sql,
        question=example.question,
        evidence=example.evidence,
        candidates=tuple(Candidate(completion=text) for text in texts),
    )
