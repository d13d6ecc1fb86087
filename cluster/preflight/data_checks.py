"""Checks of databases, gold queries and prompts, on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import islice

from floe.actors.databases.database_files import fault_of_file
from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import SPLITS, QuestionSets
from floe.cluster.databases.places import database_path
from floe.cluster.messages import GoldInspection, Outcome, Question
from floe.cluster.preflight.finding import Finding, fault, ok, warning
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.gold_inspector import GoldInspector

MIN_SHARE_SAMPLE = 10  # with fewer golds a share says little
FIND_ALL = "fix it or leave the question out; 'floe prepare' finds them all"


def databases(sets: QuestionSets) -> Finding:
    """Check every file that a question names, by its first bytes."""
    ids = sorted({question.database_id for name in SPLITS for question in sets.split(name)})
    found = {one: fault_of_file(database_path(sets.databases_dir, one)) for one in ids}
    faults = [why for why in found.values() if why]
    if faults:
        return fault(f"{len(faults)} of {len(ids)} databases can't be used, the first: {faults[0]}", "replace it")
    return ok(f"{len(ids)} in {sets.databases_dir}")


def golds(
    sets: QuestionSets, reward: RewardSection, max_dropped_share: float, num_golds: int, time_limit_s: float
) -> Finding:
    """Run so many gold queries, of as many databases as there are, twice each by the reward service's executor.

    One that takes longer than `time_limit_s` is no fault where that is less than the run's own limit.
    """
    sample = sample_of(sets.train, num_golds)
    limit_s = min(time_limit_s, reward.time_limit_s)
    settings = reward.model_copy(update={"time_limit_s": limit_s})
    with closing(GoldInspector(sets.databases_dir, settings)) as inspector:
        seen = [(one, inspector.inspect(one.database_id, [one.gold_sql[0]])[0]) for one in sample]
    bad = [(one, said) for one, said in seen if not _is_fine(said, limit_s < reward.time_limit_s)]
    if not bad:
        return ok(f"{len(sample)} gold queries of {len({one.database_id for one in sample})} databases ran")
    first, said = bad[0]
    what = (
        f"{len(bad)} of {len(sample)} gold queries failed, the first is question {first.question_id} of database "
        f"{first.database_id} ({said.outcome.value}{': ' if said.message else ''}{said.message.rstrip('.')})"
    )
    is_many = len(sample) >= MIN_SHARE_SAMPLE and len(bad) > max_dropped_share * len(sample)
    if is_many or len(bad) == len(sample) or any(said.outcome is Outcome.INFRASTRUCTURE for _, said in bad):
        return fault(what, FIND_ALL)
    return warning(what, FIND_ALL)


def prompt_lengths(sets: QuestionSets, encoder: PromptEncoder, max_tokens: int, num_questions: int) -> Finding:
    sample = sample_of(sets.train, num_questions)
    encoded = [encoder.encoded_for_training(one) for one in sample]
    num_refused = sum(one.refused for one in encoded)
    longest = max(one.num_tokens for one in encoded)
    remedy = "raise model.max_context_tokens, or show less with prompt.*"
    if num_refused == len(sample):
        return fault(f"each of {len(sample)} prompts exceeds {max_tokens} tokens", remedy)
    if num_refused:
        return warning(f"{num_refused} of {len(sample)} prompts exceed {max_tokens} tokens and are left out", remedy)
    return ok(f"{len(sample)} prompts, the longest of {longest} tokens, where {max_tokens} fit")


def sample_of(questions: Sequence[Question], number: int) -> list[Question]:
    """Return the first of each database, then the second of each, and so on."""
    place: dict[str, int] = {}
    ranked = []
    for order, question in enumerate(questions):
        place[question.database_id] = turn = place.get(question.database_id, -1) + 1
        ranked.append((turn, order))
    return [questions[order] for _, order in islice(sorted(ranked), number)]


def _is_fine(said: GoldInspection, was_cut_short: bool) -> bool:
    return said.outcome is Outcome.MATCH or (was_cut_short and said.outcome is Outcome.TIMEOUT)
