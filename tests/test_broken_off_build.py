"""A build of DeepSpeed's operators that was killed: the next one continues instead of waiting for it for ever."""

import os
import shutil
import subprocess
import sys

import pytest

from floe.learner.optimizer.operator_builds import OPERATORS, compiled_extensions_dir
from tests.command_line import REPOSITORY


@pytest.mark.heavy
def test_a_build_goes_on_behind_the_lock_of_one_that_was_killed(tmp_path):
    # The built operators are copied with their dates, so that nothing has to be compiled again.
    for name in OPERATORS:
        shutil.copytree(next(compiled_extensions_dir().glob(f"**/{name}")), tmp_path / name)
    locks = [tmp_path / name / "lock" for name in OPERATORS]
    for lock in locks:
        lock.touch()
    command = [sys.executable, "-m", "floe.learner.optimizer.deepspeed_operators"]
    found = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("was broken off") == len(locks)
    assert not any(lock.exists() for lock in locks)
