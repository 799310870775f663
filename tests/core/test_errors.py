"""Errors for the user and their output."""

import errno
import pickle

import pytest

from landseg.core.errors import LandsegError, ParamsError, reporting


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(LandsegError("a.tif: is bad")))
    assert (type(error), str(error)) == (LandsegError, "a.tif: is bad")


def reported(error: BaseException, capsys: pytest.CaptureFixture[str], params: str | None = None) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught, reporting(params):
        raise error
    assert caught.value.__suppress_context__
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


def test_reporting(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(LandsegError("a: b"), capsys) == (1, "error: a: b\n")
    code, line = reported(OSError(errno.ENOSPC, "No space left", "a.csv"), capsys)
    assert (code, line) == (1, "error: a.csv: the disk is full; free some space and run again\n")
    assert reported(ParamsError("train.seed: b"), capsys) == (1, "error: train.seed: b\n")
    assert reported(KeyboardInterrupt(), capsys) == (130, "interrupted\n")


def test_params_errors_name_the_params_file(capsys: pytest.CaptureFixture[str]) -> None:
    line = "error: params.yaml: train.seed: b\n"
    assert reported(ParamsError("train.seed: b"), capsys, "params.yaml") == (1, line)
    assert reported(LandsegError("a: b"), capsys, "params.yaml") == (1, "error: a: b\n")


def test_other_exceptions_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reporting():
        _ = 1 / 0
    with pytest.raises(OSError, match="odd"), reporting():
        raise OSError(errno.EINVAL, "odd")
