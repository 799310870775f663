"""Contact and distance of convex quadrilaterals: footprints of tiles that are not parallel to the axes of their CRS.

Contact follows the separating axis theorem: convex shapes are apart if and only if their projections onto the normal of
one of their sides are (Gottschalk, Lin and Manocha, 1996, "OBBTree", SIGGRAPH, doi:10.1145/237170.237244).
"""

import numpy as np
import shapely

from landseg.core.arrays import Floats, Mask

_CHUNK = 100_000  # pairs per chunk: each takes about 1 kB


def contact(a: Floats, b: Floats, tolerance: float) -> tuple[Mask, Mask, Mask]:
    """Return whether the quadrilaterals of each pair overlap, share at least an edge, and share at least a corner.

    Args:
        a: corners, (P, 4, 2), in order.
        b: corners of the others, (P, 4, 2).
        tolerance: distance within which borders count as equal, in the unit of the corners.

    Returns:
        (P,) each; the first implies the second, and the second the third.
    """
    chunks = [_contact(a[rows], b[rows], tolerance) for rows in _chunks(len(a))]
    overlap, edge, touching = np.concatenate(chunks, axis=1)
    return overlap, edge, touching


def _contact(a: Floats, b: Floats, tolerance: float) -> Mask:
    """Return `contact` of one chunk, (3, P)."""
    gap, axis = _separation(a, b)
    overlap, touching = gap < -tolerance, gap <= tolerance
    common = _common_side(a, b, axis, tolerance)
    return np.stack([overlap, overlap | (touching & (common > tolerance)), touching])


def _separation(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the width of the gap between the quadrilaterals of each pair, (P,), and its direction from a to b, (P, 2).

    The gap is negative where they overlap: then it is how far they would have to be moved to touch.
    """
    gap, axis = np.full(len(a), -np.inf), np.zeros((len(a), 2))
    for sides in (np.roll(a, -1, axis=1) - a, np.roll(b, -1, axis=1) - b):
        normals = np.stack([-sides[..., 1], sides[..., 0]], axis=-1) / np.linalg.norm(sides, axis=-1)[..., None]
        for direction in (*normals.swapaxes(0, 1), *-normals.swapaxes(0, 1)):
            found = _along(b, direction).min(axis=1) - _along(a, direction).max(axis=1)
            wider = found > gap
            gap[wider], axis[wider] = found[wider], direction[wider]
    return gap, axis


def _common_side(a: Floats, b: Floats, axis: Floats, tolerance: float) -> Floats:
    """Return the length that the sides of each pair that face each other along an axis, (P, 2), share, (P,).

    A side is the corners that reach farthest; a single corner has no length.
    """
    across = np.stack([-axis[:, 1], axis[:, 0]], axis=1)
    ends = []
    for corners, direction in ((a, axis), (b, -axis)):
        reach, position = _along(corners, direction), _along(corners, across)
        side = reach >= reach.max(axis=1, keepdims=True) - tolerance
        ends.append((np.where(side, position, np.inf).min(axis=1), np.where(side, position, -np.inf).max(axis=1)))
    (low, high), (other_low, other_high) = ends
    return np.asarray(np.minimum(high, other_high) - np.maximum(low, other_low))


def _along(corners: Floats, direction: Floats) -> Floats:
    """Return the positions of corners, (P, 4), along a direction, (P, 2)."""
    return np.asarray(np.einsum("pcx,px->pc", corners, direction))


def _chunks(pairs: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, max(1, pairs), _CHUNK)]


def distances(a: Floats, b: Floats) -> Floats:
    """Return the distance between the quadrilaterals of each pair, (P,).

    Args:
        a: corners, (P, 4, 2), in order.
        b: corners of the others, (P, 4, 2).
    """
    chunks = [shapely.distance(shapely.polygons(a[rows]), shapely.polygons(b[rows])) for rows in _chunks(len(a))]
    return np.concatenate(chunks)
