"""Random augmentation of training tiles: D4 symmetries, zoom, brightness, contrast and noise.

The random values of a tile depend on the seed, the epoch and the number of its draw only. Tiles in RAM are augmented
one by one with albumentations, tiles on a GPU as a batch with torch, with identical results. Only this module imports
albumentations.

Zoom and noise are torch in RAM, too: albumentations interpolates by weights in fixed point and draws noise by its own
generator, neither of which a GPU can repeat.
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

from landseg.core.arrays import Floats, Image, Ints, Pixels
from landseg.model.device import as_indexable, to_device
from landseg.train.zoom import as_dtype, zoom

#: The symmetries of a square (the dihedral group D4), by their names in albumentations.
SYMMETRIES = ("e", "r90", "r180", "r270", "v", "hvt", "h", "t")

_D4 = albumentations.D4()
_BRIGHTNESS_CONTRAST = albumentations.RandomBrightnessContrast()

# Standard deviations per level of brightness, of 255. A factor, as GPUs do not round divisions as CPUs do: all tiers
# give the same batches.
_PER_LEVEL = 4 / 255

# Number of places at which the noise of a tile may start in the bank of normal values.
_NOISE_STARTS = 1 << 22


@dataclass(frozen=True)
class Draws:
    """Random values of n tiles."""

    #: (n,) int64, index into SYMMETRIES.
    symmetry: npt.NDArray[np.int64]
    #: (n,) float32, factor of pixel values.
    contrast: npt.NDArray[np.float32]
    #: (n,) float32, added after multiplication.
    brightness: npt.NDArray[np.float32]
    #: (n,) factor of sizes.
    zoom: Floats
    #: (2, n) row and column of the point that zoom keeps in place, as shares of the size of a tile.
    point: Floats
    #: (n,) standard deviation of noise, as a share of the value range.
    noise: Floats
    #: (n,) int64, where the noise of a tile starts in the bank.
    noise_start: Ints


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
        return as_dtype((batch.to(torch.float32) * contrast).add_(offset), batch.dtype)


@lru_cache(maxsize=1)
def _normal_values(seed: int, count: int, device: torch.device) -> torch.Tensor:
    """Return a bank of normal values on a device: drawn once by NumPy, as devices draw different ones from a seed."""
    rng = np.random.default_rng((seed, 0, 2))  # 2: independent of the other draws
    return to_device(rng.standard_normal(count, dtype=np.float32), device)


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
    #: Maximum relative change of size.
    scale: float = 0
    #: Maximum standard deviation of noise, as a share of the value range.
    noise: float = 0

    @property
    def is_identity(self) -> bool:
        """Whether tiles are never changed."""
        return not (self.d4 or self._photometric or self.scale or self.noise)

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
            zoom=(1 + self.scale) ** rng.uniform(-1, 1, tiles),
            point=rng.uniform(0, 1, (2, tiles)),
            noise=self.noise * rng.uniform(0, 1, tiles),
            noise_start=rng.integers(_NOISE_STARTS, size=tiles),
        )

    def augment_tile(self, image: Image, target: Pixels, draws: Draws, draw: int) -> tuple[Image, Pixels]:
        """Augment one tile, image (H, W, bands) and target (H, W) uint8, with one of the draws; may return views."""
        if self.d4:
            symmetry = SYMMETRIES[draws.symmetry[draw]]
            image, target = _D4.apply(image, symmetry), _D4.apply(target, symmetry)
        if self.scale:
            tiles, targets = _as_batch(image), _as_batch(target)
            tiles, targets = zoom(tiles, targets, draws.zoom[[draw]], draws.point[:, [draw]])
            image, target = tiles[0].numpy(), targets[0].numpy()
        if self._photometric and self.bands:
            image = self.bands.change_tile(image, draws.contrast[draw], draws.brightness[draw])
        elif self._photometric:
            image = _BRIGHTNESS_CONTRAST.apply(image, float(draws.contrast[draw]), float(draws.brightness[draw]))
        if self.noise:
            image = self._add_noise(_as_batch(image), draws, np.array([draw]))[0].numpy()
        return image, target

    def augment_batch(
        self, images: torch.Tensor, targets: torch.Tensor, draws: Draws, positions: Ints, drawn: Ints
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather tiles on their device and augment each with one of the draws.

        Args:
            images: all tiles of the split, (n, H, W, bands).
            targets: all tiles of the split, (n, H, W) uint8.
            draws: random values of an epoch.
            positions: positions of the tiles of the batch, (N,).
            drawn: which of the draws each tile of the batch gets, (N,).

        Returns:
            Images (N, H, W, bands) and targets (N, H, W) of the batch.
        """
        symmetry = draws.symmetry[drawn]
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
        if self.scale:
            batch, batch_targets = zoom(batch, batch_targets, draws.zoom[drawn], draws.point[:, drawn])
        if self._photometric:
            values = np.stack([draws.contrast[drawn], draws.brightness[drawn]])
            contrast, brightness = to_device(values, images.device).view(2, -1, 1, 1, 1)
            if self.bands:
                batch = self.bands.change_batch(batch, contrast, brightness)
            else:  # truncates, as albumentations
                batch = (batch * contrast).add_(brightness).clamp_(0, 255).to(torch.uint8)
        return (self._add_noise(batch, draws, drawn) if self.noise else batch), batch_targets

    def _add_noise(self, batch: torch.Tensor, draws: Draws, drawn: Ints) -> torch.Tensor:
        """Add Gaussian noise, independent per pixel and band; integers are rounded and clipped to their data type.

        Its standard deviation is a share of the value range: 255 levels of 8-bit RGB, else four standard deviations of
        a band. The values are a slice of one bank from a random start, which costs less than drawing them.

        Args:
            batch: (N, H, W, bands).
            draws: random values of an epoch.
            drawn: which of the draws each tile of the batch gets, (N,).
        """
        count, _, width, bands = batch.shape
        values = batch[0].numel()
        ranges = 4 * np.array(self.bands.std) if self.bands else np.full(bands, 255.0)
        deviations = np.tile(np.outer(draws.noise[drawn], ranges).astype(np.float32), width)  # of a row of pixels
        bank = _normal_values(self.seed, _NOISE_STARTS + values, batch.device)
        noise = torch.stack([bank[start : start + values] for start in draws.noise_start[drawn].tolist()])
        noise = noise.view(count, -1, width * bands).mul_(to_device(deviations, batch.device)[:, None])
        return as_dtype(noise.view(batch.shape).add_(batch.to(torch.float32)), batch.dtype)


def _as_batch(tile: Image) -> torch.Tensor:
    """Return a tile as a batch of one."""
    return torch.from_numpy(np.ascontiguousarray(tile))[None]


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
