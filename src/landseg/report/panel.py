"""Figures of a run as PNG: the panel of example tiles and the confusion matrix.

Made for a white page about 900 px wide, at 1.5 times its resolution.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation

from landseg import metrics
from landseg.core.arrays import Counts, Pixels
from landseg.core.classes import IGNORE, ClassTable, class_channels, class_names, palette
from landseg.core.files import atomic
from landseg.evaluate.examples import WRONG
from landseg.plotting import (
    DPI,
    INK,
    LINE,
    PALE,
    LegendEntry,
    draw_image,
    draw_legend,
    fitting_size,
    flow_legend,
    hatching,
    legend_height,
    page_axes,
    quiet_fonts,
    wrap_text,
)
from landseg.results.run import Run

_HEADINGS = ("image", "target", "prediction", "errors")
_OUTLINED = "wrong: outlined, in the colour of the predicted class"
# Layout of the panel, inches: 1350 px wide, with a column of text on the left.
_WIDTH, _LEFT, _GAP, _HEAD = 9.0, 2.05, 0.06, 0.27
_LINE = 0.17
_FONT = 8.5  # points


def write_figures(run: Run, folder: Path) -> None:
    """Write the confusion matrix and the panel of example tiles of a run into a folder.

    Raises:
        LandsegError: results are missing, the disk is full, or the folder cannot be written.
    """
    draw_confusion(run.confusion, run.classes, folder / "confusion.png")
    examples = [each for each in run.examples if "spread" in each.why.split()]
    if examples:
        draw_panel(
            np.stack([each.image for each in examples]),
            np.stack([each.target for each in examples]),
            np.stack([each.prediction for each in examples]),
            [each.tile for each in examples],
            run.classes,
            folder / "panel.png",
        )


def draw_panel(
    images: Pixels, targets: Pixels, predictions: Pixels, titles: Sequence[str], classes: ClassTable, path: Path
) -> None:
    """Write a panel as PNG: one row per tile, with image, target, prediction and errors.

    Wrong pixels have the colour of the predicted class and an outline, on a pale grey image; ignored pixels are
    hatched. Beside each row are the name of the tile, its pixel accuracy, its mean IoU over the classes in its target,
    and its two most frequent confusions as shares of its labelled pixels.

    Args:
        images: (N, H, W, 3) uint8, N at least 1.
        targets: (N, H, W) uint8 class ids, or `ignored_id`.
        predictions: (N, H, W) uint8 class ids.
        titles: N names.
        classes: the class table; the legend lists the classes that occur.
        path: the PNG, written atomically.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    rows, height, width = targets.shape
    cell_width = (_WIDTH - _LEFT) / 4 - _GAP
    cell_height = cell_width * height / width
    texts = [_wrap(tile_text(*each, classes)) for each in zip(titles, targets, predictions, strict=True)]
    row_height = max(cell_height, *(_LINE * len(lines) for lines in texts)) + _GAP
    entries = flow_legend([*panel_legend(targets, predictions, classes), (_OUTLINED, WRONG)], _WIDTH - 2 * _GAP)
    total = _HEAD + rows * row_height + _GAP + legend_height(entries)
    figure = Figure((_WIDTH, total), dpi=DPI)
    page = page_axes(figure)
    lefts = [_LEFT + column * (cell_width + _GAP) for column in range(4)]
    for row in range(rows):
        top = _HEAD + row * row_height
        tile = images[row], targets[row], predictions[row], classes
        for left, image in zip(lefts, [*tile_images(*tile), error_image(*tile, cell_width)], strict=True):
            draw_image(page, image, left, top, cell_width, cell_height)
        _draw_text(page, texts[row], top)
    for left, heading in zip(lefts, _HEADINGS, strict=True):
        page.text(left + cell_width / 2, _HEAD - 0.07, heading, fontsize=10, ha="center", color=INK)
    draw_legend(page, entries, _GAP, total - legend_height(entries))
    _write(figure, path)


def _wrap(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return lines with their inks: the first text of each pair wrapped, the second in pale ink."""
    lines = []
    for name, numbers in pairs:
        wrapped = wrap_text(name, _FONT, _LEFT - 0.2)
        lines += [*((line, INK) for line in wrapped), (numbers, PALE), ("", INK)]
    return lines[:-1]


def _draw_text(page: Axes, lines: Sequence[tuple[str, str]], top: float) -> None:
    size = min(fitting_size(line, _FONT, _LEFT - 0.2) for line, _ in lines)
    for n, (line, ink) in enumerate(lines):
        y = top + _LINE * (n + 0.5)
        page.text(_GAP, y, line, va="center_baseline", fontsize=size, color=ink, parse_math=False)


def draw_confusion(matrix: Counts, classes: ClassTable, path: Path) -> None:
    """Write the confusion matrix as PNG.

    Colours and percentages are shares of a row, so the diagonal is the recall. The row of a class without target
    pixels is empty.

    Args:
        matrix: (K, K) int64 pixels, rows = target, columns = prediction.
        classes: the K classes, in channel order.
        path: the PNG, written atomically.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    count = len(classes)
    pixels = matrix.sum(axis=1)
    shares = np.divide(matrix, pixels[:, None], out=np.zeros(matrix.shape), where=pixels[:, None] > 0)
    roomy = count <= 10
    side = count * (0.8 if roomy else 0.3)  # inches
    figure = Figure((side, side), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = _cell(share, int(matrix[row, column]), roomy)
        ink = "white" if share > 0.5 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5 if roomy else 7, color=ink)
    for row, number in enumerate(pixels):
        axes.text(count - 0.35, row, f"{_short(int(number))} px", va="center", fontsize=8.5, color=PALE)
    _axes(axes, class_names(classes))
    _write(figure, path, bbox_inches="tight", pad_inches=0.08)


def tile_images(image: Pixels, target: Pixels, prediction: Pixels, classes: ClassTable) -> list[Pixels]:
    """Return image, target and prediction as RGB images, (H, W, 3) uint8; ignored pixels are hatched."""
    colours, ignored = palette(classes), _ignored(target, classes)
    coloured = colours[target]
    coloured[ignored] = hatching(*target.shape)[ignored]
    return [image, coloured, colours[prediction]]


def error_image(image: Pixels, target: Pixels, prediction: Pixels, classes: ClassTable, width: float) -> Pixels:
    """Return wrong pixels in the colour of the predicted class, outlined, on a pale grey image.

    Args:
        image: (H, W, 3) uint8.
        target: (H, W) uint8 class ids, or `ignored_id`.
        prediction: (H, W) uint8 class ids.
        classes: the class table.
        width: width of the drawing, inches; the outline is about a pixel wide there.

    Returns:
        RGB image, uint8, H and W times a whole number, so that an outline is thinner than a pixel of a small tile.
    """
    factor = max(1, round(width * DPI / target.shape[1]))
    image, target, prediction = (
        each.repeat(factor, axis=0).repeat(factor, axis=1) for each in (image, target, prediction)
    )
    ignored = _ignored(target, classes)
    wrong = (target != prediction) & ~ignored
    grey = image @ np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
    errors = np.repeat((180 + 0.3 * grey).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    thickness = max(1, round(target.shape[1] / (width * DPI)))
    errors[binary_dilation(wrong, np.ones((3, 3)), thickness)] = WRONG
    errors[wrong] = palette(classes)[prediction][wrong]
    errors[ignored] = hatching(*target.shape)[ignored]
    return errors


def _ignored(target: Pixels, classes: ClassTable) -> npt.NDArray[np.bool_]:
    ignored: npt.NDArray[np.bool_] = class_channels(classes)[target] == IGNORE
    return ignored


def tile_text(title: str, target: Pixels, prediction: Pixels, classes: ClassTable) -> list[tuple[str, str]]:
    """Return a tile's name and scores, and its two most frequent confusions and their shares, as pairs of lines."""
    lookup = class_channels(classes)
    matrix = metrics.confusion(lookup[target], lookup[prediction], len(classes))
    pixels = matrix.sum()
    if not pixels:
        return [(title, "all ignored")]
    scores = f"accuracy {metrics.pixel_accuracy(matrix):.1%}   mIoU {np.nanmean(metrics.iou(matrix)):.2f}"
    np.fill_diagonal(matrix, 0)
    most = np.argsort(-matrix, axis=None, kind="stable")[:2]
    confusions = [
        (f"{classes[actual].name} taken for {classes[predicted].name}", f"{_percent(share)} of the pixels")
        for actual, predicted in zip(*np.unravel_index(most, matrix.shape), strict=True)
        if (share := matrix[actual, predicted] / pixels)
    ]
    return [(title, scores), *confusions]


def panel_legend(targets: Pixels, predictions: Pixels, classes: ClassTable) -> list[LegendEntry]:
    """Return legend entries for the classes that occur, and for ignored pixels (None: hatched)."""
    ignored = _ignored(targets, classes)
    occurs = set(np.unique(targets)) | set(np.unique(predictions[~ignored]))
    entries: list[LegendEntry] = [(c.name, c.color) for c in classes if c.id in occurs]
    return [*entries, *([("ignored", None)] if ignored.any() else [])]


def _axes(axes: Axes, labels: list[str]) -> None:
    """Label rows and columns, and separate the cells by white lines."""
    count = len(labels)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    style: dict[str, Any] = {"color": INK, "fontsize": 9.5, "parse_math": False}
    axes.set_xticks(range(count), labels, rotation=40, ha="left", rotation_mode="anchor", **style)
    axes.set_yticks(range(count), labels, **style)
    axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(LINE)
    axes.set_xlabel("predicted, % of the pixels of the target class", color=PALE, fontsize=9.5)
    axes.set_ylabel("target", color=PALE, fontsize=9.5)


def _cell(share: float, pixels: int, roomy: bool) -> str:
    """Return the text of a cell: percentage and pixel count, or a whole percentage in small cells."""
    if pixels == 0:
        return ""
    if roomy:
        return f"{_percent(share)}\n{_short(pixels)}"
    return f"{100 * share:.0f}" if share >= 0.005 else ""


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _short(number: int) -> str:
    """Format a count with about three digits: 950, 48.2 k, 3.1 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return str(number)


def _write(figure: Figure, path: Path, **options: Any) -> None:
    with atomic(path) as temporary, quiet_fonts():
        # Without the version of matplotlib in the metadata, equal figures are equal files.
        figure.savefig(temporary, format="png", facecolor="white", metadata={"Software": None}, **options)
