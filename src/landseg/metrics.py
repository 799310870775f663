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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
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
    margins = np.concatenate(_margins(filled), axis=-1)  # (S, 3K): all that an IoU needs
    sums = [chunk.reshape(-1, 3, classes) for chunk in resample(margins, resamples, seed)]
    return np.concatenate([np.empty((0, classes)), *(_iou(*np.moveaxis(each, 1, 0)) for each in sums)])


def resample(counts: Counts, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield bootstrap sums of S units, drawn with replacement: (S, M) int64 to chunks of (R, M) float64.

    Sums are exact up to 2^53. The draws depend on the seed and on S alone (see `resampled_iou`).
    """
    units = len(counts)
    values = counts.astype(np.float64)  # so that BLAS computes the sums
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(values.shape))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start))
        yield drawn.astype(np.float64) @ values


def interval(scores: Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of resampled scores, (R,); None where there are none but NaN."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class; None where there is none (see the module)."""

    iou: float | None
    #: Ends of the 95 % interval of the IoU; None where fewer than two units hold the class.
    iou_low: float | None
    iou_high: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    #: Target pixels.
    pixels: int


@dataclass(frozen=True)
class Scores:
    """All scores of a split, rounded to six digits; None where there is none (see the module)."""

    macro_miou: float | None
    #: Ends of the 95 % interval of the macro mIoU.
    macro_miou_low: float | None
    macro_miou_high: float | None
    #: Units with a counted pixel, over which the intervals are drawn.
    interval_units: int
    #: None where no class is the background.
    macro_miou_without_background: float | None
    micro_iou: float | None
    pixel_accuracy: float | None
    macro_precision: float | None
    macro_recall: float | None
    macro_f1: float | None
    #: Classes with a target pixel, over which the macro means are taken.
    classes_scored: int
    #: By class name, in channel order.
    per_class: dict[str, ClassScores]

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> "Scores":
        """Read the scores from the content of metrics.json.

        Raises:
            KeyError: a score is missing.
        """
        values = {field.name: content[field.name] for field in fields(cls) if field.name != "per_class"}
        names = [field.name for field in fields(ClassScores)]
        per_class = {
            name: ClassScores(**{key: scores[key] for key in names}) for name, scores in content["per_class"].items()
        }
        return cls(**values, per_class=per_class)


def summary(
    matrix: Counts,
    unit_matrices: Counts,
    names: Sequence[str],
    background: str | None,
    *,
    resamples: int,
    seed: int,
) -> Scores:
    """Compute every score.

    Args:
        matrix: (K, K) int64, of the whole split.
        unit_matrices: (S, K, K) int64, one per location or group; they sum to `matrix`.
        names: the K class names, in channel order.
        background: name of the class that `macro_miou_without_background` leaves out, or None.
        resamples: draws behind the 95 % intervals (see `resampled_iou`).
        seed: seed of the draws.

    Raises:
        ValueError: `names` are not K, or `background` is none of them.
    """
    if len(names) != len(matrix):
        raise ValueError(f"{len(names)} names for {len(matrix)} classes")
    if background is not None and background not in names:
        raise ValueError(f"{background!r} is none of the classes {', '.join(names)}")
    scored = matrix.sum(axis=1) > 0
    foreground = scored & np.array([name != background for name in names])
    resampled = resampled_iou(unit_matrices, resamples, seed)
    low, high = interval(np.nanmean(resampled, axis=-1)) or (None, None)
    return Scores(
        macro_miou=_mean(iou(matrix), scored),
        macro_miou_low=_number(low),
        macro_miou_high=_number(high),
        interval_units=int(unit_matrices.any(axis=(1, 2)).sum()),
        macro_miou_without_background=None if background is None else _mean(iou(matrix), foreground),
        micro_iou=_number(micro_iou(matrix)),
        pixel_accuracy=_number(pixel_accuracy(matrix)),
        macro_precision=_mean(np.nan_to_num(precision(matrix)), scored),
        macro_recall=_mean(recall(matrix), scored),
        macro_f1=_mean(f1(matrix), scored),
        classes_scored=int(scored.sum()),
        per_class=dict(zip(names, _class_scores(matrix, unit_matrices, resampled), strict=True)),
    )


def _class_scores(matrix: Counts, unit_matrices: Counts, resampled: Floats) -> list[ClassScores]:
    # A class that one unit alone holds scores the same in every resample that has it: that is no certainty.
    held = (unit_matrices.sum(axis=-1) > 0).sum(axis=0)
    intervals = [
        (interval(scores) if units > 1 else None) or (None, None)
        for scores, units in zip(resampled.T, held, strict=True)
    ]
    columns = zip(
        iou(matrix), intervals, precision(matrix), recall(matrix), f1(matrix), matrix.sum(axis=1), strict=True
    )
    return [
        ClassScores(_number(i), _number(low), _number(high), _number(p), _number(r), _number(f), int(n))
        for i, (low, high), p, r, f, n in columns
    ]


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
