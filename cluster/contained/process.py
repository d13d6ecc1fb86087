"""The parent's handle on a contained process: starts its fork server, exchanges frames with its child, replaces it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

from floe.cluster.contained.frames import Frame, is_frame_waiting, receive_frame
from floe.cluster.contained.own_code import module_command, with_own_code

MAX_STARTS = 3
START_LIMIT_S = 120.0  # seconds for an interpreter and its imports on a machine that is busy with much else
CONTROL_LIMIT_S = 60.0
CLOSE_LIMIT_S = 5.0
# TZ is part of what SQLite's 'localtime' means.
PASSED_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "TMPDIR", "SQLITE_TMPDIR", "TZ"})
PASSED_PREFIXES = ("LC_", "PYTHON", "VIRTUAL_ENV")
# Signals that a process gets for its own acts. SIGKILL is not among them: memory is bounded within the child, which
# aborts when it has no more, so whoever kills it stands outside: a person, a cgroup, or a kernel short of memory.
CRASHES = frozenset({signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS})


class ProcessUnavailable(Exception):
    """The fork server can't be started or has stopped answering: no candidate's fault."""


class ChildEnded(Exception):
    """The child ended while it owed answers.

    The fields name the signal, the number of the request, and how many of its answers it had made as `num_done`.
    Without a signal it exceeded the wall limit, or a fault of this program ended it. `is_crash` says that the work it
    ran ended it; a signal from outside is nobody's fault.
    """

    def __init__(self, cause: str, position: tuple[int, int], signal_number: int | None = None) -> None:
        super().__init__(cause)
        self.request_number, self.num_done = position
        self.by_cpu_timer = signal_number == signal.SIGPROF
        self.is_crash = signal_number in CRASHES


class ProgramSettings(Protocol):
    """A dataclass of plain values: the fork server's settings, and which of the project's programs it is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    program: ClassVar[str]
    title: ClassVar[str]  # name in messages


class ContainedProcess:
    """One fork server with one child at a time; every method may raise ProcessUnavailable."""

    def __init__(self, settings: ProgramSettings, wall_limit_s: float) -> None:
        self._settings = settings
        self._wall_limit_s = wall_limit_s
        self._owner_pid = os.getpid()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._child: socket.socket | None = None
        self.child_pid = 0
        self._num_owed = 0  # requests that the present child has not answered in full
        self.num_forks = 0
        self.num_lost = 0  # children that died or stalled while they owed a frame

    def start(self) -> None:
        """Start a child if there is none, so that no request's time limit has to cover an interpreter's start."""
        self._leave_to_parent()
        if self._child is None:
            self._fork()

    def send(self, encoded_request: bytes) -> None:
        """Hand a request to a living child, which answers in order; raises ChildEnded when it dies meanwhile.

        While answers are owed, the caller sends no more ahead than the socket holds: nobody reads what the child sends.
        """
        self._leave_to_parent()
        if self._child is not None and not self._num_owed and is_frame_waiting(self._child):
            self.drop_child()  # nothing is owed, so this is its end: it died between two requests
        self.start()
        assert self._child is not None
        self._num_owed += 1
        try:
            self._child.sendall(encoded_request)
        except TimeoutError as error:
            raise self._stalled() from error
        except OSError as error:
            raise self._died() from error

    def receive(self) -> list[Frame]:
        """Return the child's next answers; the last of each request's is `done`. Raises ChildEnded."""
        if self._child is None:  # closed meanwhile, by another thread
            raise ProcessUnavailable(f"{self._settings.title} was ended")
        try:
            answers: list[Frame] = receive_frame(self._child)["answers"]
        except TimeoutError as error:
            raise self._stalled() from error
        except (EOFError, ConnectionResetError) as error:
            raise self._died() from error
        except OSError as error:  # the socket was closed meanwhile, by another thread
            raise ProcessUnavailable(f"{self._settings.title} was ended") from error
        self._num_owed -= sum(answer["kind"] == "done" for answer in answers)
        return answers

    def drop_child(self) -> None:
        """End the child, if any; the next request gets a fresh one."""
        self._reap(b"k")

    def close(self) -> None:
        """End the child and the server; a thread that waits for an answer then gets ProcessUnavailable."""
        self._leave_to_parent()
        # The server's first: a thread that meets the child's end would ask the server for its status, and the child may
        # still be at work.
        for stream in (self._control, self._child):
            if stream is not None:
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)  # closing alone would not wake that thread
                stream.close()
        self._child = self._control = None
        if self._server is not None:
            try:
                self._server.wait(CLOSE_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None

    def _leave_to_parent(self) -> None:
        """Forget, in a process that was forked off, child and server: they are at work for its parent."""
        if self._owner_pid == os.getpid():
            return
        for stream in (self._control, self._child):
            if stream is not None:
                stream.close()  # its own handle alone; a shutdown would be the parent's too
        self._owner_pid = os.getpid()
        self._child = self._control = self._server = None
        self.child_pid = self._num_owed = 0

    def _stalled(self) -> ChildEnded:
        self.num_lost += 1
        _, position = self._reap(b"k")
        late = f"{self._settings.title} gave no answer in {self._wall_limit_s:g} s"
        return ChildEnded(f"{late}; is the machine overloaded or its disk stuck?", position)

    def _died(self) -> ChildEnded:
        if self._child is None:  # another thread has closed it, and nothing has died
            raise ProcessUnavailable(f"{self._settings.title} was ended")
        self.num_lost += 1
        status, position = self._reap(b"r")
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return ChildEnded(f"{self._settings.title} died of signal {number}", position, number)
        text = f"{self._settings.title} ended itself with status {os.WEXITSTATUS(status)}: see stderr for the fault"
        return ChildEnded(text, position)

    def _fork(self) -> None:
        """Fork a child and wait until it has said that it is ready.

        Someone may kill a child at its start once or twice; a machine short of file handles or processes may do so too.
        """
        for _ in range(MAX_STARTS - 1):
            try:
                return self._fork_once()
            except (OSError, EOFError):
                self.drop_child()
        try:
            self._fork_once()
        except (OSError, EOFError) as error:
            self.drop_child()
            why = str(error) if isinstance(error, OSError) and error.errno else "see its last lines on stderr"
            raise ProcessUnavailable(f"a child of {self._settings.title} could not start: {why}") from error

    def _fork_once(self) -> None:
        if self._server is None or self._server.poll() is not None:
            self.close()
            self._start_server()
        ours, theirs = socket.socketpair()
        ours.settimeout(START_LIMIT_S)
        with theirs:
            reply = self._ask(lambda control: socket.send_fds(control, [b"f"], [theirs.fileno()]))
        self._child = ours
        self.child_pid = reply["pid"]
        self.num_forks += 1
        receive_frame(ours)
        ours.settimeout(self._wall_limit_s)

    def _reap(self, command: bytes) -> tuple[int, tuple[int, int]]:
        """Return the child's wait status and its position: a request's number, and how many answers to it were made."""
        self._num_owed = 0
        if self._child is None:
            return 0, (0, 0)
        self._child.close()
        self._child = None
        self.child_pid = 0
        reply = self._ask(lambda control: control.sendall(command))
        return reply["status"], tuple(reply["position"])

    def _ask(self, send: Callable[[socket.socket], object]) -> Frame:
        if self._control is None:  # closed meanwhile, by another thread
            raise ProcessUnavailable(f"{self._settings.title} was ended")
        try:
            send(self._control)
            return receive_frame(self._control)
        except (OSError, EOFError) as error:
            self.close()
            why = error or type(error).__name__
            raise ProcessUnavailable(
                f"the fork server of {self._settings.title} stopped answering ({why}): see its last lines on stderr"
            ) from error

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        # The new session keeps a Ctrl-C for the parent alone.
        arguments = [str(theirs.fileno()), json.dumps(asdict(self._settings)), str(os.getpid())]
        self._control = ours
        with theirs:
            self._server = subprocess.Popen(
                module_command(self._settings.program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=with_own_code(_clean_environment()),
                start_new_session=True,
            )
        ours.settimeout(START_LIMIT_S)
        self._ask(lambda control: None)
        ours.settimeout(CONTROL_LIMIT_S)


def _clean_environment() -> dict[str, str]:
    """Return the variables that a child needs, without keys and tokens."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
    }
