"""The errors that end a command with one sentence, in whatever process they arise, and its exit codes."""

import signal

EXIT_CODE_FAULT = 1
EXIT_CODE_USER_ERROR = 2
EXIT_CODE_DOES_NOT_FIT = 3
EXIT_CODE_INCOMPLETE = 3  # some of what was asked for could not be done
EXIT_CODE_LOST = 4
EXIT_CODE_INTERRUPTED = 130


class UserError(Exception):
    """One plain sentence that says what is wrong and what to do; the command ends with exit code 2."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it in place of a stack trace: the sentence, and a line for each note."""
        return [f"{type(self).__name__}: {self}", *(f"  {note}" for note in getattr(self, "__notes__", ()))]


class ConfigError(UserError):
    """A configuration file or override that cannot be used."""


class AdapterProofError(UserError):
    """An engine does not hold the adapter that the learner exported: what was expected, and what was found."""


class ResumeRefused(UserError):
    """A resume that would make another run of it: to give it again is no remedy."""


class Interrupted(UserError):
    """The user asked a run to stop, and its work is saved; the command ends with exit code 130."""


class LostError(UserError):
    """A part that the run needs has died: another attempt, from the last checkpoint, may well succeed; exit code 4."""


class ActorsLost(LostError):
    """A part with state has died: the driver starts all actors anew and continues from the last checkpoint."""


def first_line(fault: BaseException) -> str:
    """Return the first line of an error's text, without its full stop; the error's kind where it has none."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return (lines[0] if lines else type(fault).__name__).rstrip(".")


def is_stop(fault: BaseException) -> bool:
    """Return whether a user or a signal asked for the end; Ray turns a SIGTERM during its start into an exit."""
    if isinstance(fault, SystemExit):
        return fault.code == signal.SIGTERM
    return isinstance(fault, KeyboardInterrupt | Interrupted)
