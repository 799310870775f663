"""Errors for the user, and their output on the command line."""

import errno
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class LandsegError(Exception):
    """Error in the input, the parameters or the machine that the user can correct.

    The message is one sentence: where (file or key), what is wrong, what to do.
    """


class ParamsError(LandsegError):
    """Invalid parameter. The message starts with its key; the stage that read it prepends the file name."""


# What is wrong and what to do, for system errors that the user can correct.
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is exceeded; free some space and run again",
    errno.EFBIG: "the file exceeds the size limit; raise the limit or choose another path",
    errno.EACCES: "permission denied; change its permissions or choose another path",
    errno.EPERM: "operation not permitted; change its permissions or choose another path",
    errno.EROFS: "the file system is read-only; choose another path",
    errno.EIO: "I/O error; check the disk or choose another path",
    errno.ENOTDIR: "expected a folder, found a file; remove or rename it",
    errno.EEXIST: "expected a folder, found a file; remove or rename it",
    errno.EISDIR: "expected a file, found a folder; remove or rename it",
    errno.ENAMETOOLONG: "file name too long for the file system; use shorter names",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}

#: Message of a stage on Ctrl-C.
STAGE_INTERRUPTED = (
    "interrupted; finished stages and the last checkpoint are kept, and `dvc repro` goes on from there; DVC reports a "
    "failed stage"
)


def os_error_remedy(error: OSError) -> str | None:
    """Return what is wrong and what to do for a system error; None if it is a fault of the program."""
    return _REMEDIES.get(error.errno or 0)


def os_error_message(error: OSError) -> str | None:
    """Return `os_error_remedy` with the file name in front."""
    advice = os_error_remedy(error)
    return advice and f"{error.filename2 or error.filename or 'a file'}: {advice}"


def _end_on_signals(interrupted: str) -> None:
    """Let signals end the process by an exception, so that temporary files are removed, and say so at once.

    Args:
        interrupted: message for SIGINT (Ctrl-C).
    """

    def end(number: int, _: object) -> NoReturn:
        print(f"ended by {signal.Signals(number).name}", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    def interrupt(*_: object) -> NoReturn:
        print(interrupted, file=sys.stderr, flush=True)
        raise KeyboardInterrupt(interrupted)

    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


@contextmanager
def reporting(params: str | None = None, interrupted: str = "interrupted") -> Iterator[None]:
    """Print errors for the user as one line on standard error and exit with code 1.

    All other exceptions are faults of the program and keep their traceback.

    Args:
        params: name of the params file, prepended to the message of a `ParamsError`.
        interrupted: message on Ctrl-C: that the program stops, and what is kept.
    """
    _end_on_signals(interrupted)
    try:
        yield
    except KeyboardInterrupt as error:
        if not error.args:  # not by the signal, which has printed it
            print(interrupted, file=sys.stderr)
        raise SystemExit(130) from None
    except (LandsegError, OSError) as error:
        message = os_error_message(error) if isinstance(error, OSError) else str(error)
        if message is None:
            raise
        prefix = f"{params}: " if params and isinstance(error, ParamsError) else ""
        print(f"error: {prefix}{message}", file=sys.stderr)
        raise SystemExit(1) from None
