"""A fork server, started by exec: its forked children do work that may have to be killed, at little cost."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from floe.cluster.contained.child_position import PositionBoard
from floe.cluster.contained.frames import Frame, is_frame_waiting, receive_frame, send_frame
from floe.cluster.databases.states import remove_copies

PARENT_CHECK_S = 1.0
FLUSH_S = 0.02  # seconds that answers wait for others, because every frame wakes the parent
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Answerer(Protocol):
    """Makes a child's answers to requests, one frame for each step; it lives as long as the child."""

    def run_group(self, request: Frame) -> Iterator[Frame]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The work of a fork server's children, and their limits."""

    make_answerer: Callable[[], Answerer]
    max_process_bytes: int  # bytes that a child may add to its address space
    max_file_bytes: int  # bytes of a temporary file
    recycle_bytes: int  # bytes of resident memory, above which a child is replaced after its group


def serve(make_service: Callable[[str], Service]) -> None:
    """Serve `fork` and `reap` on the socket whose number is the first argument, until the other side closes.

    The second argument is the settings' JSON, the third the process id of the parent.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    service = make_service(sys.argv[2])
    parent_pid = int(sys.argv[3])
    # The parent's handling of these signals would be inherited, and the CPU timer needs its default action.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    gc.collect()
    gc.freeze()  # keeps the collector of a child from copying the server's pages
    gc.set_threshold(100_000, 20, 20)  # rows are tuples by the thousand and never garbage in a cycle
    try:
        send_frame(control, {"kind": "serving"})
    except ConnectionError:
        return  # the parent has ended meanwhile
    _ForkServer(control, service, parent_pid).serve()


class _ForkServer:
    """Holds at most one child, and ends it when the parent closes the socket or dies."""

    def __init__(self, control: socket.socket, service: Service, parent_pid: int) -> None:
        self._control = control
        self._service = service
        self._parent_pid = parent_pid
        self._child_pid = 0
        self._board = PositionBoard()

    def serve(self) -> None:
        # The death signal would follow the parent's thread that started this server, not the parent: so the server
        # checks.
        self._control.settimeout(PARENT_CHECK_S)
        try:
            while os.getppid() == self._parent_pid:
                try:
                    command, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
                except TimeoutError:
                    continue
                if not command:
                    return
                if command == b"f":
                    self._fork(socket.socket(fileno=descriptors[0]))
                else:
                    status = self._reap(kill=command == b"k")
                    send_frame(self._control, {"kind": "reaped", "status": status, "position": self._board.read()})
        finally:
            self._reap(kill=True)

    def _fork(self, stream: socket.socket) -> None:
        self._reap(kill=True)
        self._board.write(0, 0)
        server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._control.close()
            _run_child(stream, self._service, server_pid, self._board)
        stream.close()
        self._child_pid = pid
        send_frame(self._control, {"kind": "forked", "pid": pid})

    def _reap(self, *, kill: bool) -> int:
        """Wait for the child's end and return its wait status; 0 without a child."""
        if self._child_pid == 0:
            return 0
        if kill:
            os.kill(self._child_pid, signal.SIGKILL)
        status = os.waitpid(self._child_pid, 0)[1]
        remove_copies(self._child_pid)
        self._child_pid = 0
        return status


def _run_child(stream: socket.socket, service: Service, server_pid: int, board: PositionBoard) -> None:
    """Live the whole life of a forked child; never return."""
    exit_code = 1
    try:
        if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed: containing a process needs Linux")
        if os.getppid() == server_pid:  # otherwise the server died before the call above
            stream.settimeout(None)
            _limit_memory(service)
            _answer_requests(stream, service, board)
        exit_code = 0
    except (EOFError, ConnectionError):
        exit_code = 0  # the parent is gone or has replaced this child
    except MemoryError:
        os.abort()  # what a statement did to this process; any other exception is a fault of this program
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(exit_code)


def _answer_requests(stream: socket.socket, service: Service, board: PositionBoard) -> None:
    """Send answers when no request waits, or those made after FLUSH_S; answers lost in a death are made again."""
    answerer = service.make_answerer()
    memory = _ResidentMemory()
    answers: list[Frame] = []
    sent_s = time.monotonic()
    send_frame(stream, {"kind": "ready"})
    while True:
        if answers and not is_frame_waiting(stream):
            send_frame(stream, {"kind": "answers", "answers": answers})
            sent_s, answers = time.monotonic(), []
        request = receive_frame(stream)
        number, num_done = request["number"], 0
        board.write(number, num_done)
        for answer in answerer.run_group(request):
            answers.append(answer)
            num_done += 1
            board.write(number, num_done)
            if time.monotonic() - sent_s >= FLUSH_S:
                send_frame(stream, {"kind": "answers", "answers": answers})
                sent_s, answers = time.monotonic(), []
        answers.append({"kind": "done", "recycle": memory.num_bytes() > service.recycle_bytes})


def _limit_memory(service: Service) -> None:
    # SQLite's own limit stops an executor much earlier; this one bounds what Python holds in addition.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space_bytes() + service.max_process_bytes
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    # Limits a temporary file of SQLite's; a statement that needs more is run once more in memory.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = service.max_file_bytes if hard == resource.RLIM_INFINITY else min(service.max_file_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a kill is routine here and must leave no file


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


class _ResidentMemory:
    """Reads this process's resident memory; its file stays open, because it is read after every group."""

    def __init__(self) -> None:
        self._descriptor = os.open("/proc/self/statm", os.O_RDONLY)

    def num_bytes(self) -> int:
        return int(os.pread(self._descriptor, 128, 0).split()[1]) * resource.getpagesize()
