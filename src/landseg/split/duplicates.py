"""Copies: scenes and tiles that show the same ground as others, mirrored, turned, resized or compressed again.

Copies in another split are leakage that no name and no position shows. Two images are copies if their thumbnails (see
`landseg.core.signatures`) correlate almost perfectly under one of the eight rotations and reflections of a square, the
dihedral group D4. The average brightness, its slope and its curvature are removed before: haze, vignetting and water
are alike everywhere. Images with almost no pattern beyond that are too plain to tell, and never reported.

A pair is searched for by a vector that D4 leaves unchanged: the mean of a thumbnail over its eight positions. Copies
have nearly the same vector, so only pairs with close vectors are compared cell by cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from landseg.core.arrays import Floats32, Ints, Mask, Pixels
from landseg.core.signatures import SIDE, Kind, read_signatures

#: Correlation of the thumbnails of copies. Copies in public data reach 0.9999; the most similar of 110 real images that
#: show different ground reach 0.90.
MIN_CORRELATION = 0.99
#: Standard deviation of the pattern of an image below which it is too plain to tell, levels of the rendered image.
MIN_PATTERN = 2.0

_COARSE = SIDE // 2  # side of the thumbnails that candidates are searched with
_CHUNK = 2048  # rows that are compared with all others at a time
_PAIRS = 4096  # pairs that are compared cell by cell at a time


@dataclass(frozen=True)
class Copies:
    """Pairs of scenes and pairs of tiles that are copies of each other."""

    #: Names of the scenes, sorted.
    scene_names: list[str]
    #: (P, 2) positions in `scene_names`.
    scenes: Ints
    #: (Q, 2) rows of the tile table. Tiles of copied scenes are included only if they are copies themselves.
    tiles: Ints


def find_copies(signatures: Path, tiles: pd.DataFrame) -> Copies:
    """Find copies among the scenes and among the tiles of a dataset.

    Scenes and tiles of one location at the same window, such as two dates, are not reported.

    Args:
        signatures: signatures.parquet of the convert stage.
        tiles: columns tile, scene, location, row, col, height, width (px).

    Raises:
        LandsegError: the file is missing.
    """
    location = tiles.drop_duplicates("scene").set_index("scene")["location"]
    names = sorted(location.index)
    ground, _ = pd.factorize(location.reindex(names))
    window = tiles.groupby(["location", "row", "col", "height", "width"], sort=False).ngroup()
    return Copies(
        names,
        _copies_in(signatures, "scene", pd.Index(names), np.asarray(ground, np.int64)),
        _copies_in(signatures, "tile", pd.Index(tiles["tile"]), np.asarray(window, np.int64)),
    )


def _copies_in(path: Path, kind: Kind, names: "pd.Index[str]", ground: Ints) -> Ints:
    """Return the positions in `names`, (P, 2), of copies."""
    stored = read_signatures(path, kind, ("name", "image", "spread"))
    rows = np.asarray(pd.Index(stored["name"]).get_indexer(names), np.int64)
    return copied_pairs(stored["image"][rows], stored["spread"][rows], ground)


def copied_pairs(images: Pixels, spread: Floats32, ground: Ints) -> Ints:
    """Return the pairs of images that are copies and whose ground differs by name, (P, 2), in ascending order.

    Args:
        images: (N, SIDE, SIDE) thumbnails, each stretched to 0 to 255.
        spread: (N,) levels of the rendered image between 0 and 255 of the thumbnail.
        ground: (N,) number of the ground that each image is known to show; images of the same ground are not compared.
    """
    patterns, deviation = _patterns(images)
    told = np.flatnonzero(deviation * spread / 255 >= MIN_PATTERN)
    patterns, ground_of = patterns[told], ground[told]
    pairs = [
        _copies_among(patterns, candidates[ground_of[candidates[:, 0]] != ground_of[candidates[:, 1]]])
        for candidates in _candidates(_invariants(patterns))
    ]
    found = told[np.concatenate([np.empty((0, 2), np.int64), *pairs])]
    return np.asarray(found[np.lexsort((found[:, 1], found[:, 0]))], np.int64)


def _patterns(images: Pixels) -> tuple[Floats32, Floats32]:
    """Return thumbnails without mean, slope and curvature, (N, SIDE, SIDE) with norm 1, and the deviation before."""
    values = images.reshape(len(images), -1).astype(np.float32)
    surface = _quadratic_surfaces()
    values -= (values @ surface) @ surface.T
    norm = np.sqrt(np.einsum("ij,ij->i", values, values))
    values /= np.maximum(norm, 1e-12)[:, None]
    return values.reshape(images.shape), np.asarray(norm / SIDE, np.float32)


def _quadratic_surfaces() -> Floats32:
    """Return an orthonormal basis of quadratic surfaces on a thumbnail, (SIDE², 6); D4 maps their space to itself."""
    axis = np.linspace(-1, 1, SIDE)
    y, x = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    return np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))[0].astype(np.float32)


def _invariants(patterns: Floats32) -> Floats32:
    """Return vectors that D4 leaves unchanged, (N, D); copies are no farther apart than their patterns."""
    half = patterns.reshape(len(patterns), _COARSE, 2, _COARSE, 2).sum(axis=(2, 4)) / 2  # does not lengthen distances
    mean: Floats32 = np.stack(list(_positions(half))).mean(axis=0)
    # An orbit has up to eight cells with the same value; keep one, weighted such that distances stay the same.
    cells = np.arange(_COARSE**2).reshape(_COARSE, _COARSE)
    _, first, count = np.unique(np.min(list(_positions(cells)), axis=0), return_index=True, return_counts=True)
    invariants: Floats32 = mean.reshape(len(mean), _COARSE**2)[:, first] * np.sqrt(count).astype(np.float32)
    return invariants


def _positions(images: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield images, (..., S, S), in the eight positions of D4."""
    for each in (images, images[..., ::-1]):
        for turns in range(4):
            yield np.rot90(each, turns, axes=(-2, -1))


def _candidates(invariants: Floats32) -> Iterator[Ints]:
    """Yield pairs, (P, 2), whose vectors are as close as those of copies, each once."""
    # |a - b|² = 2 - 2 correlation for patterns of norm 1, and the invariants are no farther apart.
    limit = 2 * (1 - MIN_CORRELATION)
    squares = np.einsum("ij,ij->i", invariants, invariants)
    for start in range(0, len(invariants), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        distance = squares[chunk, None] + squares[None, start:] - 2 * invariants[chunk] @ invariants[start:].T
        i, j = np.nonzero(distance <= limit + 1e-5)
        ordered = i < j
        yield np.stack([i[ordered], j[ordered]], axis=1) + start


def _copies_among(patterns: Floats32, candidates: Ints) -> Ints:
    """Return the candidates, (P, 2), that are copies."""
    kept = [np.empty(0, np.bool_)]
    for start in range(0, len(candidates), _PAIRS):
        one, other = (patterns[side] for side in candidates[start : start + _PAIRS].T)
        correlation = np.max([np.einsum("nij,nij->n", one, turned) for turned in _positions(other)], axis=0)
        kept.append(correlation >= MIN_CORRELATION)
    copies: Mask = np.concatenate(kept)
    return candidates[copies]
