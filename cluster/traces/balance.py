"""Levels what is kept, so that easy questions and large databases don't crowd out the others (pure)."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from floe.cluster.traces.records import Trace

MAX_DATABASE_MEDIANS = 3  # a database keeps at most so many times the median over databases


def quota(pass_rate: float, most: int) -> int:
    """Return the traces that a question may have: `most` of a hard one, fewer the easier, 1 where all are right.

    `ceil(most (1 - p))`, at least 1. The idea is DART-Math's (arXiv 2407.13690): rejection sampling alone has most
    answers where they are easy.
    """
    return max(1, math.ceil(most * (1 - pass_rate)))


def balanced(traces: Sequence[Trace], most: int, seed: int) -> list[Trace]:
    """Return what is kept, ordered by question and completion; the order of `traces` does not matter.

    Of a question those come first whose SQL none before has, in an order drawn from (seed, question). Then databases
    above three times the median give up traces: of the questions that have most, of these the easiest.
    """
    of_question: dict[tuple[bool, str], list[Trace]] = defaultdict(list)
    for one in sorted(traces, key=lambda one: one.completion):
        of_question[one.is_held_back, one.question.question_id].append(one)
    kept = [trace for key in sorted(of_question) for trace in _of_question(of_question[key], most, seed)]
    counts = Counter(_place(one) for one in kept)
    limit = {
        is_held: MAX_DATABASE_MEDIANS * median(many)
        for is_held in (False, True)
        if (many := [count for place, count in counts.items() if place[0] == is_held])
    }
    for place in sorted(counts):
        own = [one for one in kept if _place(one) == place]
        gone = set(map(id, _given_up(own, math.floor(limit[place[0]]), seed)))
        kept = [one for one in kept if id(one) not in gone]
    return kept


def _of_question(traces: list[Trace], most: int, seed: int) -> list[Trace]:
    first = traces[0]
    random.Random(f"{seed}/traces/{first.question.question_id}").shuffle(traces)
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, Trace]] = []
    for one in traces:
        query = " ".join(one.sql.lower().split())
        ranked.append((seen[query], len(ranked), one))
        seen[query] += 1
    chosen = [one for _, _, one in sorted(ranked, key=lambda item: item[:2])][: quota(first.pass_rate, most)]
    return sorted(chosen, key=lambda one: one.completion)


def _given_up(own: list[Trace], limit: int, seed: int) -> list[Trace]:
    """Return what a database gives up, so that at most `limit` are left: further traces first, then easy questions."""
    number: Counter[str] = Counter()
    ranked = []
    for one in own:
        name = one.question.question_id
        drawn = random.Random(f"{seed}/databases/{name}").random()
        ranked.append(((number[name], one.pass_rate, drawn, name), one))
        number[name] += 1
    # The first trace of a hard question has the lowest place, a further one of an easy question the highest.
    ranked.sort(key=lambda item: item[0])
    return [one for _, one in ranked[limit:]]


def _place(trace: Trace) -> tuple[bool, str]:
    return trace.is_held_back, trace.question.database_id
