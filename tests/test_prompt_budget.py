"""Numbers of prompts trimmed or refused, as `floe train`, `floe prepare` and `floe prompt --summary` say it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from floe.actors.prompting.prompt_fitting import EncodedPrompt
from floe.actors.prompting.trimming import Trimming
from floe.actors.questions.question_sets import QuestionSets
from floe.actors.questions.questions import read_questions
from floe.cluster.models.model_folder import model_folder
from floe.cluster.operations.prompt import summarise_prompts
from floe.cluster.questions.fitting import encoder_of_run, fitting_questions
from floe.cluster.questions.prompt_lengths import budget_of
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, config, floe
from tests.small_archives import make_database, record, write_json


def encoded(num_whole: int, num_sent: int, trimming: Trimming = Trimming.NONE, refused: bool = False) -> EncodedPrompt:
    return EncodedPrompt(
        token_ids=(0,) * num_sent,
        num_whole_tokens=num_whole,
        trimming=trimming,
        dropped_columns=(),
        refused=refused,
    )


def test_a_budget_counts_what_was_trimmed_and_what_was_refused():
    prompts = [encoded(number, number) for number in range(1, 18)]
    prompts += [encoded(60, 50, Trimming.EXAMPLES), encoded(70, 40, Trimming.COLUMNS)]
    prompts.append(encoded(200, 90, Trimming.COLUMNS, refused=True))
    budget = budget_of(prompts)
    assert (budget.median, budget.p95, budget.longest, budget.longest_sent) == (10, 70, 200, 50)
    assert (budget.trimmed_share, budget.refused_share) == (0.1, 0.05)
    sentence = budget.sentence(50)
    assert sentence == "longest prompt 200 tokens of 50, 10.0 % trimmed (examples 1, columns 1), 5.0 % refused (1)"


def test_no_prompt_has_no_budget():
    with pytest.raises(ValueError, match="no prompts"):
        budget_of([])


@pytest.fixture
def files(tmp_path):
    """Make nine databases of one question each, one of them with a question so long that its prompt does not fit."""
    names = [f"zoo_{number}" for number in range(9)]
    for name in names:
        make_database(tmp_path / "databases" / name / f"{name}.sqlite")
    records = [record(name, "How old is Ada?", "SELECT age FROM pet") for name in names]
    records[-1]["question"] = " ".join(["How old is Ada, of all the pets that there are?"] * 40)
    write_json(tmp_path / "questions.json", records)
    return [
        "data.source=files",
        f"data.questions={tmp_path / 'questions.json'}",
        f"data.databases={tmp_path / 'databases'}",
        "rollout.questions_per_step=1",
    ]


def test_questions_whose_prompt_is_refused_are_left_out_and_counted(home, files, tmp_path):
    settings = load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}", *files])
    questions = tuple(read_questions(tmp_path / "questions.json"))
    sets = QuestionSets(
        databases_dir=tmp_path / "databases", train=questions[4:], tune=questions[:2], test=questions[2:4]
    )
    said = io.StringIO()
    progress = Progress(Console(file=said, width=200))
    encoder = encoder_of_run(settings, model_folder(settings, home / "demo"), sets.databases_dir)
    kept = fitting_questions(sets, encoder, settings, progress)
    assert (kept.train, kept.tune, kept.test) == (questions[4:-1], sets.tune, sets.test)
    train, tune, _ = said.getvalue().splitlines()
    assert "train: 4 questions" in train and "20.0 % refused (1)" in train
    assert "tune: 2 questions" in tune and "0.0 % refused (0)" in tune
    with pytest.raises(UserError, match="Every prompt of the split 'test' exceeds 216 tokens"):
        fitting_questions(replace(sets, test=questions[-1:]), encoder, settings, progress)


def test_the_summary_has_a_row_for_each_split_and_for_all(home, files, capsys):
    summarise_prompts(load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}", *files]))
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    numbers = {row[0]: row[1:] for row in rows}
    assert list(numbers) == ["train", "tune", "test", "all"]
    assert numbers["all"][0] == "9" and numbers["all"][-1] == "11.1 %"


@pytest.mark.parametrize("arguments", [(), ("--summary", "--question", "1")])
def test_a_question_or_the_summary_has_to_be_asked_for(home, arguments):
    done = floe("prompt", "--config", config("smoke.yaml"), *arguments, home=home)
    assert done.returncode == 2 and "one of --question ID and --summary" in done.stderr


def test_what_the_compact_style_can_not_show_is_refused():
    for option in ("example_values=2", "descriptions=columns", "retrieved_values=5"):
        with pytest.raises(UserError, match=r"prompt\.\w+ is \w+, but prompt\.style 'compact'"):
            load_config(None, [f"prompt.{option}"])
        assert load_config(None, ["prompt.style=arctic", f"prompt.{option}"])
