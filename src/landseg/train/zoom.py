"""Zoom of training tiles."""

import numpy as np
import torch

from landseg.core.arrays import Floats, Floats32, Ints
from landseg.model.device import as_indexable, to_device


def zoom(
    images: torch.Tensor, targets: torch.Tensor, factors: Floats, points: Floats
) -> tuple[torch.Tensor, torch.Tensor]:
    """Zoom each tile of a batch about a point that keeps its place; tiles keep their size.

    Images are interpolated bilinearly, without a low-pass filter, and integers rounded; targets take the nearest pixel.
    A factor below 1 shows ground beyond the tile, where image and target are mirrored at the edge of the tile.

    Pixels without data are interpolated as others: a labelled pixel beside them gets a share of the value that fills
    them, at most a half at a straight border and three quarters at a corner. In GeoTIFF tiles this is the mean of the
    other pixels, and neutral; padding of PNG tiles is black. Ignoring such pixels instead would delete labels of single
    pixels.

    Indices and weights are computed by NumPy, and multiplied and added in separate operations, which all devices round
    alike; a fused operation, such as torch.lerp or grid_sample, would not be.

    Args:
        images: (N, H, W, bands), H = W.
        targets: (N, H, W) uint8.
        factors: magnification of each tile, (N,), at least 0.5.
        points: row and column of each point, (2, N), as shares of the size of a tile.

    Returns:
        Images and targets of the same shapes and data types.
    """
    size, bands = images.shape[1], images.shape[3]
    lines = [_source_lines(size, factors, point) for point in points]
    rows, columns = to_device(np.stack([index for index, _ in lines]), images.device)
    row_weights, column_weights = to_device(np.stack([weights for _, weights in lines]), images.device)
    stored = as_indexable(images).flatten(2)
    above, below = (
        _take(stored, index).view(images.dtype).to(torch.float32).mul_(weight[..., None])
        for index, weight in zip(rows[:2], row_weights, strict=True)
    )
    pixels = above.add_(below).view(-1, size, bands)
    left, right = (
        _take(pixels, index.repeat_interleave(size, 0))
        .view(stored.shape)
        .mul_(weight.repeat_interleave(bands, 1)[:, None])
        for index, weight in zip(columns[:2], column_weights, strict=True)
    )
    nearest = _take(_take(targets, rows[2]).flatten(0, 1), columns[2].repeat_interleave(size, 0))
    return as_dtype(left.add_(right), images.dtype).view(images.shape), nearest.view(targets.shape)


def as_dtype(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert 32-bit floats, in place where possible; integers are rounded and clipped to their data type."""
    if dtype == torch.float32:
        return values
    limits = torch.iinfo(dtype)
    return values.round_().clamp_(limits.min, limits.max).to(dtype)


def _source_lines(size: int, factors: Floats, points: Floats) -> tuple[Ints, Floats32]:
    """Return the source of each row or column of zoomed tiles.

    Returns:
        Indices of the lines before and after each source and of the nearest one, (3, N, size), and weights of the
        first two, (2, N, size).
    """
    points = size * points[:, None]
    source = (np.arange(size) + 0.5 - points) / factors[:, None] + points  # in px from the edge
    before = np.floor(source - 0.5)
    weight = (source - 0.5 - before).astype(np.float32)
    lines = np.stack([before, before + 1, np.floor(source)]).astype(np.int64)
    lines = np.where(lines < 0, -1 - lines, lines)
    return np.where(lines >= size, 2 * size - 1 - lines, lines), np.stack([1 - weight, weight])


def _take(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Select values (M, L, ...) by an index (M, L) along the second axis."""
    offsets = torch.arange(len(index), device=index.device)[:, None] * index.shape[1]
    return values.flatten(0, 1).index_select(0, (index + offsets).flatten()).view(values.shape)
