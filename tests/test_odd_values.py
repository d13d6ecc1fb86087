"""Values that a search by words misses, and the texts that name them nevertheless."""

from __future__ import annotations

import pytest

from floe.actors.prompting.odd_values import OddValues, WordEndings, dates_otherwise, is_odd

STOP_WORDS = frozenset({"it", "or", "no", "will", "the"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("o", True),
        ("#", True),
        ("IT", True),
        ("No", True),
        ("The Will", True),
        ("北京", True),
        ("CA", False),
        ("Rome", False),
    ],
)  # fmt: skip
def test_what_words_do_not_find(value, expected):
    assert is_odd(value, STOP_WORDS) is expected


@pytest.mark.parametrize(
    ("value", "text", "is_named"),
    [
        ("o", "Which element is 'o'?", True),
        ("o", "Which one has an o in it?", False),
        ("#", "How many bonds of type # are there?", True),
        ("=", "bond_type = '='", True),
        ("IT", "Who works in IT?", True),
        ("IT", "How many of it are there?", False),
        ("Will", "Was Will there?", True),
        ("Will", "Will it rain?", False),
        ("No", "evidence: foreign refers to foreign = 'no'", True),
        ("OR", "Flights to OR from CA", True),
        ("I", "What do I need?", False),
        ("北京", "北京有多少人?", True),
        ("京", "北京有多少人?", False),
        ("The Who", "Songs by The Who please", True),
    ],
)
def test_when_it_is_named(value, text, is_named):
    assert (OddValues([value]).named(text) == [value]) is is_named


@pytest.mark.parametrize(
    ("value", "text", "is_alike"),
    [
        ("France", "Which French singers are there?", False),
        ("Operational", "Count the operating stations.", True),
        ("Germany", "Who is german?", True),
        ("Port", "What was important?", False),
        ("Internal", "Show the international ones.", False),
        ("Rome", "Show Roman ones.", False),
    ],
)
def test_other_endings(value, text, is_alike):
    assert (WordEndings([value]).alike(text) == [value]) is is_alike


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("on 9/9/2019", "2019-09-09"),
        ("on 2019-09-08", "9/8/2019"),
        ("since September 8th, 2019", "2019-09-08"),
        ("on 8 September 2019", "9/8/2019"),
        ("on the 8th of Sep 2019", "2019-09-08"),
        ("on 13/2/2019", "2019-02-13"),
    ],
)
def test_dates_in_other_forms(text, form):
    assert form in dates_otherwise(text)


def test_what_is_no_date_has_no_forms():
    assert dates_otherwise("in 2019, at 30/30/2019 or 2019-02-31") == []
