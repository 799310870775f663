"""Augmentation of training tiles: drawn once by seed and epoch, then done wherever the tiles are.

What is done to a tile is numbers, which depend on the seed, the epoch and its position in the part alone.
Pixels in main memory are changed by albumentations, tile by tile; tensors on a device by plain tensor code,
a whole batch at a time, with the same result. The only module that knows albumentations.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

# Asked not to, it does not call the package index when imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations

from landseg.core.arrays import Pixels
from landseg.model.device import to_device

#: The symmetries of a square, as albumentations calls them.
SYMMETRIES = ("e", "r90", "r180", "r270", "v", "hvt", "h", "t")

_D4 = albumentations.D4()
_LIGHT = albumentations.RandomBrightnessContrast()


@dataclass(frozen=True)
class Draws:
    """What is done to tiles, one entry each."""

    #: Position in SYMMETRIES, (n,) int64.
    symmetry: npt.NDArray[np.int64]
    #: What a value is multiplied by, (n,) float32, ...
    contrast: npt.NDArray[np.float32]
    #: ... and what is added to it then, (n,) float32.
    brightness: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """What may be done to training tiles."""

    #: Whether to turn and mirror (the dihedral group of the square; land has no up).
    d4: bool
    #: Largest change of brightness, as a share of the whole range.
    brightness: float
    #: Largest change of contrast, as a share.
    contrast: float
    #: Seed of all that is drawn.
    seed: int

    @property
    def is_identity(self) -> bool:
        """Whether nothing is ever done."""
        return not (self.d4 or self._lights)

    @property
    def _lights(self) -> bool:
        return bool(self.brightness or self.contrast)

    @lru_cache(maxsize=2)  # noqa: B019  # there is one augmentation a run
    def draws(self, epoch: int, tiles: int) -> Draws:
        """Draw what an epoch does to each of so many tiles; turning one kind of change off leaves the others."""
        rng = np.random.default_rng((self.seed, epoch, 1))  # 1: not that of the order
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

    def augment_tile(self, image: Pixels, target: Pixels, draws: Draws, position: int) -> tuple[Pixels, Pixels]:
        """Change one tile by its draw: image (H, W, 3) and target (H, W), uint8 both; may return views."""
        if self.d4:
            symmetry = SYMMETRIES[draws.symmetry[position]]
            image, target = _D4.apply(image, symmetry), _D4.apply(target, symmetry)
        if self._lights:
            light = float(draws.contrast[position]), float(draws.brightness[position])
            image = _LIGHT.apply(image, *light)
        return image, target

    def augment_batch(
        self, images: torch.Tensor, targets: torch.Tensor, draws: Draws, positions: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather tiles of a part on its device, and change each by its draw.

        Args:
            images: the part, (n, H, W, 3) uint8.
            targets: the part, (n, H, W) uint8.
            draws: of the whole part.
            positions: of the tiles wanted, (N,).

        Returns:
            The images (N, H, W, 3) and the targets (N, H, W) of the batch.
        """
        symmetry = draws.symmetry[positions]
        order = np.argsort(symmetry, kind="stable")
        # All indices travel at once, and nothing waits for the device.
        rows, sources = to_device(np.stack([order, positions[order]]), images.device)
        some, ids = (whole.new_empty((len(positions), *whole.shape[1:])) for whole in (images, targets))
        for element, (start, stop) in enumerate(pairwise(np.searchsorted(symmetry[order], np.arange(9)).tolist())):
            if start < stop:
                into, source = rows[start:stop], sources[start:stop]
                some.index_copy_(0, into, _turned(images[source], element))
                ids.index_copy_(0, into, _turned(targets[source], element))
        if self._lights:
            light = np.stack([draws.contrast[positions], draws.brightness[positions]])
            contrast, brightness = to_device(light, images.device).view(2, -1, 1, 1, 1)
            some = (some * contrast).add_(brightness).clamp_(0, 255).to(torch.uint8)  # cut off, as albumentations does
        return some, ids


def _turned(tiles: torch.Tensor, element: int) -> torch.Tensor:
    """Apply one of SYMMETRIES to tiles (n, H, W, ...)."""
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
