"""Prediction panel of a study: the same tiles, predicted by every setting, side by side."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landseg.core.classes import IGNORE, class_channels
from landseg.core.errors import LandsegError
from landseg.evaluate.examples import ExampleTile
from landseg.plotting import (
    DPI,
    INK,
    PALE,
    PlacedEntry,
    draw_image,
    draw_legend,
    draw_vertical_text,
    fitting_size,
    flow_legend,
    legend_height,
    page_axes,
    wrap_text,
)
from landseg.report.panel import panel_legend, tile_images
from landseg.results.run import Run
from landseg.studies.style import FIGURE_WIDTH, Runs

# Lengths in inches.
_LEFT, _GAP, _FOOT, _LINE, _EDGE = 0.3, 0.06, 0.2, 0.16, 0.08
_MAX_CELL = 2.2


def prediction_panel(runs: Runs, max_tiles: int = 4) -> Figure:
    """Draw tiles, one per row: image, target, and the prediction of every setting with its pixel accuracy.

    The tiles are class-rich examples that all settings share, so they are chosen without regard to predictions. Only
    the first seed of a setting is drawn. Ignored pixels are hatched in the target.

    Args:
        runs: runs by setting, one per seed.
        max_tiles: maximum number of tiles.

    Raises:
        LandsegError: the runs have no such tile in common.
    """
    first = [group[0] for group in runs.values()]
    tiles = _common_tiles(first, max_tiles)
    cell = min(_MAX_CELL, (FIGURE_WIDTH - _LEFT - _EDGE) / (2 + len(runs)) - _GAP)
    headings = [wrap_text(text, 9, cell) for text in ("image", "target", *runs)]
    head = _LINE * max(len(lines) for lines in headings) + _GAP
    heights = [cell * views[0].target.shape[0] / views[0].target.shape[1] for views in tiles]
    entries = _legend_entries(tiles, first[0])
    foot = legend_height(entries) + _GAP
    total = head + sum(heights) + _FOOT * len(tiles) + foot
    figure = Figure((FIGURE_WIDTH, total), dpi=DPI)
    page = page_axes(figure)
    for column, lines in enumerate(headings):
        _draw_lines(page, lines, _LEFT + column * (cell + _GAP), head - _GAP, cell)
    top = head
    for views, height in zip(tiles, heights, strict=True):
        _draw_row(page, views, first[0], top, cell, height)
        top += height + _FOOT
    draw_legend(page, entries, _LEFT, top)
    return figure


def _common_tiles(runs: Sequence[Run], max_tiles: int) -> list[list[ExampleTile]]:
    """Return class-rich tiles that all runs share, one example per run, sorted by the share of ignored pixels."""
    rich = [{tile.tile: tile for tile in run.examples if "rich" in tile.why.split()} for run in runs]
    common = sorted(set.intersection(*map(set, rich)), key=lambda tile: (_ignored_share(rich[0][tile], runs[0]), tile))
    if not common:
        names = ", ".join(run.name for run in runs)
        raise LandsegError(
            f"{names}: no example tile in common; use runs of the same split, with evaluate.n_examples above 0"
        )
    return [[tiles[tile] for tiles in rich] for tile in common[:max_tiles]]


def _ignored_share(tile: ExampleTile, run: Run) -> float:
    return float((class_channels(run.classes)[tile.target] == IGNORE).mean())


def _draw_row(page: Axes, views: Sequence[ExampleTile], run: Run, top: float, cell: float, height: float) -> None:
    image, target, prediction = tile_images(views[0].image, views[0].target, views[0].prediction, run.classes)
    others = [tile_images(view.image, view.target, view.prediction, run.classes)[2] for view in views[1:]]
    for column, pixels in enumerate([image, target, prediction, *others]):
        left = _LEFT + column * (cell + _GAP)
        draw_image(page, pixels, left, top, cell, height)
        if pixels.shape[1] < cell * DPI:  # enlarged images keep sharp pixels
            page.images[-1].set_interpolation("nearest")
        if column > 1:
            text = f"accuracy {views[column - 2].accuracy:.1%}"
            size = fitting_size(text, 8, cell)
            page.text(left + cell / 2, top + height + 0.13, text, fontsize=size, ha="center", color=PALE)
    draw_vertical_text(page, views[0].tile, 0.15, top + height / 2, height, 8.5, INK)


def _legend_entries(tiles: Sequence[Sequence[ExampleTile]], run: Run) -> list[PlacedEntry]:
    """Lay out the legend of the classes that occur in the tiles."""
    views = list(itertools.chain(*tiles))
    targets = np.concatenate([view.target.ravel() for view in views])
    predictions = np.concatenate([view.prediction.ravel() for view in views])
    return flow_legend(panel_legend(targets, predictions, run.classes), FIGURE_WIDTH - _LEFT - _EDGE)


def _draw_lines(page: Axes, lines: Sequence[str], left: float, bottom: float, width: float) -> None:
    """Draw lines of text, the last at `bottom`, in a smaller font if one is wider than `width`."""
    size = min(fitting_size(line, 9, width) for line in lines)
    for n, line in enumerate(reversed(lines)):
        y = bottom - n * _LINE
        page.text(left + width / 2, y, line, fontsize=size, ha="center", color=INK, parse_math=False)
