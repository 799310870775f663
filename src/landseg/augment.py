"""Augmentation of training tiles. The only module that knows albumentations."""

import os
from functools import partial

# Asked not to, it does not call the package index when imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations

from landseg.tiles import Augmentation, Pixels


def augmentation(d4: bool, brightness: float, contrast: float) -> Augmentation | None:
    """Return what is done to a training tile, or None where nothing is.

    Args:
        d4: whether to turn and mirror (the dihedral group of the square; land has no up).
        brightness: largest change of brightness, as a share of the whole range.
        contrast: largest change of contrast, as a share.
    """
    steps: list[albumentations.BasicTransform] = []
    if d4:
        steps.append(albumentations.D4(p=1))
    if brightness or contrast:
        steps.append(albumentations.RandomBrightnessContrast((-brightness, brightness), (-contrast, contrast), p=1))
    if not steps:
        return None
    return partial(_apply, albumentations.Compose(steps))


def _apply(pipeline: albumentations.Compose, image: Pixels, target: Pixels, draw: int) -> tuple[Pixels, Pixels]:
    pipeline.set_random_seed(draw)
    changed = pipeline(image=image, mask=target)
    return changed["image"], changed["mask"]
