"""Figures of a run: the panel of example tiles and the confusion matrix."""

import io
import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from dvc_render import VegaRenderer
from helpers.root import ROOT
from matplotlib.figure import Figure
from PIL import Image

from landseg.core.classes import IGNORE, LandClass
from landseg.evaluate.examples import WRONG
from landseg.plotting import missing_letters, quiet_fonts, text_width
from landseg.report.panel import _short, draw_confusion, draw_panel, error_image, tile_text

CLASSES = (
    LandClass(id=1, name="water", color=(0, 0, 255)),
    LandClass(id=4, name="wood", color=(0, 160, 0)),
    LandClass(id=7, name="$ and $", color=(200, 100, 0)),
)
SIZE = 64
# Centre of the cells of the panel, in pixels of the page.
COLUMNS = [434, 694, 955, 1216]
ROW = 260.6
FIRST = 166
TEMPLATE = ROOT / ".dvc/plots/confusion_pixels.json"


def read(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def tiles(count: int = 2) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images = np.full((count, SIZE, SIZE, 3), (90, 120, 60), np.uint8)
    targets = np.full((count, SIZE, SIZE), 4, np.uint8)
    return images, targets, targets.copy()


def colour(page: npt.NDArray[np.uint8], column: int, row: int, dx: int = 0, dy: int = 0) -> tuple[int, ...]:
    return tuple(int(channel) for channel in page[round(FIRST + row * ROW) + dy, COLUMNS[column] + dx])


def test_panel_shows_image_target_prediction_and_errors(tmp_path: Path) -> None:
    images, targets, predictions = tiles()
    predictions[1] = 1
    targets[1, :, 40:] = IGNORE
    draw_panel(images, targets, predictions, ["a_1", "b_2"], CLASSES, tmp_path / "new/panel.png")
    page = read(tmp_path / "new/panel.png")
    assert page.shape[1] == 1350
    assert 2 * ROW < page.shape[0] < 2 * ROW + 110

    grey = round(180 + 0.3 * (0.299 * 90 + 0.587 * 120 + 0.114 * 60))
    assert [colour(page, column, 0) for column in range(3)] == [(90, 120, 60), (0, 160, 0), (0, 160, 0)]
    assert colour(page, 3, 0) == pytest.approx((grey, grey, grey), abs=1)
    assert [colour(page, column, 1) for column in range(4)] == [(90, 120, 60), (0, 160, 0), (0, 0, 255), (0, 0, 255)]
    for column in (1, 3):  # ignored: grey, whatever the prediction
        red, green, blue = colour(page, column, 1, dx=100)
        assert red == green == blue >= 190
    assert colour(page, 2, 1, dx=100) == (0, 0, 255)
    for x, y in ((0, 0), (-1, 0), (0, -1), (-1, -1)):
        assert tuple(page[y, x]) == (255, 255, 255)


@pytest.mark.parametrize(("side", "factor"), [(16, 9), (400, 1)])
def test_wrong_pixels_have_the_predicted_colour_and_an_outline(side: int, factor: int) -> None:
    image, target = np.zeros((side, side, 3), np.uint8), np.full((side, side), 4, np.uint8)
    prediction = target.copy()
    prediction[3:5, 6] = 7
    target[:, 12:] = IGNORE
    drawn = error_image(image, target, prediction, CLASSES, 1.0)
    assert drawn.shape == (side * factor, side * factor, 3)
    wrong = np.zeros(drawn.shape[:2], bool)
    wrong[3 * factor : 5 * factor, 6 * factor : 7 * factor] = True
    assert ((drawn == CLASSES[2].color).all(axis=-1) == wrong).all()
    thickness = 1 if factor > 1 else 3  # of the image; about a pixel when it is drawn
    outlined = np.zeros_like(wrong)
    outlined[3 * factor - thickness : 5 * factor + thickness, 6 * factor - thickness : 7 * factor + thickness] = True
    assert ((drawn == WRONG).all(axis=-1) == (outlined & ~wrong)).all()
    assert (drawn[:, 0] == 180).all()


def test_the_text_beside_a_tile_names_the_two_most_frequent_confusions() -> None:
    target = np.full((10, 20), 4, np.uint8)
    target[:, 10:] = IGNORE
    prediction = target.copy()
    prediction[:4], prediction[4, :5], prediction[5, 0], target[9, :2] = 1, 7, 7, 7
    assert tile_text("a_1", target, prediction, CLASSES) == [
        ("a_1", "accuracy 52.0%   mIoU 0.26"),
        ("wood taken for water", "40.0% of the pixels"),
        ("wood taken for $ and $", "6.0% of the pixels"),
    ]
    assert tile_text("b", target, target, CLASSES) == [("b", "accuracy 100.0%   mIoU 1.00")]
    assert tile_text("c", np.full_like(target, IGNORE), target, CLASSES) == [("c", "all ignored")]


def test_the_legend_of_the_panel_lists_only_classes_that_occur(tmp_path: Path) -> None:
    def legend_colours(targets: npt.NDArray[np.uint8], predictions: npt.NDArray[np.uint8]) -> set[tuple[int, ...]]:
        path = tmp_path / "panel.png"
        draw_panel(images, targets, predictions, ["a"], CLASSES, path)
        foot = read(path)[-40:]
        return {tuple(map(int, pixel)) for pixel in foot.reshape(-1, 3)}

    images, targets, predictions = tiles(1)
    assert {c.color for c in CLASSES} & legend_colours(targets, predictions) == {(0, 160, 0)}
    predictions[0, 0] = 7
    assert {c.color for c in CLASSES} & legend_colours(targets, predictions) == {(0, 160, 0), (200, 100, 0)}
    assert WRONG in legend_colours(targets, predictions)


def test_panel_of_ignored_tiles_oblong_tiles_and_long_names(tmp_path: Path) -> None:
    images, targets, predictions = tiles(1)
    targets[:] = IGNORE
    oblong = images[:, :32], targets[:, :32], predictions[:, :32]
    draw_panel(*oblong, ["a-very-long-name-of-a-scene-" * 5], CLASSES, tmp_path / "panel.png")
    page = read(tmp_path / "panel.png")
    assert page.shape[0] < ROW
    beside = page[40:-50]
    assert (beside[:, 297:306] == 255).all()  # the name does not reach the image
    assert (beside[:, :297] < 100).any()


def test_rows_grow_with_the_text_beside_them(tmp_path: Path) -> None:
    images, targets, predictions = tiles(1)
    predictions[0, 0], predictions[0, 1, :9] = 1, 7
    flat = images[:, :16], targets[:, :16], predictions[:, :16]
    heights = []
    for name, tile in (("words", flat), ("plain", (flat[0], flat[1], flat[1]))):
        draw_panel(*tile, ["a"], CLASSES, tmp_path / f"{name}.png")
        heights.append(read(tmp_path / f"{name}.png").shape[0])
    assert heights[0] - heights[1] > 100


def test_the_legend_of_the_panel_flows_over_several_lines(tmp_path: Path) -> None:
    many = tuple(LandClass(id=i, name=f"class number {i}", color=(i, i, 255 - i)) for i in range(25))
    targets = np.arange(25, dtype=np.uint8).repeat(25).reshape(1, 25, 25)
    images = np.zeros((1, 25, 25, 3), np.uint8)
    draw_panel(images, targets, targets, ["a"], many, tmp_path / "panel.png")
    page = read(tmp_path / "panel.png")
    foot = page[round(40 + ROW) :]
    assert foot.shape[0] > 3 * 30
    assert all((foot == (i, i, 255 - i)).all(axis=-1).any() for i in range(25))
    assert (page[:, -5:] == 255).all()


def test_figures_are_reproducible_and_leave_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    for name in ("one.png", "two.png"):
        draw_panel(*tiles(1), ["a"], CLASSES, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert b"matplotlib" not in (tmp_path / "one.png").read_bytes().lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
    assert dict(mpl.rcParams) == before


def test_confusion_figure_is_dark_for_large_shares(tmp_path: Path) -> None:
    matrix = np.array([[10**10, 0, 0], [900, 100, 0], [0, 0, 0]], np.int64)
    draw_confusion(matrix, CLASSES, tmp_path / "confusion.png")
    page = read(tmp_path / "confusion.png").astype(int)
    full = np.abs(page - (8, 48, 107)).sum(axis=-1) < 3  # the darkest blue, for 100 %
    ys, xs = np.nonzero(full)
    assert 120 * 120 * 0.6 < full.sum() < 120 * 120  # one cell, except for its text
    red, _, blue = page[int(ys.mean()) + 120, int(xs.mean()) + 45]  # below it: 90 % of wood went to water
    assert red < 60 < blue
    red, green, blue = page[int(ys.mean()) + 240, int(xs.mean())]  # a class without target pixels
    assert min(red, green, blue) > 240


@pytest.mark.parametrize("count", [2, 25])
def test_confusion_figure_takes_any_number_of_classes(tmp_path: Path, count: int) -> None:
    classes = tuple(LandClass(id=i, name=f"class {i}", color=(i, 0, 0)) for i in range(count))
    draw_confusion(np.full((count, count), 7, np.int64), classes, tmp_path / "confusion.png")
    height, width, _ = read(tmp_path / "confusion.png").shape
    assert 250 < height <= width < 1800


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (1500, "1.5 k"), (48_230, "48.2 k"), (3_100_000, "3.1 M"), (2_790_000_000, "2.79 G")],
)
def test_counts_are_abbreviated(number: int, text: str) -> None:
    assert _short(number) == text


def test_dvc_fills_every_anchor_of_the_confusion_template() -> None:
    rows = [{"rev": "a", "actual": "water", "predicted": "wood", "pixels": "12"}]
    properties = {"x": "predicted", "y": "actual", "x_label": "predicted", "y_label": "target"}
    renderer = VegaRenderer(rows, "confusion", template=TEMPLATE.stem, template_dir=str(TEMPLATE.parent), **properties)
    filled = renderer.get_filled_template()
    assert not re.search(r"<DVC_METRIC_\w+>", json.dumps(filled))
    assert filled["data"]["values"] == rows
    assert filled["transform"][1]["groupby"] == ["rev", "actual", "predicted"]


def test_dvc_fills_every_anchor_of_the_reliability_template() -> None:
    rows = [{"rev": "a", "class": "", "confidence": "0.7", "accuracy": "0.6", "pixels": "12"}]
    properties = {"x": "confidence", "y": "accuracy", "x_label": "confidence", "y_label": "accuracy"}
    renderer = VegaRenderer(rows, "bins", template="reliability", template_dir=str(TEMPLATE.parent), **properties)
    filled = renderer.get_filled_template()
    assert not re.search(r"<DVC_METRIC_\w+>", json.dumps(filled))
    assert filled["data"]["values"] == rows
    assert filled["transform"][0] == {"filter": "datum['class'] == '' && datum['accuracy'] != ''"}


@pytest.mark.faults
@pytest.mark.parametrize(("name", "missing"), [("forêt", ""), ("森林", "林森"), ("غابة🌲", "🌲"), ("水 & $x$", "水")])
def test_letters_that_the_font_lacks(name: str, missing: str, recwarn: pytest.WarningsRecorder) -> None:
    """They are named once, without a warning for every letter of every text."""
    assert missing_letters([name]) == missing
    figure = Figure()
    figure.text(0.5, 0.5, name, parse_math=False)
    with quiet_fonts():
        figure.savefig(io.BytesIO())
    assert text_width(name, 9) > 0
    assert [str(each.message) for each in recwarn] == []
