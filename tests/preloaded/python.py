"""The Python that tests start floe and Ray's workers with: it forks them from a process with all libraries loaded.

FLOE_TEST_PRELOADED=0 has every process import everything itself, as a user's does.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "FLOE_TEST_PYTHON"  # for the other processes of the test run
END = b"\xff" * 8  # what the server takes for its end
SCRIPT = r"""#!/bin/sh
case "$1 $2 $3" in
  "-P -m floe.cluster.cli") shift;;  # the server has its own module path
esac
case "$1 $2" in
  "-m floe.cluster.cli"|"-m tests.killed_driver"|"-m tests.faulty_driver"|*/setup_worker.py\ */default_worker.py)
    exec {python} -I -S {client} {address} "$@";;
esac
exec {python} "$@"
"""


def preloaded_python() -> str:
    """Return the Python for floe's own processes; this process's where a test run has no server."""
    return os.environ.get(NAME, sys.executable)


def start_server(folder: Path, loads_at_once: bool = False) -> None:
    """Start the server and write the Python that asks it; both last as long as this process.

    It loads what actors need when the first one is asked for, or at once.
    """
    if os.environ.get("FLOE_TEST_PRELOADED") == "0" or NAME in os.environ:
        return
    address, script = folder / "server", folder / "python"
    names = {"python": sys.executable, "client": HERE / "client.py", "address": address}
    script.write_text(SCRIPT.format(**{name: shlex.quote(str(value)) for name, value in names.items()}))
    script.chmod(0o755)
    os.environ[NAME] = str(script)
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")  # the first one waits for the imports
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:  # who asks early waits, and is not refused
        listener.bind(str(address))
        listener.listen(64)
        number = str(listener.fileno())
        command = [sys.executable, "-m", "tests.preloaded.server", number, *(["at-once"] if loads_at_once else [])]
        subprocess.Popen(command, cwd=HERE.parent.parent, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])


def end_server(folder: Path) -> None:
    os.environ.pop(NAME, None)
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(folder / "server"))
        connection.sendall(END)
