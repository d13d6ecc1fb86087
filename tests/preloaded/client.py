"""Takes a Python process's place: has the server fork one, hands signals on to it, and ends as it ends.

Started for each process, with `-I -S` and imports of the standard library's core alone: it takes 20 ms.
"""

import json
import os
import signal
import socket
import sys

STANDS_FOR = "for-"


def main(address: str, arguments: list[str]) -> None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "cores": sorted(os.sched_getaffinity(0)),
        "ignores_interrupts": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }
    message = json.dumps(request).encode()
    socket.send_fds(connection, [len(message).to_bytes(8, "little")], [0, 1, 2])
    connection.sendall(message)
    answers = connection.makefile("rb")
    pid = int(answers.readline())
    with open("/proc/self/comm", "w") as name:
        name.write(f"{STANDS_FOR}{pid}")  # for tests/ray_processes.py
    forward_signals(pid)
    status = answers.readline()
    if not status:
        sys.exit(f"the server of preloaded processes went while it ran {arguments}")
    end_as(int(status))


def forward_signals(pid: int) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: os.kill(pid, number))


def end_as(status: int) -> None:
    """End with the code or by the signal of `status`, which is waitpid's."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


main(sys.argv[1], sys.argv[2:])
