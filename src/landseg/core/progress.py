"""Progress bars with rate and remaining time."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_T = TypeVar("_T")


class _Rate(ProgressColumn):
    """Units per second, averaged over the run."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:.1f} {task.fields['unit']}/s", style="dim")


def track(
    results: Iterable[_T], total: int, title: str, unit: str, size: Callable[[_T], int] = lambda _: 1
) -> Iterator[_T]:
    """Yield results as they arrive and show a progress bar on a terminal.

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
        for result in results:
            progress.update(task, advance=size(result))
            yield result
