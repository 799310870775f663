"""Windows over a scene: where they lie, and what each says of a pixel."""

import numpy as np
import pytest

from landseg.predict.windows import windows
from landseg.tile.plan import grid

SIDES = [(length, size, overlap) for length in (64, 65, 500, 1031) for size in (32, 64) for overlap in (0, 0.25, 0.9)]


@pytest.mark.parametrize(("length", "size", "overlap"), SIDES)
def test_every_pixel_is_seen_and_what_is_said_of_it_sums_to_one(length: int, size: int, overlap: float) -> None:
    laid = windows(length, size, overlap, 32)
    total = np.zeros(laid.span)
    for start, weights in zip(laid.starts, laid.weights, strict=True):
        assert (weights > 0).all()
        total[laid.margin + start : laid.margin + start + size] += weights
    assert total == pytest.approx(np.ones(laid.span), abs=1e-6)
    assert length <= laid.span


@pytest.mark.parametrize(("length", "size", "overlap"), SIDES)
def test_windows_overlap_as_much_as_asked_and_look_half_of_that_over_the_edges(
    length: int, size: int, overlap: float
) -> None:
    starts = windows(length, size, overlap, 32).starts
    margin = int(size * overlap / 2) if length > size else 0
    assert starts[0] == -margin
    assert starts[-1] + size == length + margin
    assert all(0 < step <= size * (1 - overlap) for step in np.diff(starts))
    assert len(starts) == 1 + -(-(length + 2 * margin - size) // max(1, int(size * (1 - overlap))))


@pytest.mark.parametrize(("length", "size", "overlap"), [(500, 64, 0.25), (1031, 512, 0.5), (70, 64, 0.9)])
def test_every_pixel_is_half_an_overlap_from_the_edge_of_a_window(length: int, size: int, overlap: float) -> None:
    pixels = np.arange(length) + 0.5
    starts = np.array(windows(length, size, overlap, 32).starts)[:, None]
    assert np.minimum(pixels - starts, starts + size - pixels).max(0).min() >= int(size * overlap / 2)


def test_without_overlap_they_lie_where_tiles_do() -> None:
    starts = windows(256, 64, 0, 32).starts
    assert [(row, col) for _, row, col in grid(256, 256, 64, "drop")] == [
        (row, col) for row in starts for col in starts
    ]


@pytest.mark.parametrize(("length", "size"), [(1, 32), (24, 32), (32, 32), (33, 64), (64, 64), (90, 96), (200, 224)])
def test_a_scene_smaller_than_a_window_has_one_that_is_no_larger_than_need_be(length: int, size: int) -> None:
    laid = windows(length, 512, 0.25, 32)
    assert (laid.starts, laid.size) == ((0,), size)
    assert laid.weights[0] == pytest.approx(np.ones(size))


def test_the_middle_of_a_window_says_more_than_its_rim() -> None:
    first, second, third = windows(96, 64, 0.5, 32).weights
    assert first[:32] == pytest.approx(np.ones(32))
    assert (np.diff(first[32:]) < 0).all()
    assert (np.diff(second[:32]) > 0).all()
    assert (np.diff(second[32:]) < 0).all()
    assert third[32:] == pytest.approx(np.ones(32))
