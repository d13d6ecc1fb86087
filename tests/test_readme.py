"""Every command of README.md and a newcomer's pages is run: floe's here, made small; others as `RUN_ELSEWHERE` says."""

import csv
import json
import re
import shlex
import subprocess

import pytest
import yaml

from floe.actors.demo.build import write_demo
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, floe
from tests.sampling import sampled

pytestmark = pytest.mark.engine

RUN_ELSEWHERE = {
    "make train": "test_make_train_runs_the_quickstart",
    "make test": "the run that this test is part of, with what CI alone runs",
    "make check": "a part of the run that this test is part of",
    "make ci": "the run that this test is part of, in CI",
    "floe doctor --config configs/smoke.yaml": "tests/test_doctor.py, on an own local Ray",
    "floe train --config configs/smoke.yaml": "the smoke run that other tests look at",
    'floe ask --adapter RUN_DIR --database FILE.sqlite "How many products cost more than 12?"': "tests/test_ask.py",
    "floe train --config quickstart data.source=prepared data.prepared=PREPARED_DIR": "the same with --config smoke",
    "ray start --head": "tests/test_ray_job.py, with free ports",
    "ray start --address=HEAD_ADDRESS:6379": "tests/test_ray_job.py, a second node",
    "ray job submit --working-dir . -- floe train --config configs/smoke.yaml": "tests/test_ray_job.py",
}
PAGES = ("README.md", "docs/commands.md", "docs/try_it.md", "docs/own_data.md", "docs/on_a_cluster.md")
NAMES_OF_DATA = ("questions.csv", "databases", "prepared")
SHORT = ("score",)
WITHOUT_CONFIGURATION = ("score", "prepare", "compare")
SHIPPED = sorted((REPOSITORY / "configs").glob("*.yaml"))
# Made absolute.
PLACES = (
    "run.home", "data.questions", "data.databases", "data.prepared", "data.verification", "lora.initial_adapter",
)  # fmt: skip
SMALL = [
    "model.path=embedded:tiny-qwen2", "model.max_context_tokens=256", "rollout.max_new_tokens=40",
    "rollout.questions_per_step=2", "rollout.kv_cache_gib=1", "run.num_steps=1", "warm_start.max_train_questions=32",
    "warm_start.max_held_back_questions=8", "evaluation.max_questions=4", "cluster.address=local",
]  # fmt: skip


def shown_commands() -> list[str]:
    text = "\n".join((REPOSITORY / page).read_text() for page in PAGES)
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if line.strip()))


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """A user's files: questions, databases, and predictions that are the golds."""
    folder = tmp_path_factory.mktemp("own")
    write_demo(folder)
    questions = json.loads((folder / "train.json").read_text())
    lines = [json.dumps({"question_id": q["question_id"], "sql": q["query"]}) for q in questions[:20]]
    (folder / "predictions.jsonl").write_text("\n".join(lines))
    with (folder / "questions.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["db_id", "question", "query"], extrasaction="ignore")
        rows.writeheader()
        rows.writerows(questions[:200])
    return folder


def floe_commands() -> list[str]:
    return [one for one in shown_commands() if one.startswith("floe ") and one not in RUN_ELSEWHERE]


# `score` stands for the others where time is short; tests/test_smoke_run.py runs another of them.
@pytest.mark.parametrize("command", sampled(floe_commands(), {c for c in floe_commands() if c.split()[1] in SHORT}))
def test_floe_command_runs(command, own_data, smoke_run, tmp_path):
    given = command.replace("PREPARED_DIR", str(own_data / "prepared")).replace(" DIR ", f" {own_data}/databases ")
    given = given.replace("QUESTIONS.json", str(own_data / "train.json")).replace("=DIR", f"={own_data}/databases")
    given = given.replace("questions.csv", str(own_data / "questions.csv"))
    given = given.replace("--databases DIR", f"--databases {own_data}/databases")
    given = given.replace("PREDICTIONS.jsonl", str(own_data / "predictions.jsonl"))
    given = given.replace("ADAPTER_DIR", str(smoke_run.run_dir / "adapters" / "latest"))
    given = given.replace("RUN_DIR", str(smoke_run.run_dir)).replace("MODEL_DIR", str(tmp_path / "model"))
    given = given.replace("configs/", f"{REPOSITORY}/configs/")
    arguments = shlex.split(given)[1:]
    if f"data.prepared={own_data}/prepared" in arguments:  # which an earlier command of the page has made
        made = floe("prepare", "jsonl", *(f"{own_data}/{name}" for name in NAMES_OF_DATA), home=smoke_run.home)
        assert made.returncode == 0, made.stderr[-3000:]
    done = floe(*arguments, *([] if arguments[0] in WITHOUT_CONFIGURATION else SMALL), home=smoke_run.home)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if arguments[0] == "score":
        assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["match"] * 20


def test_no_command_is_forgotten():
    assert set(shown_commands()) - set(floe_commands()) == RUN_ELSEWHERE.keys()


def test_make_train_runs_the_quickstart():
    shown = subprocess.run(["make", "-n", "train"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "floe train --config configs/quickstart.yaml" in shown
    assert load_config(REPOSITORY / "configs" / "quickstart.yaml").model.path == "embedded:smollm2-135m-instruct"


@pytest.mark.parametrize(("code", "shares"), [(0, " rollout.num_gpus=0.5 learner.num_gpus=0.5"), (9, "")])
def test_make_train_shares_a_gpu_where_the_set_up_takes_the_engine_for_it(tmp_path, code, shares):
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\nexit {code}\n")
    fake.chmod(0o755)
    shown = subprocess.run(
        ["make", "-n", "train"], cwd=REPOSITORY, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    assert shown.rstrip().endswith(f"floe train --config configs/quickstart.yaml{shares}")


def test_the_configurations_that_the_page_names_are_shipped():
    named = set(re.findall(r"configs/(\w+)\.yaml", (REPOSITORY / "README.md").read_text()))
    assert named and named <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_says_what_it_holds(path):
    resolved = load_config(path).model_dump(mode="json")
    for section, fields in yaml.safe_load(path.read_text()).items():
        for field, written in fields.items():
            found = resolved[section][field]
            is_place = f"{section}.{field}" in PLACES
            assert found == written or (is_place and str(found).endswith(written)), f"{section}.{field}"
