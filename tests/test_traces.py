"""Traces: the form of an answer, what is dropped and why, the balance, given files; and how they are sampled."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.actors.prompting.prompts import STYLES
from floe.actors.questions.random_streams import answers_of_step
from floe.cluster.messages import Completion, Outcome, Question, ResultProfile, RolloutGroup, Score
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.traces import making
from floe.cluster.traces.balance import MAX_DATABASE_MEDIANS, balanced, quota
from floe.cluster.traces.filters import (
    Dropped,
    fault_of_thought,
    is_constant,
    longest_thought,
    repeats_itself,
    words_of,
)
from floe.cluster.traces.given_file import read_given
from floe.cluster.traces.making import SAMPLES_FILE, TraceWork, make_traces, num_to_sample
from floe.cluster.traces.records import AskedQuestion, Sample, Trace, read_samples, sample_line, trace_lines
from floe.cluster.traces.selection import select_traces
from floe.cluster.traces.thought_form import ThoughtForm
from floe.cluster.training import warm_start
from floe.cluster.training.warm_start import trace_examples
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config

TAGGED = ThoughtForm.of(STYLES["tagged"], "tagged")
SQL = "SELECT name FROM singer"


def question(name: str, database: str = "shop") -> Question:
    return Question(question_id=name, database_id=database, text=f"What is {name}?", gold_sql=(SQL,))


def answer(thought: str = "singer: name", sql: str = SQL) -> str:
    return f"{thought}</think><answer>```sql\n{sql}\n```</answer>"


def sample(completion: str | None = None, outcome: Outcome = Outcome.MATCH, sql: str = SQL, **changes) -> Sample:
    text = answer(sql=sql) if completion is None else completion
    return replace(Sample(completion=text, truncated=False, outcome=outcome, sql=sql, num_rows=3), **changes)


def asked(name: str, *samples: Sample, database: str = "shop", is_held_back: bool = False) -> AskedQuestion:
    return AskedQuestion(question=question(name, database), is_held_back=is_held_back, samples=samples)


@pytest.mark.parametrize("style", ["tagged", "arctic"])
def test_the_answer_that_a_style_teaches_is_in_its_form_and_has_its_thought(style):
    taught = STYLES[style]
    form = ThoughtForm.of(taught, style)
    text = taught.prefill + taught.answer(SQL, "singer: name")
    read = form.read(f"{text}\nand more")
    assert read is not None and read.text == text
    assert read.thought == ("singer: name" if style == "tagged" else "I read the schema and write the query.")


def test_a_style_without_a_thought_is_refused_in_the_configuration_and_for_a_plug_in():
    with pytest.raises(ConfigError, match=r"prompt.style 'compact' have no thought: set prompt.style=tagged or arctic"):
        load_config(None, ["warm_start.source=traces", "prompt.style=compact"])
    with pytest.raises(ConfigError, match=r"prompt.style 'mine:Style' have no thought in tags before their SQL"):
        ThoughtForm.of(replace(STYLES["compact"], form="<answer>{sql}</answer><think>{reads}</think>"), "mine:Style")


def test_a_file_and_a_term_need_a_source_of_traces():
    with pytest.raises(ConfigError, match=r"warm_start.source 'golds' reads no traces"):
        load_config(None, ["warm_start.traces=/t.jsonl"])
    with pytest.raises(ConfigError, match=r"warm_start.source 'golds' makes none"):
        load_config(None, ["algorithm.supervised_coefficient=0.1", "algorithm.supervised_source=traces"])


@pytest.mark.parametrize(
    "text",
    [
        "<think>" + answer().replace("</think>", ""),
        "<think>" + answer().replace("</answer>", ""),
        "<think>" + answer().replace("<answer>", " so <answer>"),
        "<think>" + answer("<think>twice"),
        "first <think>" + answer(),
    ],
    ids=["no end of the thought", "no end", "text between", "a tag twice", "text in front"],
)
def test_an_answer_in_another_form_is_told_apart(text):
    assert TAGGED.read(text) is None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 5", True),
        ("SELECT 'a', 5 AS total FROM singer", True),
        ("SELECT DISTINCT NULL FROM singer", True),
        ("SELECT 'from singer'", True),
        ("SELECT 5 -- from singer", True),
        ("SELECT (SELECT 5 FROM singer)", True),
        ("SELECT COUNT(*) FROM singer", False),
        ('SELECT "first name" FROM singer', False),
        ("SELECT CASE WHEN age > 5 THEN 'old' END FROM singer", False),
        ("WITH old AS (SELECT * FROM singer) SELECT 5 FROM old", False),
    ],
)
def test_constant_sql_is_told_apart(sql, expected):
    assert is_constant(sql) is expected


def test_every_answer_is_counted_once_by_its_first_reason():
    twice = " ".join(["the same words again"] * 20)
    many = " ".join(f"word{number}" for number in range(200))
    one = asked(
        "q1",
        sample(),
        sample("  " + answer()),  # the same up to white space
        sample(answer("singer and more")),
        sample(outcome=Outcome.MISMATCH),
        sample(outcome=Outcome.SYNTAX_ERROR, truncated=True),
        sample(outcome=Outcome.INFRASTRUCTURE),
        sample(outcome=Outcome.GOLD_FAILED),
        sample(truncated=True),
        sample("</think>" + SQL),
        sample(answer(" ... ")),
        sample(answer(twice)),
        sample(answer(many)),
        sample(sql="SELECT 5"),
        sample(answer("nothing is there"), num_rows=0),
    )
    found = select_traces([one], TAGGED, "<think>", 1, seed=3)
    table = found.coverage["train"]
    assert (table.num_sampled, table.num_right, table.num_kept) == (14, 10, 1)
    assert table.dropped == {
        "no verdict": 2, "wrong": 2, "cut off at the limit": 1, "not in the style's form": 1, "no thought": 1,
        "thought repeats itself": 1, "absurdly long thought": 1, "constant SQL": 1, "empty result": 1, "duplicate": 1,
        "left out by the balance": 1,
    }  # fmt: skip
    assert list(table.dropped) == [one.value for one in Dropped]
    assert table.num_sampled == table.num_kept + sum(table.dropped.values())
    assert found.train[0].completion in (answer(), "  " + answer(), answer("singer and more"))


def test_what_is_learned_ends_with_the_forms_last_tag():
    found = select_traces([asked("q1", sample(answer() + "\n\nI hope that helps"))], TAGGED, "<think>", 1, seed=3)
    assert [one.completion for one in found.train] == [answer()]


def test_a_text_that_repeats_itself_and_one_that_does_not():
    assert repeats_itself(words_of("join a to b and " * 5))
    assert not repeats_itself(words_of("to be or not to be " * 1))
    assert not repeats_itself([f"w{number}" for number in range(100)])


def test_a_text_repeats_itself_from_14_words_on_with_fewer_than_half_of_its_triples_different():
    assert repeats_itself(["so"] * 14) and not repeats_itself(["so"] * 13)
    half = ["a", "b", "c", "d", "e", "f"] * 2 + ["a", "b"]  # 12 triples, 6 of them different
    assert not repeats_itself(half)
    assert repeats_itself([*half, "c"])  # 13 triples, the same 6


def test_a_thought_is_too_long_beyond_60_words_and_four_times_the_median():
    assert longest_thought([]) == longest_thought([10, 10]) == longest_thought([15]) == 60
    assert longest_thought([20, 20, 500]) == 80
    thought = " ".join(f"w{number}" for number in range(61))
    assert fault_of_thought(thought, 60) is Dropped.LONG and fault_of_thought(thought, 61) is None


traces = st.lists(
    st.builds(
        lambda name, number, sql, rate, is_held: Trace(
            question=question(name, f"db{ord(name) % 4}"),
            is_held_back=is_held,
            completion=f"thought {number}",
            sql=f"SELECT a{sql} FROM t",
            pass_rate={"a": 1.0, "b": 0.5}.get(name, rate),
        ),
        st.sampled_from("abcdefghijkl"),
        st.integers(0, 30),
        st.integers(0, 2),
        st.just(0.125),
        st.booleans(),
    ),
    max_size=60,
    unique_by=lambda one: (one.is_held_back, one.question.question_id, one.completion),
)


@settings(max_examples=60, deadline=None)
@given(given_traces=traces, most=st.integers(1, 4), seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_the_balance_keeps_to_its_rule_whatever_the_order(given_traces, most, seed, order):
    kept = balanced(given_traces, most, seed)
    shuffled = list(given_traces)
    order.shuffle(shuffled)
    assert balanced(shuffled, most, seed) == kept
    assert all(one in given_traces for one in kept) and len(set(map(id, kept))) == len(kept)
    of_question = Counter((one.is_held_back, one.question.question_id) for one in kept)
    rates = {(one.is_held_back, one.question.question_id): one.pass_rate for one in given_traces}
    assert all(count <= quota(rates[key], most) <= most for key, count in of_question.items())
    alone = balanced(given_traces, 1, seed)
    for is_held in (False, True):
        own = [one for one in given_traces if one.is_held_back == is_held]
        before = Counter(
            database
            for name, database in {(one.question.question_id, one.question.database_id) for one in own}
            for _ in range(min(quota(rates[is_held, name], most), sum(o.question.question_id == name for o in own)))
        )
        after = Counter(one.question.database_id for one in kept if one.is_held_back == is_held)
        limit = max(1, int(MAX_DATABASE_MEDIANS * median(before.values()))) if before else 0
        assert {name: min(count, limit) for name, count in before.items()} == dict(after)
    assert len(alone) <= len(kept)


def test_a_hard_question_keeps_more_than_an_easy_one_and_different_queries_first():
    assert [quota(rate, 4) for rate in (1.0, 0.75, 0.5, 0.125, 0.0)] == [1, 1, 2, 4, 4]
    same = [Trace(question=question("q"), is_held_back=False, completion=f"t{n}", sql="SELECT a  FROM t", pass_rate=0.1)
            for n in range(6)]  # fmt: skip
    other = replace(same[0], completion="t9", sql="SELECT b FROM t")
    kept = balanced([*same, other], 2, seed=1)
    assert len(kept) == 2 and other in kept


def test_a_large_database_gives_up_further_traces_then_easy_questions():
    def trace(name: str, number: int, database: str, rate: float) -> Trace:
        return Trace(question=question(name, database), is_held_back=False, completion=f"t{number}",
                     sql=f"SELECT a{number} FROM t", pass_rate=rate)  # fmt: skip

    small = [trace(f"s{number}", 0, f"db{number}", 0.5) for number in range(4)]
    large = [trace(f"hard{n}", i, "big", 0.1) for n in range(3) for i in range(2)]
    large += [trace("easy", 0, "big", 0.9)]
    kept = [one for one in balanced(small + large, 2, seed=1) if one.question.database_id == "big"]
    assert [one.question.question_id for one in kept] == ["hard0", "hard1", "hard2"]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 10**6), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_a_steps_answers_come_from_seed_and_step_alone(num_answers, step, num_drawn, seed):
    found = answers_of_step(num_answers, step, num_drawn, seed)
    random.random()
    assert found == answers_of_step(num_answers, step, num_drawn, seed)
    assert len(set(found)) == len(found) == min(num_drawn, num_answers) and set(found) <= set(range(num_answers))


def test_steps_and_seeds_draw_other_answers():
    assert len({tuple(answers_of_step(100, step, 8, seed)) for step in range(5) for seed in range(5)}) == 25


# --- given files


def test_a_given_file_names_its_questions_by_id_or_by_text_and_database(tmp_path):
    path = tmp_path / "t.jsonl"
    records = [
        {"question_id": "q1", "completion": "<think>" + answer(), "outcome": "match"},
        {"question": "What is q2?", "db_id": "zoo", "completion": answer()},
        {"question": "What is q2?", "database_id": "shop", "completion": answer()},
        {"question_id": "q1", "completion": "other"},
        {"question_id": 3, "completion": answer()},
    ]
    path.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    found = read_given(path, [question("q1"), question("q2", "zoo")], [question("3")], "<think>")
    assert found.num_unknown == 1
    assert [(one.question.question_id, one.is_held_back, one.completions) for one in found.answers] == [
        ("q1", False, (answer(), "other")),
        ("q2", False, (answer(),)),
        ("3", True, (answer(),)),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "Can't read warm_start.traces .*No such file"),
        ("", "it is empty"),
        ("{", "line 1, is no JSON"),
        ("[]", "line 1, is no JSON object"),
        ('{"question_id": "q1"}', "line 1, has no text `completion`"),
        ('\n{"completion": "a"}', "line 2, names no question"),
        ('{"question_id": "q9", "completion": "a"}', "none of its 1 records is of a question that the run learns from"),
    ],
    ids=["absent", "empty", "no JSON", "no object", "no completion", "no question", "unknown"],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, content, said):
    path = tmp_path / "t.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_given(path, [question("q1")], [], "<think>")


def test_written_traces_may_be_given_to_another_run(tmp_path):
    kept = select_traces([asked("q1", sample())], TAGGED, "<think>", 1, seed=1).train
    (tmp_path / "t.jsonl").write_text(trace_lines(kept))
    (again,) = read_given(tmp_path / "t.jsonl", [question("q1")], [], "<think>").answers
    assert again.completions == (kept[0].completion,)


# --- sampling


class Policy:
    """Rollouts and rewards in one: answers each question right on `right` of its streams."""

    answer_start = "<think>"
    style = STYLES["tagged"]

    def __init__(self, right: int = 1, *, fails: frozenset[str] = frozenset(), breaks_after: int | None = None) -> None:
        self.right, self.fails, self.breaks_after = right, fails, breaks_after
        self.asked: list[str] = []
        self.is_stopped = False

    def prompt(self, one: Question) -> tuple[int, ...]:
        return (1, 2)

    training_prompt = prompt

    def completion(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode()[::4])

    def generate(self, requests, adapter_version):
        for request in requests:
            if len(self.asked) == self.breaks_after:
                raise KeyboardInterrupt
            self.asked.append(request.question.question_id)
            completions = tuple(
                Completion(text=answer(f"thought {request.seed + number}"), token_ids=(1,), logprobs=(0.0,),
                           truncated=False, oldest_adapter_version=0, newest_adapter_version=0)
                for number in range(request.num_samples)
            )  # fmt: skip
            yield RolloutGroup(
                group_id=request.group_id, question=request.question, prompt_token_ids=request.prompt_token_ids,
                temperature=request.temperature, seed=request.seed, completions=completions,
            )  # fmt: skip

    def submit(self, request):
        return request

    def result(self, request):
        assert request.correctness_only and request.with_profiles
        profile = ResultProfile(digest="", num_rows=2, column_counts=None, soft_f1=1.0, is_bird_match=True,
                                is_spider_match=True)  # fmt: skip
        return tuple(
            Score(
                outcome=self._outcome(request.question_id, number), reward=None, seconds=0.0, sql=SQL, profile=profile
            )
            for number in range(len(request.candidates))
        )

    def _outcome(self, name: str, number: int) -> Outcome:
        if name in self.fails:
            return Outcome.INFRASTRUCTURE
        return Outcome.MATCH if number < self.right else Outcome.MISMATCH

    def stop(self) -> None:
        self.is_stopped = True


CONFIG = load_config(
    None, ["warm_start.source=traces", "prompt.style=tagged", "warm_start.trace_samples=3", "run.max_dropped_share=0.2"]
)


def work(folder, policy, *, num_train: int = 10, num_tune: int = 2, given_traces=None) -> TraceWork:
    return TraceWork(
        train=tuple(question(f"q{number}") for number in range(num_train)),
        held_back=tuple(question(f"t{number}") for number in range(num_tune)),
        databases_dir=folder, model_dir=folder, initial_adapter=None, encoder=policy, given=given_traces, key="k",
        folder=folder / "traces-k",
    )  # fmt: skip


@pytest.fixture
def makes(monkeypatch, tmp_path):
    """Return what makes traces with a policy in place of the actors."""
    monkeypatch.setattr("floe.cluster.traces.judging.QUESTIONS_AT_ONCE", 4)

    def make(policy: Policy, **changes):
        monkeypatch.setattr(making, "start_rollout_pool", lambda *_: policy)
        monkeypatch.setattr(making, "start_reward_pool", lambda *_: policy)
        return make_traces(CONFIG, work(tmp_path, policy, **changes), Progress(make_console()))

    return make


def test_interrupted_sampling_goes_on_where_it_was_and_ends_as_a_whole_one(makes, tmp_path):
    whole = makes(Policy())
    lines = (tmp_path / "traces-k" / SAMPLES_FILE).read_bytes()
    (tmp_path / "traces-k" / SAMPLES_FILE).unlink()
    broken = Policy(breaks_after=9)
    with pytest.raises(KeyboardInterrupt):
        makes(broken)
    assert broken.is_stopped
    path = tmp_path / "traces-k" / SAMPLES_FILE
    with path.open("ab") as file:
        file.write(b'{"question_id": "q9", "samp')  # a line that a crash cut off
    second = Policy()
    assert num_to_sample(work(tmp_path, second)) == 4
    assert makes(second) == whole
    assert second.asked == ["q8", "q9", "t0", "t1"]
    assert path.read_bytes() == lines
    assert num_to_sample(work(tmp_path, second)) == 0
    third = Policy()
    assert makes(third) == whole and not third.asked


def test_an_infrastructure_fault_is_no_wrong_trace_and_is_asked_again(makes, capsys):
    found = makes(Policy(fails=frozenset({"q3"})))
    assert found.coverage["train"].dropped["no verdict"] == 3
    assert found.coverage["train"].dropped["wrong"] == 9 * 2
    again = Policy()
    assert makes(again).coverage["train"].dropped["no verdict"] == 0
    assert again.asked == ["q3"]


def test_too_many_answers_without_a_verdict_end_it_in_a_sentence(makes):
    with pytest.raises(UserError, match=r"traces: 3 of 12 questions have answers without a verdict.*infrastructure"):
        makes(Policy(fails=frozenset({"q1", "q2", "q3"})))


def test_a_policy_that_answers_nothing_right_ends_it_in_a_sentence(makes):
    with pytest.raises(UserError, match=r"No trace is left of 30 answers \(wrong 30\): start from a policy") as caught:
        makes(Policy(right=0))
    assert "\n" not in str(caught.value)


def test_given_answers_are_judged_and_what_the_file_says_is_not_believed(makes, tmp_path):
    path = tmp_path / "given.jsonl"
    records = [{"question_id": "q1", "completion": answer(f"thought {n}"), "outcome": "match"} for n in range(4)]
    records.append({"question_id": "q2", "completion": answer("x" * 4 * CONFIG.rollout.max_new_tokens)})
    path.write_text("\n".join(map(json.dumps, records)))
    policy = Policy(right=2)
    given_traces = read_given(path, work(tmp_path, policy).train, (), "<think>")
    found = makes(policy, given_traces=given_traces)
    table = found.coverage["train"]
    assert (table.num_sampled, table.num_right, table.dropped["wrong"]) == (5, 3, 2)
    assert table.dropped["cut off at the limit"] == 1
    assert not policy.asked  # the engine was not started


def test_another_question_of_the_same_id_in_tune_is_another(tmp_path):
    line = sample_line(asked("q1", sample(), is_held_back=True)).encode()
    assert list(read_samples([line], [question("q1")], [question("q1")])) == [(True, "q1")]
    assert read_samples([line, b"{", b'{"question_id": 1}'], [question("q1")], []) == {}


def test_without_traces_of_tune_every_tenth_question_is_held_back():
    many = [asked(f"q{number}", sample(answer(f"thought {number}"))) for number in range(21)]
    encoder = SimpleNamespace(
        training_prompt=lambda one: (1, int(one.question_id[1:])),
        prompt=lambda one: (2, int(one.question_id[1:])),
        completion=lambda text: tuple(text.encode()),
    )
    selection = select_traces(many, TAGGED, "<think>", 1, seed=1)
    train, held_back = trace_examples(selection, encoder, seed=1)
    assert (len(train), len(held_back)) == (18, 3)
    assert {one.prompt_token_ids[1] for one in train}.isdisjoint(one.prompt_token_ids[1] for one in held_back)
    with pytest.raises(UserError, match="traces of one question alone"):
        trace_examples(select_traces(many[:1], TAGGED, "<think>", 1, seed=1), encoder, seed=1)
    tune = [asked(f"t{number}", sample(answer(f"t {number}")), is_held_back=True) for number in (30, 31)]
    with_tune = select_traces([*many, *[replace(one, question=replace(one.question, question_id=f"q{n}"))
                                        for n, one in enumerate(tune, 30)]], TAGGED, "<think>", 1, seed=1)  # fmt: skip
    train, held_back = trace_examples(with_tune, encoder, seed=1)
    assert (len(train), [one.prompt_token_ids for one in held_back]) == (21, [(2, 30), (2, 31)])


def test_a_warm_start_on_golds_keeps_its_place_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(warm_start, "model_digest", lambda *_: "digest")

    def key(*overrides: str) -> str:
        return warm_start._key(load_config(None, list(overrides)), tmp_path, [], [])

    assert key() == key("warm_start.trace_samples=3", "warm_start.max_traces_per_question=5")
    assert key() == key("algorithm.supervised_coefficient=0.5")
    assert key() != key("warm_start.max_answer_tokens=7") != key("warm_start.max_answer_tokens=8")
    assert key() == key("warm_start.batch_databases=1") != key("warm_start.batch_databases=2")
    assert key() != key("warm_start.max_held_back_per_database=7")
