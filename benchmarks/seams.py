"""Seams of a class map: how often the class changes across the edges of windows, against elsewhere."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from landseg.core.arrays import Floats, Pixels


def window_edges(starts: Iterable[int], size: int, length: int) -> list[int]:
    """Return where windows begin or end inside a scene, px: the edge e lies between pixels e - 1 and e."""
    return sorted({edge for start in starts for edge in (start, start + size) if 0 < edge < length})


def change_rates(classes: Pixels, axis: int) -> Floats:
    """Return the share of pixels whose class differs from that of the one before, at each edge 1, 2, ... of an axis."""
    rows = classes if axis == 0 else classes.T
    return np.array([np.mean(before != after) for before, after in pairwise(rows)])


def seams(classes: Pixels, starts: tuple[Iterable[int], Iterable[int]], size: int) -> dict[str, float]:
    """Compare changes of class across the edges of windows with those elsewhere; 1: no seams.

    Args:
        classes: the class map, (H, W).
        starts: first rows and first columns of the windows.
        size: height and width of a window, px.

    Returns:
        For rows and columns, the mean rate at edges over the mean rate elsewhere; and the largest rate of one edge, of
        rows or columns, over the mean rate elsewhere.
    """
    ratios: dict[str, float] = {}
    worst = []
    for axis, name in enumerate(("rows", "columns")):
        rates = change_rates(classes, axis)
        at = np.array(window_edges(starts[axis], size, classes.shape[axis])) - 1
        elsewhere = np.delete(rates, at).mean()
        ratios[name] = float(rates[at].mean() / elsewhere)
        worst.append(float(rates[at].max() / elsewhere))
    return {**ratios, "worst": max(worst)}


def check_seams() -> None:
    """Check `seams` on noise, with and without a window whose classes differ.

    Raises:
        SystemExit: it is wrong.
    """
    rng = np.random.default_rng(0)
    classes = (rng.random((400, 300)) < 0.5).astype(np.uint8)
    starts = (0, 100, 200, 300), (0, 100, 200)
    clean = seams(classes, starts, 100)
    classes[200] = 1 - classes[199]  # all pixels change across one of the three edges; half of them elsewhere
    seam = seams(classes, starts, 100)
    if not all(abs(ratio - 1) < 0.15 for ratio in clean.values()):
        raise SystemExit(f"seams are wrong: {clean} where there is none")
    if abs(seam["rows"] - 4 / 3) > 0.1 or abs(seam["worst"] - 2) > 0.1 or abs(seam["columns"] - 1) > 0.15:
        raise SystemExit(f"seams are wrong: {seam} with one between two rows of windows")
