"""Example tiles: selection, and the ZIP file with their images, targets and predictions.

The file is a stored ZIP that GDAL reads (/vsizip/). Its folders images/, targets/ and predictions/ contain a PNG per
tile, class maps with the class palette; tiles.csv lists scores and why each tile was chosen.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from landseg.core.arrays import Counts, Floats, Pixels
from landseg.core.classes import ClassTable, Colour, palette
from landseg.core.files import atomic

#: Colour of wrong pixels.
WRONG: Colour = (230, 0, 90)


#: Share of the labelled pixels of the fullest tile below which a tile is not ranked by accuracy.
_MIN_LABELLED = 0.1


@dataclass(frozen=True)
class ExampleTile:
    """A tile with its target, its prediction and its scores."""

    tile: str
    scene: str
    #: Kinds of example, separated by spaces: worst, best, spread, rich (see `choose_examples`).
    why: str
    #: Pixel accuracy, and mean IoU over the classes of the target.
    accuracy: float
    miou: float
    #: (H, W, 3) uint8; (H, W) uint8 class ids, or `ignored_id`; (H, W) uint8 class ids.
    image: Pixels
    target: Pixels
    prediction: Pixels


def choose_examples(matrices: Counts, scenes: Sequence[str], count: int) -> dict[int, str]:
    """Choose example tiles: up to `count` of each of four kinds.

    By pixel accuracy, among tiles with several classes (see `choose_spread`): the *worst*, the *best*, and a *spread*
    from worst to best. By targets only, and so the same for every model: *rich* tiles with many classes, from as many
    scenes as possible.

    Args:
        matrices: (N, K, K) int64, one per tile, none empty.
        scenes: scene of each tile.
        count: number of tiles of each kind.

    Returns:
        Kinds, separated by spaces, by position; the worst tile first.
    """
    if not count:
        return {}
    ranked = _ranked(matrices, count)
    kinds = {
        "worst": ranked[:count],
        "best": ranked[-count:],
        "spread": choose_spread(matrices, count),
        "rich": choose_rich(matrices, scenes, count),
    }
    accuracy = _accuracy(matrices)
    chosen = sorted(set().union(*kinds.values()), key=lambda n: (accuracy[n], n))
    return {n: " ".join(kind for kind, positions in kinds.items() if n in positions) for n in chosen}


def choose_spread(matrices: Counts, count: int) -> list[int]:
    """Choose tiles at even steps of the ranking by pixel accuracy, from worst to best.

    Tiles with one class are uninformative: only tiles with at least three classes are ranked, or two, or one if there
    are too few.

    Args:
        matrices: (N, K, K) int64, one per tile, none empty.
        count: number of tiles; all if there are fewer.

    Returns:
        Positions, the worst first.
    """
    ranked = _ranked(matrices, count)
    return [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, count).round().astype(int))]


def choose_rich(matrices: Counts, scenes: Sequence[str], count: int) -> list[int]:
    """Choose the tiles with the highest entropy of target classes: one per scene, then a second, and so on.

    Args:
        matrices: (N, K, K) int64, one per tile, none empty; only target pixels are used.
        scenes: scene of each tile.
        count: number of tiles; all if there are fewer.

    Returns:
        Positions, the highest entropy first.
    """
    labelled = matrices.sum(axis=(1, 2))
    shares = matrices.sum(axis=2) / labelled[:, None]
    entropy = -(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0)).sum(axis=1)
    mostly_labelled = labelled >= labelled.max() / 2  # tiles with many ignored pixels come last
    table = pd.DataFrame({"scene": list(scenes), "mostly_labelled": mostly_labelled, "entropy": entropy}).sort_values(
        ["mostly_labelled", "entropy", "scene"], ascending=[False, False, True], kind="stable"
    )
    rank_in_scene = table.groupby("scene", sort=False).cumcount().sort_values(kind="stable")
    return [int(position) for position in rank_in_scene.index[:count]]


def _ranked(matrices: Counts, count: int) -> list[int]:
    """Return the tiles with the most classes by pixel accuracy, at least `count` if possible.

    Tiles with few labelled pixels are left out: their accuracy says little.
    """
    labelled = matrices.sum(axis=(1, 2))
    classes = np.where(labelled >= _MIN_LABELLED * labelled.max(), (matrices.sum(axis=2) > 0).sum(axis=1), 0)
    minimum = next(n for n in (3, 2, 1) if n == 1 or (classes >= n).sum() >= count)
    eligible = np.flatnonzero(classes >= minimum)
    return [int(n) for n in eligible[np.argsort(_accuracy(matrices[eligible]), kind="stable")]]


def _accuracy(matrices: Counts) -> Floats:
    accuracy: Floats = np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))
    return accuracy


def write_examples(path: Path, examples: Sequence[ExampleTile], classes: ClassTable) -> None:
    """Write example tiles to a stored ZIP, atomically.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    colours = palette(classes)
    columns = ["tile", "scene", "why", "accuracy", "miou"]
    table = pd.DataFrame([[getattr(example, column) for column in columns] for example in examples], columns=columns)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        members = {"tiles.csv": table.to_csv(index=False).encode()}
        for example in examples:
            members[f"images/{example.tile}.png"] = _png(example.image)
            members[f"targets/{example.tile}.png"] = _png(example.target, colours)
            members[f"predictions/{example.tile}.png"] = _png(example.prediction, colours)
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # no date, so that files are reproducible


def _png(pixels: Pixels, colours: Pixels | None = None) -> bytes:
    """Encode an image (H, W, 3), or class ids (H, W) with a palette (256, 3), as PNG."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if colours is not None:
        image.putpalette(colours.tobytes())
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()


def read_examples(file: Path | io.BytesIO) -> list[ExampleTile]:
    """Read example tiles from a ZIP written by `write_examples`, the worst first."""
    with zipfile.ZipFile(file) as archive:

        def pixels(name: str) -> Pixels:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                return np.array(image)

        rows = csv.DictReader(io.StringIO(archive.read("tiles.csv").decode()))
        return [
            ExampleTile(
                row["tile"],
                row["scene"],
                row["why"],
                float(row["accuracy"]),
                float(row["miou"]),
                *(pixels(f"{folder}/{row['tile']}.png") for folder in ("images", "targets", "predictions")),
            )
            for row in rows
        ]
