"""Progress with rate and remaining time: bars on a terminal, else a line a minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_T = TypeVar("_T")

#: Seconds between two lines without a terminal.
LOG_INTERVAL = 60.0


class _Rate(ProgressColumn):
    """Units per second, averaged over the run."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:.1f} {task.fields['unit']}/s", style="dim")


class ProgressLog:
    """A line a minute on standard error, for outputs that are no terminal."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        """Start the clock.

        Args:
            title: what runs.
            total: number of units.
            unit: name of the units, plural.
        """
        self._title, self._total, self._unit = title, total, unit
        self._started = self._last = time.monotonic()

    def update(self, done: int) -> None:
        """Print a line if a minute has passed since the last one."""
        now = time.monotonic()
        if now - self._last < LOG_INTERVAL or not done:
            return
        self._last = now
        print(
            progress_line(self._title, done, self._total, self._unit, now - self._started), file=sys.stderr, flush=True
        )


def progress_line(title: str, done: int, total: int, unit: str, seconds: float) -> str:
    """Return a line such as 'convert: 120 of 3,000 tiles, 2.0 tiles/s, 24 min left'."""
    rate = done / seconds
    left = (total - done) / rate
    remaining = f"{left / 3600:.1f} h" if left >= 7200 else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"{title}: {done:,} of {total:,} {unit}, {rate:.1f} {unit}/s, {remaining} left"


@contextmanager
def working(title: str) -> Iterator[None]:
    """Show on standard error that a step of unknown length runs: a spinner on a terminal, else a line a minute."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(title):
            yield
        return
    finished, started = threading.Event(), time.monotonic()

    def report() -> None:
        while not finished.wait(LOG_INTERVAL):
            print(f"{title}, for {(time.monotonic() - started) / 60:.0f} min", file=sys.stderr, flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def track(
    results: Iterable[_T], total: int, title: str, unit: str, size: Callable[[_T], int] = lambda _: 1
) -> Iterator[_T]:
    """Yield results as they arrive, and show a progress bar on a terminal, else a line a minute.

    Args:
        results: the results, computed lazily.
        total: number of units in all results.
        title: label of the bar.
        unit: name of the units, plural.
        size: number of units in a result; 1 by default.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (total and console.is_terminal)) as progress:
        task = progress.add_task(title, total=total, unit=unit)
        lines, done = ProgressLog(title, total, unit), 0
        for result in results:
            done += size(result)
            progress.update(task, completed=done)
            if not console.is_terminal:
                lines.update(done)
            yield result
