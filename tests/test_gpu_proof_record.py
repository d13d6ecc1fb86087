"""`make prove-gpu`: how a proof goes on where it was left, what is said of what is missing, and a bare checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from floe.cluster.prove.gpu import __main__ as proof
from floe.cluster.prove.gpu import child, parts
from floe.cluster.prove.gpu.findings import Figures, Line, PartResult, Setting, Verdict, told
from floe.cluster.prove.gpu.record import ProofRecord
from floe.configs.errors import UserError
from tests.command_line import REPOSITORY

BARE = {"torch", "transformers", "peft", "numpy", "safetensors", "xxhash"}
PACKAGES = ("actors", "cluster", "configs", "learner", "reward_service")
NOT_BARE = ("pydantic", "deepspeed", "ray", "vllm", "typer", "rich", "psutil")


@pytest.fixture
def fake_parts(monkeypatch):
    """Parts that are run in no process: what each of them will find, and which were run."""
    outcomes: dict[int, Verdict] = {}
    done: list[int] = []

    def run_part(part, given, home_dir, record_file) -> PartResult:
        done.append(part.number)
        verdict = outcomes.get(part.number, Verdict.PASSED)
        line = Line(name=part.name, verdict=verdict, missing=("ray",) if verdict is Verdict.NOT_HERE else ())
        return PartResult([line], figures={"nccl_bytes": part.number}, is_quick=given.quick)

    monkeypatch.setattr(proof, "run_part", run_part)
    return SimpleNamespace(outcomes=outcomes, done=done)


def prove(home: Path, *arguments: str) -> int:
    return proof.main(["--device", "cpu", "--home", str(home), *arguments])


def test_a_proof_stops_at_the_first_failure_and_goes_on_there(tmp_path, fake_parts, capsys):
    fake_parts.outcomes[3] = Verdict.FAILED
    assert prove(tmp_path) == 1 and fake_parts.done == [1, 2, 3]
    fake_parts.outcomes.clear()
    assert prove(tmp_path) == 0 and fake_parts.done == [1, 2, 3, *range(3, 13)]
    assert prove(tmp_path, "--parts", "2 3") == 0 and fake_parts.done[13:] == []
    assert prove(tmp_path, "--parts", "3,2", "--again") == 0 and fake_parts.done[13:] == [2, 3]
    assert "| 12 | two ranks |" in (tmp_path / "gpu" / "proof-cpu.md").read_text()
    assert "from the record" in capsys.readouterr().out


def test_a_quick_pass_is_none_of_the_whole_and_a_whole_one_is_a_quick_one(tmp_path, fake_parts):
    assert prove(tmp_path, "--quick", "--parts", "2") == 0
    assert prove(tmp_path, "--parts", "2") == 0
    assert prove(tmp_path, "--quick", "--parts", "2") == 0
    assert fake_parts.done == [2, 2]


def test_what_was_not_here_is_run_again_once_its_packages_are_installed(tmp_path, monkeypatch):
    part = parts.by_number(3)
    absent = Line(name="zero", verdict=Verdict.NOT_HERE, missing=("deepspeed",))
    record = ProofRecord(tmp_path / "proof.json", "cpu")
    record.note(part, PartResult([told("loss", "1"), absent]))
    again = ProofRecord.read(record.path, "cpu")
    for is_there in (False, True):
        monkeypatch.setattr("floe.cluster.prove.gpu.record.is_installed", lambda name, is_there=is_there: is_there)
        assert (again.done(part, is_quick=False) is None) is is_there
    assert again.results == record.results


@pytest.mark.parametrize("text", ["{", "[]", '{"card": "cpu", "parts": {"1": {"lines": [{}]}}}'])
def test_a_record_that_is_none_is_refused_in_a_sentence(tmp_path, text, capsys):
    (tmp_path / "proof.json").write_text(text)
    assert prove(tmp_path, "--out", str(tmp_path / "proof.json")) == 2
    assert "is not a record of a proof" in capsys.readouterr().err


def test_another_cards_record_is_refused(tmp_path):
    ProofRecord(tmp_path / "proof.json", "NVIDIA L4").note(parts.by_number(1), PartResult([told("x", "1")]))
    with pytest.raises(UserError, match="is a record of NVIDIA L4, and this is cpu"):
        ProofRecord.read(tmp_path / "proof.json", "cpu")


def test_an_unknown_part_is_refused(tmp_path, capsys):
    assert prove(tmp_path, "--parts", "2,13") == 2
    assert "--parts has '13', which is not a part" in capsys.readouterr().err


def test_without_a_card_the_device_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proof.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0, stdout="\n"))
    assert proof.main(["--home", str(tmp_path)]) == 2
    assert "PyTorch sees no GPU" in capsys.readouterr().err


def test_what_takes_a_gpu_says_so_on_a_cpu(tmp_path):
    given = SimpleNamespace(device="cpu", quick=True)
    for number in (9, 10, 11):
        (line,) = proof.run_part(parts.by_number(number), given, tmp_path, tmp_path / "proof.json").lines
        assert line.verdict is Verdict.NOT_HERE and "GPU" in line.why


def test_a_part_without_its_packages_names_them(tmp_path, monkeypatch):
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda name: None if name in ("ray", "yaml") else object())
    given = SimpleNamespace(device="cpu", quick=True)
    (line,) = proof.run_part(parts.by_number(4), given, tmp_path, tmp_path / "proof.json").lines
    assert line.why == "the packages pyyaml and ray are not installed"
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda name: None if name == "pynvml" else object())
    assert parts.by_number(6).missing("cuda") == ("nvidia-ml-py",) and not parts.by_number(6).missing("cpu")


def test_a_fault_of_a_part_is_a_failed_line_after_what_it_found(tmp_path, monkeypatch):
    def breaks(_):
        yield told("first", "1")
        yield Figures(values={"nccl_bytes": 5})
        raise ValueError("the second\nwith more")

    monkeypatch.setattr(child, "prover_of", lambda part: breaks)
    setting = Setting(
        device="cpu", is_quick=True, home_dir=tmp_path, scratch_dir=tmp_path, tokenizer_dir=tmp_path / "none"
    )
    result = child.result_of(2, setting)
    assert [line.verdict for line in result.lines] == [Verdict.PASSED, Verdict.FAILED]
    assert result.lines[1].why == "ValueError: the second" and result.figures == {"nccl_bytes": 5}


def test_a_part_that_does_not_end_is_ended_with_its_children(tmp_path, monkeypatch):
    pid_file, own_wait, left = tmp_path / "pid", subprocess.Popen.wait, []

    def wait(process, timeout=None):
        if timeout != proof.PART_LIMIT_S:
            return own_wait(process, timeout)
        while not (pid_file.exists() and pid_file.read_text().strip()):
            time.sleep(0.01)
        left.append(psutil.Process(int(pid_file.read_text())))
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert proof._run(["bash", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], tmp_path / "log") is None
    _, alive = psutil.wait_procs(left, timeout=60)
    assert left and not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_every_part_has_its_function():
    for part in parts.PARTS:
        path = REPOSITORY / f"{part.module.replace('.', '/')}.py"
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert part.function in functions


# From a bare checkout.


def imported_at_once(path: Path) -> set[str]:
    """Return the modules that a file imports when it is itself imported."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.With | ast.Try):
            waiting += node.body
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            waiting += node.body + node.orelse
    return found


def reached(*modules: str) -> set[str]:
    """Return the packages of others that these modules of floe import at once, through floe's own too."""
    seen: set[str] = set()
    others: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        top = module.partition(".")[0]
        if top != "floe":
            others.add(top)
            continue
        path = REPOSITORY / f"{module.replace('.', '/')}.py"
        if module not in seen and path.is_file():
            seen.add(module)
            waiting += imported_at_once(path)
    return others - sys.stdlib_module_names


def test_what_a_bare_checkout_runs_imports_nothing_that_it_lacks():
    assert (
        reached("floe.cluster.prove.gpu.__main__", "floe.cluster.prove.gpu.child", "floe.cluster.machine.card_figures")
        == set()
    )
    assert reached("floe.cluster.prove.gpu.attention") <= BARE and "torch" in reached(
        "floe.cluster.prove.gpu.attention"
    )
    assert reached("floe.cluster.prove.gpu.learner_alone") <= BARE
    assert reached("floe.cluster.prove.gpu.card_part") <= {"torch"}
    assert "pydantic" in reached("floe.learner.grpo_learner")  # or the search would find nothing


BLOCKER = """
import sys
from importlib.machinery import PathFinder
class WithoutSome(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutSome
"""


@pytest.mark.parametrize(
    ("numbers", "passed"),
    [
        pytest.param("3,4", " 3 learner alone  PASSED", marks=pytest.mark.heavy),
        pytest.param("2", " 2 attention  PASSED", marks=pytest.mark.soak),
    ],
)
def test_attention_and_learner_are_proved_from_a_bare_checkout(tmp_path, numbers, passed):
    checkout, blocker = tmp_path / "checkout", tmp_path / "blocker"
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "floe", checkout / "floe", symlinks=True)
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER.format(names=NOT_BARE))
    done = subprocess.run(
        [sys.executable, "-m", "floe.cluster.prove.gpu", "--device", "cpu", "--quick", "--parts", numbers],
        cwd=checkout, env={**os.environ, "PYTHONPATH": str(blocker), "FLOE_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert passed in done.stdout and (tmp_path / "home" / "gpu" / "proof-cpu.json").is_file()
    if numbers == "3,4":
        assert "ZeRO-2, against PyTorch's AdamW  not here (the packages deepspeed and pydantic are not" in done.stdout
        assert "(the packages pydantic, rich, typer, psutil, ray, deepspeed and vllm are not installed)" in done.stdout
