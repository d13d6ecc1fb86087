"""Mixtures of prepared folders: their configuration, names, overlap, and one source that is its folder alone."""

import dataclasses
import sqlite3

import pytest
from pydantic import ValidationError

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.pass_rates import PassRate
from floe.actors.questions.prepared_folder import MANIFEST_FILE
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.checkpoints.inputs import inputs_of
from floe.cluster.databases.places import database_path
from floe.cluster.messages import Candidate, Outcome, Question, ScoreRequest
from floe.cluster.models.model_folder import model_folder
from floe.cluster.preparation.clock import with_clock
from floe.cluster.questions.epochs import num_asked_in_epoch, with_num_steps
from floe.cluster.questions.mixed import check_shares
from floe.cluster.questions.of_step import refill_of_run, requests_of_step
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.reward_service.scorer import Scorer
from tests.command_line import REPOSITORY
from tests.mixtures import SHOP, asked, mixture_of, source_folder

OTHER_SHOP = "CREATE TABLE item (name TEXT, colour TEXT); INSERT INTO item VALUES ('hat', 'red');"


class NoPrompts:
    answer_start = ""

    def training_prompt(self, question: Question) -> tuple[int, ...]:
        return (1, 2)


def two(tmp_path, **second) -> RunConfig:
    source_folder(tmp_path / "a")
    source_folder(tmp_path / "b", 12, OTHER_SHOP)
    return mixture_of(tmp_path / "home", [{"path": tmp_path / "a"}, {"path": tmp_path / "b", **second}])


def steps_of(config: RunConfig, num_steps: int = 4) -> list:
    sets = sets_of_run(config)
    return [requests_of_step(config, NoPrompts(), sets, step) for step in range(1, num_steps + 1)]


def test_sources_are_typed_in_a_file_or_as_an_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["data.sources=[{path: a, weight: 2}, {path: b, weight: 1, name: late}]"])
    assert config.data.source == "mixed" and [one.label for one in config.data.sources] == ["a", "late"]
    assert config.data.sources[0].path == tmp_path / "a"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "run.yaml").write_text("data: {sources: [{path: a, semantics: spider, suite: s}, {path: b}]}")
    own = tmp_path / "own"
    first, second = load_config(own / "run.yaml", []).data.sources
    assert (first.path, first.suite, second.path) == (own / "a", own / "s", own / "b")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.sources=[{path: a, semantics: bird, suite: s}]", "only 'spider' judges on a suite"),
        ("data.sources=[{path: a, suite: s}]", "no semantics of its own"),
        ("data.sources=[{path: a, semantics: ehrsql}]", "semantics"),
        ("data.sources=[{path: a}, {path: x/a}]", "more than one source 'a'"),
        ("data.sources=[{path: a, weight: 1}, {path: b}]", "a weight for 'a' and none for 'b'"),
        ("data.sources=[{path: a, weight: 0}]", "weight"),
        ("data.sources=[{path: a, wieght: 1}]", "wieght"),
        ("data.sources=[{weight: 1}]", "path"),
        ("data.sources=[{path: a, weight: 1, repeat: 2}, {path: b, weight: 1}]", "leave out repeat"),
        ("data.sources=[{path: a, name: 'x:y'}]", "give one of 1 to 64"),
        ("data.source=mixed", "data.sources is not set"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_a_sentence(given, said):
    with pytest.raises(ConfigError, match="data") as refused:
        load_config(None, [given])
    assert said in str(refused.value) and "\n" not in str(refused.value).strip()


def test_sources_and_another_source_exclude_each_other_and_epochs_know_no_weights(tmp_path):
    with pytest.raises(ValidationError, match=r"data\.source is 'demo'"):
        mixture_of(tmp_path, [{"path": "a"}], data={"source": "demo"})
    with pytest.raises(ValidationError, match="leave out the weights"):
        mixture_of(tmp_path, [{"path": "a", "weight": 1}, {"path": "b", "weight": 1}], run={"num_epochs": 2})


def test_one_source_is_its_folder_alone(tmp_path):
    folder = source_folder(tmp_path / "a", 7)
    mixed = mixture_of(tmp_path / "home", [{"path": folder}])
    alone = mixture_of(tmp_path / "home", [], data={"source": "prepared", "prepared": folder})
    assert sets_of_run(mixed) == sets_of_run(alone)
    assert steps_of(mixed, 9) == steps_of(alone, 9)
    order = [
        refill_of_run(one, NoPrompts(), sets_of_run(one)).requests(2, num_before=0, num_wanted=3)
        for one in (mixed, alone)
    ]
    assert order[0] == order[1]
    inputs = [inputs_of(one, tmp_path, sets_of_run(one)) for one in (mixed, alone)]
    assert inputs[0] == inputs[1]


def test_equal_ids_of_two_sources_never_meet(tmp_path):
    config = two(tmp_path)
    sets = sets_of_run(config)
    everything = [*sets.train, *sets.tune, *sets.test]
    assert len({one.question_id for one in everything}) == len(everything) == 26
    assert {one.database_id for one in everything} == {"a:shop", "b:shop"}
    assert {one.source for one in everything} == {"a", "b"}
    columns = []
    for name in ("a:shop", "b:shop"):
        connection = sqlite3.connect(database_path(sets.databases_dir, name))
        columns.append([row[1] for row in connection.execute("PRAGMA table_info(item)")])
        connection.close()
    assert columns == [["name", "price"], ["name", "colour"]]
    assert sets_of_run(config).databases_dir == sets.databases_dir


def test_a_prompt_shows_nothing_of_the_mixture(tmp_path, home):
    config = two(tmp_path)
    for name in ("a", "b"):
        place = tmp_path / name / "databases" / "shop" / "database_description"
        place.mkdir()
        (place / "item.csv").write_text(f"original_column_name,column_description\nname,what {name} calls it\n")
    model_dir = model_folder(load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}"]), home / "demo")
    arctic = config.prompt.model_copy(update={"style": "arctic", "descriptions": "columns", "example_values": 2})
    mixed = sets_of_run(config)
    encoder = PromptEncoder(model_dir, mixed.databases_dir, arctic)
    for name in ("a", "b"):
        folder = tmp_path / name
        alone = sets_of_run(mixture_of(tmp_path / "home", [], data={"source": "prepared", "prepared": folder}))
        own = PromptEncoder(model_dir, alone.databases_dir, arctic)
        by_text = {one.text: one for one in mixed.train}
        for question in alone.train:
            assert encoder.training_prompt(by_text[question.text]) == own.training_prompt(question)


def test_a_step_takes_its_shares_and_says_so_by_source(tmp_path):
    config = two(tmp_path)
    for requests in steps_of(config, 8):
        assert sorted(one.question.source for one in requests) == ["a", "b", "b"]
    refill = refill_of_run(config, NoPrompts(), sets_of_run(config))
    further = refill.requests(1, num_before=0, num_wanted=15)
    first = steps_of(config, 1)[0]
    assert len({one.question.question_id for one in [*first, *further]}) == 18
    assert [one.question.source for one in further[:6]].count("b") == 4


def test_epochs_count_repeats_and_every_source(tmp_path):
    config = two(tmp_path, repeat=2)
    run = {"home": tmp_path / "home", "num_epochs": 1}
    config = RunConfig.model_validate(config.model_dump(exclude_unset=True) | {"run": run})
    sets = sets_of_run(config)
    assert num_asked_in_epoch(config, sets.train) == 6 + 2 * 12
    planned = with_num_steps(config, num_asked_in_epoch(config, sets.train))
    assert planned.run.num_steps == 10
    asked_ids = [one.question.question_id for requests in steps_of(planned, 10) for one in requests]
    assert sorted(asked_ids) == sorted(
        one.question_id for one in sets.train for _ in range(2 if one.source == "b" else 1)
    )


def test_a_source_that_is_too_small_for_its_share_is_refused(tmp_path):
    source_folder(tmp_path / "a", 1)
    source_folder(tmp_path / "b", 9)
    config = mixture_of(tmp_path / "h", [{"path": tmp_path / "a", "weight": 5}, {"path": tmp_path / "b", "weight": 1}])
    with pytest.raises(UserError, match="up to 3 questions of the source 'a', which has 1"):
        check_shares(config, sets_of_run(config).train)


def test_few_evaluated_questions_stand_for_all_sources(tmp_path):
    config = two(tmp_path)
    limited = config.model_copy(update={"data": config.data.model_copy(update={"max_eval_questions": 2})})
    for split in ("tune", "test"):
        assert {one.source for one in sets_of_run(limited).split(split)} == {"a", "b"}
        assert {one.source for one in sets_of_run(config).split(split)[:2]} == {"a", "b"}
    fewer = config.model_copy(update={"data": config.data.model_copy(update={"max_train_questions": 6})})
    assert sorted(one.source for one in sets_of_run(fewer).train) == ["a", "a", "b", "b", "b", "b"]


def test_pass_rates_belong_to_their_source(tmp_path):
    rates = {"train0": PassRate(num_samples=8, num_correct=0), "train1": PassRate(num_samples=8, num_correct=4)}
    source_folder(tmp_path / "a", 2, rates=rates)
    folder = source_folder(tmp_path / "b", 3)
    sources = [{"path": tmp_path / "a"}, {"path": folder}]
    config = mixture_of(tmp_path / "home", sources, data={"filter_by_pass_rate": True})
    with pytest.raises(UserError, match=f"which {folder} has not"):
        sets_of_run(config)
    source_folder(tmp_path / "c", 3, rates={"train0": rates["train1"]})
    config = mixture_of(tmp_path / "home", [sources[0], {"path": tmp_path / "c"}], data={"filter_by_pass_rate": True})
    sets = sets_of_run(config)
    assert sorted(one.question_id for one in sets.train) == ["a:train1", "c:train0", "c:train1", "c:train2"]
    assert set(sets.pass_rates) == {"a:train0", "a:train1", "c:train0"}


def test_training_never_holds_what_another_source_evaluates(tmp_path):
    source_folder(tmp_path / "a", tune=[*asked("a", "tune", 2), *asked("a", "held", 1, "zoo")])
    again = dataclasses.replace(asked("a", "tune", 1)[0], question_id="again", gold_sql=("SELECT 1",))
    gold = dataclasses.replace(asked("a", "test", 1)[0], question_id="gold", text="Something else?")
    twin = dataclasses.replace(asked("a", "train", 1)[0], question_id="twin")
    zoo = dataclasses.replace(asked("b", "zoo", 1, "zoo")[0], question_id="zoo")
    source_folder(tmp_path / "b", train=[*asked("b", "train", 2), again, gold, twin, zoo])
    said: list[str] = []
    config = mixture_of(tmp_path / "home", [{"path": tmp_path / "a"}, {"path": tmp_path / "b"}], 2)
    sets = sets_of_run(config, said.append)
    assert {one.question_id for one in sets.train if one.source == "b"} == {"b:train0", "b:train1"}
    assert len([one for one in sets.train if one.source == "a"]) == 6
    assert said == [
        "mixture: 4 of 6 training questions of b are left out, because another source has them (duplicate_question 1, "
        "overlap_database 1, overlap_gold 1, overlap_question 1)"
    ]


def test_databases_of_equal_names_and_other_tables_are_two(tmp_path):
    source_folder(tmp_path / "a", tune=asked("a", "held", 1, "zoo"))
    own = [*asked("b", "train", 2), dataclasses.replace(asked("b", "zoo", 1, "zoo")[0], question_id="zoo")]
    twin = dataclasses.replace(asked("a", "train", 1)[0], question_id="twin")
    source_folder(tmp_path / "b", script=OTHER_SHOP, train=[*own, twin])
    config = mixture_of(tmp_path / "home", [{"path": tmp_path / "a"}, {"path": tmp_path / "b"}], 2)
    assert {one.question_id for one in sets_of_run(config).train if one.source == "b"} == {
        "b:train0", "b:train1", "b:zoo", "b:twin",
    }  # fmt: skip


def test_a_weighted_source_of_which_nothing_is_left_is_refused(tmp_path):
    source_folder(tmp_path / "a")
    sources = [{"path": tmp_path / "a", "weight": 1}, {"path": tmp_path / "a", "name": "again", "weight": 1}]
    with pytest.raises(UserError, match=r"'again' of data\.sources has a weight"):
        sets_of_run(mixture_of(tmp_path / "home", sources))


def test_each_source_is_judged_by_its_own_semantics_and_suite(tmp_path):
    suite = tmp_path / "suite" / "shop"
    suite.mkdir(parents=True)
    connection = sqlite3.connect(suite / "fuller.sqlite")
    connection.executescript(SHOP + "INSERT INTO item VALUES ('ink', 9);")
    connection.close()
    for name in ("a", "b", "c"):
        source_folder(tmp_path / name, 1)
    sources = [
        {"path": tmp_path / "a"},
        {"path": tmp_path / "b", "semantics": "spider"},
        {"path": tmp_path / "c", "semantics": "spider", "suite": tmp_path / "suite"},
    ]
    config = mixture_of(tmp_path / "home", sources)
    sets = sets_of_run(config)
    judged = {}
    scorer = Scorer(sets.databases_dir, config.reward)
    try:
        for _ in range(2):  # also from what the executor remembers
            for question in sets.train:
                request = ScoreRequest(
                    question_id=question.question_id,
                    database_id=question.database_id,
                    gold_sql=("SELECT name FROM item",),
                    candidates=tuple(
                        Candidate(sql=one)
                        for one in ("SELECT DISTINCT name FROM item", "SELECT name FROM item WHERE price < 5")
                    ),
                    semantics=question.semantics,
                )
                judged.setdefault(question.source, []).append(tuple(one.outcome for one in scorer.score(request)))
    finally:
        scorer.close()
    right, wrong = Outcome.MATCH, Outcome.MISMATCH
    assert judged == {"a": [(right, right)] * 2, "b": [(wrong, right)] * 2, "c": [(wrong, wrong)] * 2}
    assert not config.has_suite and mixture_of(tmp_path, sources[2:]).has_suite
    assert config.semantics_in_words == "bird for a, spider for b, spider with a suite for c"


def test_one_database_in_two_sources_is_judged_by_each_ones_semantics_from_one_memory(tmp_path):
    source_folder(tmp_path / "a", 1)
    database = tmp_path / "a" / "databases"
    scorer = Scorer(database, RunConfig().reward)
    try:
        request = ScoreRequest(
            question_id="q",
            database_id="shop",
            gold_sql=("SELECT name FROM item",),
            candidates=(Candidate(sql="SELECT DISTINCT name FROM item"),),
        )
        found = [
            scorer.score(dataclasses.replace(request, semantics=one))[0].outcome
            for one in ("", "spider", "bird", "strict")
        ]
    finally:
        scorer.close()
    assert found == [Outcome.MATCH, Outcome.MISMATCH, Outcome.MATCH, Outcome.MISMATCH]


def test_a_suite_that_is_no_folder_is_refused(tmp_path):
    source_folder(tmp_path / "a", 1)
    source = {"path": tmp_path / "a", "semantics": "spider", "suite": tmp_path / "none"}
    with pytest.raises(UserError, match=r"'a' in data\.sources is not a folder"):
        sets_of_run(mixture_of(tmp_path / "home", [source]))


def test_the_latest_clock_of_the_sources_is_the_runs(tmp_path):
    config = two(tmp_path)
    for name, clock in (("a", "2001-01-01 00:00:00"), ("b", "2003-01-01 00:00:00")):
        (tmp_path / name / MANIFEST_FILE).write_text(f'{{"clock": "{clock}"}}')
    assert with_clock(config).reward.clock == "2003-01-01 00:00:00"


def test_a_resume_sees_that_a_suite_has_changed(tmp_path):
    suite = tmp_path / "suite" / "shop"
    suite.mkdir(parents=True)
    (suite / "fuller.sqlite").write_bytes((source_folder(tmp_path / "a") / "databases/shop/shop.sqlite").read_bytes())
    source = {"path": tmp_path / "a", "semantics": "spider", "suite": tmp_path / "suite"}
    config = mixture_of(tmp_path / "home", [source])
    before = inputs_of(config, tmp_path, sets_of_run(config))
    connection = sqlite3.connect(suite / "fuller.sqlite")
    connection.executescript("INSERT INTO item VALUES ('ink', 9);")
    connection.close()
    assert inputs_of(config, tmp_path, sets_of_run(config)).databases != before.databases
