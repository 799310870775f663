"""A canvas in inches: pictures, swatches and text where they are put, in the ink of all figures of this project.

Drawn without pyplot, so that nothing global is touched and no display is needed.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from landseg.core.arrays import Pixels
from landseg.core.classes import Colour

#: An entry of a legend: its name, and its colour, or None: hatched.
LegendEntry = tuple[str, Colour | None]


class PlacedEntry(NamedTuple):
    """An entry of a legend, its distance from the left in inches, and its line."""

    name: str
    colour: Colour | None
    x: float
    line: int


DPI = 150
INK, PALE, LINE = "#222222", "#707070", "#bbbbbb"
#: Height of a line of a legend, and of a swatch in it, in inches.
LINE_HEIGHT, SWATCH = 0.22, 0.14

_STRIPES = np.array([[232, 232, 232], [196, 196, 196]], np.uint8)  # the hatching of ignored pixels


def flow_legend(entries: list[LegendEntry], width: float) -> list[PlacedEntry]:
    """Lay entries out in lines, as a text is."""
    placed, x, line = [], 0.0, 0
    for name, colour in entries:
        wide = SWATCH + 0.07 + text_width(name, 9)
        if x > 0 and x + wide > width:
            x, line = 0.0, line + 1
        placed.append(PlacedEntry(name, colour, x, line))
        x += wide + 0.25
    return placed


def legend_height(placed: list[PlacedEntry]) -> float:
    """Return the height of a legend, in inches."""
    return LINE_HEIGHT * (1 + max(entry.line for entry in placed))


def draw_legend(page: Axes, placed: list[PlacedEntry], left: float, top: float) -> None:
    """Put a legend whose upper left corner is there."""
    for name, colour, x, line in placed:
        y = top + line * LINE_HEIGHT
        draw_swatch(page, colour, left + x, y)
        x, y = left + x + SWATCH + 0.07, y + SWATCH / 2
        page.text(x, y, name, fontsize=9, va="center_baseline", color=INK, parse_math=False)


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text, in inches."""
    plain = text.replace("$", "S")  # a name is no formula
    return float(TextPath((0, 0), plain, size=size).get_extents().width) / 72


def page_axes(figure: Figure) -> Axes:
    """Return axes over all of a figure, whose coordinates are inches from its upper left corner."""
    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    page.set_autoscale_on(False)
    return page


def draw_image(page: Axes, pixels: Pixels, left: float, top: float, width: float, height: float) -> None:
    """Put a picture, (H, W, 3) uint8, in a thin frame; all measures in inches."""
    page.imshow(pixels, extent=(left, left + width, top + height, top), aspect="auto")
    page.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=LINE, linewidth=0.5))


def draw_swatch(page: Axes, colour: Colour | None, left: float, top: float) -> None:
    """Put a small square of a colour, or a hatched one."""
    pixels = hatching(21, 150)[:, :21] if colour is None else np.full((1, 1, 3), colour, np.uint8)
    draw_image(page, pixels, left, top, SWATCH, SWATCH)


def draw_vertical_text(page: Axes, text: str, x: float, y: float, room: float, size: float, colour: str) -> None:
    """Write upwards, smaller where the text is longer than there is room."""
    fitting = size * min(1, room / max(text_width(text, size), 0.01))
    page.text(x, y, text, rotation=90, ha="center", va="center", fontsize=fitting, color=colour, parse_math=False)


def hatching(height: int, width: int) -> Pixels:
    """Return slanted stripes of two greys, about 25 pairs across whatever the size: (H, W, 3) uint8."""
    diagonal = np.arange(height)[:, None] + np.arange(width)
    striped: Pixels = _STRIPES[diagonal // max(1, width // 50) % 2]
    return striped
