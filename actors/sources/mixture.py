"""The questions of a mixture: those of several prepared folders, under names that never collide."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from floe.actors.questions.mixed_steps import MixedSource, in_turns
from floe.actors.questions.pass_rates import PassRate
from floe.actors.questions.prepared_folder import SPLITS
from floe.actors.questions.question_sets import QuestionSets, limited_sets, prepared_questions
from floe.actors.sources.joined_databases import SourceDatabase, joined_databases
from floe.actors.sources.mixture_overlap import without_overlap
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.schema import DataSection, RunConfig
from floe.configs.sections.source_section import SourceSection

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSource:
    """A source as its folder has it, and how the ids of its questions and databases are made to differ from others'."""

    section: SourceSection
    databases_dir: Path
    splits: Mapping[str, tuple[Question, ...]]
    pass_rates: Mapping[str, PassRate]
    suite: Path | None
    is_alone: bool

    def new_id(self, one: str) -> str:
        """Return the id in the mixture; a source's name has no colon, so that no two ids of a mixture are equal."""
        return one if self.is_alone else f"{self.section.label}:{one}"

    def renamed(self, questions: Sequence[Question]) -> tuple[Question, ...]:
        """Return them with their ids in the mixture, its source and its semantics."""
        return tuple(
            replace(
                one,
                question_id=self.new_id(one.question_id),
                database_id=self.new_id(one.database_id),
                semantics=self.section.semantics or "",
                source="" if self.is_alone else self.section.label,
            )
            for one in questions
        )


def mixed_sets(config: RunConfig, note: Note) -> QuestionSets:
    """Return the questions of all sources, in turns by their sizes. A list of one source is that folder alone.

    A training question that overlaps with an evaluation of another source is left out; `note` gets a line that counts
    them. Raises UserError for a folder or a suite that can't be used, and for a weighted source without a question.
    """
    data = config.data
    sources = [_read(config, one) for one in data.sources]
    train = without_overlap(sources, note)
    databases_dir = _databases_dir(config, sources)
    rates = {one.new_id(name): rate for one in sources for name, rate in one.pass_rates.items()}
    if len(sources) == 1:
        splits = {name: sources[0].renamed(sources[0].splits[name]) for name in SPLITS}
        sets = limited_sets(data, databases_dir, splits["train"], splits["tune"], splits["test"])
        return replace(sets, pass_rates=rates)
    limits = {"train": data.max_train_questions, "tune": data.max_eval_questions, "test": data.max_eval_questions}
    mixed = {
        name: _mixed(
            [one.renamed(train[i] if name == "train" else one.splits[name]) for i, one in enumerate(sources)],
            limits[name],
            name,
        )
        for name in SPLITS
    }
    sets = limited_sets(data, databases_dir, mixed["train"], mixed["tune"], mixed["test"])
    sources_of_training(data, sets.train)
    return replace(sets, pass_rates=rates)


def sources_of_training(data: DataSection, train: Sequence[Question]) -> tuple[MixedSource, ...]:
    """Return the training questions by source, in the configuration's order.

    Raises UserError for a source that is to have a share and has no question.
    """
    by_name: dict[str, list[Question]] = {one.label: [] for one in data.sources}
    for question in train:
        by_name[question.source].append(question)
    for one in data.sources:
        if not by_name[one.label] and one.weight is not None:
            raise UserError(
                f"The source '{one.label}' of data.sources has a weight, but none of its training questions is left: "
                "take it out of the list, or give it questions of its own."
            )
    return tuple(
        MixedSource(name=one.label, questions=tuple(by_name[one.label]), weight=one.weight, repeat=one.repeat)
        for one in data.sources
        if by_name[one.label]
    )


def _read(config: RunConfig, section: SourceSection) -> ReadSource:
    found = prepared_questions(config.data, section.path)
    suite = section.suite
    if section.semantics is None and config.reward.semantics == "spider":
        suite = config.reward.suite
    if suite is not None and not suite.expanduser().is_dir():
        raise UserError(
            f"The suite {suite} of the source '{section.label}' in data.sources is not a folder: give that of "
            "<db_id>/*.sqlite, or leave it out."
        )
    return ReadSource(
        section=section,
        databases_dir=found.databases_dir,
        splits=found.splits,
        pass_rates=found.pass_rates,
        suite=None if suite is None else suite.expanduser().absolute(),
        is_alone=len(config.data.sources) == 1,
    )


def _databases_dir(config: RunConfig, sources: Sequence[ReadSource]) -> Path:
    if len(sources) == 1 and sources[0].section.suite is None:
        return sources[0].databases_dir
    databases = {
        one.new_id(database_id): SourceDatabase(
            databases_dir=one.databases_dir, database_id=database_id, suite=one.suite
        )
        for one in sources
        for database_id in sorted({question.database_id for name in SPLITS for question in one.splits[name]})
    }
    return joined_databases(config.run.home_dir, databases)


def _mixed(by_source: Sequence[Sequence[Question]], limit: int, split: str) -> list[Question]:
    """Return at most `limit` questions, the sources in turns, so that the first few stand for all of them."""
    sizes = [len(one) for one in by_source]
    orders = [list(one) for one in by_source]
    if sum(sizes) > limit:
        for order in orders:
            random.Random(f"limit/{split}").shuffle(order)
    return in_turns(orders, sizes)[:limit]
