"""Scores of maps of a run's test scenes against those of its tiles: the effect of overlap, and of the scene's edge.

    uv run python -m benchmarks.maps                                  # after `dvc repro`
    uv run python -m benchmarks.maps --panel panel.jpg --scene scene_034   # also draws some of the scenes

All variants use the same model and the same pixels of the test split; intervals are over locations. 'Tiles' are
predicted one by one, as in evaluation; the others are maps of `landseg predict`, cut at the tiles. Edge pixels lie
within 16 px of an edge of their scene.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from rasterio.windows import Window

from benchmarks.common import console
from landseg import metrics
from landseg.core.arrays import Counts, Pixels
from landseg.core.classes import class_channels, class_names, ignored_id, palette
from landseg.core.params import dataset_name
from landseg.core.paths import Paths
from landseg.core.tables import read_parquet
from landseg.core.tile_archive import read_image, read_mask
from landseg.evaluate.predict import predict_ids
from landseg.maps.class_map import MAX_CONFIDENCE, open_class_map
from landseg.model.device import Accelerator, accelerator, use_bf16
from landseg.model.segmenter import Segmenter, load_model
from landseg.plotting import (
    DPI,
    INK,
    LegendEntry,
    draw_image,
    draw_legend,
    flow_legend,
    hatching,
    legend_height,
    page_axes,
)
from landseg.predict.command import predict_scenes
from landseg.predict.options import PredictOptions
from landseg.predict.outputs import OutputOptions
from landseg.predict.windows import place_windows

_EDGE = 16  # px
# The panel: width, gap and header height in inches, and the height of an image as a share of its width.
_WIDTH, _GAP, _HEADER, _ASPECT = 9.0, 0.06, 0.27, 0.82


class Tile(NamedTuple):
    """A row of the split table."""

    archive: str
    tile: str
    scene: str
    location: str
    row: int
    col: int
    height: int
    width: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns of the scene that the tile covers."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)


@dataclass(frozen=True)
class LocationMatrices:
    """Confusion matrices per test location, (S, K, K)."""

    #: All pixels.
    total: Counts
    #: Edge pixels.
    edge: Counts


@dataclass(frozen=True)
class TestSplit:
    """The test split of a run, and its model."""

    paths: Paths
    model: Segmenter
    tiles: list[Tile]
    device: Accelerator

    def scenes(self) -> list[str]:
        """Return the names of the scenes."""
        return sorted({tile.scene for tile in self.tiles})

    def count(self, predict: Callable[[Tile], Pixels], shapes: Mapping[str, tuple[int, int]]) -> LocationMatrices:
        """Count confusion matrices.

        Args:
            predict: returns the predicted class ids of a tile, (H, W).
            shapes: height and width of each scene.
        """
        k, lookup = len(self.model.info.classes), class_channels(self.model.info.classes)
        total, edge = ({tile.location: np.zeros((k, k), np.int64) for tile in self.tiles} for _ in range(2))
        for tile in self.tiles:
            target = lookup[self.target(tile)]
            ids = lookup[predict(tile)]
            total[tile.location] += metrics.confusion(target, ids, k)
            near = _near_edge(tile, *shapes[tile.scene])
            if near.any():
                edge[tile.location] += metrics.confusion(target[near][None], ids[near][None], k)
        return LocationMatrices(np.stack([*total.values()]), np.stack([*edge.values()]))

    def target(self, tile: Tile) -> Pixels:
        """Return the class ids of a tile's mask, (H, W), without padding."""
        return read_mask(self.paths.tiles / tile.archive, tile.tile)[: tile.height, : tile.width]

    def predict_tile(self, tile: Tile) -> Pixels:
        """Return the class ids that evaluation predicts for a tile, (H, W), without padding."""
        image = read_image(self.paths.tiles / tile.archive, tile.tile)
        [ids] = predict_ids(self.model, image[None], bf16=use_bf16("auto", self.device))
        unpadded: Pixels = ids[: tile.height, : tile.width]
        return unpadded


def _near_edge(tile: Tile, height: int, width: int) -> npt.NDArray[np.bool_]:
    rows, columns = tile.row + np.arange(tile.height), tile.col + np.arange(tile.width)
    row, column = np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns)
    near: npt.NDArray[np.bool_] = np.minimum(row[:, None], column) < _EDGE
    return near


def map_scenes(test: TestSplit, out: Path, window: int, overlap: float, confidence: bool = False) -> dict[str, Pixels]:
    """Map all scenes with `landseg predict`; return the class ids of their maps, (H, W)."""
    options = PredictOptions(str(test.paths.model("best")), window=window, overlap=overlap, device=test.device)
    outputs = OutputOptions(out, True, confidence)
    for _ in predict_scenes(test.scenes(), test.paths.dataset, options, outputs, lambda _: None):
        pass
    maps = {}
    for scene in test.scenes():
        with open_class_map(out / f"{scene}.tif") as class_map:
            maps[scene] = class_map.read(Window(0, 0, class_map.grid.width, class_map.grid.height))
    return maps


def covered_once(length: int, size: int, stride: int) -> npt.NDArray[np.bool_]:
    """Return which pixels along one axis of a scene are in one window only, for windows without overlap."""
    windows = np.zeros(max(length, size), np.intp)
    for start in place_windows(length, size, 0, stride).starts:
        windows[start : start + size] += 1
    once: npt.NDArray[np.bool_] = windows[:length] == 1
    return once


def count_equal(test: TestSplit, maps: Mapping[str, Pixels], size: int) -> tuple[int, int]:
    """Compare a map without overlap with evaluation.

    Returns:
        The number of pixels with the same class in both, and the number of pixels compared: those in full tiles that
        only one window covers.
    """
    same = total = 0
    for tile in test.tiles:
        if (tile.height, tile.width) != (size, size):
            continue
        class_map = maps[tile.scene]
        once = np.outer(*(covered_once(length, size, test.model.info.stride) for length in class_map.shape))[tile.area]
        same += int((class_map[tile.area] == test.predict_tile(tile))[once].sum())
        total += int(once.sum())
    return same, total


def draw_panel(test: TestSplit, maps: Mapping[str, Pixels], out: Path, scenes: list[str], path: Path) -> None:
    """Draw image, label, map and confidence of scenes, one row per scene."""
    entries: list[LegendEntry] = [(each.name, each.color) for each in test.model.info.classes]
    blank = ignored_id(test.model.info.classes)
    if any((test.target(tile) == blank).any() for tile in test.tiles if tile.scene in scenes):
        entries.append(("unlabelled", None))
    width = (_WIDTH - 5 * _GAP) / 4
    height = width * _ASPECT
    placed = flow_legend(entries, 3 * width)
    foot = _HEADER + len(scenes) * (height + _GAP) + 0.05
    figure = Figure((_WIDTH, foot + max(legend_height(placed), 0.35)), dpi=DPI)
    page = page_axes(figure)
    lefts = [_GAP + column * (width + _GAP) for column in range(4)]
    for left, title in zip(lefts, ("image", "label", "map", "confidence"), strict=True):
        page.text(left + width / 2, _HEADER - 0.07, title, fontsize=10, ha="center", color=INK)
    for row, scene in enumerate(scenes):
        top = _HEADER + row * (height + _GAP)
        for left, (pixels, smooth) in zip(lefts, _images(test, maps[scene], out, scene), strict=True):
            cropped = _crop(pixels, round(width * DPI), round(height * DPI), smooth)
            draw_image(page, cropped, left, top, width, height)
    draw_legend(page, placed, _GAP, foot)
    _draw_scale(page, lefts[3], foot, width)
    with tempfile.NamedTemporaryFile(suffix=".png") as drawing:
        figure.savefig(drawing.name, facecolor="white")
        Image.open(drawing.name).convert("RGB").save(path, quality=88)


def _draw_scale(page: Axes, left: float, top: float, width: float) -> None:
    """Draw the scale of confidences, from black at 0 to white at 1."""
    greys = np.linspace(0, 255, 256).round().astype(np.uint8)
    draw_image(page, np.dstack([greys[None]] * 3), left, top, width, 0.1)
    for share, side in ((0, "left"), (0.25, "center"), (0.5, "center"), (0.75, "center"), (1, "right")):
        page.text(left + share * width, top + 0.13, f"{share:g}", fontsize=8.5, ha=side, va="top", color=INK)


def _images(test: TestSplit, class_map: Pixels, out: Path, scene: str) -> list[tuple[Pixels, bool]]:
    """Return image, label, map and confidence of a scene, (H, W, 3), and whether to interpolate each."""
    classes = test.model.info.classes
    blank = ignored_id(classes)
    image, label = np.zeros((*class_map.shape, 3), np.uint8), np.full(class_map.shape, blank, np.uint8)
    for tile in test.tiles:
        if tile.scene == scene:
            pixels = read_image(test.paths.tiles / tile.archive, tile.tile)
            image[tile.area] = pixels[: tile.height, : tile.width]
            label[tile.area] = test.target(tile)
    height, width = class_map.shape
    coloured, ignored = palette(classes)[label], label == blank
    coloured[ignored] = hatching(height, width)[ignored]
    with rasterio.open(out / f"{scene}_confidence.tif") as source:
        confidence = np.clip(source.read(1) / MAX_CONFIDENCE * 255, 0, 255).astype(np.uint8)
    return [(image, True), (coloured, False), (palette(classes)[class_map], False), (np.dstack([confidence] * 3), True)]


def _crop(pixels: Pixels, width: int, height: int, smooth: bool) -> Pixels:
    """Crop the centre of an image to the aspect ratio of the panel and resize it."""
    rows = min(pixels.shape[0], int(pixels.shape[1] * _ASPECT))
    columns = min(pixels.shape[1], int(rows / _ASPECT))
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    image = Image.fromarray(np.ascontiguousarray(pixels[top : top + rows, left : left + columns]))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST))


def main(
    panel: Annotated[Path | None, typer.Option(help="Draw scenes into this file.")] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Scenes to draw. Default: all.")] = None,
) -> None:
    """Print the scores of tiles and of maps of the test scenes."""
    paths = Paths(dataset_name())
    table = read_parquet(paths.table("split.parquet"))
    rows = table.loc[table["split"] == "test", list(Tile._fields)].itertuples(index=False)
    tiles = [Tile(*row) for row in rows]
    device = accelerator("auto", "--device")
    test = TestSplit(paths, load_model(paths.model("best")).to(device).eval(), tiles, device)
    size = test.model.info.tile
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        maps = map_scenes(test, out / "none", size, 0)
        shapes = {mapped: (ids.shape[0], ids.shape[1]) for mapped, ids in maps.items()}
        print_scores(test, "tiles", test.count(test.predict_tile, shapes))
        print_scores(test, f"windows of {size} px, no overlap", test.count(_cut_at(maps), shapes))
        same, total = count_equal(test, maps, size)
        console.print(f"{same:,} of {total:,} pixels that only one window covers have the same class as in tiles")
        for window in (2 * size, size):
            maps = map_scenes(test, out / str(window), window, 0.25, confidence=True)
            print_scores(test, f"windows of {window} px, overlap 25 %", test.count(_cut_at(maps), shapes))
        if panel:
            draw_panel(test, maps, out / str(size), scene or test.scenes(), panel)


def _cut_at(maps: Mapping[str, Pixels]) -> Callable[[Tile], Pixels]:
    return lambda tile: maps[tile.scene][tile.area]


def print_scores(test: TestSplit, title: str, matrices: LocationMatrices) -> None:
    """Print the scores of all pixels and of the edge pixels."""
    total, edge = matrices.total.sum(axis=0), matrices.edge.sum(axis=0)
    names = class_names(test.model.info.classes)
    scores = metrics.summary(total, matrices.total, names, None)
    console.print(
        f"{title}: macro mIoU {scores.macro_miou:.3f} ({scores.macro_miou_low:.3f}–{scores.macro_miou_high:.3f}), "
        f"pixel accuracy {scores.pixel_accuracy:.3f}; "
        f"within {_EDGE} px of an edge {np.nanmean(metrics.iou(edge)):.3f} and {metrics.pixel_accuracy(edge):.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
