"""Pictures of a result: panels of tiles, and the confusion matrix.

Drawn without pyplot, so that nothing global is touched and no display is needed. Made for a white
page about 900 px wide, at one and a half times its resolution.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from landseg import metrics
from landseg.datasets.classes import IGNORE, ClassTable, Colour, channels, names, palette
from landseg.files import atomic

Pixels = npt.NDArray[np.uint8]

#: Colour of wrong pixels.
WRONG: Colour = (230, 0, 90)

_DPI = 150
_INK, _PALE, _LINE = "#222222", "#707070", "#bbbbbb"
_STRIPES = np.array([[232, 232, 232], [196, 196, 196]], np.uint8)  # the hatching of ignored pixels
_HEADINGS = ("image", "target", "prediction", "errors")
# The panel's measures, in inches: 1350 px wide.
_WIDTH, _LEFT, _GAP, _HEAD = 9.0, 0.42, 0.06, 0.27
_LINE_HEIGHT, _SWATCH = 0.22, 0.14


def panel(
    images: Pixels, targets: Pixels, predictions: Pixels, titles: Sequence[str], classes: ClassTable, path: Path
) -> None:
    """Draw tiles, one a row, as image, target, prediction and errors, and write them as PNG.

    Errors stand over a pale grey image; ignored pixels are hatched. Beside each row stand the tile's
    name, its pixel accuracy, and its IoU as the mean over the classes that its target holds.

    Args:
        images: (N, H, W, 3) uint8, N at least 1.
        targets: (N, H, W) uint8 class ids, or IGNORE.
        predictions: (N, H, W) uint8 class ids.
        titles: N names.
        classes: the class table; the legend shows those of its classes that occur.
        path: the PNG to write, whole or not at all.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    rows, height, width = targets.shape
    cell = (_WIDTH - _LEFT - 4 * _GAP) / 4
    tall = cell * height / width
    legend = _flow(_legend(targets, predictions, classes), _WIDTH - _LEFT)
    foot = _GAP + _LINE_HEIGHT * (1 + max(line for _, _, _, line in legend))
    total = _HEAD + rows * (tall + _GAP) + foot
    figure = Figure((_WIDTH, total), dpi=_DPI)
    page = _page(figure)
    for row in range(rows):
        top = _HEAD + row * (tall + _GAP)
        pictures = _pictures(images[row], targets[row], predictions[row], classes)
        for column, picture in enumerate(pictures):
            _picture(page, picture, _LEFT + column * (cell + _GAP), top, cell, tall)
        _sideways(page, titles[row], 0.13, top + tall / 2, tall, 8.5, _INK)
        scores = _scores(targets[row], predictions[row], classes)
        _sideways(page, scores, 0.31, top + tall / 2, tall, 8, _PALE)
    for column, heading in enumerate(_HEADINGS):
        page.text(
            _LEFT + column * (cell + _GAP) + cell / 2, _HEAD - 0.07, heading, fontsize=10, ha="center", color=_INK
        )
    for name, colour, x, line in legend:
        y = total - foot + 1.5 * _GAP + line * _LINE_HEIGHT
        _swatch(page, colour, _LEFT + x, y)
        page.text(
            _LEFT + x + _SWATCH + 0.07,
            y + _SWATCH / 2,
            name,
            fontsize=9,
            va="center_baseline",
            color=_INK,
            parse_math=False,
        )
    _write(figure, path)


def confusion_figure(matrix: metrics.Counts, classes: ClassTable, path: Path) -> None:
    """Draw where the pixels of every target class went, and write it as PNG.

    Colours and percentages are shares of a row, so the diagonal is the recall. The row of a class
    without a target pixel is empty.

    Args:
        matrix: (K, K) int64 pixels, rows = target, columns = prediction.
        classes: the K classes, in channel order.
        path: the PNG to write, whole or not at all.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    count = len(classes)
    pixels = matrix.sum(axis=1)
    shares = np.divide(matrix, pixels[:, None], out=np.zeros(matrix.shape), where=pixels[:, None] > 0)
    roomy = count <= 10
    side = count * (0.8 if roomy else 0.3)  # inches
    figure = Figure((side, side), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = _cell(share, int(matrix[row, column]), roomy)
        ink = "white" if share > 0.5 else _INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5 if roomy else 7, color=ink)
    for row, number in enumerate(pixels):
        axes.text(count - 0.35, row, f"{_short(int(number))} px", va="center", fontsize=8.5, color=_PALE)
    _axes(axes, names(classes))
    _write(figure, path, bbox_inches="tight", pad_inches=0.08)


def _pictures(image: Pixels, target: Pixels, prediction: Pixels, classes: ClassTable) -> list[Pixels]:
    """Return the four pictures of a row, (H, W, 3) uint8 each."""
    colours = palette(classes)
    ignored = channels(classes)[target] == IGNORE
    stripes = _stripes(*target.shape)
    grey = image @ np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
    errors = np.repeat((150 + 0.4 * grey).astype(np.uint8)[..., None], 3, axis=-1)
    errors[target != prediction] = WRONG
    shown = colours[target]
    shown[ignored] = errors[ignored] = stripes[ignored]
    return [image, shown, colours[prediction], errors]


def _stripes(height: int, width: int) -> Pixels:
    """Return slanted stripes of two greys, about 25 pairs across whatever the size: (H, W, 3) uint8."""
    diagonal = np.arange(height)[:, None] + np.arange(width)
    stripes: Pixels = _STRIPES[diagonal // max(1, width // 50) % 2]
    return stripes


def _scores(target: Pixels, prediction: Pixels, classes: ClassTable) -> str:
    lookup = channels(classes)
    matrix = metrics.confusion(lookup[target], lookup[prediction], len(classes))
    if not matrix.any():
        return "all ignored"
    return f"accuracy {metrics.pixel_accuracy(matrix):.1%}   mIoU {np.nanmean(metrics.iou(matrix)):.2f}"


def _legend(targets: Pixels, predictions: Pixels, classes: ClassTable) -> list[tuple[str, Colour | None]]:
    """Return the names and colours of the classes that occur, of wrong and of ignored pixels (None: hatched)."""
    ignored = channels(classes)[targets] == IGNORE
    occurs = set(np.unique(targets)) | set(np.unique(predictions[~ignored]))
    entries: list[tuple[str, Colour | None]] = [(c.name, c.color) for c in classes if c.id in occurs]
    return [*entries, ("wrong", WRONG), *([("ignored", None)] if ignored.any() else [])]


def _flow(entries: list[tuple[str, Colour | None]], width: float) -> list[tuple[str, Colour | None, float, int]]:
    """Lay entries out in lines, as a text is: each with its distance from the left in inches, and its line."""
    placed, x, line = [], 0.0, 0
    for name, colour in entries:
        wide = _SWATCH + 0.07 + _text_width(name, 9)
        if x > 0 and x + wide > width:
            x, line = 0.0, line + 1
        placed.append((name, colour, x, line))
        x += wide + 0.25
    return placed


def _text_width(text: str, size: float) -> float:
    """Return the width of a line of text, in inches."""
    plain = text.replace("$", "S")  # a name is no formula
    return float(TextPath((0, 0), plain, size=size).get_extents().width) / 72


def _page(figure: Figure) -> Axes:
    """Return axes over all of a figure, whose coordinates are inches from its upper left corner."""
    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    page.set_autoscale_on(False)
    return page


def _picture(page: Axes, picture: Pixels, left: float, top: float, width: float, height: float) -> None:
    page.imshow(picture, extent=(left, left + width, top + height, top), aspect="auto")
    page.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=_LINE, linewidth=0.5))


def _swatch(page: Axes, colour: Colour | None, left: float, top: float) -> None:
    picture = _stripes(21, 150)[:, :21] if colour is None else np.full((1, 1, 3), colour, np.uint8)
    _picture(page, picture, left, top, _SWATCH, _SWATCH)


def _sideways(page: Axes, text: str, x: float, y: float, room: float, size: float, colour: str) -> None:
    """Write upwards, smaller where the text is longer than there is room."""
    fitting = size * min(1, room / max(_text_width(text, size), 0.01))
    page.text(x, y, text, rotation=90, ha="center", va="center", fontsize=fitting, color=colour, parse_math=False)


def _axes(axes: Axes, labels: list[str]) -> None:
    """Name rows and columns, and part the cells by white lines."""
    count = len(labels)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    style: dict[str, Any] = {"color": _INK, "fontsize": 9.5, "parse_math": False}
    axes.set_xticks(range(count), labels, rotation=40, ha="left", rotation_mode="anchor", **style)
    axes.set_yticks(range(count), labels, **style)
    axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(_LINE)
    axes.set_xlabel("predicted, % of the pixels of a target class", color=_PALE, fontsize=9.5)
    axes.set_ylabel("target", color=_PALE, fontsize=9.5)


def _cell(share: float, pixels: int, roomy: bool) -> str:
    """Return a cell's text: percent and pixels, or whole percent alone where cells are small."""
    if pixels == 0:
        return ""
    if roomy:
        return f"{share:.1%}\n{_short(pixels)}" if share >= 0.001 else f"<0.1%\n{_short(pixels)}"
    return f"{100 * share:.0f}" if share >= 0.005 else ""


def _short(number: int) -> str:
    """Return a count in three digits or so: 950, 48.2 k, 3.1 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return str(number)


def _write(figure: Figure, path: Path, **options: Any) -> None:
    with atomic(path) as temporary:
        # Without the version of matplotlib in it, the same picture is the same file.
        figure.savefig(temporary, format="png", facecolor="white", metadata={"Software": None}, **options)
