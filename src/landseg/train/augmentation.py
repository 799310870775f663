"""Random augmentation of training tiles: D4 symmetries, brightness and contrast.

The random values of a tile depend on the seed, the epoch and its position in the split only. Tiles in RAM are augmented
one by one with albumentations, tiles on a GPU as a batch with torch, with identical results. Only this module imports
albumentations.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

# Prevents a request to the package index on import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations

from landseg.core.arrays import Image, Pixels
from landseg.model.device import as_indexable, to_device

#: The symmetries of a square (the dihedral group D4), by their names in albumentations.
SYMMETRIES = ("e", "r90", "r180", "r270", "v", "hvt", "h", "t")

_D4 = albumentations.D4()
_BRIGHTNESS_CONTRAST = albumentations.RandomBrightnessContrast()

# Standard deviations per level of brightness, of 255. A factor, as GPUs do not round divisions as CPUs do: all tiers
# give the same batches.
_PER_LEVEL = 4 / 255


@dataclass(frozen=True)
class Draws:
    """Random values of n tiles."""

    #: (n,) int64, index into SYMMETRIES.
    symmetry: npt.NDArray[np.int64]
    #: (n,) float32, factor of pixel values.
    contrast: npt.NDArray[np.float32]
    #: (n,) float32, added after multiplication.
    brightness: npt.NDArray[np.float32]


@dataclass(frozen=True)
class BandScale:
    """Mean and standard deviation of bands.

    Contrast changes around the mean: a factor around 0, as for 8-bit images, would shift bands far from 0, such as
    elevations, out of their range. Brightness changes by a share of four standard deviations, which hold 95 % of
    normally distributed values.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def change_tile(self, image: Image, contrast: np.float32, brightness: np.float32) -> Image:
        """Change one tile, (H, W, bands), as `change_batch` changes a batch, but on one core."""
        mean, std = (np.array(each, np.float32) for each in (self.mean, self.std))
        offset = mean - mean * contrast + std * (brightness * np.float32(_PER_LEVEL))
        rows = np.ascontiguousarray(image).reshape(len(image), -1)
        changed = rows * contrast  # 32 bits
        changed += np.tile(offset, image.shape[1])  # whole rows: NumPy is slow along an axis of a few bands
        if image.dtype.kind != "f":
            limits = np.iinfo(image.dtype)
            np.clip(np.rint(changed, out=changed), limits.min, limits.max, out=changed)
        return changed.astype(image.dtype, copy=False).reshape(image.shape)

    def change_batch(self, batch: torch.Tensor, contrast: torch.Tensor, brightness: torch.Tensor) -> torch.Tensor:
        """Change contrast and brightness; integers are rounded and clipped to their data type.

        Args:
            batch: (N, H, W, bands).
            contrast: factors, (N, 1, 1, 1).
            brightness: levels of 255, (N, 1, 1, 1).
        """
        mean, std = (torch.tensor(each, dtype=torch.float32, device=batch.device) for each in (self.mean, self.std))
        offset = mean - mean * contrast + std * (brightness * _PER_LEVEL)
        changed = (batch.to(torch.float32) * contrast).add_(offset)
        if batch.dtype == torch.float32:
            return changed
        limits = torch.iinfo(batch.dtype)
        return changed.round_().clamp_(limits.min, limits.max).to(batch.dtype)


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation."""

    #: Whether to apply random D4 symmetries.
    d4: bool
    #: Maximum change of brightness, as a share of the value range.
    brightness: float
    #: Maximum relative change of contrast.
    contrast: float
    #: Random seed.
    seed: int
    #: Statistics of the bands of tiles in their own data type; None for tiles of 8-bit RGB.
    bands: BandScale | None = None

    @property
    def is_identity(self) -> bool:
        """Whether tiles are never changed."""
        return not (self.d4 or self._photometric)

    @property
    def _photometric(self) -> bool:
        return bool(self.brightness or self.contrast)

    @lru_cache(maxsize=2)  # noqa: B019  # one augmentation per run
    def draws(self, epoch: int, tiles: int) -> Draws:
        """Draw the random values of an epoch; disabling one augmentation does not change the draws of the others."""
        rng = np.random.default_rng((self.seed, epoch, 1))  # 1: independent of the shuffling
        symmetry, contrast, brightness = (
            rng.integers(8, size=tiles),
            rng.uniform(-1, 1, tiles),
            rng.uniform(-1, 1, tiles),
        )
        return Draws(
            symmetry * self.d4,
            (1 + self.contrast * contrast).astype(np.float32),
            (255 * self.brightness * brightness).astype(np.float32),
        )

    def augment_tile(self, image: Image, target: Pixels, draws: Draws, position: int) -> tuple[Image, Pixels]:
        """Augment one tile, image (H, W, bands) and target (H, W) uint8, with its draw; may return views."""
        if self.d4:
            symmetry = SYMMETRIES[draws.symmetry[position]]
            image, target = _D4.apply(image, symmetry), _D4.apply(target, symmetry)
        if self._photometric and self.bands:
            image = self.bands.change_tile(image, draws.contrast[position], draws.brightness[position])
        elif self._photometric:
            image = _BRIGHTNESS_CONTRAST.apply(
                image, float(draws.contrast[position]), float(draws.brightness[position])
            )
        return image, target

    def augment_batch(
        self, images: torch.Tensor, targets: torch.Tensor, draws: Draws, positions: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather tiles on their device and augment each with its draw.

        Args:
            images: all tiles of the split, (n, H, W, bands).
            targets: all tiles of the split, (n, H, W) uint8.
            draws: random values of all tiles.
            positions: positions of the tiles of the batch, (N,).

        Returns:
            Images (N, H, W, bands) and targets (N, H, W) of the batch.
        """
        symmetry = draws.symmetry[positions]
        order = np.argsort(symmetry, kind="stable")
        # One copy for all indices, without synchronisation.
        rows, sources = to_device(np.stack([order, positions[order]]), images.device)
        dtype, images = images.dtype, as_indexable(images)
        batch, batch_targets = (tiles.new_empty((len(positions), *tiles.shape[1:])) for tiles in (images, targets))
        for element, (start, stop) in enumerate(pairwise(np.searchsorted(symmetry[order], np.arange(9)).tolist())):
            if start < stop:
                row, source = rows[start:stop], sources[start:stop]
                batch.index_copy_(0, row, _apply_symmetry(images[source], element))
                batch_targets.index_copy_(0, row, _apply_symmetry(targets[source], element))
        batch = batch.view(dtype)
        if self._photometric:
            values = np.stack([draws.contrast[positions], draws.brightness[positions]])
            contrast, brightness = to_device(values, images.device).view(2, -1, 1, 1, 1)
            if self.bands:
                return self.bands.change_batch(batch, contrast, brightness), batch_targets
            batch = (batch * contrast).add_(brightness).clamp_(0, 255).to(torch.uint8)  # truncates, as albumentations
        return batch, batch_targets


def _apply_symmetry(tiles: torch.Tensor, element: int) -> torch.Tensor:
    """Apply an element of SYMMETRIES to tiles (n, H, W, ...)."""
    match SYMMETRIES[element]:
        case "e":
            return tiles
        case "r90" | "r180" | "r270":
            return tiles.rot90(element, (1, 2))
        case "v":
            return tiles.flip(1)
        case "h":
            return tiles.flip(2)
        case "t":
            return tiles.transpose(1, 2)
        case _:
            return tiles.rot90(2, (1, 2)).transpose(1, 2)
