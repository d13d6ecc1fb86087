"""docs/notebooks/quickstart.ipynb: as it is stored, and run from top to bottom in a kernel at smoke sizes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.command_line import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "quickstart.ipynb"
SMALL = {
    "cluster.address": "local",
    "run.num_steps": 2,
    "warm_start.enabled": False,
    "evaluation.max_questions": 3,
    "evaluation.num_samples": 2,
}
LIMIT_S = 1800


def stored() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_it_is_short_and_has_no_outputs():
    notebook = stored()
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 15
    code = [one for one in notebook.cells if one.cell_type == "code"]
    assert not any(one.outputs or one.execution_count for one in code)
    assert [one for one in code if "parameters" in one.metadata.get("tags", ())] == code[:1]


def test_a_notebook_shows_a_users_fault_as_a_sentence():
    """IPython prints what a notebook shows in place of a stack trace."""
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--quick", "--colors=NoColor", "-c", "import floe; floe.Run('/nowhere')"],
        capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert "UserError: /nowhere is no run folder" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def done(home, tmp_path_factory) -> NotebookNode:
    """The notebook after its cells have run in a fresh folder, with other values for its first cell."""
    notebook, folder = stored(), tmp_path_factory.mktemp("notebook")
    next(one for one in notebook.cells if one.cell_type == "code").source = f"PRESET = 'smoke'\nOVERRIDES = {SMALL}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOE_HOME", str(home))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        patch.delenv("RAY_ADDRESS", raising=False)
        NotebookClient(notebook, timeout=LIMIT_S, resources={"metadata": {"path": str(folder)}}).execute()
    assert (folder / "my_reward.py").is_file()
    return notebook


def outputs(notebook: NotebookNode, begin: str) -> list[NotebookNode]:
    """Return the outputs of the one code cell with this text."""
    (cell,) = [one for one in notebook.cells if one.cell_type == "code" and begin in one.source]
    return list(cell.outputs)


def html(output: NotebookNode) -> str:
    return str(output.get("data", {}).get("text/html", ""))


@pytest.mark.engine
@pytest.mark.long
def test_it_trains_plots_asks_and_evaluates(done):
    progress, run = outputs(done, "run = floe.train(")
    assert "GRPO" in html(progress) and "step" in html(progress)  # one output, however long the training is
    assert "\x1b" not in html(progress)
    assert "finished, 2 of 2 steps" in html(run) and "pass@2" in html(run)
    (figure,) = outputs(done, "go.Figure(")
    assert figure.data.keys() & {"application/vnd.plotly.v1+json", "text/html"}
    assert len(outputs(done, "run.ask(")) == 2 and "<pre" in html(outputs(done, "run.ask(")[1])
    assert "pass@4" in html(outputs(done, "run.evaluate(")[1])
    assert "srcdoc" in html(outputs(done, "run.report()")[0])


@pytest.mark.engine
@pytest.mark.long
def test_its_scores_are_those_of_each_reward(done):
    plain, own = (outputs(done, text)[0].data["text/plain"] for text in ("DROP TABLE IF EXISTS", "To train with it"))
    assert re.findall(r"reward=([-\d.]+)", plain) == ["1.0", "0.1", "0.0"]
    assert re.findall(r"reward=([-\d.]+)", own) == ["1.0", "-0.1", "0.0"]
