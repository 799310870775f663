"""Cut a scene into pieces with gaps: `python cut.py IMAGE LABELS TO [SIZE] [GAP] [SHARE]`.

SIZE (128) is the height and width of a piece in pixels, GAP (48) the distance between pieces in pixels, and SHARE (0.2)
the minimum share of labelled pixels; pieces below it are left out. Image and labels must have one grid, and labels a
nodata value that means 'no label'. Writes TO/images/piece_RR_CC.tif and TO/masks/piece_RR_CC.tif, and prints the gap in
units of the CRS and how many pieces hold each class.

Pieces of one scene share its date, sun and atmosphere, and neighbours resemble each other across the gap. They are not
independent samples, so intervals over them are too narrow.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window


def windows(height: int, width: int, size: int, gap: int) -> dict[str, Window]:
    """Return the windows of all full pieces by name, row by row."""
    step = size + gap
    tops, lefts = range(0, height - size + 1, step), range(0, width - size + 1, step)
    return {
        f"piece_{row:02}_{column:02}": Window(left, top, size, size)
        for row, top in enumerate(tops)
        for column, left in enumerate(lefts)
    }


def write_piece(source: rasterio.DatasetReader, window: Window, path: Path) -> None:
    """Write a window of a raster with its position, names of bands and nodata value."""
    profile = {**source.profile, "width": window.width, "height": window.height, "tiled": False}
    profile["transform"] = source.window_transform(window)
    del profile["blockxsize"], profile["blockysize"]
    with rasterio.open(path, "w", **profile) as piece:
        piece.write(source.read(window=window))
        piece.descriptions = source.descriptions


def main(image: Path, labels: Path, target: Path, size: int, gap: int, share: float) -> None:
    """Write the pieces of a scene that hold enough labels."""
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    held: Counter[int] = Counter()
    kept = 0
    with rasterio.open(image) as pixels, rasterio.open(labels) as mask:
        if (pixels.shape, pixels.transform, pixels.crs) != (mask.shape, mask.transform, mask.crs):
            raise SystemExit(f"{labels}: not on the grid of {image}")
        for name, window in windows(mask.height, mask.width, size, gap).items():
            ids = mask.read(1, window=window)
            labelled = ids[ids != mask.nodata]
            if labelled.size < share * ids.size:
                continue
            write_piece(pixels, window, target / "images" / f"{name}.tif")
            write_piece(mask, window, target / "masks" / f"{name}.tif")
            held.update(np.unique(labelled).tolist())
            kept += 1
        print(f"{kept} pieces, {gap * mask.res[0]:g} apart; pieces with each class: {dict(sorted(held.items()))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("image", "labels", "target"):
        parser.add_argument(name, type=Path)
    for name, default in (("size", 128), ("gap", 48), ("share", 0.2)):
        parser.add_argument(name, type=type(default), default=default, nargs="?")
    main(**vars(parser.parse_args()))
