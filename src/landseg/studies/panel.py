"""The panel of a study: the same tiles as every setting predicts them, side by side."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landseg.core.classes import IGNORE, channels
from landseg.core.errors import LandsegError
from landseg.evaluate.examples import WRONG, ExampleTile
from landseg.plotting import (
    DPI,
    INK,
    PALE,
    PlacedEntry,
    draw_image,
    draw_legend,
    draw_vertical_text,
    flow_legend,
    legend_height,
    page_axes,
    text_width,
)
from landseg.report.panel import panel_legend, tile_images
from landseg.results.run import Run
from landseg.studies.style import WIDTH, Runs

# Measures in inches.
_LEFT, _GAP, _FOOT, _LINE, _EDGE = 0.3, 0.06, 0.2, 0.16, 0.08
_CELL = 2.2  # at most


def panel(runs: Runs, wanted: int = 4) -> Figure:
    """Draw tiles, one a row, as image, target, and the prediction of every setting with its pixel accuracy.

    Tiles are those rich in classes that all settings show, and so chosen without regard to any prediction; of
    several seeds the first is drawn. Ignored pixels are hatched in the target.

    Args:
        runs: runs by setting, one a seed.
        wanted: how many tiles at most.

    Raises:
        LandsegError: there is no such tile.
    """
    first = [of[0] for of in runs.values()]
    tiles = _common(first, wanted)
    cell = min(_CELL, (WIDTH - _LEFT - _EDGE) / (2 + len(runs)) - _GAP)
    headings = [_wrapped(text, cell) for text in ("image", "target", *runs)]
    head = _LINE * max(len(lines) for lines in headings) + _GAP
    talls = [cell * of[0].target.shape[0] / of[0].target.shape[1] for of in tiles]
    entries = _legend(tiles, first[0])
    foot = legend_height(entries) + _GAP
    total = head + sum(talls) + _FOOT * len(tiles) + foot
    figure = Figure((WIDTH, total), dpi=DPI)
    page = page_axes(figure)
    for column, lines in enumerate(headings):
        _lines(page, lines, _LEFT + column * (cell + _GAP), head - _GAP, cell)
    top = head
    for of, tall in zip(tiles, talls, strict=True):
        _row(page, of, first[0], top, cell, tall)
        top += tall + _FOOT
    draw_legend(page, entries, _LEFT, top)
    return figure


def _common(runs: Sequence[Run], wanted: int) -> list[list[ExampleTile]]:
    """Return tiles rich in classes that all runs show, each as every run shows it; those with fewest ignored pixels."""
    of = [{each.tile: each for each in run.examples if "rich" in each.why.split()} for run in runs]
    common = sorted(set.intersection(*map(set, of)), key=lambda tile: (_ignored(of[0][tile], runs[0]), tile))
    if not common:
        names = ", ".join(run.name for run in runs)
        raise LandsegError(
            f"these runs show no tile in common: {names}; draw runs on the same split, with evaluate.n_examples above 0"
        )
    return [[shown[tile] for shown in of] for tile in common[:wanted]]


def _ignored(tile: ExampleTile, run: Run) -> float:
    return float((channels(run.classes)[tile.target] == IGNORE).mean())


def _row(page: Axes, of: Sequence[ExampleTile], run: Run, top: float, cell: float, tall: float) -> None:
    image, target, prediction, _ = tile_images(of[0].image, of[0].target, of[0].prediction, run.classes)
    others = [tile_images(each.image, each.target, each.prediction, run.classes)[2] for each in of[1:]]
    for column, picture in enumerate([image, target, prediction, *others]):
        left = _LEFT + column * (cell + _GAP)
        draw_image(page, picture, left, top, cell, tall)
        if picture.shape[1] < cell * DPI:  # pixels are to be seen as such
            page.images[-1].set_interpolation("nearest")
        if column > 1:
            text = f"accuracy {of[column - 2].accuracy:.1%}"
            size = 8 * min(1, cell / text_width(text, 8))
            page.text(left + cell / 2, top + tall + 0.13, text, fontsize=size, ha="center", color=PALE)
    draw_vertical_text(page, of[0].tile, 0.15, top + tall / 2, tall, 8.5, INK)


def _legend(tiles: Sequence[Sequence[ExampleTile]], run: Run) -> list[PlacedEntry]:
    """Lay out names and colours of what is drawn: there are no wrong pixels."""
    every = [each for of in tiles for each in of]
    targets = np.concatenate([each.target.ravel() for each in every])
    predictions = np.concatenate([each.prediction.ravel() for each in every])
    entries = panel_legend(targets, predictions, run.classes)
    entries.remove(("wrong", WRONG))
    return flow_legend(entries, WIDTH - _LEFT - _EDGE)


def _wrapped(text: str, width: float) -> list[str]:
    """Break a heading into lines of about a width in inches."""
    return textwrap.wrap(text, max(8, int(width / text_width("n", 9) * 0.95))) or [""]


def _lines(page: Axes, lines: Sequence[str], left: float, bottom: float, width: float) -> None:
    """Write lines, the last at `bottom`, smaller where one is wider than there is room."""
    size = 9 * min(1, width / max(0.01, *(text_width(line, 9) for line in lines)))
    for n, line in enumerate(reversed(lines)):
        y = bottom - n * _LINE
        page.text(left + width / 2, y, line, fontsize=size, ha="center", color=INK, parse_math=False)
