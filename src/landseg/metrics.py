"""Scores of a segmentation, every one a function of the confusion matrix.

A confusion matrix is (K, K) int64: rows are target classes, columns predicted ones, cells count
pixels. Pixels whose target is IGNORE are in no cell. With TP the diagonal, FN the rest of a row and
FP the rest of a column, a class has

    IoU = TP / (TP + FP + FN)    precision = TP / (TP + FP)
    F1 = 2 TP / (2 TP + FP + FN) recall = TP / (TP + FN)

**Which classes count.** A class without a target pixel cannot be scored: its IoU would be 0 for a
single stray pixel and undefined without one. All its scores are None, and macro means leave it out;
pixels wrongly given to it still lower the scores of the classes that they were taken from.
`classes_scored` says how many classes the macro means are taken over, the same for every one of
them. A class that has target pixels but is never predicted has no precision (None), and enters the
macro precision as 0, as in scikit-learn: leaving a class out must not raise a score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import IGNORE

_CHUNK = 2_000_000  # numbers drawn at a time: 16 MB as int64, and as much again as float64


def confusion(targets: npt.NDArray[np.uint8], predictions: npt.NDArray[np.uint8], classes: int) -> Counts:
    """Count every pair of target and predicted channel.

    Args:
        targets: channels 0 to K - 1, or IGNORE; any shape.
        predictions: channels 0 to K - 1 of the same shape; those at ignored pixels are not looked at.
        classes: K.

    Returns:
        (K, K) int64, rows = target, columns = prediction.

    Raises:
        ValueError: the shapes differ, or a channel is K or more.
    """
    if targets.shape != predictions.shape:
        raise ValueError(f"targets are {targets.shape}, predictions {predictions.shape}")
    counted = targets != IGNORE
    target, prediction = targets[counted], predictions[counted]
    if target.size and max(target.max(), prediction.max()) >= classes:
        raise ValueError(f"channels must be below {classes} (or a target {IGNORE})")
    pairs = target.astype(np.int64) * classes + prediction
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def iou(matrices: Counts) -> Floats:
    """Return the IoU of every class: (..., K, K) int64 to (..., K), NaN where a class has no target pixel."""
    return _iou(*_margins(matrices))


def recall(matrices: Counts) -> Floats:
    """Return the recall of every class: (..., K, K) int64 to (..., K), NaN where a class has no target pixel."""
    hits, target, _ = _margins(matrices)
    return _ratio(hits, target)


def precision(matrices: Counts) -> Floats:
    """Return the precision of every class: (..., K, K) int64 to (..., K).

    NaN where a class has no target pixel, and where it is never predicted.
    """
    hits, target, predicted = _margins(matrices)
    return np.where(target > 0, _ratio(hits, predicted), np.nan)


def f1(matrices: Counts) -> Floats:
    """Return the F1 of every class: (..., K, K) int64 to (..., K), NaN where a class has no target pixel."""
    hits, target, predicted = _margins(matrices)
    return np.where(target > 0, _ratio(2 * hits, target + predicted), np.nan)


def pixel_accuracy(matrix: Counts) -> float:
    """Return the share of counted pixels that are right; NaN where none is counted."""
    return float(_ratio(np.trace(matrix), matrix.sum()))


def micro_iou(matrix: Counts) -> float:
    """Return the IoU over the pixels of all classes together; NaN where none is counted.

    Every wrong pixel is a false positive of one class and a false negative of another. With N pixels
    and a pixel accuracy a, TP is aN and FP and FN are (1 - a)N each, so micro IoU is a / (2 - a):
    accuracy in other clothes, dominated by the large classes. An accuracy of 0.938 is a micro IoU
    of 0.883, whatever the macro mIoU.
    """
    right, pixels = np.trace(matrix), matrix.sum()
    return float(_ratio(right, 2 * pixels - right))


def one_hot_iou(intersection: float, union: float, eps: float = 1e-7) -> float:
    """Return the IoU of one batch, all one-hot channels taken together.

    The 'mean IoU' of much published work is this, averaged over batches, with intersection and union
    counted over every pixel and channel, background included, where softmax > 0.5
    (segmentation_models_pytorch.utils.metrics.IoU(threshold=0.5)). It depends on the batch size, and
    a pixel without any channel above 0.5 is predicted as nothing. With one prediction a pixel it is
    `micro_iou`.
    """
    return (intersection + eps) / (union + eps)


def majority_miou(matrix: Counts, channel: int) -> float | None:
    """Return the macro mIoU of a map that shows one class everywhere: what any model must beat.

    Args:
        matrix: (K, K) int64; only its rows, the target pixels, are used.
        channel: the class shown everywhere.
    """
    everywhere = np.zeros_like(matrix)
    everywhere[:, channel] = matrix.sum(axis=1)
    return _mean(iou(everywhere), matrix.sum(axis=1) > 0)


def resampled_iou(matrices: Counts, resamples: int, seed: int) -> Floats:
    """Return the IoU of every class in resamples of places: the bootstrap behind every interval.

    Pixels and tiles of one place are alike, so places, or groups of them, are what is drawn: as many as
    there are, with replacement; their matrices are summed and the sum is scored (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapters 8 and 13). The draws follow from the seed and the number
    of units alone: two models on the same units, in the same order, are resampled alike, so that their
    difference is a paired one.

    Args:
        matrices: (S, K, K) int64, one a place or group; those without a counted pixel are left out.
        resamples: R, how many draws.
        seed: seed of the draws.

    Returns:
        (R, K); NaN where a class has no target pixel in a resample. (0, K) where fewer than two units hold a
        counted pixel: nothing can be said.
    """
    filled = matrices[matrices.any(axis=(1, 2))]
    units, classes = filled.shape[:2]
    if units < 2:
        return np.empty((0, classes))
    # Scores need the diagonal and the two margins alone: (S, 3K). As float64, so that BLAS sums them;
    # whole numbers stay exact up to 2^53 pixels.
    margins = np.concatenate(_margins(filled), axis=-1).astype(np.float64)
    generator = np.random.default_rng(seed)
    scores = np.empty((resamples, classes))
    step = max(1, _CHUNK // max(units, margins.shape[1]))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start))
        sums = (drawn.astype(np.float64) @ margins).reshape(-1, 3, classes)
        scores[start : start + step] = _iou(*np.moveaxis(sums, 1, 0))
    return scores


def interval(scores: Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of resampled scores, (R,); None where there are none but NaN."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(matrices: Counts, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float] | None:
    """Return a percentile bootstrap interval of the macro mIoU (see `resampled_iou`).

    A class without a target pixel in a resample leaves the mean of that resample. With few units the
    interval is too narrow rather than too wide.

    Returns:
        The lower and the upper end, or None where fewer than two units hold a counted pixel.
    """
    return interval(np.nanmean(resampled_iou(matrices, resamples, seed), axis=-1), level)


def summary(
    matrix: Counts,
    unit_matrices: Counts,
    names: Sequence[str],
    background: str | None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return every score, as it stands in metrics.json: rounded to six digits, None where there is none.

    Args:
        matrix: (K, K) int64, of the whole part.
        unit_matrices: (S, K, K) int64, one a place or group; they sum to `matrix`.
        names: the K class names, in channel order.
        background: name of the class that `macro_miou_without_background` leaves out, or None.
        resamples: draws behind the 95 % interval (see `bootstrap_interval`).
        seed: seed of the draws.

    Returns:
        macro_miou with its interval macro_miou_low to macro_miou_high over interval_units of these,
        macro_miou_without_background (None where `background` is None), micro_iou, pixel_accuracy,
        macro_precision, macro_recall, macro_f1, classes_scored, and per_class: iou with its interval iou_low
        to iou_high, precision, recall, f1 and target pixels by class name; a class that fewer than two units
        hold has no interval.

    Raises:
        ValueError: `names` are not K, or `background` is none of them.
    """
    if len(names) != len(matrix):
        raise ValueError(f"{len(names)} names for {len(matrix)} classes")
    if background is not None and background not in names:
        raise ValueError(f"{background!r} is none of the classes {', '.join(names)}")
    pixels = matrix.sum(axis=1)
    scored = pixels > 0
    foreground = scored & np.array([name != background for name in names])
    ious, precisions, recalls, f1s = iou(matrix), precision(matrix), recall(matrix), f1(matrix)
    resampled = resampled_iou(unit_matrices, resamples, seed)
    low, high = interval(np.nanmean(resampled, axis=-1)) or (None, None)
    # Of a class in one unit alone, every resample that holds it says the same: that is no certainty.
    held = (unit_matrices.sum(axis=-1) > 0).sum(axis=0)
    intervals = [
        (interval(of_class) if units > 1 else None) or (None, None)
        for of_class, units in zip(resampled.T, held, strict=True)
    ]
    columns = zip(names, ious, intervals, precisions, recalls, f1s, pixels, strict=True)
    return {
        "macro_miou": _mean(ious, scored),
        "macro_miou_low": _number(low),
        "macro_miou_high": _number(high),
        "interval_units": int(unit_matrices.any(axis=(1, 2)).sum()),
        "macro_miou_without_background": None if background is None else _mean(ious, foreground),
        "micro_iou": _number(micro_iou(matrix)),
        "pixel_accuracy": _number(pixel_accuracy(matrix)),
        "macro_precision": _mean(np.nan_to_num(precisions), scored),
        "macro_recall": _mean(recalls, scored),
        "macro_f1": _mean(f1s, scored),
        "classes_scored": int(scored.sum()),
        "per_class": {
            name: {
                "iou": _number(i),
                "iou_low": _number(low),
                "iou_high": _number(high),
                "precision": _number(p),
                "recall": _number(r),
                "f1": _number(f),
                "pixels": int(n),
            }
            for name, i, (low, high), p, r, f, n in columns
        },
    }


def _margins(matrices: Counts) -> tuple[Counts, Counts, Counts]:
    """Return true positives, target pixels and predicted pixels of every class: (..., K) each."""
    return np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(axis=-1), matrices.sum(axis=-2)


def _iou(hits: npt.NDArray[Any], target: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> Floats:
    return np.where(target > 0, _ratio(hits, target + predicted - hits), np.nan)


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Divide, and give NaN for x / 0."""
    over = np.asarray(denominator, np.float64)
    quotient: Floats = np.divide(numerator, over, out=np.full(over.shape, np.nan), where=over != 0)
    return quotient


def _mean(scores: Floats, counted: npt.NDArray[np.bool_]) -> float | None:
    return _number(scores[counted].mean()) if counted.any() else None


def _number(value: float | None) -> float | None:
    """Return what JSON can hold: no numpy scalar, no NaN."""
    return None if value is None or np.isnan(value) else round(float(value), 6)
