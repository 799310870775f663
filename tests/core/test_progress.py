"""Progress without a terminal: a line a minute, with rate and remaining time."""

import time
from types import SimpleNamespace

import pytest

from landseg.core.progress import progress_line, track, working


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (120, 3000, 60, "convert: 120 of 3,000 tiles, 2.0 tiles/s, 24 min left"),
        (2900, 3000, 60, "convert: 2,900 of 3,000 tiles, 48.3 tiles/s, 2 s left"),
        (1, 3000, 60, "convert: 1 of 3,000 tiles, 0.0 tiles/s, 50.0 h left"),
    ],
)
def test_line(done: int, total: int, seconds: float, line: str) -> None:
    assert progress_line("convert", done, total, "tiles", seconds) == line


def test_a_line_a_minute_for_a_step_of_unknown_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landseg.core.progress.LOG_INTERVAL", 0.05)
    with working("export: tracing the network"):
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert set(lines) == {"export: tracing the network, for 0 min"}
    assert 2 <= len(lines) <= 6
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_line_a_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr("landseg.core.progress.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    assert list(track([2] * 8, 16, "convert", "tiles", size=lambda size: size)) == [2] * 8
    assert capsys.readouterr().err.splitlines() == [
        "convert: 6 of 16 tiles, 0.1 tiles/s, 2 min left",
        "convert: 12 of 16 tiles, 0.1 tiles/s, 50 s left",
    ]
