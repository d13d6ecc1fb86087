"""A supervised batch takes chunks of several databases; every question comes once in an epoch."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.messages import Question, WarmStartExample
from floe.cluster.training.warm_start import held_back_questions
from floe.configs.schema import WarmStartSection
from floe.learner.supervised_batches import batches_of_epoch, num_batches_of_epoch


def examples(sizes: list[int]) -> list[WarmStartExample]:
    return [
        WarmStartExample(database_id=f"db{number}", prompt_token_ids=(number,), answer_token_ids=(index,))
        for number, size in enumerate(sizes)
        for index in range(size)
    ]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 8), st.integers(0, 3))
def test_an_epoch_holds_each_example_once_in_chunks_of_one_database(sizes, num_databases, chunk, epoch):
    settings = WarmStartSection(batch_questions=num_databases * chunk, batch_databases=num_databases)
    given_examples = examples(sizes)
    batches = batches_of_epoch(given_examples, settings, 7, epoch)
    assert Counter(one for batch in batches for one in batch) == Counter(given_examples)
    assert len(batches) == num_batches_of_epoch(given_examples, settings)
    for batch in batches:
        assert len(batch) <= settings.batch_questions
        # A database whose questions fill several chunks may come twice in a batch.
        assert sum(-(-count // chunk) for count in Counter(one.database_id for one in batch).values()) <= num_databases


def test_the_order_changes_with_the_epoch_and_the_seed_and_with_nothing_else():
    given_examples, settings = examples([40, 30, 20]), WarmStartSection(batch_questions=8, batch_databases=2)
    first = batches_of_epoch(given_examples, settings, 1, 0)
    assert first == batches_of_epoch(given_examples, settings, 1, 0)
    assert first != batches_of_epoch(given_examples, settings, 1, 1)
    assert first != batches_of_epoch(given_examples, settings, 2, 0)


def test_most_batches_hold_several_databases():
    settings = WarmStartSection(batch_questions=8, batch_databases=4)
    batches = batches_of_epoch(examples([10] * 20), settings, 1, 0)
    assert sum(len({one.database_id for one in batch}) > 2 for batch in batches) > 0.9 * len(batches)


def test_held_back_questions_are_the_first_or_the_first_of_each_database():
    tune = [
        Question(question_id=f"{name}{index}", database_id=name, text="Which?", gold_sql=("SELECT 1",))
        for name in ("a", "b", "c")
        for index in range(5)
    ]
    first = held_back_questions(tune, WarmStartSection(max_held_back_questions=7))
    assert first == tune[:7]
    spread = held_back_questions(tune, WarmStartSection(max_held_back_questions=5, max_held_back_per_database=2))
    assert [one.question_id for one in spread] == ["a0", "a1", "b0", "b1", "c0"]
