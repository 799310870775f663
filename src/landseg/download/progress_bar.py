"""Progress bar of downloads, in bytes."""

import time
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_LOG_INTERVAL = 30  # s between two progress lines without a terminal


class ProgressReporter(Protocol):
    """Receives the progress of one file; an exception raised by it ends the download of the file."""

    def show(self, completed: int, total: int | None) -> None:
        """Show the number of bytes received, and the size of the file if known."""

    def message(self, line: str) -> None:
        """Print a message to the user."""

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""


class ByteBar(Progress):
    """Bytes, rate and remaining time on standard error; without a terminal, a line every 30 s."""

    def __init__(self, title: str, total: int | None = None) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.add_task(title, total=total)
        self._title, self._last_log = title, time.monotonic()

    def show(self, completed: int, total: int | None) -> None:
        """Show the bytes of one file."""
        self.update(self.task, completed=completed, total=total)
        self._log()

    def add(self, count: int) -> None:
        """Add bytes to the sum over all files; thread-safe."""
        self.update(self.task, advance=count)
        self._log()

    def message(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def _log(self) -> None:
        if not self.console.is_terminal and time.monotonic() - self._last_log > _LOG_INTERVAL:
            self._last_log = time.monotonic()
            task = self.tasks[0]
            size = format_bytes(int(task.completed), None if task.total is None else int(task.total))
            self.message(f"{self._title}: {size}")


def format_bytes(size: int, total: int | None = None) -> str:
    """Format a number of bytes, and the total if known: '1.5 MB of 3.0 MB'."""
    return decimal(size) if total is None else f"{decimal(size)} of {decimal(total)}"
