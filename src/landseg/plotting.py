"""Plotting helpers: images, legends and text at positions in inches, in the colours of all figures of landseg.

They avoid pyplot, so they change no global state and need no display.
"""

import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from landseg.core.arrays import Pixels
from landseg.core.classes import Colour

#: Legend entry: name and colour, or None for hatching.
LegendEntry = tuple[str, Colour | None]


class PlacedEntry(NamedTuple):
    """A legend entry with its distance from the left, inches, and its line."""

    name: str
    colour: Colour | None
    x: float
    line: int


DPI = 150
INK, PALE, LINE = "#222222", "#707070", "#bbbbbb"
#: Blue, vermillion, green, purple, orange, sky blue (Okabe and Ito, Color Universal Design, 2008). Their yellow and
#: black have too little contrast.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: Height of a legend line and of a colour swatch, inches.
LINE_HEIGHT, SWATCH = 0.22, 0.14

_STRIPES = np.array([[232, 232, 232], [196, 196, 196]], np.uint8)  # colours of the hatching


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Suppress Matplotlib's warning for every letter that the font lacks; see `missing_letters`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


def missing_letters(names: Iterable[str]) -> str:
    """Return the letters of names that the font of figures lacks; they appear as boxes."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(sorted({letter for name in names for letter in name if ord(letter) not in known}))


def flow_legend(entries: list[LegendEntry], width: float) -> list[PlacedEntry]:
    """Lay out legend entries in lines up to a width in inches."""
    placed, x, line = [], 0.0, 0
    for name, colour in entries:
        wide = SWATCH + 0.07 + text_width(name, 9)
        if x > 0 and x + wide > width:
            x, line = 0.0, line + 1
        placed.append(PlacedEntry(name, colour, x, line))
        x += wide + 0.25
    return placed


def legend_height(placed: list[PlacedEntry]) -> float:
    """Return the height of a legend, inches."""
    return LINE_HEIGHT * (1 + max(entry.line for entry in placed))


def draw_legend(page: Axes, placed: list[PlacedEntry], left: float, top: float) -> None:
    """Draw a legend with its upper left corner at a position in inches."""
    for name, colour, x, line in placed:
        y = top + line * LINE_HEIGHT
        draw_swatch(page, colour, left + x, y)
        x, y = left + x + SWATCH + 0.07, y + SWATCH / 2
        page.text(x, y, name, fontsize=9, va="center_baseline", color=INK, parse_math=False)


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text, inches; size in points."""
    if not text:
        return 0.0
    plain = text.replace("$", "S")  # not a formula
    with quiet_fonts():
        return float(TextPath((0, 0), plain, size=size).get_extents().width) / 72


def fitting_size(text: str, size: float, width: float) -> float:
    """Return a font size, at most `size` points, at which a line of text fits a width in inches."""
    return size * min(1, width / max(text_width(text, size), 0.01))


def wrap_text(text: str, size: float, width: float) -> list[str]:
    """Wrap text in a font size in points to a width of about `width` inches; at least one line."""
    return textwrap.wrap(text, max(8, int(width / text_width("n", size) * 0.95))) or [""]


def page_axes(figure: Figure) -> Axes:
    """Return axes that cover a figure, with coordinates in inches from its upper left corner."""
    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    page.set_autoscale_on(False)
    return page


def draw_image(page: Axes, pixels: Pixels, left: float, top: float, width: float, height: float) -> None:
    """Draw an RGB image, (H, W, 3) uint8, in a thin frame; all lengths in inches."""
    page.imshow(pixels, extent=(left, left + width, top + height, top), aspect="auto")
    page.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=LINE, linewidth=0.5))


def draw_swatch(page: Axes, colour: Colour | None, left: float, top: float) -> None:
    """Draw a small square in a colour, or hatched."""
    pixels = hatching(21, 150)[:, :21] if colour is None else np.full((1, 1, 3), colour, np.uint8)
    draw_image(page, pixels, left, top, SWATCH, SWATCH)


def draw_vertical_text(page: Axes, text: str, x: float, y: float, length: float, size: float, colour: str) -> None:
    """Draw text upwards, reduced in size to fit a length in inches."""
    fitting = fitting_size(text, size, length)
    page.text(x, y, text, rotation=90, ha="center", va="center", fontsize=fitting, color=colour, parse_math=False)


def hatching(height: int, width: int) -> Pixels:
    """Return diagonal grey stripes, about 25 pairs across the width: (H, W, 3) uint8."""
    diagonal = np.arange(height)[:, None] + np.arange(width)
    striped: Pixels = _STRIPES[diagonal // max(1, width // 50) % 2]
    return striped
