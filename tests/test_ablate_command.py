"""`floe ablate` with real runs: two designs from one start, one from outside, and a second call with nothing to do."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.command_line import config, floe

SMALL = [
    "run.max_generated_tokens=1", "prompt.style=tagged", "rollout.max_new_tokens=64", "evaluation.max_questions=4",
    "evaluation.include_base=false", "evaluation.include_entropy_control=true", "cluster.address=local",
    "warm_start.seed=1", "warm_start.max_train_questions=32", "warm_start.max_held_back_questions=8",
]  # fmt: skip


OWN_REWARD = """
def by_length(group):
    return [1.0 / (1 + len(one.sql or "")) for one in group.candidates]
"""


@pytest.mark.engine
@pytest.mark.long
def test_two_designs_share_start_and_budget_and_what_is_trained_is_kept(other_home, tmp_path):
    (tmp_path / "own_reward.py").write_text(OWN_REWARD)
    arguments = [
        "ablate",
        "--config",
        config("smoke.yaml"),
        "--rewards",
        "arctic,own_reward:by_length",
        "--out",
        str(tmp_path / "out"),
    ]
    arguments.append(f"run.plugin_folder={tmp_path}")
    done = floe(*arguments, *SMALL, home=other_home)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    report = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert [row["arm"] for row in report["rows"]] == ["arctic", "by_length"]
    assert all(row["num_steps"] == 1 and row["generated_tokens"] > 0 for row in report["rows"])
    starts = [tmp_path / "out" / f"{arm}-seed1" / "adapters" / "start" for arm in ("arctic", "by_length")]
    assert len({(start / "adapter_model.safetensors").read_bytes() for start in starts}) == 1
    configs = [(tmp_path / "out" / f"{arm}-seed1" / "config.yaml").read_text() for arm in ("arctic", "by_length")]
    dtypes = [[line for line in text.splitlines() if " dtype: " in line] for text in configs]
    assert len(dtypes[0]) == 2 and dtypes[0] == dtypes[1]
    assert (tmp_path / "out" / "ablation.html").stat().st_size > 1000
    names = sorted(path.name for path in (tmp_path / "out" / "records").iterdir())
    assert names == ["arctic-seed1.json.gz", "by_length-seed1.json.gz"]
    assert report["rows"][0]["to_control"] is not None
    shutil.rmtree(tmp_path / "out" / "arctic-seed1")  # its record is enough
    again = floe(*arguments, *SMALL, home=other_home)
    assert again.returncode == 0 and "GRPO" not in again.stderr
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == report
