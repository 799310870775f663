"""Seams: chips without position that continue one another, because they were cut side by side from one image.

The last column of a chip and the first column of the chip that lay to its right are one pixel apart, so they are
almost equal. Two borders are a seam if each is the other's most similar border (mutual best match), if the next most
similar one is clearly worse (the ratio test of Lowe, 2004, "Distinctive image features from scale-invariant
keypoints", doi:10.1023/B:VISI.0000029664.99615.94), and if both have texture that correlates. So the check finds most
seams of detailed images, and hardly any of plain ones; that none is found proves nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from landseg.core.arrays import Floats32, Ints, Mask
from landseg.core.signatures import BORDER, BORDERS, read_signatures

#: Largest distance of two borders, relative to that of the next most similar border.
MAX_RATIO = 0.6
#: Smallest correlation of two borders, without mean, slope and curvature.
MIN_CORRELATION = 0.8
#: Standard deviation of a border, without mean, slope and curvature, below which it is too plain to tell, levels.
MIN_TEXTURE = 3.0

_DISTANCES = 1 << 24  # distances that are held at a time
# A border, the border of the next scene that may continue it, and the length of both.
_SIDES = (("right", "left", "height"), ("bottom", "top", "width"))


@dataclass(frozen=True)
class Seams:
    """Pairs of scenes that were cut side by side from one image."""

    #: Names of the scenes, sorted.
    scene_names: list[str]
    #: (P, 2) positions in `scene_names`: the left or upper scene, then the right or lower one.
    scenes: Ints


def find_seams(signatures: Path, tiles: pd.DataFrame) -> Seams:
    """Find scenes whose borders continue one another.

    Scenes are compared if the borders have the same length, px. Of a location with several dates, one is compared. Of
    two borders that are equal to others, such as those of copies, none is the best match, so no seam is reported.

    Args:
        signatures: signatures.parquet of the convert stage.
        tiles: columns scene, location.

    Raises:
        LandsegError: the file is missing.
    """
    scenes = read_signatures(signatures, "scene", ("name", "height", "width", "borders"))
    names = sorted(scenes["name"])
    first = tiles.sort_values("scene").drop_duplicates("location")["scene"]
    rows = np.flatnonzero(pd.Index(scenes["name"]).isin(first))
    pairs = [np.empty((0, 2), np.int64)]
    for border, next_border, length in _SIDES:
        for each in np.unique(scenes[length][rows]):
            members = rows[scenes[length][rows] == each]
            one, other = (scenes["borders"][members, BORDERS.index(side)] for side in (border, next_border))
            pairs.append(members[_seams_between(one.astype(np.float32), other.astype(np.float32))])
    position = np.asarray(pd.Index(names).get_indexer(pd.Index(scenes["name"])), np.int64)
    return Seams(names, np.unique(position[np.concatenate(pairs)], axis=0))


def _seams_between(one: Floats32, other: Floats32) -> Ints:
    """Return pairs (i, j), (P, 2), such that border `other[j]` continues `one[i]`.

    Args:
        one: (N, BORDER) borders, levels; NaN where there are no data.
        other: (N, BORDER) borders of the same scenes.
    """
    j, distance, second = _nearest(one, other)
    i = np.arange(len(one))
    mutual, _, second_of_other = _nearest(other, one)
    second = np.minimum(second, second_of_other[j])
    sure = (mutual[j] == i) & (distance <= MAX_RATIO * second) & np.isfinite(second)
    i, j = i[sure], j[sure]
    alike = _textures_correlate(one[i], other[j])
    return np.stack([i[alike], j[alike]], axis=1)


def _nearest(borders: Floats32, others: Floats32) -> tuple[Ints, Floats32, Floats32]:
    """Find the most similar border of another scene.

    Args:
        borders: (N, BORDER) borders.
        others: (N, BORDER) borders to search.

    Returns:
        Its row, (N,), its distance (root of the mean square, levels), and the distance of the next most similar one;
        infinity if there is none.
    """
    unknown, unknown_others = (np.asarray(~np.isfinite(side).all(axis=1)) for side in (borders, others))
    borders, others = (np.nan_to_num(side, nan=0, posinf=0, neginf=0) for side in (borders, others))
    squares = np.einsum("ij,ij->i", others, others)
    row = np.zeros(len(borders), np.int64)
    best, second = np.full((2, len(borders)), np.inf, np.float32)
    step = max(1, _DISTANCES // max(1, len(others)))
    for start in range(0, len(borders), step):
        chunk = slice(start, min(start + step, len(borders)))
        part = borders[chunk]
        distance = np.einsum("ij,ij->i", part, part)[:, None] + squares - 2 * part @ others.T
        distance[:, unknown_others] = np.inf
        distance[unknown[chunk]] = np.inf
        at = np.arange(len(part))
        distance[at, start + at] = np.inf  # the scene itself
        row[chunk] = distance.argmin(axis=1)
        best[chunk] = distance[at, row[chunk]]
        distance[at, row[chunk]] = np.inf
        second[chunk] = distance.min(axis=1)
    best, second = (np.sqrt(np.maximum(squared, 0) / np.float32(BORDER)) for squared in (best, second))
    return row, best, second


def _textures_correlate(one: Floats32, other: Floats32) -> Mask:
    """Return whether both borders of each pair have texture that correlates, (P,)."""
    a, b = _texture(one), _texture(other)
    deviation_a, deviation_b = (np.sqrt(np.mean(side * side, axis=1)) for side in (a, b))
    textured = np.minimum(deviation_a, deviation_b) >= MIN_TEXTURE
    return np.asarray(textured & (np.mean(a * b, axis=1) >= MIN_CORRELATION * deviation_a * deviation_b))


def _texture(borders: Floats32) -> Floats32:
    """Return borders without mean, slope and curvature."""
    x = np.linspace(-1, 1, BORDER)
    curves: Floats32 = np.linalg.qr(np.stack([np.ones_like(x), x, x * x], axis=1))[0].astype(np.float32)
    return np.asarray(borders - (borders @ curves) @ curves.T, np.float32)
