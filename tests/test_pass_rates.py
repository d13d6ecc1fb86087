"""Pass rates: counted from verdicts, kept in a file, measured once before training, and used to choose questions."""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.actors.questions.pass_rates import PASS_RATES_FILE, PassRate, read_pass_rates, write_pass_rates
from floe.actors.questions.prepared_folder import MANIFEST_FILE, write_splits
from floe.actors.questions.question_sets import load_question_sets
from floe.cluster import cli
from floe.cluster.messages import Outcome, Question
from floe.cluster.operations import measure_pass_rate as measuring
from floe.cluster.questions.of_step import refill_of_run, requests_of_step
from floe.cluster.tracking.running_pass_rates import RunningPassRates, with_groups
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from tests.fake_cluster import FakeCluster
from tests.scored_groups import scored_group
from tests.small_archives import make_database, record, write_json

RIGHT, WRONG = (Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.1)
UNJUDGED = (Outcome.INFRASTRUCTURE, None)


class NoPrompts:
    answer_start = ""

    def training_prompt(self, question: Question) -> tuple[int, ...]:
        return (1, 2)


def questions(prefix: str, count: int) -> list[Question]:
    return [
        Question(question_id=f"{prefix}{i}", database_id="zoo", text=f"{prefix} {i}?", gold_sql=("SELECT 1",))
        for i in range(count)
    ]


def prepared_folder(folder: Path, rates: dict[str, PassRate] | None = None, num_train: int = 4) -> Path:
    folder.mkdir()
    splits = {"train": questions("train", num_train), "tune": questions("tune", 1), "test": questions("test", 1)}
    write_splits(folder, splits)
    (folder / MANIFEST_FILE).write_text("{}")
    if rates is not None:
        write_pass_rates(folder / PASS_RATES_FILE, rates)
    return folder


def config_over(folder: Path, **data) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"source": "prepared", "prepared": folder, **data},
            "rollout": {"questions_per_step": 2},
            "warm_start": {"enabled": False},
            "evaluation": {"num_samples": 2},
        }
    )


def rate(num_correct: int, num_samples: int = 8) -> PassRate:
    return PassRate(num_samples=num_samples, num_correct=num_correct)


@settings(max_examples=25)
@given(
    rates=st.dictionaries(
        st.text(max_size=5), st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
    )
)
def test_the_file_gives_back_what_was_written(tmp_path_factory, rates):
    path = tmp_path_factory.getbasetemp() / PASS_RATES_FILE
    given_rates = {name: rate(*counts) for name, counts in rates.items() if name.isprintable()}
    write_pass_rates(path, given_rates)
    assert read_pass_rates(path) == given_rates


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"q": 0.5}', '{"q": {"num_samples": 2}}', '{"q": {"num_samples": 2, "num_correct": 3}}',
             '{"q": {"num_samples": 0, "num_correct": 0}}']
)  # fmt: skip
def test_a_file_of_another_form_is_refused(tmp_path, text):
    (tmp_path / PASS_RATES_FILE).write_text(text)
    with pytest.raises(UserError, match="Can't read the pass rates"):
        read_pass_rates(tmp_path / PASS_RATES_FILE)


def test_candidates_without_a_reward_count_neither_way():
    groups = [scored_group([RIGHT, WRONG, UNJUDGED], "a"), scored_group([UNJUDGED], "b")]
    assert with_groups({}, groups) == {"a": rate(1, 2)}


def test_a_runs_file_adds_up_its_steps_and_goes_on_where_it_was(tmp_path):
    path = tmp_path / PASS_RATES_FILE
    running = RunningPassRates(tmp_path, {})
    running.add([scored_group([RIGHT, WRONG], "a")])
    assert json.loads(path.read_text()) == {"a": {"num_samples": 2, "num_correct": 1}}
    running.add([scored_group([WRONG, WRONG], "a"), scored_group([RIGHT], "b")])
    RunningPassRates(tmp_path, read_pass_rates(path)).add([scored_group([RIGHT], "b")])
    assert read_pass_rates(path) == {"a": rate(1, 4), "b": rate(2, 2)}
    assert [one.name for one in tmp_path.iterdir()] == [PASS_RATES_FILE]


def test_the_filter_keeps_what_is_neither_always_nor_never_right_and_what_is_unknown(tmp_path):
    folder = prepared_folder(tmp_path / "out", {"train0": rate(0), "train1": rate(8), "train2": rate(1)})
    sets = load_question_sets(config_over(folder, filter_by_pass_rate=True).data, tmp_path)
    assert [one.question_id for one in sets.train] == ["train2", "train3"]
    everything = load_question_sets(config_over(folder).data, tmp_path)
    assert len(everything.train) == 4 and everything.pass_rates["train2"].share == 1 / 8


@pytest.mark.parametrize("wish", [{"filter_by_pass_rate": True}, {"sampler": "middle"}])
def test_what_needs_pass_rates_says_how_to_get_them(tmp_path, wish):
    config = config_over(prepared_folder(tmp_path / "out"), **wish)
    with pytest.raises(UserError, match="--measure-pass-rate CONFIG"):
        load_question_sets(config.data, tmp_path)
    with pytest.raises(ValueError, match=r"data\.source=prepared"):
        RunConfig.model_validate({"data": wish})


def test_the_sampler_of_the_middle_reaches_the_steps_and_their_refill(tmp_path):
    rates = {f"train{i}": rate(8 * (i % 2)) for i in range(38)} | {"train38": rate(4), "train39": rate(4)}
    folder = prepared_folder(tmp_path / "out", rates, num_train=40)
    asked = {}
    for sampler in ("uniform", "middle"):
        config = config_over(folder, sampler=sampler)
        sets = load_question_sets(config.data, tmp_path)
        steps = [requests_of_step(config, NoPrompts(), sets, step) for step in range(1, 41)]
        asked[sampler] = [one.question.question_id for step in steps for one in step]
        refill = refill_of_run(config, NoPrompts(), sets).requests(1, num_before=0, num_wanted=40)
        assert len({one.question.question_id for one in (*steps[0], *refill)}) == len(steps[0]) + len(refill) == 40
    # Expected of 80: 4 of the two in the middle by the epochs, about 45 by weights 0.25 against 38 of 0.01.
    in_middle = {name: sum(one in ("train38", "train39") for one in ids) for name, ids in asked.items()}
    assert in_middle["uniform"] == 4 and in_middle["middle"] > 25


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures over fakes in the place of engine and judges; gives the config's folder and the cluster."""

    def measure(cluster: FakeCluster, **data) -> Path:
        folder = prepared_folder(tmp_path / "out", {"train0": rate(0)})

        @contextmanager
        def no_ray(*_: object, **__: object):
            yield "no Ray"

        fakes = {
            "ray_session": no_ray, "check_resources": lambda config: None, "model_folder": lambda *_: tmp_path,
            "encoder_of_run": lambda *_: NoPrompts(), "fitting_questions": lambda sets, *_: sets,
            "start_rollout_pool": lambda *_: cluster, "start_reward_pool": lambda *_: cluster,
        }  # fmt: skip
        for name, fake in fakes.items():
            monkeypatch.setattr(measuring, name, fake)
        return measuring.measure_pass_rate(config_over(folder, **data))

    return measure


def asked_of(cluster: FakeCluster) -> Sequence[str]:
    return [name for event in cluster.events if event[0] == "generate" for name in event[1]]


def test_every_training_question_is_measured_also_those_that_the_filter_would_leave_out(measured):
    cluster = FakeCluster(
        verdicts={
            "train1": (Outcome.MATCH, Outcome.MATCH),
            "train2": (Outcome.INFRASTRUCTURE, Outcome.MISMATCH),
            "train3": (Outcome.GOLD_FAILED, Outcome.GOLD_FAILED),
        }
    )
    path = measured(cluster, filter_by_pass_rate=True)
    assert asked_of(cluster) == ["train0", "train1", "train2", "train3"]
    assert cluster.events[0][2] is None  # the base model, where no warm start is configured
    assert read_pass_rates(path) == {"train0": rate(1, 2), "train1": rate(2, 2), "train2": rate(0, 1)}


def test_a_measurement_without_any_verdict_is_refused(measured):
    unjudged = dict.fromkeys((f"train{i}" for i in range(4)), (Outcome.INFRASTRUCTURE,) * 2)
    with pytest.raises(UserError, match="could be judged"):
        measured(FakeCluster(verdicts=unjudged))


@pytest.mark.heavy
def test_the_command_measures_with_the_home_of_the_environment(tmp_path, monkeypatch):
    make_database(tmp_path / "databases" / "zoo.db")
    asked = write_json(tmp_path / "questions.json", [record("zoo", "Names?", "SELECT name FROM pet")])
    (tmp_path / "run.yaml").write_text("run:\n  home: /from/file\n")
    given: list[RunConfig] = []
    monkeypatch.setattr(measuring, "measure_pass_rate", given.append)
    monkeypatch.setenv("FLOE_HOME", str(tmp_path / "home"))
    arguments = [asked, tmp_path / "databases", tmp_path / "out", "--measure-pass-rate", tmp_path / "run.yaml"]
    monkeypatch.setattr("sys.argv", ["floe", "prepare", "jsonl", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    (config,) = given
    assert config.run.home == tmp_path / "home" and config.data.prepared == tmp_path / "out"
