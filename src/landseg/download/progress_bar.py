"""The bar of bytes that a download shows."""

import time
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_NEWS = 30  # s between two lines of progress where there is no terminal


class Watcher(Protocol):
    """Whoever is told how a file comes along; what it raises ends the download of that file."""

    def show(self, completed: int, total: int | None) -> None:
        """So many bytes of the file are here, of so many in all."""

    def say(self, line: str) -> None:
        """Tell the user."""

    def pause(self, seconds: float) -> None:
        """Let that time pass before the next try."""


class Bar(Progress):
    """Bytes, rate and time left, on standard error; where that is no terminal, a line now and then."""

    def __init__(self, what: str, total: int | None = None) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.add_task(what, total=total)
        self._what, self._told = what, time.monotonic()

    def show(self, completed: int, total: int | None) -> None:
        """Show one file's bytes."""
        self.update(self.task, completed=completed, total=total)
        self._tell()

    def add(self, count: int) -> None:
        """Add bytes to those of all files together; any thread may."""
        self.update(self.task, advance=count)
        self._tell()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def pause(self, seconds: float) -> None:
        """Wait, with the bar standing still."""
        time.sleep(seconds)

    def _tell(self) -> None:
        if not self.console.is_terminal and time.monotonic() - self._told > _NEWS:
            self._told = time.monotonic()
            task = self.tasks[0]
            self.say(f"{self._what}: {amount(int(task.completed), None if task.total is None else int(task.total))}")


def amount(size: int, total: int | None) -> str:
    """Write so many bytes, of so many if that is known, for people."""
    return decimal(size) if total is None else f"{decimal(size)} of {decimal(total)}"
