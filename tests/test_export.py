"""`floe export`: which adapter, what the card says, what is never overwritten, and folders that others load."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from floe.cluster.exports.base_licence import licence_of
from floe.cluster.exports.model_card import Licence
from floe.cluster.operations.export import export
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.run_folder.new_folder import new_folder
from floe.configs.errors import UserError
from floe.configs.schema import LoraSection
from floe.learner.adapter.export import to_blob
from floe.learner.adapter.files import write_adapter
from tests.run_folders import run_folder, small_run, write_evaluations
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

LORA = LoraSection(rank=8, alpha=16, target_modules=("q_proj", "down_proj"))


def write_adapters(run_dir: Path, base: Path, *names: str) -> None:
    for number, name in enumerate(names):
        model = AutoModelForCausalLM.from_pretrained(base)
        torch.manual_seed(number)
        options = {"r": LORA.rank, "lora_alpha": LORA.alpha, "target_modules": list(LORA.target_modules)}
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.1)
        write_adapter(run_dir / "adapters" / name, to_blob(get_peft_model_state_dict(adapted)), LORA, base)


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "base-model"
    folder.mkdir()
    save_tiny_llama(folder)
    save_word_tokenizer(folder, 64)
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: research\nlicense_link: LICENSE\n---\n# Base\n"
    )
    return folder


@pytest.fixture
def run_dir(tmp_path, base) -> Path:
    """Make a finished run of three steps, with an adapter of each kind."""
    overrides = [
        f"model.path={base}", "lora.rank=8", "lora.alpha=16", "lora.target_modules=[q_proj, down_proj]",
        "run.num_steps=3", "run.name=shop",
    ]  # fmt: skip
    folder = small_run(tmp_path / "run", overrides=overrides, num_questions=40)
    write_adapters(folder, base, "best", "latest", "start")
    best = {"adapter_version": 2, "greedy": 0.5, "executes": 0.75, "num_questions": 4, "seconds": 1.0, "is_best": True}
    (folder / "adapters" / "best.json").write_text(json.dumps(best))
    return folder


def export_run(run_dir: Path, which=None, merged: Path | None = None, adapter: Path | None = None) -> None:
    export(config_of_run(run_dir, ()), run_dir, which, merged, adapter)


def head_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_the_best_adapter_is_taken_else_the_latest_or_the_one_asked_for(run_dir, tmp_path):
    export_run(run_dir, adapter=tmp_path / "a")
    export_run(run_dir, "start", adapter=tmp_path / "b")
    shutil.rmtree(run_dir / "adapters" / "best")
    export_run(run_dir, adapter=tmp_path / "c")
    for out, name in (("b", "start"), ("c", "latest")):
        assert weights(tmp_path / out) == weights(run_dir / "adapters" / name)
    assert weights(tmp_path / "a") not in (weights(tmp_path / "b"), weights(tmp_path / "c"))
    with pytest.raises(UserError, match=r"no adapter adapters/best: choose with --which .*\(latest, start\)"):
        export_run(run_dir, "best", adapter=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_the_card_names_the_adapter_that_training_started_from(run_dir, tmp_path):
    export_run(run_dir, "start", adapter=tmp_path / "a")
    given = f"lora.initial_adapter={tmp_path / 'first' / 'adapters' / 'best'}"
    config = config_of_run(run_dir, [given, "warm_start.enabled=false"])
    export(config, run_dir, "start", None, tmp_path / "b")
    without, named = ((tmp_path / name / "README.md").read_text() for name in "ab")
    assert "Training started from" not in without and "(the warm start)" in without
    assert "Training started from the adapter `first/adapters/best`." in named and "(the initial adapter)" in named
    assert str(tmp_path) not in named


def test_both_folders_load_and_compute_the_same(run_dir, base, tmp_path):
    export_run(run_dir, merged=tmp_path / "new" / "merged", adapter=tmp_path / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "new" / "merged").float().eval()
    AutoTokenizer.from_pretrained(tmp_path / "new" / "merged")
    original = AutoModelForCausalLM.from_pretrained(base).float()
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        before = original(input_ids=tokens).logits
        adapted = PeftModel.from_pretrained(original, tmp_path / "adapter").eval()(input_ids=tokens).logits
        after = merged(input_ids=tokens).logits
    assert (after - adapted).abs().max() < 0.1 * (before - adapted).abs().max()
    assert sorted(one.name for one in (tmp_path / "new").iterdir()) == ["merged"]


def test_the_card_tells_of_data_configuration_accuracy_and_licence(run_dir, tmp_path):
    export_run(run_dir, merged=tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    head = head_of(card)
    assert (head["license"], head["license_name"], head["license_link"]) == ("other", "research", "LICENSE")
    assert head["library_name"] == "transformers" and "base_model" not in head
    assert "questions.json" in card and re.search(r"Questions: \d+ train, \d+ tune, \d+ test, over 1 databases", card)
    assert re.search(r"\| GRPO \| 0.80 \| 75.0 \[[\d.]+, [\d.]+\] \|", card)
    assert "after 2 of 3 GRPO steps: 50.0 % of 4 held-back questions right" in card
    assert "is about the adapter after the last step" in card  # and not about the best one
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, flags=re.DOTALL).group(1))
    assert shown["model"]["path"] == "base-model" and shown["lora"]["rank"] == 8 and shown["run"]["num_steps"] == 3
    assert str(tmp_path) not in card


def test_the_card_claims_the_runs_accuracy_for_the_adapter_that_was_measured_alone(run_dir, tmp_path):
    for which, row in (("latest", "GRPO"), ("start", "warm start")):
        export_run(run_dir, which, adapter=tmp_path / which)
        card = (tmp_path / which / "README.md").read_text()
        assert f"The row `{row}` is about what this folder holds." in card
        assert head_of(card)["library_name"] == "peft"


def test_what_is_not_known_is_said(run_dir, base, tmp_path):
    (run_dir / "report.json").unlink()
    (base / "README.md").unlink()
    shutil.rmtree(run_dir.parent / "run-data")
    export_run(run_dir, merged=tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "Of the base: not stated." in card and "license" not in head_of(card)
    assert "no before/after table" in card and "The number of questions is not known" in card


def test_the_card_of_a_supervised_stage_alone_says_so(run_dir, tmp_path):
    (run_dir / "report.json").unlink()
    path = run_dir / "config.yaml"
    text, num_replaced = re.subn(r"num_steps: \d+", "num_steps: 0", path.read_text(), count=1)
    assert num_replaced == 1
    path.write_text(text)
    export_run(run_dir, "latest", adapter=tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "supervised stage alone, without a step of GRPO" in card and "did not finish" not in card


def test_odd_names_leave_the_card_whole(run_dir, tmp_path):
    report = json.loads((run_dir / "report.json").read_text())
    report["rows"][0]["name"] = "a | b\n## c"
    (run_dir / "report.json").write_text(json.dumps(report))
    text = (run_dir / "config.yaml").read_text().replace("name: shop", 'name: "``` ---"')
    (run_dir / "config.yaml").write_text(text)
    export_run(run_dir, adapter=tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "| a \\| b ## c |" in card
    assert yaml.safe_load(re.search(r"````yaml\n(.*?)````", card, flags=re.DOTALL).group(1))["run"]["name"] == "``` ---"


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_nothing_is_overwritten(run_dir, tmp_path, kind):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    for path in (taken, taken / "mine.txt"):
        with pytest.raises(UserError, match="is there already"):
            export_run(run_dir, **{kind: path})
    with pytest.raises(UserError, match="Can't"):
        export_run(run_dir, **{kind: taken / "mine.txt" / "below"})
    assert [one.name for one in taken.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    export_run(run_dir, **{kind: tmp_path / "empty"})
    assert (tmp_path / "empty" / "README.md").is_file()


def test_an_empty_folder_is_filled_itself_as_a_mounted_volume_has_to_be(tmp_path):
    out = tmp_path / "volume"
    (out / "lost+found").mkdir(parents=True)
    before = out.stat().st_ino
    with new_folder(out) as draft:
        assert draft.parent == out
        (draft / "deep").mkdir()
        (draft / "deep" / "file").write_text("x")
    assert out.stat().st_ino == before
    assert {one.name for one in out.iterdir()} == {"deep", "lost+found"} and (out / "deep" / "file").is_file()


def test_a_folder_that_somebody_fills_meanwhile_is_left_as_it_is(tmp_path):
    with pytest.raises(UserError, match="is there already"), new_folder(tmp_path) as draft:
        (draft / "mine").write_text("x")
        (tmp_path / "theirs").write_text("y")
    assert [one.name for one in tmp_path.iterdir()] == ["theirs"]


def test_a_base_with_an_adapters_configuration_is_refused(run_dir, base, tmp_path):
    (base / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "someone/gone"}')
    with pytest.raises(UserError, match=r"has an adapter_config\.json"):
        export_run(run_dir, merged=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_path_of_this_machine_leaves_with_an_adapter(run_dir, base, tmp_path, capsys):
    export_run(run_dir, adapter=tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.name
    assert not [one for one in (tmp_path / "out").iterdir() if str(tmp_path).encode() in one.read_bytes()]
    assert "was made for" not in capsys.readouterr().err


def test_an_adapter_of_another_base_is_warned_about(run_dir, tmp_path, capsys):
    _change(run_dir / "adapters/best/adapter_config.json", base_model_name_or_path="someone/other")
    export_run(run_dir, adapter=tmp_path / "out")
    assert "was made for the base model someone/other" in capsys.readouterr().err


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as draft:
        (draft / "part").write_text("half")
        raise RuntimeError
    with pytest.raises(UserError, match="free space"), new_folder(tmp_path / "out", 2**60):
        pass
    assert not list(tmp_path.iterdir())


def _change(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda run: (run / "config.yaml").unlink(), "is no run folder"),
        (lambda run: (run / "config.yaml").write_text("run: ["), "is not valid YAML"),
        (lambda run: (run / "report.json").write_text('{"rows": 1}'), "report.json can't be read"),
        (lambda run: (run / "report.json").write_bytes(b"\xff\xfe"), "report.json can't be read"),
        (lambda run: shutil.rmtree(run / "adapters"), "it has none as yet"),
        (lambda run: (run / "adapters/best/adapter_config.json").write_text("[]"), "holds no JSON object"),
        (lambda run: (run / "adapters/best/adapter_config.json").write_bytes(b"\xff"), "is not JSON"),
        (lambda run: _change(run / "adapters/best/adapter_config.json", r=4), "has rank 4"),
        (lambda run: (run / "adapters/best/adapter_model.safetensors").write_bytes(b"no"), "is not a safetensors"),
        (lambda run: (run / "adapters/best/adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    ],
)
def test_a_damaged_run_folder_is_said_and_leaves_nothing(run_dir, tmp_path, spoil, complaint):
    spoil(run_dir)
    with pytest.raises(UserError, match=complaint):
        export_run(run_dir, merged=tmp_path / "out")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith("out")]


def test_an_unfinished_run_is_exported_too(tmp_path, base):
    overrides = [f"model.path={base}", "lora.rank=8", "lora.alpha=16", "lora.target_modules=[q_proj, down_proj]"]
    folder = run_folder(tmp_path / "young", overrides=overrides)
    write_adapters(folder, base, "latest")
    export_run(folder, adapter=tmp_path / "adapter")
    assert "not known" in (tmp_path / "adapter" / "README.md").read_text()
    write_evaluations(folder, "01", "11")  # run whose status is gone: nothing says that this adapter is the last
    export_run(folder, adapter=tmp_path / "again")
    assert "not known to be what this folder holds" in (tmp_path / "again" / "README.md").read_text()


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", Licence(identifier="apache-2.0")),
        ("---\nlicense: [a, b]\n---\n", Licence()),
        ("---\nlicense: {\n---\n", Licence()),
        ("---\n- a\n---\n", Licence()),
        ("no head", Licence()),
        ("", Licence()),
    ],
)
def test_the_licence_is_what_the_bases_card_states(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) == licence


def test_a_licence_file_stands_in_for_the_card(tmp_path):
    (tmp_path / "LICENSE").write_text("\n   Some License\nText")
    assert licence_of(tmp_path) == Licence(title="Some License")
