"""Placement of windows along one axis, and their blending weights."""

import numpy as np
import pytest

from landseg.predict.windows import place_windows
from landseg.tile.plan import tile_grid

SIDES = [(length, size, overlap) for length in (64, 65, 500, 1031) for size in (32, 64) for overlap in (0, 0.25, 0.9)]


@pytest.mark.parametrize(("length", "size", "overlap"), SIDES)
def test_weights_are_positive_and_sum_to_one_at_every_pixel(length: int, size: int, overlap: float) -> None:
    axis = place_windows(length, size, overlap, 32)
    total = np.zeros(axis.span)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert (weights > 0).all()
        total[axis.margin + start : axis.margin + start + size] += weights
    assert total == pytest.approx(np.ones(axis.span), abs=1e-6)
    assert length <= axis.span


@pytest.mark.parametrize(("length", "size", "overlap"), SIDES)
def test_windows_overlap_as_requested_and_extend_half_an_overlap_beyond_the_scene(
    length: int, size: int, overlap: float
) -> None:
    starts = place_windows(length, size, overlap, 32).starts
    margin = int(size * overlap / 2) if length > size else 0
    assert starts[0] == -margin
    assert starts[-1] + size == length + margin
    assert all(0 < step <= size * (1 - overlap) for step in np.diff(starts))
    assert len(starts) == 1 + -(-(length + 2 * margin - size) // max(1, int(size * (1 - overlap))))


@pytest.mark.parametrize(("length", "size", "overlap"), [(500, 64, 0.25), (1031, 512, 0.5), (70, 64, 0.9)])
def test_every_pixel_is_half_an_overlap_from_the_edge_of_a_window(length: int, size: int, overlap: float) -> None:
    pixels = np.arange(length) + 0.5
    starts = np.array(place_windows(length, size, overlap, 32).starts)[:, None]
    assert np.minimum(pixels - starts, starts + size - pixels).max(0).min() >= int(size * overlap / 2)


def test_without_overlap_windows_equal_the_tile_grid() -> None:
    starts = place_windows(256, 64, 0, 32).starts
    assert [(row, col) for _, row, col in tile_grid(256, 256, 64, "drop")] == [
        (row, col) for row in starts for col in starts
    ]


@pytest.mark.parametrize(("length", "size"), [(1, 32), (24, 32), (32, 32), (33, 64), (64, 64), (90, 96), (200, 224)])
def test_short_scene_has_one_window_of_the_smallest_valid_size(length: int, size: int) -> None:
    axis = place_windows(length, 512, 0.25, 32)
    assert (axis.starts, axis.size) == ((0,), size)
    assert axis.weights[0] == pytest.approx(np.ones(size))


def test_weights_decrease_towards_the_edges_of_a_window() -> None:
    first, second, third = place_windows(96, 64, 0.5, 32).weights
    assert first[:32] == pytest.approx(np.ones(32))
    assert (np.diff(first[32:]) < 0).all()
    assert (np.diff(second[:32]) > 0).all()
    assert (np.diff(second[32:]) < 0).all()
    assert third[32:] == pytest.approx(np.ones(32))
