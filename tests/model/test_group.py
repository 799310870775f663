"""Shares of batches, of which all processes of a run together compute each tile once."""

import pytest
import torch

from landseg.model.group import ALONE, Group


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("tiles", [8, 9, 15, 31])
def test_shares_are_contiguous_and_differ_by_one_tile_at_most(tiles: int, size: int) -> None:
    shares = [range(tiles)[Group(rank, size).share(tiles)] for rank in range(size)]
    assert [tile for share in shares for tile in share] == list(range(tiles))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Group(0, size).copies(tiles) == 1


def test_batch_with_fewer_tiles_than_processes_is_computed_by_all() -> None:
    assert [Group(rank, 3).share(2) for rank in range(3)] == [slice(0, 2)] * 3
    assert Group(1, 3).copies(2) == 3


def test_one_device_needs_no_network() -> None:
    values = torch.ones(3, requires_grad=True)
    assert ALONE.sum(values) is values
    assert ALONE.concatenate(values) is values
    assert ALONE.gather("a") == ["a"]
    assert ALONE.is_first
