"""The tiles of a result that are looked at: which ones, and the file that keeps them.

They lie in one stored ZIP, which GDAL reads (/vsizip/): images/, targets/ and predictions/ hold a PNG a tile,
maps with the class palette, and tiles.csv says why each was chosen and how it scores.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from landseg.core.arrays import Counts, Pixels
from landseg.core.classes import ClassTable, Colour, palette
from landseg.core.files import atomic

#: Colour of wrong pixels.
WRONG: Colour = (230, 0, 90)


@dataclass(frozen=True)
class ExampleTile:
    """A tile, as it is and as a model sees it."""

    tile: str
    scene: str
    #: Reasons, parted by blanks: spread, worst, best, rich (see `choose_examples`).
    why: str
    #: Pixel accuracy, and the mean IoU over the classes that the target holds.
    accuracy: float
    miou: float
    #: (H, W, 3) uint8; (H, W) uint8 class ids, or IGNORE; (H, W) uint8 class ids.
    image: Pixels
    target: Pixels
    prediction: Pixels


def choose_examples(matrices: Counts, scenes: Sequence[str], wanted: int) -> dict[int, str]:
    """Choose tiles to look at: up to `wanted` of each kind.

    By pixel accuracy, among tiles of several classes (see `choose_spread`): the *worst*, the *best*, and a *spread* from
    the worst to the best. By their targets alone, and so the same for every model on the same part: those *rich*
    in classes, from as many scenes as there are.

    Args:
        matrices: (n, K, K) int64, one a tile, each with at least one pixel.
        scenes: the scene of each tile.
        wanted: how many of each kind.

    Returns:
        Reasons, parted by blanks, by position; the worst first.
    """
    if not wanted:
        return {}
    ranked = _ranked(matrices, wanted)
    reasons = {
        "worst": ranked[:wanted],
        "best": ranked[-wanted:],
        "spread": choose_spread(matrices, wanted),
        "rich": choose_rich(matrices, scenes, wanted),
    }
    accuracy = _accuracy(matrices)
    chosen = sorted({position for of in reasons.values() for position in of}, key=lambda n: (accuracy[n], n))
    return {n: " ".join(why for why, positions in reasons.items() if n in positions) for n in chosen}


def choose_spread(matrices: Counts, wanted: int) -> list[int]:
    """Choose tiles evenly from the worst to the best by pixel accuracy, of those that hold most classes.

    A tile of one class says little, so only tiles with three classes are drawn on, or two, or one,
    whatever there are enough of.

    Args:
        matrices: (n, K, K) int64, one a tile, each with at least one pixel.
        wanted: how many to choose; where there are fewer, all.

    Returns:
        Their positions, the worst first.
    """
    ranked = _ranked(matrices, wanted)
    return [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, wanted).round().astype(int))]


def choose_rich(matrices: Counts, scenes: Sequence[str], wanted: int) -> list[int]:
    """Choose the tiles whose targets hold most classes most evenly, by entropy: one a scene, then a second, and so on.

    Args:
        matrices: (n, K, K) int64, one a tile, each with at least one pixel; their target pixels alone are looked at.
        scenes: the scene of each tile.
        wanted: how many to choose; where there are fewer, all.

    Returns:
        Their positions, the richest first.
    """
    labelled = matrices.sum(axis=(1, 2))
    shares = matrices.sum(axis=2) / labelled[:, None]
    entropy = -(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0)).sum(axis=1)
    whole = labelled >= labelled.max() / 2  # tiles at the edge, mostly ignored, show little: they come last
    table = pd.DataFrame({"scene": list(scenes), "whole": whole, "entropy": entropy}).sort_values(
        ["whole", "entropy", "scene"], ascending=[False, False, True], kind="stable"
    )
    turn = table.groupby("scene", sort=False).cumcount().sort_values(kind="stable")
    return [int(position) for position in turn.index[:wanted]]


def _ranked(matrices: Counts, wanted: int) -> list[int]:
    classes = (matrices.sum(axis=2) > 0).sum(axis=1)
    least = next(n for n in (3, 2, 1) if n == 1 or (classes >= n).sum() >= wanted)
    eligible = np.flatnonzero(classes >= least)
    return [int(n) for n in eligible[np.argsort(_accuracy(matrices[eligible]), kind="stable")]]


def _accuracy(matrices: Counts) -> npt.NDArray[np.float64]:
    accuracy: npt.NDArray[np.float64] = np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))
    return accuracy


def write_examples(path: Path, shown: Sequence[ExampleTile], classes: ClassTable) -> None:
    """Write tiles to a stored ZIP, whole or not at all.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    colours = palette(classes)
    columns = ["tile", "scene", "why", "accuracy", "miou"]
    table = pd.DataFrame([[getattr(each, column) for column in columns] for each in shown], columns=columns)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        members = {"tiles.csv": table.to_csv(index=False).encode()}
        for each in shown:
            members[f"images/{each.tile}.png"] = _png(each.image)
            members[f"targets/{each.tile}.png"] = _png(each.target, colours)
            members[f"predictions/{each.tile}.png"] = _png(each.prediction, colours)
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without a date: the same tiles are the same file


def _png(pixels: Pixels, colours: Pixels | None = None) -> bytes:
    """Encode an image (H, W, 3), or ids (H, W) with a palette (256, 3)."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if colours is not None:
        image.putpalette(colours.tobytes())
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()


def read_examples(file: Path | io.BytesIO) -> list[ExampleTile]:
    """Read tiles from a ZIP that `write_examples` wrote, the worst first."""
    with zipfile.ZipFile(file) as archive:

        def pixels(name: str) -> Pixels:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                return np.array(picture)

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
