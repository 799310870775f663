"""Populations of scenes for simulations: confusion matrices of scenes that differ in size, classes and accuracy.

A scene has a size, a share of every class that occurs in it, and a recall of every class. The logits of the recalls
vary with the scene (all its classes are easy or hard) and with the class in the scene, so errors are correlated within
a scene. Wrong pixels are divided among the other classes.
"""

from dataclasses import dataclass

import numpy as np

from landseg import metrics
from landseg.core.arrays import Counts, Floats

# Standard deviation of the logarithm of the shares of wrong pixels.
_ERROR_SD = 0.7
_BATCH = 25_000


@dataclass(frozen=True)
class World:
    """A population of scenes. Sequences have one number per class, unless stated otherwise."""

    classes: tuple[str, ...]
    #: Kinds of scenes: probability, median number of pixels, and standard deviation of its logarithm.
    sizes: tuple[tuple[float, float, float], ...]
    #: Probability that a scene contains the class.
    presence: tuple[float, ...]
    #: Mean and standard deviation of the logarithm of the share of a class that is present, before they sum to 1.
    log_share: tuple[float, ...]
    log_share_sd: tuple[float, ...]
    #: Recall in the median scene.
    recall: tuple[float, ...]
    #: Relative frequency of wrong predictions, by class and predicted class.
    errors: tuple[tuple[float, ...], ...]
    #: Standard deviations of the logit of the recalls: between scenes, and between classes of a scene.
    scene_sd: float
    class_sd: float
    #: Added to the logits in scenes of the last kind.
    last_kind: float = 0.0
    #: Share of these variances that two models have in common.
    common: float = 0.8


WORLDS = {
    # Like the test scenes in docs/results/multisource: a third of the scenes is many times as large as the others and
    # easier, classes are absent from many, and roads lie mostly in few.
    "multi": World(
        classes=("building", "land", "road", "vegetation", "water"),
        sizes=((0.67, 0.3e6, 0.6), (0.33, 4.3e6, 0.15)),
        presence=(0.83, 0.67, 0.67, 0.92, 0.5),
        log_share=(-2.3, -1.5, -3.8, -1.0, -2.2),
        log_share_sd=(1.2, 0.6, 1.0, 1.0, 2.0),
        recall=(0.55, 0.78, 0.25, 0.6, 0.75),
        errors=(
            (0, 0.68, 0.03, 0.29, 0.01),
            (0.52, 0, 0.09, 0.38, 0.01),
            (0.34, 0.59, 0, 0.05, 0.02),
            (0.24, 0.57, 0.13, 0, 0.06),
            (0.02, 0.61, 0.06, 0.31, 0),
        ),
        scene_sd=0.6,
        class_sd=0.8,
        last_kind=0.6,
    ),
    # Scenes of one size; the last class is in one of eight.
    "rare": World(
        classes=("a", "b", "c", "d", "rare"),
        sizes=((1.0, 1e6, 0.0),),
        presence=(1, 1, 1, 1, 0.125),
        log_share=(-0.9, -1.2, -2.0, -2.5, -2.5),
        log_share_sd=(0.4, 0.4, 0.5, 0.6, 0.6),
        recall=(0.9, 0.85, 0.8, 0.7, 0.55),
        errors=((0, 1, 1, 1, 0.2), (1, 0, 1, 1, 0.2), (1, 1, 0, 1, 0.2), (1, 1, 1, 0, 0.2), (1, 1, 1, 1, 0)),
        scene_sd=0.4,
        class_sd=0.4,
    ),
    # LandCover.ai: sizes, presence and shares of classes of its 41 published masks; recalls of a trained U-Net.
    "lc": World(
        classes=("background", "building", "woodland", "water", "road"),
        sizes=((0.2, 20e6, 0.03), (0.8, 86e6, 0.03)),
        presence=(1, 0.93, 1, 0.98, 1),
        log_share=(-0.5, -5.4, -1.1, -3.8, -4.2),
        log_share_sd=(0.3, 1.6, 0.9, 2.0, 0.8),
        recall=(0.95, 0.65, 0.93, 0.85, 0.6),
        errors=(
            (0, 0.05, 0.65, 0.1, 0.2),
            (0.8, 0, 0.08, 0.02, 0.1),
            (0.9, 0.01, 0, 0.05, 0.04),
            (0.7, 0.01, 0.28, 0, 0.01),
            (0.8, 0.05, 0.14, 0.01, 0),
        ),
        scene_sd=0.5,
        class_sd=0.5,
    ),
}


def draw(world: World, shape: tuple[int, ...], rng: np.random.Generator, models: int = 1, gain: float = 0.0) -> Counts:
    """Draw scenes and the confusion matrices of models on them.

    Args:
        world: the population.
        shape: of the array of scenes.
        rng: random numbers.
        models: M; all are equally good, and make similar errors in the same scene.
        gain: added to the logits of recalls of the second model.

    Returns:
        (M, *shape, K, K) int64; the targets (sums of rows) are the same for all models.
    """
    classes = len(world.classes)
    probability, median, spread = np.transpose(world.sizes)
    kind = rng.choice(len(probability), size=shape, p=probability)
    size = median[kind] * np.exp(spread[kind] * rng.standard_normal(shape))
    target = np.round(size[..., None] * _shares(world, shape, rng))
    both = _effects(world, shape, rng)
    log_errors = rng.standard_normal((*shape, classes, classes))
    drawn = []
    for model in range(models):
        effect = np.sqrt(world.common) * both + np.sqrt(1 - world.common) * _effects(world, shape, rng)
        effect += (world.last_kind * (kind == len(probability) - 1))[..., None] + gain * model
        recall = 1 / (1 + np.exp(-effect) * (1 / np.array(world.recall) - 1))
        own = rng.standard_normal(log_errors.shape)
        noise = np.sqrt(world.common) * log_errors + np.sqrt(1 - world.common) * own
        wrong = np.array(world.errors) * np.exp(_ERROR_SD * noise)
        wrong *= ((1 - recall) / wrong.sum(axis=-1))[..., None]
        counts = np.round(wrong * target[..., None])
        diagonal = np.maximum(target - counts.sum(axis=-1), 0)
        counts[..., range(classes), range(classes)] = diagonal
        drawn.append(counts.astype(np.int64))
    return np.stack(drawn)


def _shares(world: World, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    classes = len(world.classes)
    present = rng.random((*shape, classes)) < np.array(world.presence)
    present[..., int(np.argmax(world.presence))] |= ~present.any(axis=-1)
    noise = rng.standard_normal((*shape, classes))
    shares = np.exp(np.array(world.log_share) + np.array(world.log_share_sd) * noise) * present
    normalised: Floats = shares / shares.sum(axis=-1, keepdims=True)
    return normalised


def _effects(world: World, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    scene = world.scene_sd * rng.standard_normal((*shape, 1))
    effects: Floats = scene + world.class_sd * rng.standard_normal((*shape, len(world.classes)))
    return effects


def true_scores(world: World, seed: int, gain: float = 0.0, batches: int = 12) -> tuple[Floats, Floats]:
    """Return what a test set estimates: the scores of models over a whole population, of 25,000 scenes per batch.

    Returns:
        IoU per class of pooled pixels (2, K), and mean over scenes of their own macro mIoU (2,), for two models.
    """
    rng = np.random.default_rng(seed)
    total, means = np.zeros((2, len(world.classes), len(world.classes)), np.int64), []
    for _ in range(batches):
        drawn = draw(world, (_BATCH,), rng, models=2, gain=gain)
        total += drawn.sum(axis=1)
        means.append(np.nanmean(metrics.iou(drawn), axis=-1).mean(axis=-1))
    return metrics.iou(total), np.mean(means, axis=0)
