"""Copies: scenes and tiles that show the same ground as others, mirrored, turned, resized or compressed again.

Copies in another split are leakage that no name and no position shows. Two images are copies if under one of the eight
rotations and reflections of a square, the dihedral group D4, two properties of their thumbnails (see
`landseg.core.signatures`) correlate:

- the pattern: brightness without its average, slope and curvature, because haze, vignetting and water are alike
  everywhere;
- the details: the Laplacian of the brightness, clipped. Two fields with a straight boundary at the same position have
  almost the same pattern, but the few cells at the boundary do not decide about the details.

Images with almost no pattern are too plain to tell, and never reported. Labels do not decide, because an image is a
copy whatever its labels say; but copies with different labels are counted.

A pair is searched for by a vector that D4 leaves unchanged: the mean of a thumbnail over its eight positions. Copies
have nearly the same vector, so only pairs with close vectors are compared cell by cell.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from landseg.core.arrays import Floats32, Ints, Mask, Pixels
from landseg.core.signatures import SIDE, Kind, read_signatures

#: Correlation of the patterns of copies. Of tiles of 256 px of 110 real images, copies at a JPEG quality of 50 or with
#: every second pixel reach 0.97 at least, and tiles of different ground 0.73 at most.
MIN_CORRELATION = 0.97
#: Correlation of the details of copies. The same copies reach 0.82 at least, tiles of different ground 0.23 at most,
#: and generated fields with a boundary at the same position 0.62.
MIN_DETAILS = 0.7
#: Standard deviation of the pattern of an image below which it is too plain to tell, levels of the rendered image.
MIN_PATTERN = 2.0
#: Mean difference of the label thumbnails of copies above which their labels differ, of 255.
MAX_LABELS = 16.0

# Distance of the vectors of candidates. That of the copies above is 0.08 at most.
_NEAR = 0.12
_CLIP = 3.0  # limit of the Laplacian, in medians of its absolute value
_COARSE = SIDE // 2  # side of the thumbnails that candidates are searched with
_ROWS = 4096  # thumbnails that are converted to float32 at a time
_PRODUCTS = 1 << 24  # pairs of vectors that are compared at a time
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
    #: Number of pairs of scenes whose labels differ.
    relabelled: int = 0


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
    scenes, position = _copies_in(signatures, "scene", names, np.asarray(ground, np.int64))
    copied_tiles, _ = _copies_in(signatures, "tile", tiles["tile"], np.asarray(window, np.int64))
    return Copies(names, scenes, copied_tiles, _relabelled(signatures, names, scenes, position))


def _copies_in(path: Path, kind: Kind, names: Iterable[str], ground: Ints) -> tuple[Ints, Ints]:
    """Return the positions in `names` of copies, (P, 2), and their positions of D4, (P,)."""
    stored = read_signatures(path, kind, ("name", "image", "spread"))
    rows = np.asarray(pd.Index(stored["name"]).get_indexer(pd.Index(list(names))), np.int64)
    return copied_pairs(stored["image"][rows], stored["spread"][rows], ground)


def _relabelled(path: Path, names: Sequence[str], scenes: Ints, position: Ints) -> int:
    """Count copies among scenes whose labels differ."""
    if not len(scenes):
        return 0
    stored = read_signatures(path, "scene", ("name", "labels"))
    rows = np.asarray(pd.Index(stored["name"]).get_indexer(pd.Index(list(names))), np.int64)
    return int(labels_differ(stored["labels"][rows], scenes, position).sum())


def copied_pairs(images: Pixels, spread: Floats32, ground: Ints) -> tuple[Ints, Ints]:
    """Find the pairs of images that are copies and whose ground differs by name.

    Memory grows with the number of images and of candidates, not with the number of all pairs.

    Args:
        images: (N, SIDE, SIDE) thumbnails, each stretched to 0 to 255.
        spread: (N,) levels of the rendered image between 0 and 255 of the thumbnail.
        ground: (N,) number of the ground that each image is known to show; images of the same ground are not compared.

    Returns:
        The pairs, (P, 2), in ascending order, and the position of D4, (P,) 0 to 7, in which the second image of each
        equals the first.
    """
    told, vectors = _told_apart(images, spread)
    pairs, positions = [np.empty((0, 2), np.int64)], [np.empty(0, np.int64)]
    for candidates in _candidates(vectors):
        pair = told[candidates]
        pair = pair[ground[pair[:, 0]] != ground[pair[:, 1]]]
        for start in range(0, len(pair), _PAIRS):
            part = pair[start : start + _PAIRS]
            copied, position = _compare(images[part[:, 0]], images[part[:, 1]])
            pairs.append(part[copied])
            positions.append(position[copied])
    found, position = np.concatenate(pairs), np.concatenate(positions)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return found[order], position[order]


def labels_differ(labels: Pixels, pairs: Ints, position: Ints) -> Mask:
    """Return whether the labels of copies differ, (P,).

    Args:
        labels: (N, SIDE, SIDE) thumbnails of labels.
        pairs: (P, 2) rows of `labels`.
        position: (P,) position of D4 in which the second image of each pair equals the first.
    """
    differ = np.zeros(len(pairs), np.bool_)
    for number, (i, j) in enumerate(pairs):
        turned = next(islice(_positions(labels[j]), int(position[number]), None))
        differ[number] = np.abs(labels[i].astype(np.int16) - turned).mean() > MAX_LABELS
    return differ


def _told_apart(images: Pixels, spread: Floats32) -> tuple[Ints, Floats32]:
    """Return the rows of images that are not too plain, (M,), and vectors that D4 leaves unchanged, (M, D)."""
    rows, vectors = [np.empty(0, np.int64)], []
    for start in range(0, max(1, len(images)), _ROWS):
        chunk = slice(start, start + _ROWS)
        patterns, deviation = _patterns(images[chunk])
        told = np.flatnonzero(deviation * spread[chunk] / 255 >= MIN_PATTERN)
        rows.append(start + told)
        vectors.append(_invariants(patterns[told]))
    return np.concatenate(rows), np.concatenate(vectors)


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


def _candidates(vectors: Floats32) -> Iterator[Ints]:
    """Yield pairs, (P, 2), whose vectors are as close as those of copies, each once."""
    # One matrix product gives -|a - b|² / 2 = ab - |a|² / 2 - |b|² / 2.
    half = np.einsum("ij,ij->i", vectors, vectors)[:, None] / 2
    one = np.ones_like(half)
    left, right = np.hstack([vectors, -one, -half]), np.hstack([vectors, half, one])
    start = 0
    while start < len(vectors):
        stop = start + max(1, _PRODUCTS // (len(vectors) - start))
        i, j = np.nonzero(left[start:stop] @ right[start:].T >= -(_NEAR**2) / 2)
        ordered = i < j
        yield np.stack([i[ordered], j[ordered]], axis=1) + start
        start = stop


def _compare(one: Pixels, other: Pixels) -> tuple[Mask, Ints]:
    """Return whether images, (P, SIDE, SIDE) each, are copies, and the position of the other that equals the one."""
    pattern, details = (
        np.stack([np.einsum("nij,nij->n", first, turned) for turned in _positions(second)])
        for first, second in ((_patterns(one)[0], _patterns(other)[0]), (_details(one), _details(other)))
    )
    copied = (pattern >= MIN_CORRELATION) & (details >= MIN_DETAILS)
    position = np.argmax(np.where(copied, pattern, -1), axis=0)
    return np.asarray(copied.any(axis=0)), np.asarray(position, np.int64)


def _details(images: Pixels) -> Floats32:
    """Return the clipped Laplacian of thumbnails, (N, SIDE - 2, SIDE - 2) with norm 1, or 0 if there is none."""
    values = images.astype(np.float32)
    neighbours = values[:, :-2, 1:-1] + values[:, 2:, 1:-1] + values[:, 1:-1, :-2] + values[:, 1:-1, 2:]
    laplacian = 4 * values[:, 1:-1, 1:-1] - neighbours
    limit = _CLIP * np.median(np.abs(laplacian), axis=(1, 2), keepdims=True)
    clipped = np.clip(laplacian, -limit, limit)
    norm = np.sqrt(np.einsum("nij,nij->n", clipped, clipped))
    details: Floats32 = clipped / np.maximum(norm, 1e-12)[:, None, None]
    return details
