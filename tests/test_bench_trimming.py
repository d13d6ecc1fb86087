"""`floe bench trimming` and `floe bench prompts`: what trimmed prompts lose, and which answers to them are right."""

from __future__ import annotations

import json

import pytest

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.bench.prompt_bench import bench_prompts, budgets_of
from floe.cluster.bench.trimming_bench import trimming_cost
from floe.cluster.messages import Outcome, Question
from floe.cluster.models.model_folder import model_folder
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, config
from tests.scored_groups import scored_group
from tests.small_archives import make_database, record, write_json

WIDE = [f"ALTER TABLE pet ADD COLUMN detail_{number} TEXT" for number in range(30)]
GOLDS = ("SELECT detail_29 FROM pet", "SELECT id FROM pet", "SELECT id FROM pet")


@pytest.fixture(scope="module")
def model_dir(home):
    settings = load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}"])
    return model_folder(settings, home / "demo")


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    make_database(folder / "zoo" / "zoo.sqlite", WIDE)
    make_database(folder / "small" / "small.sqlite")
    return folder


def questions():
    names = ("zoo", "zoo", "small")
    return [
        Question(question_id=str(index), database_id=name, text="Who is old?", gold_sql=(gold,))
        for index, (name, gold) in enumerate(zip(names, GOLDS, strict=True))
    ]


def budget(model_dir, databases):
    whole = PromptEncoder(model_dir, databases, load_config(None, []).prompt)
    return whole.encoded(questions()[0]).num_tokens - 20


def test_right_answers_are_counted_by_what_the_prompt_lost(model_dir, databases):
    max_tokens = budget(model_dir, databases)
    encoder = PromptEncoder(model_dir, databases, load_config(None, []).prompt, max_tokens=max_tokens)

    def groups(*outcomes):
        return [scored_group([(one, None)]) for one in outcomes]

    wrong, right = Outcome.MISMATCH, Outcome.MATCH
    found = trimming_cost(questions(), encoder, groups(wrong, right, right), groups(right, right, wrong), max_tokens)
    assert (found.num_asked, found.num_right) == (3, 2)
    assert (found.num_lost, found.num_lost_right, found.num_lost_right_with_gold) == (2, 1, 2)
    assert (found.num_gold_lost, found.num_gold_lost_right, found.num_gold_lost_right_with_gold) == (1, 0, 1)
    assert "of 1 that lost a column of their gold 0, with these columns 1" in found.sentence()


def test_the_prompts_of_a_run_are_trimmed_to_its_budget(model_dir, databases, tmp_path, capsys):
    path = write_json(tmp_path / "q.json", [record(one.database_id, one.text, one.gold_sql[0]) for one in questions()])
    run = load_config(config("spider_cpu.yaml"), [f"model.max_context_tokens={budget(model_dir, databases) + 64}"])
    budgets = budgets_of((), run)
    assert budgets.settings == run.prompt and budgets_of((7,), run).max_tokens == (7,)
    assert budgets_of((7,), None).settings.style == "arctic"
    bench_prompts(path, databases, model_dir, budgets, as_json=True)
    (found,) = json.loads(capsys.readouterr().out)["trimmed"]
    assert found == {
        "max_tokens": run.max_prompt_tokens, "num_questions": 3, "num_shortened": 2, "num_trimmed": 2,
        "num_gold_lost": 1, "num_refused": 0,
    }  # fmt: skip
