"""Forks floe's processes from one that has imported the libraries, which saves each the seconds of importing them.

Started once for a whole test run, it holds no thread and no engine. A client (tests/preloaded/client.py) asks it for a
process with given arguments, environment, folder, cores and streams; the process ends with its client.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress

from tests.preloaded.python import END

OF_DRIVERS = (
    "pydantic", "scipy.stats", "sqlalchemy.dialects.sqlite", "sqlglot", "torch",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "typer", "rich.live", "yaml",
)  # fmt: skip
OF_ACTORS = (
    *OF_DRIVERS, "floe.actors.engine.vllm_engine", "floe.actors.engine.vllm_offline", "floe.learner.learner_actor",
    "floe.learner.optimizer.deepspeed_library", "peft", "floe.reward_service.scorer",
    "transformers.models.qwen2.modeling_qwen2", "vllm.v1.worker.cpu_worker", "vllm.v1.worker.cpu_model_runner",
    "vllm.model_executor.models.qwen2",
)  # fmt: skip
# Ray reads its settings from the environment when it is loaded, in a worker also the job's: each process loads its own.
NOT_HERE = "ray"
PYTHON = os.environ.get("FLOE_TEST_PYTHON", sys.executable)
WORKER = "default_worker.py"
CONTEXT = "--serialized-runtime-env-context="
PR_SET_PDEATHSIG = 1
LANGUAGE = "--language="


def serve(listener: socket.socket, loads_at_once: bool) -> None:
    """Fork processes until a connection says END."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # vLLM reads it as it is imported
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if loads_at_once:
        preload(OF_ACTORS)
    children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that tells of the end
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    if not begin(connection, listener, selector, children):
                        return
                elif key.fd in children:
                    ended(key.fd, selector, children)
                elif key.fileobj in selector.get_map():
                    abandoned(key.fileobj, key.data, selector)


def begin(connection, listener, selector, children) -> bool:
    """Fork what the connection asks for; False where it asks for the end."""
    head, streams, _, _ = socket.recv_fds(connection, len(END), 3)
    if head == END:
        return False
    message = connection.makefile("rb").read(int.from_bytes(head, "little")) if len(streams) == 3 else b""
    try:
        request = json.loads(message)
    except ValueError:  # its client was killed before it had asked
        for stream in streams:
            os.close(stream)
        connection.close()
        return True
    preload(OF_ACTORS if is_worker(request["arguments"]) else OF_DRIVERS)
    pid = os.fork()
    if pid == 0:
        selector.close()
        listener.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        run(request)
    for stream in streams:
        os.close(stream)
    with suppress(OSError):
        connection.sendall(f"{pid}\n".encode())
    descriptor = os.pidfd_open(pid)
    children[descriptor] = pid, connection
    selector.register(descriptor, selectors.EVENT_READ)
    selector.register(connection, selectors.EVENT_READ, pid)
    return True


def preload(names: tuple[str, ...]) -> None:
    """Import what is not there yet; without collections, which would write to all pages that the children share."""
    gc.disable()
    sys.modules[NOT_HERE] = None  # type: ignore[assignment]  # importing it fails
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        del sys.modules[NOT_HERE]
    gc.freeze()


def ended(descriptor: int, selector, children) -> None:
    pid, connection = children.pop(descriptor)
    selector.unregister(descriptor)
    with suppress(KeyError):  # its client had gone before it
        selector.unregister(connection)
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    connection.close()


def abandoned(connection, pid: int, selector) -> None:
    """End the process of a client that is gone, as if the client had been it."""
    selector.unregister(connection)
    os.kill(pid, signal.SIGKILL)


def run(request: dict) -> None:
    """Become, in the child, the Python process that was asked for, and end as it does."""
    status = 1
    try:
        become(request)
        start(request["arguments"])
        status = 0
    except SystemExit as end:
        status = exit_status(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def exit_status(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


def become(request: dict) -> None:
    gc.enable()
    os.setpgid(0, 0)  # whoever ends the group of one of Ray's workers does not mean the test run's
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.sched_setaffinity(0, request["cores"])
    default = signal.SIG_IGN if request["ignores_interrupts"] else signal.default_int_handler
    signal.signal(signal.SIGINT, default)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    random.seed()


def start(arguments: list[str]) -> None:
    if is_worker(arguments):
        arguments = with_runtime_environment(arguments)
    else:
        sys.executable = PYTHON  # for the commands that floe starts, and for Ray's workers
    use_threads()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.modules.pop(arguments[1], None)  # it is run as the main module
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = os.path.dirname(arguments[0])
        runpy.run_path(arguments[0], run_name="__main__")


def is_worker(arguments: list[str]) -> bool:
    return len(arguments) > 1 and os.path.basename(arguments[1]) == WORKER


def with_runtime_environment(arguments: list[str]) -> list[str]:
    """Return the worker's own arguments, its variables set: as Ray's setup_worker.py does before the worker."""
    for one in arguments:
        if one.startswith(CONTEXT):
            given = json.loads(one.removeprefix(CONTEXT) or "{}").get("env_vars") or {}
            os.environ.update(given)
            added = [part for part in given.get("PYTHONPATH", "").split(os.pathsep) if part and part not in sys.path]
            sys.path[1:1] = added  # behind the place of the script's folder
    return [one for one in arguments[1:] if not one.startswith((CONTEXT, LANGUAGE))]


def use_threads() -> None:
    """Set torch's threads, which it took from the server's environment when it was loaded."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), loads_at_once="at-once" in sys.argv[2:])
    os._exit(0)  # its libraries complain of what they find at an interpreter's end
