"""`floe plan` from the command line: its tables, its JSON, its exit codes, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from floe.cluster import cli
from floe.cluster.machine.card_figures import CardFigures, write_figures
from floe.cluster.machine.gpus import GpuReading
from floe.cluster.memory_plan import of_machine as plan_basis
from floe.cluster.memory_plan.learner.work import WorkSource
from floe.cluster.operations import plan as operation
from floe.cluster.operations import time_planning
from floe.cluster.time_plan.named_cards import named_card
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.sections.colocation import Colocation
from tests.test_forecast import PLAN

REPOSITORY = Path(__file__).parent.parent
ONE_CARD = str(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml")
RECIPE = str(REPOSITORY / "configs" / "arctic_3b_recipe.yaml")
QUICKSTART = str(REPOSITORY / "configs" / "quickstart.yaml")


@pytest.fixture(autouse=True)
def no_measurement(monkeypatch):
    """Skip the plan of the time, with the model and the data that it would need."""
    monkeypatch.setattr(operation, "plan_before", lambda config: PLAN)


COUNTED: dict[tuple, WorkSource | None] = {}


@pytest.fixture(autouse=True)
def counted_once(monkeypatch):
    """The learner's work of one model, counted for all of these."""
    count = plan_basis._counted_work

    def counted(config):
        key = config.model.path, config.model.dtype, config.learner.max_pack_tokens, config.model.max_context_tokens
        if key not in COUNTED:
            COUNTED[key] = count(config)
        return COUNTED[key]

    monkeypatch.setattr(plan_basis, "_counted_work", counted)
    monkeypatch.setattr(operation, "read_gpus", GpuReading)


@pytest.fixture
def floe_plan(capsys, monkeypatch):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["floe", "plan", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_the_shipped_configuration_fits_and_the_placement_is_named(floe_plan):
    code, out, _ = floe_plan("--config", ONE_CARD, "--gpu-memory", "24GB")
    assert code == 0
    assert "3,085,938,688 parameters" in out and "29,933,568" in out and "36,864 bytes a token" in out
    for part in (
        "engine: base weights",
        "engine: CUDA graphs",
        "engine: KV cache",
        "learner: optimiser",
        "learner: NCCL",
    ):
        assert part in out
    assert out.strip().splitlines()[-1].startswith("It fits with resident: ")


def test_the_adapter_that_a_run_starts_from_is_named(floe_plan):
    given = "--config", ONE_CARD, "--gpu-memory", "24GB", "lora.initial_adapter=somebody/adapter"
    code, out, _ = floe_plan(*given)
    assert code == 0 and "GRPO starts from the adapter somebody/adapter, without a warm start; the reference" in out
    found = json.loads(floe_plan(*given, "algorithm.kl_reference=base", "--json")[1])
    assert (found["initial_adapter"], found["kl_reference"]) == ("somebody/adapter", "base")
    assert "GRPO starts from" not in floe_plan(*given[:4])[1]


def test_what_does_not_fit_ends_with_3_and_settings_that_do(floe_plan):
    code, out, _ = floe_plan("--config", ONE_CARD, "--gpu-memory", "16GB")
    sentence = out.strip().splitlines()[-1]
    assert code == 3
    assert sentence.startswith("It does not fit: ") and "it would with " in sentence
    changes = sentence.partition("it would with ")[2].rstrip(".").split()
    code, out, _ = floe_plan("--config", ONE_CARD, *changes, "--gpu-memory", "16GB")
    assert code == 0, out


def test_what_nothing_helps_names_the_memory_that_would(floe_plan):
    code, out, _ = floe_plan("--config", ONE_CARD, "--gpu-memory", "6GB")
    assert code == 3
    assert "a larger device of " in out.splitlines()[-1]


def test_json_holds_the_whole_plan(floe_plan):
    code, out, err = floe_plan("--config", ONE_CARD, "--gpu-memory", "24GiB", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["model"] == {
        "name": "Qwen/Qwen2.5-Coder-3B-Instruct",
        "num_parameters": 3_085_938_688,
        "num_adapter_parameters": 29_933_568,
        "weight_bytes": 6_171_877_376,
        "kv_bytes_per_token": 36_864,
        "logits_bytes_per_token": 607_744,
    }
    assert (found["device"], found["budget_bytes"], found["colocation"]) == ("shared_gpu", 24 * 2**30, "resident")
    assert found["remedy"] is None and found["verdict"].startswith("It fits")
    assert [option["colocation"] for option in found["options"]] == list(Colocation)
    for option in found["options"]:
        assert [phase["phase"] for phase in option["phases"]] == [
            "generating",
            "learning",
            "broadcast",
            "equality check",
        ]
        assert option["margin_bytes"] == found["budget_bytes"] - option["peak_bytes"]
        for phase in option["phases"]:
            assert phase["num_bytes"] == sum(item["num_bytes"] for item in phase["items"])
        assert option["peak_bytes"] == max(phase["num_bytes"] for phase in option["phases"])


def test_the_margin_and_what_would_be_on_other_cards_are_printed(floe_plan):
    code, out, _ = floe_plan("--config", ONE_CARD)
    assert code == 0 and "21.96 GiB, an assumed card of 24 GB" in out and "counted on its own code" in out
    verdict = out.strip().splitlines()[-1]
    assert verdict.startswith("It fits with resident: ") and " of 21.96 GiB at the peak, which leaves " in verdict
    peak = float(verdict.removeprefix("It fits with resident: ").split()[0])
    assert f"both stay resident, {peak:.1f} GiB at the peak." in Path(ONE_CARD).read_text()  # as its comment says
    rows = {line.strip()[:5]: line for line in out.splitlines() if line.strip()[2:5] == " GB"}
    assert list(rows) == ["16 GB", "24 GB", "40 GB", "48 GB", "80 GB"]
    assert " engine_sleeps " in rows["16 GB"]
    assert all(" resident " in rows[card] for card in ("24 GB", "40 GB", "48 GB", "80 GB"))


def test_json_has_the_cards_and_what_is_assumed(floe_plan):
    found = json.loads(floe_plan("--config", ONE_CARD, "--json")[1])
    assert found["is_counted"] is True and found["overheads"]["measured"] == []
    assert [row["card"] for row in found["cards"]] == ["16 GB", "24 GB", "40 GB", "48 GB", "80 GB"]
    of_24 = found["cards"][1]
    assert of_24["margin_bytes"] == of_24["usable_bytes"] - of_24["peak_bytes"] > 0
    assert of_24["changes"] is None
    assert "cards" not in json.loads(floe_plan("--config", QUICKSTART, "--json")[1])


def test_the_changes_that_a_card_is_given_make_it_fit(floe_plan):
    larger = "model.path=Qwen/Qwen2.5-Coder-7B-Instruct"
    _, small, *_ = json.loads(floe_plan("--config", ONE_CARD, larger, "--json")[1])["cards"]
    assert small["changes"]
    changes = [f"{key}={json.dumps(value)}" for key, value in small["changes"].items()]
    code, out, _ = floe_plan("--config", ONE_CARD, larger, *changes, "--gpu-memory", f"{small['usable_bytes']}B")
    assert code == 0, out


def test_gb_and_gib_are_told_apart(floe_plan):
    budgets = [
        json.loads(floe_plan("--config", ONE_CARD, "--gpu-memory", given, "--json")[1])["budget_bytes"]
        for given in ("24GB", "24GiB", "24 gb", "25769803776")
    ]
    assert budgets == [24 * 10**9, 24 * 2**30, 24 * 10**9, 24 * 2**30]


def test_without_a_gpu_it_plans_the_host(floe_plan):
    code, out, _ = floe_plan("--config", QUICKSTART, "--gpu-memory", "16GiB", "--json")
    found = json.loads(out)
    assert (code, found["device"], found["budget_bytes"]) == (0, "host", 16 * 2**30)
    assert {item["role"] for item in found["options"][0]["phases"][0]["items"]} == {"engine", "learner", "others"}


def test_without_a_gpu_it_says_how_long_the_run_takes(floe_plan):
    code, out, _ = floe_plan("--config", QUICKSTART, "--gpu-memory", "16GiB")
    lines = out.strip().splitlines()
    assert code == 0 and lines[-1].startswith("It fits")
    assert lines[-2].startswith("Time: about 10 min 05 s in all: ") and "10 steps of 22 s" in lines[-2]
    time = json.loads(floe_plan("--config", QUICKSTART, "--gpu-memory", "16GiB", "--json")[1])["time"]
    assert (time["whole_s"], time["warm_start_s"], time["num_steps"]) == (PLAN.whole_s, 115, 10)


def test_the_time_on_a_gpu_is_not_made_up(floe_plan):
    _, out, _ = floe_plan("--config", ONE_CARD, "--gpu-memory", "24GB")
    assert "Time: the time is not known before a run on GPUs" in out
    found = json.loads(floe_plan("--config", ONE_CARD, "--gpu-memory", "24GB", "--json")[1])
    assert "not known" in found["time"]["unknown"]


@pytest.fixture
def no_tokenizer(monkeypatch):
    def refuse(config):
        raise UserError("the model could not be fetched.")

    monkeypatch.setattr(time_planning, "tokens_before", refuse)


def test_a_card_by_name_has_its_size_and_a_time_with_its_assumptions(floe_plan, no_tokenizer):
    found = {}
    for device in ("a10", "a100-40g", "h100"):
        code, out, _ = floe_plan("--config", ONE_CARD, "--device", device)
        name = named_card(device).name
        assert code == 0 and f", {name}\n" in out and f"Time on {name}: about " in out
        assert out.count("  assumed: ") == 5 and "(the model could not be fetched)" in out
        found[device] = json.loads(floe_plan("--config", ONE_CARD, "--device", device, "--json")[1])
    assert [one["budget_bytes"] for one in found.values()] == [int(gib * 2**30) for gib in (21.96, 39.38, 79.14)]
    times = [one["time"] for one in found.values()]
    assert [one["device"] for one in times] == list(found) and all(len(one["assumptions"]) == 5 for one in times)
    assert times[0]["step_s"] > times[1]["step_s"] > times[2]["step_s"] > 0
    assert all(one["whole_s"] > one["num_steps"] * one["step_s"] for one in times)


def test_steps_that_stand_for_unknown_epochs_are_said(floe_plan, no_tokenizer):
    _, out, _ = floe_plan("--config", RECIPE, "--device", "a100-40g")
    assert "the run 20 steps in place of its 3 epochs" in out
    _, out, _ = floe_plan("--config", ONE_CARD, "--device", "a100-40g")
    assert "in place of its" not in out


def test_a_card_and_a_size_together_are_refused(floe_plan):
    code, _, err = floe_plan("--config", ONE_CARD, "--device", "a10", "--gpu-memory", "24GB")
    assert code == 2 and "--device and --gpu-memory both say what the card is" in err


def test_what_was_measured_on_a_named_card_is_its_memory_too(floe_plan, no_tokenizer, tmp_path):
    write_figures(tmp_path, CardFigures(card="NVIDIA L4", usable_bytes=22 * 2**30, nccl_bytes=5))
    given = "--config", ONE_CARD, "--device", "l4", f"run.home={tmp_path}", "--json"
    found = json.loads(floe_plan(*given)[1])
    assert found["budget_bytes"] == 22 * 2**30 and found["overheads"]["measured"] == ["nccl_bytes"]


def test_a_time_that_cant_be_planned_says_why_and_memory_is_planned_all_the_same(floe_plan, monkeypatch):
    def no_data(config):
        raise UserError("there is no questions.json")

    monkeypatch.setattr(operation, "plan_before", no_data)
    code, out, _ = floe_plan("--config", QUICKSTART, "--gpu-memory", "16GiB")
    assert code == 0
    assert "Time: the time is not known: there is no questions.json" in out and "It fits" in out


@pytest.mark.parametrize("given", ["much", "0GB", "-3GB"])
def test_an_amount_that_is_none_is_refused(floe_plan, given):
    code, out, err = floe_plan("--config", ONE_CARD, f"--gpu-memory={given}")
    assert (code, out) == (2, "")
    assert f"--gpu-memory is '{given}'" in err


def test_a_model_that_is_not_there_is_a_sentence(floe_plan, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = floe_plan("--config", QUICKSTART, f"model.path={tmp_path / 'empty'}")
    assert code == 2
    assert "has no model configuration" in err and "Traceback" not in err


def test_a_model_of_ones_own_is_counted_by_its_configuration(floe_plan, tmp_path):
    from transformers import Qwen2Config

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 100}
    Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True).save_pretrained(
        tmp_path
    )
    code, out, _ = floe_plan("--config", QUICKSTART, f"model.path={tmp_path}", "--json")
    attention = 64 * 64 + 64 + 2 * (64 * 32 + 32) + 64 * 64
    layer = attention + 3 * 64 * 128 + 2 * 64
    assert code == 0
    assert json.loads(out)["model"]["num_parameters"] == 100 * 64 + 2 * layer + 64


@pytest.mark.parametrize("given", ["auto", *Colocation])
def test_every_placement_can_be_asked_for(given):
    settings = load_config(None, [f"cluster.colocation={given}"])
    assert settings.cluster.colocation == given
