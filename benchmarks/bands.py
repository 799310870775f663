"""Imagery of ten bands of 16 bits: conversion against the encoders alone, and waiting for data in training.

    uv run python -m benchmarks.bands                # needs the real test data
    uv run python -m benchmarks.bands --tiles 8      # a quick trial

Conversion: `converted_plan` on a GeoTIFF (deflate strips) of real Sentinel-2 bands, put together as in tile_codecs.py,
to an archive on disk, with statistics, checks and masks. Baseline: the encoders of images and masks alone, on tiles
that were decoded beforehand, with as many threads. The sides alternate.

Training: U-Net ResNet18 on generated tiles with augmentation, in the tier that train.cache = auto picks, each epoch
beside the same step on a resident batch (loops.py). RGB tiles of the same size are trained in turn.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as pipeline/convert.py does, before NumPy is imported

import numpy as np
import pyarrow as pa
import rasterio
import typer
from rasterio import Affine

from benchmarks.common import ROOT, Measurement, report
from benchmarks.scene import mask_like, test_data
from benchmarks.tile_codecs import sentinel_tiles
from benchmarks.tile_set import write_band_tiles, write_tiles
from landseg.convert.convert import PLAN_COLUMNS, converted_plan
from landseg.convert.encode import TileOptions
from landseg.core.arrays import Image, Pixels
from landseg.core.classes import palette
from landseg.core.data_card import DataCard
from landseg.core.parallel import LocalEngine, cores, thread_map
from landseg.core.rendering import Rendering
from landseg.datasets.landcoverai.card import CARD
from landseg.raster.png import colour_mask, encode_mask, encode_rgb_mask
from landseg.raster.tiff import encode_tiff

SIZE, BANDS, CRS, TRANSFORM = 512, 10, "EPSG:32633", Affine(10, 0, 400_000, 0, -10, 5_800_000)
_PACKAGES = ("rasterio", "numpy", "torch", "opencv-python-headless")
NAMES = tuple(f"band{number}" for number in range(BANDS))
OF = DataCard(**{**CARD.model_dump(), "bands": NAMES})
RENDERING = Rendering(NAMES, "percentiles", (0, 1), 1, format="tif", dtype="uint16", show=NAMES[:3])


def write_scene(
    folder: Path, tiles: list[Image], across: int, down: int, compress: str = "none"
) -> tuple[list[Image], list[Pixels]]:
    """Write image.tif and mask.tif of a number of tiles; return the tiles, (H, W, bands), and their masks."""
    chosen = [np.rot90(tiles[n % len(tiles)], n // len(tiles)) for n in range(across * down)]
    ids = mask_like(down * SIZE, across * SIZE, 0)
    rows = [np.concatenate(chosen[row * across : (row + 1) * across], axis=1) for row in range(down)]
    image = np.concatenate(rows).transpose(2, 0, 1)
    for name, pixels in (("image", image), ("mask", ids[None])):
        count, height, width = pixels.shape
        shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
        options = {
            "crs": CRS,
            "transform": TRANSFORM,
            "compress": compress,
            "interleave": "band",
            "photometric": "minisblack",
        }
        with rasterio.open(folder / f"{name}.tif", "w", driver="GTiff", **shape, **options) as target:
            target.write(pixels)
    masks = [
        np.ascontiguousarray(ids[n // across * SIZE :, n % across * SIZE :][:SIZE, :SIZE]) for n in range(len(chosen))
    ]
    return [np.ascontiguousarray(tile) for tile in chosen], masks


def plan(across: int, down: int) -> pa.Table:
    """Return the tile plan of the scene."""
    cells = [(row * SIZE, col * SIZE) for row in range(down) for col in range(across)]
    rows = [(f"s_{n}", "s", "image.tif", "mask.tif", row, col, SIZE, SIZE, None) for n, (row, col) in enumerate(cells)]
    columns = dict(zip(PLAN_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({"archive": ["s.zip"] * len(rows), **columns})


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and processor time of an action, s."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def conversion(folder: Path, data: Path, tiles: int, turns: int) -> list[Measurement]:
    """Convert a scene, and encode its tiles alone, in turns."""
    across = max(2, round(tiles**0.5))
    images, masks = write_scene(folder, sentinel_tiles(data), across, across)
    table, colours, threads = plan(across, across), palette(OF.classes), cores()
    options = TileOptions(RENDERING, SIZE, masks_rgb=True)

    def encode(number: int) -> int:
        image = encode_tiff(images[number], rasterio.CRS.from_string(CRS), TRANSFORM, NAMES)
        mask = encode_mask(masks[number], colours), encode_rgb_mask(colour_mask(masks[number], colours))
        return len(image) + sum(map(len, mask))

    def convert() -> None:
        with converted_plan(table, folder, folder, OF, options, LocalEngine(threads)):
            pass

    sides: dict[str, Callable[[], Any]] = {
        "convert": convert,
        "encoders": lambda: list(thread_map(encode, range(len(images)), threads, 2 * threads)),
    }
    rates: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for turn in range(-1, turns):  # the first warms up
        for side, action in sides.items():
            seconds = timed(action)
            if turn >= 0:
                rates[side].append((len(images) / seconds[0], len(images) / seconds[1]))
    ours, theirs = (list(zip(*rates[side], strict=True)) for side in ("convert", "encoders"))
    return [
        Measurement(f"convert, {kind}", "tiles/s", ours[n], theirs[n], "encoders alone", "ours / other", at_least=0.7)
        for n, kind in enumerate(("wall time", "processor time"))
    ]


def training(folder: Path, tiles: int, turns: int) -> list[Measurement]:
    """Train on tiles of ten bands, and of RGB, in turns."""
    batch = 4
    write_band_tiles(folder / "bands", tiles + batch, SIZE // 2, BANDS)
    write_tiles(folder / "rgb", tiles + batch, SIZE // 2)
    waits: dict[str, list[float]] = {"bands": [], "rgb": []}
    rates: dict[str, list[float]] = {"bands": [], "rgb": []}
    resident: dict[str, list[float]] = {"bands": [], "rgb": []}
    for _ in range(turns):
        for side in waits:
            found = run_loop(folder / side, tiles, batch, BANDS if side == "bands" else None)
            waits[side] += [100 * share for share in found["data_wait"]]
            rates[side] += found["images_per_second"]
            resident[side] += found["resident"]
    return [
        row
        for side, title in (("bands", f"{BANDS} bands"), ("rgb", "RGB"))
        for row in (
            Measurement(f"training, {title}: waiting for data", "%", waits[side], at_most=3),
            Measurement(
                f"training, {title}", "images/s", rates[side], resident[side], "one resident batch", "ours / other"
            ),
        )
    ]


def run_loop(folder: Path, tiles: int, batch: int, bands: int | None) -> dict[str, list[float]]:
    """Train in a separate process."""
    job = {
        "exact": False, "folder": str(folder), "tiles": tiles, "batch": batch, "encoder": "resnet18",
        "device": "cpu", "epochs": 2, "tier": "memory", "augmented": True, "compiled": False, "precision": "auto",
        "bands": bands,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.loops", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr}")
    result: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(  # noqa: D103
    tiles: Annotated[int, typer.Option(help="Tiles of the scene and of training.", min=4)] = 36,
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 5,
    only: Annotated[str | None, typer.Option(help="conversion or training.")] = None,
) -> None:
    data = test_data()
    if data is None:
        raise SystemExit("the real test data are missing; set LANDSEG_TEST_DATA")
    rows: list[Measurement] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if only in (None, "conversion"):
            rows += conversion(folder, data, tiles, turns)
        if only in (None, "training"):
            rows += training(folder, tiles, max(1, turns // 2))
    report("bands", rows, _PACKAGES, keep=only is None, tiles=tiles, turns=turns)


if __name__ == "__main__":
    typer.run(main)
