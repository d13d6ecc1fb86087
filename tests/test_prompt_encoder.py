"""Prompts in tokens: how they are trimmed in training and evaluation, and what `floe prompt` shows of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from floe.actors.databases.schemas import ColumnName
from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.prompting.trimming import Trimming
from floe.actors.questions.question_sets import QuestionSets, load_question_sets
from floe.cluster.messages import Question
from floe.cluster.models.model_folder import model_folder
from floe.cluster.questions.fitting import encoder_of_run, fitting_questions, shows_its_gold
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, config, floe
from tests.small_archives import make_database

WIDE = [f"ALTER TABLE pet ADD COLUMN detail_{number} TEXT" for number in range(30)]
QUESTION = Question(question_id="1", database_id="zoo", text="Who is old?", gold_sql=("SELECT detail_29 FROM pet",))


@pytest.fixture(scope="module")
def smoke(home):
    settings = load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}"])
    return settings, model_folder(settings, home / "demo")


@pytest.fixture(scope="module")
def encoder(smoke, tmp_path_factory):
    _, model_dir = smoke
    folder = tmp_path_factory.mktemp("databases")
    make_database(folder / "zoo" / "zoo.sqlite", WIDE)
    whole = PromptEncoder(model_dir, folder, load_config(None, []).prompt)
    longest = whole.encoded(QUESTION).num_tokens
    return PromptEncoder(model_dir, folder, load_config(None, []).prompt, max_tokens=longest - 20)


def test_an_evaluations_prompt_never_hangs_on_the_gold(encoder):
    golds = ("SELECT detail_29 FROM pet", "SELECT detail_3 FROM pet", "SELECT 1", "no SQL at all")
    prompts = {encoder.encoded(replace(QUESTION, gold_sql=(gold,))).token_ids for gold in golds}
    assert len(prompts) == 1
    found = encoder.encoded(QUESTION)
    assert found.dropped_columns and not found.refused


def test_an_evaluation_does_not_even_read_the_gold(encoder):
    class Unseen:
        question_id, database_id, text, evidence = "1", QUESTION.database_id, QUESTION.text, ""

        @property
        def gold_sql(self):
            raise AssertionError("the gold was read")

    assert encoder.encoded(Unseen()) == encoder.encoded(QUESTION) == encoder.encoded_for_training(Unseen())


def keeping_gold(encoder, smoke, max_tokens):
    settings = load_config(None, ["prompt.trim_keeps_gold=true"]).prompt
    return PromptEncoder(smoke[1], encoder._databases_dir, settings, max_tokens=max_tokens)


def test_training_prompts_may_keep_the_golds_columns(encoder, smoke):
    found = keeping_gold(encoder, smoke, encoder._max_tokens).encoded_for_training(QUESTION)
    assert found.dropped_columns and "detail_29" in encoder.text(found.token_ids)
    assert "detail_29" not in encoder.text(encoder.encoded(QUESTION).token_ids)
    assert "id" in encoder.text(found.token_ids)


def test_a_prompt_that_loses_no_column_is_the_same_with_either_trimming(encoder, smoke):
    whole = PromptEncoder(smoke[1], encoder._databases_dir, load_config(None, []).prompt)
    assert keeping_gold(encoder, smoke, None).encoded_for_training(QUESTION) == whole.encoded_for_training(QUESTION)


def test_questions_that_lose_a_column_of_their_gold_are_not_trained_on(encoder, smoke):
    shown = replace(QUESTION, question_id="2", gold_sql=("SELECT id FROM pet",))
    sets = QuestionSets(
        databases_dir=encoder._databases_dir, train=(QUESTION, shown), tune=(QUESTION,), test=(QUESTION, shown)
    )
    room = load_config(None, []).rollout.max_new_tokens
    context = f"model.max_context_tokens={encoder._max_tokens + room}"
    config = load_config(None, [context, "rollout.questions_per_step=1", "evaluation.split=test"])

    class Notes(list[str]):
        note = list.append

    notes = Notes()
    fitting = fitting_questions(sets, encoder, config, notes)
    assert fitting.train == (shown,) and fitting.test == (QUESTION, shown) and fitting.tune == (QUESTION,)
    assert any("train: 1 questions left out" in one and "prompt.trim_keeps_gold=true" in one for one in notes)
    kept = fitting_questions(sets, keeping_gold(encoder, smoke, encoder._max_tokens), config, Notes())
    assert kept.train == (QUESTION, shown)
    assert shows_its_gold(shown, encoder) and not shows_its_gold(QUESTION, encoder)
    with pytest.raises(UserError, match="split 'train' loses a column of its gold at"):
        fitting_questions(replace(sets, train=(QUESTION,)), encoder, config, Notes())


def test_a_prompt_that_can_not_fit_is_refused_and_not_cut(encoder, smoke):
    refusing = PromptEncoder(smoke[1], encoder._databases_dir, load_config(None, []).prompt, max_tokens=5)
    assert refusing.encoded(QUESTION).refused
    with pytest.raises(ValueError, match="1"):
        refusing.prompt(QUESTION)


def test_in_evaluation_columns_with_named_values_stay(smoke, tmp_path):
    make_database(tmp_path / "zoo" / "zoo.sqlite", [*WIDE, "UPDATE pet SET detail_29 = 'Striped Hyena' WHERE id = 1"])
    question = replace(QUESTION, text="Who is a striped hyena?", gold_sql=("SELECT name FROM pet",))
    options = ["prompt.style=arctic", "prompt.retrieved_values=20", "prompt.example_values=2"]
    parts, indices = load_config(None, options).prompt, tmp_path / "indices"
    whole = PromptEncoder(smoke[1], tmp_path, parts, indices_dir=indices).encoded(question)
    smaller = PromptEncoder(smoke[1], tmp_path, parts, max_tokens=whole.num_tokens - 380, indices_dir=indices)
    found = smaller.encoded(question)
    assert found.trimming is Trimming.COLUMNS and not found.refused and found.num_whole_tokens == whole.num_tokens
    assert ColumnName("pet", "detail_29") not in found.dropped_columns
    assert "detail_29, -- example: ['Striped Hyena']" in smaller.text(found.token_ids)
    assert smaller.text(found.token_ids)[-len("<think>\n") :] == "<think>\n"


def test_evidence_is_shown_or_not(smoke, encoder, tmp_path):
    hinted = replace(QUESTION, evidence="old means over ten")
    without = PromptEncoder(smoke[1], encoder._databases_dir, load_config(None, ["prompt.evidence=false"]).prompt)
    shown = PromptEncoder(smoke[1], encoder._databases_dir, load_config(None, []).prompt)
    assert "old means over ten\nWho is old?" in shown.text(shown.encoded(hinted).token_ids)
    assert without.encoded(hinted) == without.encoded(QUESTION) == shown.encoded(QUESTION)


def test_with_qwens_tokenizer_the_prompt_is_in_its_chat_template(encoder):
    folder = REPOSITORY.parent / "shared" / "tokenizers" / "qwen2.5-coder"
    if not folder.is_dir():
        pytest.skip("the tokenizer is not beside ../shared/data")
    parts = load_config(None, ["prompt.style=arctic"]).prompt
    qwen = PromptEncoder(folder, encoder._databases_dir, parts)
    text = qwen.text(qwen.encoded(QUESTION).token_ids)
    assert text.startswith("<|im_start|>system\nYou are a data science expert.")
    assert "<|im_end|>\n<|im_start|>user\nDatabase engine:\nSQLite\n" in text
    assert text.endswith("</answer><|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert text.count("<|im_start|>") == 3


def test_floe_prompt_prints_what_the_model_sees(smoke, home):
    settings, model_dir = smoke
    sets = load_question_sets(settings.data, home / "demo")
    question = sets.train[0]
    done = floe("prompt", "--config", config("smoke.yaml"), "--question", question.question_id, home=home)
    encoder = encoder_of_run(settings, model_dir, sets.databases_dir)
    tokens = encoder.training_prompt(question)
    assert done.stdout == encoder.text(tokens) + "\n"
    assert question.text in done.stdout and f"{len(tokens):,} tokens" in done.stderr


def test_floe_prompt_names_an_unknown_question(smoke, home):
    done = floe("prompt", "--config", config("smoke.yaml"), "--question", "nobody", home=home)
    assert done.returncode == 2 and "no question 'nobody'" in done.stderr


def test_only_a_gold_that_reads_a_lost_column_lacks_it(encoder):
    found = encoder.encoded(QUESTION)
    assert encoder.lacks_gold(QUESTION, found)
    assert not encoder.lacks_gold(replace(QUESTION, gold_sql=("SELECT id FROM pet",)), found)
    assert not encoder.lacks_gold(QUESTION, replace(found, dropped_columns=()))
