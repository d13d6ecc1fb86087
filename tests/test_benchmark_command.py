"""`floe evaluate --benchmarks` on the command line: what it hands over and refuses."""

from __future__ import annotations

import pytest

from floe.cluster.benchmark_table.rows import column_of
from floe.cluster.benchmark_table.table_file import Policy
from floe.configs.files.loading import load_config
from tests.peft_adapters import save_adapter
from tests.test_cli import operation_that, run_floe
from tests.tiny_models import save_tiny_llama


def test_the_options_are_handed_over(capsys, monkeypatch, tmp_path):
    calls = []
    operation_that(monkeypatch, "evaluate_table", lambda options: calls.append(options) or 3)
    monkeypatch.setattr("floe.cluster.operations.evaluate_table.TableOptions", dict, raising=False)
    monkeypatch.setenv("FLOE_HOME", "/home/of/floe")
    options = ("--limit", 7, "--samples", 2, "--temperature", 0.5, "--out", tmp_path / "out", "--adapter", tmp_path)
    arguments = ("--benchmarks", tmp_path / "b.yaml", *options, "--split", "dev", "--json", "run.seed=3")
    assert run_floe(capsys, monkeypatch, "evaluate", *arguments)[0] == 3
    (given,) = calls
    assert given == {
        "file": tmp_path / "b.yaml",
        "config": None,
        "overrides": ('run.home="/home/of/floe"', "run.seed=3", "evaluation.temperature=0.5"),
        "adapter": tmp_path,
        "split": "dev",
        "samples": 2,
        "limit": 7,
        "out": tmp_path / "out",
        "as_json": True,
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--benchmarks", "b.yaml", "--data", "d"), "--data is for a single data set, and --benchmarks names several"),
        (("--benchmarks", "b.yaml", "--predictions", "p"), "--predictions is for a single data set"),
        (("--benchmarks", "b.yaml", "--databases", "d"), "--databases is for a single data set"),
        (("--config", "smoke", "--part", "dev"), "--part belongs to a data set's folder"),
        (("--benchmarks", "b.yaml", "--limit", "0"), "--limit is 0, but must be at least 1"),
        (("--benchmarks", "b.yaml", "--samples", "-1"), "--samples is -1, but must be at least 1"),
        (("--benchmarks", "no-such-file.yaml"), "There is no benchmarks file"),
        ((), "floe evaluate needs --config FILE, or --benchmarks FILE that names one"),
    ],
)
def test_what_does_not_go_together_is_refused(capsys, monkeypatch, arguments, sentence):
    code, out, err = run_floe(capsys, monkeypatch, "evaluate", *arguments)
    assert (code, out) == (2, "") and sentence in err


def test_a_file_without_a_configuration_needs_one_on_the_command_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "b.yaml").write_text("benchmarks: [{name: a, data: b}]")
    code, _, err = run_floe(capsys, monkeypatch, "evaluate", "--benchmarks", tmp_path / "b.yaml")
    assert code == 2 and "names no configuration: add 'config: NAME', or give --config." in err


def test_an_adapter_is_known_by_its_weights_and_one_that_does_not_fit_has_a_sentence(tmp_path):
    base = save_tiny_llama(tmp_path / "model")
    shape = {"r": 8, "lora_alpha": 24, "target_modules": ["q_proj"]}
    config = load_config(
        None, [f"run.home={tmp_path / 'home'}", f"model.path={base}", "lora.rank=8", "lora.alpha=24",
        "lora.target_modules=[q_proj]"],
    )  # fmt: skip
    folders = [save_adapter(tmp_path / f"adapter-{seed}", base, seed=seed, **shape) for seed in (5, 5, 6)]
    columns = [column_of(config, base, Policy(name="p", adapter=folder)) for folder in folders]
    assert [one.fault for one in columns] == [None] * 3
    assert columns[0].digest == columns[1].digest != columns[2].digest
    plain = column_of(config, base, Policy(name="p", base=True))
    assert plain.digest == "" and plain.model == columns[0].model
    other_shape = config.model_copy(update={"lora": load_config(None).lora})
    wide = column_of(other_shape, base, Policy(name="p", adapter=folders[0]))
    assert "rank" in wide.fault
    gone = column_of(config, base, Policy(name="p", adapter=tmp_path / "gone"))
    assert "There is no adapter folder" in gone.fault
