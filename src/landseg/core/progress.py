"""Progress bars: what is done, how fast, and how long it will take."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")


class _Rate(ProgressColumn):
    """Units a second, over the whole run."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:.1f} {task.fields['unit']}/s", style="dim")


def track(steps: Iterable[tuple[int, T]], total: int, title: str, unit: str) -> Iterator[T]:
    """Yield the results of steps that come as (units done, result), showing progress where a terminal does."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (total and console.is_terminal)) as progress:
        task = progress.add_task(title, total=total, unit=unit)
        for done, result in steps:
            progress.update(task, advance=done)
            yield result
