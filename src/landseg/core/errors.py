"""Errors that a user can mend, and the one place where they are shown."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class LandsegError(Exception):
    """A mistake in the input, the parameters or the machine, that the user can mend.

    Its message is one sentence that names the file or key, says what is wrong and what to do.
    """


class ParamsError(LandsegError):
    """A wrong parameter. The message starts with its key; the stage that read it names the file."""


# What the operating system says of a machine's limits, in words that say what to do.
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EFBIG: "the file grew over the size allowed here; raise the limit or write elsewhere",
    errno.EACCES: "permission denied; change its permissions, or choose another folder",
    errno.EPERM: "not permitted; change its permissions, or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EIO: "the disk or the network share fails; mend it, or choose another",
    errno.ENOTDIR: "a file stands where a folder should be; remove or rename it",
    errno.EEXIST: "a file stands where a folder should be; remove or rename it",
    errno.EISDIR: "a folder stands where a file should be; remove or rename it",
    errno.ENAMETOOLONG: "its name is too long for the file system; use shorter names",
    errno.EMFILE: "too many files are open at once; raise the limit (ulimit -n)",
}


def os_error_remedy(error: OSError) -> str | None:
    """Say what an operating-system error means and what to do, or None where it is no user's matter."""
    return _REMEDIES.get(error.errno or 0)


def os_error_message(error: OSError) -> str | None:
    """Say the same in a whole sentence, with the name of the file."""
    advice = os_error_remedy(error)
    return advice and f"{error.filename2 or error.filename or 'a file'}: {advice}"


@contextmanager
def reporting(params: str | None = None) -> Iterator[None]:
    """Turn a user's mistake into one line on standard error and exit code 1, without a stack trace.

    Anything else is a fault of the program and keeps its traceback.

    Args:
        params: the file that parameters were read from, which messages about a parameter begin with.
    """
    try:
        yield
    except ParamsError as error:
        print(f"error: {f'{params}: ' if params else ''}{error}", file=sys.stderr)
        raise SystemExit(1) from None
    except LandsegError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        sentence = os_error_message(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
