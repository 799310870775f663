"""Maps of a run's test scenes, held against its tiles: what blending is worth, and what the rim of a scene.

    uv run python -m benchmarks.maps                                  # where `dvc repro` has run
    uv run python -m benchmarks.maps --panel panel.jpg --scene 0019   # and a picture of some of them

Every side is the same model on the same pixels of the test part. 'Tiles' are looked at one by one, as evaluation does;
the others are what `landseg predict` writes, cut where the tiles are. Rims are all pixels that lie within 16 px of an
edge of their scene.
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
from matplotlib.figure import Figure
from PIL import Image
from rasterio.windows import Window

from benchmarks.common import console
from landseg import metrics
from landseg.core.arrays import Counts, Pixels
from landseg.core.classes import IGNORE, class_channels, class_names, palette
from landseg.core.params import dataset_name
from landseg.core.paths import Paths
from landseg.core.tables import read_parquet
from landseg.core.tile_archive import read_image, read_mask
from landseg.evaluate.predict import predict_ids
from landseg.maps.class_map import MAX_CONFIDENCE, open_class_map
from landseg.model.device import Accelerator, accelerator, use_bf16
from landseg.model.segmenter import Segmenter, load_model
from landseg.plotting import DPI, INK, draw_image, draw_legend, flow_legend, hatching, legend_height, page_axes
from landseg.predict.command import PredictOptions, predict_scenes
from landseg.predict.outputs import OutputOptions
from landseg.predict.windows import place_windows

_RIM = 16
# What a picture of scenes looks like: inches, and height as a share of width of one.
_WIDE, _GAP, _HEAD, _TALL = 9.0, 0.06, 0.27, 0.9


class Tile(NamedTuple):
    """A tile of the test part, as the split's table has it."""

    archive: str
    tile: str
    scene: str
    row: int
    col: int
    height: int
    width: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Where in its scene it lies."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)


@dataclass(frozen=True)
class Scored:
    """What became of the test part, (S, K, K) pixels a scene each."""

    whole: Counts
    rim: Counts


@dataclass(frozen=True)
class Bench:
    """The test part of a run, and the model that it made."""

    paths: Paths
    model: Segmenter
    #: The tiles of the test part.
    tiles: list[Tile]
    device: Accelerator

    def scenes(self) -> list[str]:
        """Return the names of the scenes."""
        return sorted({tile.scene for tile in self.tiles})

    def score(self, found: Callable[[Tile], Pixels], sides: Mapping[str, tuple[int, int]]) -> Scored:
        """Count the test part by what a side says of each tile (ids, (H, W)), and by height and width of scenes."""
        count, lookup = len(self.model.info.classes), class_channels(self.model.info.classes)
        whole = {scene: np.zeros((count, count), np.int64) for scene in self.scenes()}
        rim = {scene: np.zeros((count, count), np.int64) for scene in self.scenes()}
        for tile in self.tiles:
            target = lookup[self.target(tile)]
            ids = lookup[found(tile)]
            whole[tile.scene] += metrics.confusion(target, ids, count)
            near = _near_edge(tile, *sides[tile.scene])
            if near.any():
                rim[tile.scene] += metrics.confusion(target[near][None], ids[near][None], count)
        return Scored(np.stack([*whole.values()]), np.stack([*rim.values()]))

    def target(self, tile: Tile) -> Pixels:
        """Return the ids of a tile's mask, (H, W), without what it was filled up with."""
        return read_mask(self.paths.tiles / tile.archive, tile.tile)[: tile.height, : tile.width]

    def by_tile(self, tile: Tile) -> Pixels:
        """Return what evaluation sees in a tile."""
        image = read_image(self.paths.tiles / tile.archive, tile.tile)
        [found] = predict_ids(self.model, image[None], bf16=use_bf16("auto", self.device))
        seen: Pixels = found[: tile.height, : tile.width]
        return seen


def _near_edge(tile: Tile, height: int, width: int) -> npt.NDArray[np.bool_]:
    rows, columns = tile.row + np.arange(tile.height), tile.col + np.arange(tile.width)
    row, column = np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns)
    near: npt.NDArray[np.bool_] = np.minimum(row[:, None], column) < _RIM
    return near


def mapped(bench: Bench, out: Path, window: int, overlap: float, confidence: bool = False) -> dict[str, Pixels]:
    """Map all scenes by `landseg predict`; return their maps, ids (H, W)."""
    look = PredictOptions(str(bench.paths.model("best")), window=window, overlap=overlap, device=bench.device)
    for _ in predict_scenes(
        bench.scenes(), bench.paths.dataset, look, OutputOptions(out, True, confidence), lambda _: None
    ):
        pass
    maps = {}
    for scene in bench.scenes():
        with open_class_map(out / f"{scene}.tif") as class_map:
            maps[scene] = class_map.read(Window(0, 0, class_map.grid.width, class_map.grid.height))
    return maps


def alone(length: int, size: int, stride: int) -> npt.NDArray[np.bool_]:
    """Say which pixels along a side of a scene one window alone sees, where windows do not overlap."""
    seen = np.zeros(max(length, size), np.intp)
    for start in place_windows(length, size, 0, stride).starts:
        seen[start : start + size] += 1
    found: npt.NDArray[np.bool_] = seen[:length] == 1
    return found


def equal(bench: Bench, maps: Mapping[str, Pixels], size: int) -> tuple[int, int]:
    """Count pixels of full tiles that one window alone sees, and those that map and evaluation call the same."""
    same = total = 0
    for tile in bench.tiles:
        if (tile.height, tile.width) != (size, size):
            continue
        by_map = maps[tile.scene]
        once = np.outer(*(alone(length, size, bench.model.info.stride) for length in by_map.shape))[tile.area]
        same += int((by_map[tile.area] == bench.by_tile(tile))[once].sum())
        total += int(once.sum())
    return same, total


def panel(bench: Bench, maps: Mapping[str, Pixels], out: Path, scenes: list[str], path: Path) -> None:
    """Draw scenes, their labels, maps and confidence side by side."""
    classes = bench.model.info.classes
    placed = flow_legend([*((each.name, each.color) for each in classes), ("unlabelled", None)], _WIDE)
    wide = (_WIDE - 3 * _GAP) / 4
    tall = wide * _TALL
    figure = Figure((_WIDE, _HEAD + len(scenes) * (tall + _GAP) + legend_height(placed) + 0.12), dpi=DPI)
    page = page_axes(figure)
    for column, title in enumerate(("image", "label", "map", "confidence")):
        page.text(column * (wide + _GAP) + wide / 2, _HEAD - 0.07, title, fontsize=10, ha="center", color=INK)
    for row, scene in enumerate(scenes):
        top = _HEAD + row * (tall + _GAP)
        for column, (pixels, smooth) in enumerate(_pictures(bench, maps[scene], out, scene)):
            fitted = _fitted(pixels, round(wide * DPI), round(tall * DPI), smooth)
            draw_image(page, fitted, column * (wide + _GAP), top, wide, tall)
    draw_legend(page, placed, 0, _HEAD + len(scenes) * (tall + _GAP) + 0.05)
    with tempfile.NamedTemporaryFile(suffix=".png") as drawn:
        figure.savefig(drawn.name, facecolor="white")
        Image.open(drawn.name).convert("RGB").save(path, quality=88)


def _pictures(bench: Bench, class_map: Pixels, out: Path, scene: str) -> list[tuple[Pixels, bool]]:
    """Return image, label, map and confidence of a scene, (H, W, 3), and whether each may be smoothed."""
    classes = bench.model.info.classes
    image, label = np.zeros((*class_map.shape, 3), np.uint8), np.full(class_map.shape, IGNORE, np.uint8)
    for tile in bench.tiles:
        if tile.scene == scene:
            pixels = read_image(bench.paths.tiles / tile.archive, tile.tile)
            image[tile.area] = pixels[: tile.height, : tile.width]
            label[tile.area] = bench.target(tile)
    height, width = class_map.shape
    coloured, none = palette(classes)[label], label == IGNORE
    coloured[none] = hatching(height, width)[none]
    with rasterio.open(out / f"{scene}_confidence.tif") as source:
        sure = np.clip(source.read(1) / MAX_CONFIDENCE * 255, 0, 255).astype(np.uint8)
    return [(image, True), (coloured, False), (palette(classes)[class_map], False), (np.dstack([sure] * 3), True)]


def _fitted(pixels: Pixels, width: int, height: int, smooth: bool) -> Pixels:
    """Cut the middle out of a picture, and bring it to a size."""
    high = min(pixels.shape[0], int(pixels.shape[1] * _TALL))
    wide = min(pixels.shape[1], int(high / _TALL))
    top, left = (pixels.shape[0] - high) // 2, (pixels.shape[1] - wide) // 2
    cut = Image.fromarray(np.ascontiguousarray(pixels[top : top + high, left : left + wide]))
    return np.asarray(cut.resize((width, height), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST))


def main(
    panel_path: Annotated[Path | None, typer.Option("--panel", help="Draw scenes into this file.")] = None,
    scene: Annotated[list[str] | None, typer.Option(help="A scene to draw; all, where none is named.")] = None,
) -> None:
    """Print what each way of looking at the test scenes scores."""
    paths = Paths(dataset_name())
    table = read_parquet(paths.table("split.parquet"))
    rows = table.loc[table["split"] == "test", list(Tile._fields)].itertuples(index=False)
    tiles = [Tile(*row) for row in rows]
    bench = Bench(paths, load_model(paths.model("best")).eval(), tiles, accelerator("auto", "--device"))
    size = bench.model.info.tile
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        maps = mapped(bench, out / "none", size, 0)
        sides = {place: (of.shape[0], of.shape[1]) for place, of in maps.items()}
        tell(bench, "tiles", bench.score(bench.by_tile, sides))
        tell(bench, f"windows of {size} px, no overlap", bench.score(_cut(maps), sides))
        same, total = equal(bench, maps, size)
        console.print(f"{same:,} of {total:,} pixels that one window alone sees are as in tiles")
        for window in (2 * size, size):
            maps = mapped(bench, out / str(window), window, 0.25, confidence=True)
            tell(bench, f"windows of {window} px, overlap 25 %", bench.score(_cut(maps), sides))
        if panel_path:
            panel(bench, maps, out / str(size), scene or bench.scenes(), panel_path)


def _cut(maps: Mapping[str, Pixels]) -> Callable[[Tile], Pixels]:
    return lambda tile: maps[tile.scene][tile.area]


def tell(bench: Bench, side: str, scored: Scored) -> None:
    """Print what a side scores."""
    whole, rim = scored.whole.sum(axis=0), scored.rim.sum(axis=0)
    found = metrics.summary(whole, scored.whole, class_names(bench.model.info.classes), None, resamples=1000, seed=0)
    ends = f"{found['macro_miou_low']:.3f}–{found['macro_miou_high']:.3f}"
    console.print(
        f"{side}: macro mIoU {found['macro_miou']:.3f} ({ends}), pixel accuracy {found['pixel_accuracy']:.3f}; "
        f"within {_RIM} px of an edge {np.nanmean(metrics.iou(rim)):.3f} and {metrics.pixel_accuracy(rim):.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
