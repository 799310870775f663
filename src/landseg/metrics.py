"""Segmentation metrics, computed from confusion matrices, with jackknife intervals.

A confusion matrix is (K, K) int64: rows are target classes, columns predicted classes, cells counts of pixels. Pixels
with target IGNORE are not counted. With TP the diagonal, FN the rest of a row and FP the rest of a column, a class has

    IoU = TP / (TP + FP + FN)    precision = TP / (TP + FP)
    F1 = 2 TP / (2 TP + FP + FN) recall = TP / (TP + FN)

**Which classes count.** A class without target pixels has no scores (None), and macro means exclude it: its IoU would
be 0 for a single false positive and undefined without one. Its false positives still lower the scores of other classes.
`classes_scored` is the number of classes in the macro means. A class with target pixels that is never predicted has no
precision (None), and counts as 0 in the macro precision, as in scikit-learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtrit

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import IGNORE

#: Below this many units there is no interval.
MIN_UNITS = 5
#: Below this effective number of units a score has no interval: it would reach from nearly 0 to nearly 1.
MIN_EFFECTIVE_UNITS = 2

T = TypeVar("T")


def confusion(targets: npt.NDArray[np.uint8], predictions: npt.NDArray[np.uint8], classes: int) -> Counts:
    """Return the confusion matrix of a prediction.

    Args:
        targets: channels 0 to K - 1, or IGNORE; any shape.
        predictions: channels 0 to K - 1 of the same shape; any value at ignored pixels.
        classes: K.

    Returns:
        (K, K) int64; rows: target, columns: prediction.

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
    """Return the IoU per class: (..., K, K) int64 to (..., K); NaN for classes without target pixels."""
    return _iou(*_margins(matrices))


def recall(matrices: Counts) -> Floats:
    """Return the recall per class: (..., K, K) int64 to (..., K); NaN for classes without target pixels."""
    hits, target, _ = _margins(matrices)
    return ratio(hits, target)


def precision(matrices: Counts) -> Floats:
    """Return the precision per class: (..., K, K) int64 to (..., K).

    NaN for classes without target pixels and for classes that are never predicted.
    """
    hits, target, predicted = _margins(matrices)
    return np.where(target > 0, ratio(hits, predicted), np.nan)


def f1(matrices: Counts) -> Floats:
    """Return the F1 per class: (..., K, K) int64 to (..., K); NaN for classes without target pixels."""
    hits, target, predicted = _margins(matrices)
    return np.where(target > 0, ratio(2 * hits, target + predicted), np.nan)


def pixel_accuracy(matrix: Counts) -> float:
    """Return the share of correct pixels; NaN for an empty matrix."""
    return float(ratio(np.trace(matrix), matrix.sum()))


def micro_iou(matrix: Counts) -> float:
    """Return the IoU over the pixels of all classes together; NaN for an empty matrix.

    Every wrong pixel is a false positive of one class and a false negative of another. With N pixels and a pixel
    accuracy a, TP is aN, and FP and FN are (1 - a)N each, so micro IoU = a / (2 - a): a function of pixel accuracy,
    dominated by large classes. A pixel accuracy of 0.938 is a micro IoU of 0.883, whatever the macro mIoU.
    """
    correct, pixels = np.trace(matrix), matrix.sum()
    return float(ratio(correct, 2 * pixels - correct))


def one_hot_iou(intersection: float, union: float, eps: float = 1e-7) -> float:
    """Return the IoU of one batch over all one-hot channels together.

    The 'mean IoU' of many publications is this value averaged over batches, with intersection and union counted over
    all pixels and channels, background included, where softmax > 0.5
    (segmentation_models_pytorch.utils.metrics.IoU(threshold=0.5)). It depends on the batch size, and pixels without a
    channel above 0.5 have no prediction. With exactly one prediction per pixel it equals `micro_iou`.
    """
    return (intersection + eps) / (union + eps)


def majority_miou(matrix: Counts, channel: int) -> float | None:
    """Return the macro mIoU of the majority-class baseline, which predicts one class for every pixel.

    Args:
        matrix: (K, K) int64; only the target pixels per class (rows) are used.
        channel: the predicted class.
    """
    target = matrix.sum(axis=1)
    baseline = np.zeros_like(matrix)
    baseline[:, channel] = target
    return _mean(iou(baseline), target > 0)


def effective_units(pixels: npt.ArrayLike) -> Floats:
    """Return Kish's effective number of units: (S, ...) pixels of each unit to (...); 0 without pixels.

    (sum of w)^2 / (sum of w^2): the number of units of equal size with the same variance of a weighted mean (Kish,
    Survey Sampling, 1965). It is S if all units are of one size, and close to 1 if one unit has nearly all pixels.
    """
    sizes = np.asarray(pixels, np.float64)
    return np.nan_to_num(ratio(sizes.sum(axis=0) ** 2, (sizes**2).sum(axis=0)))


def leave_one_out(counts: Counts) -> Counts:
    """Return the sums without each unit: (S, ...) to (S, ...)."""
    left: Counts = counts.sum(axis=0) - counts
    return left


def jackknife(
    value: npt.ArrayLike, replicates: Floats, degrees: npt.ArrayLike | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return standard errors and 95 % intervals by the delete-one jackknife, with Student's t.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.

    Args:
        value: (...), of all units.
        replicates: (S, ...), without each unit.
        degrees: (...), degrees of freedom; by default S - 1.

    Returns:
        Standard errors, lower and upper ends, (...) each; NaN below MIN_UNITS.
    """
    estimate, units = np.asarray(value, np.float64), len(replicates)
    if units < MIN_UNITS:
        unknown = np.full(estimate.shape, np.nan)
        return unknown, unknown, unknown
    error = np.sqrt((units - 1) * replicates.var(axis=0))
    margin = stdtrit(units - 1 if degrees is None else degrees, 0.975) * error
    return error, estimate - margin, estimate + margin


def score_interval(
    score: npt.ArrayLike, replicates: Floats, effective: npt.ArrayLike, variance: Floats | float = 0.0
) -> tuple[Floats, Floats]:
    """Return the 95 % interval of a score between 0 and 1, by the jackknife on the logit scale.

    The degrees of freedom of Student's t are the effective units - 1: the variance is known less well if few units have
    most pixels (Potthoff, Woodbury and Manton, "Equivalent sample size and equivalent degrees of freedom refinements
    for inference using survey weights under superpopulation models", JASA 87, 1992). On the logit scale the ends lie
    between 0 and 1. Coverage: docs/scores.md.

    Args:
        score: (...), of all units.
        replicates: (S, ...), without each unit.
        effective: (...), effective number of units (see `effective_units`).
        variance: (...), added to that of the jackknife.

    Returns:
        Lower and upper ends, (...) each; NaN below MIN_UNITS or MIN_EFFECTIVE_UNITS, and for scores of 0 and 1.
    """
    value, units = np.asarray(score, np.float64), np.asarray(effective, np.float64)
    known = (value > 0) & (value < 1) & (units >= MIN_EFFECTIVE_UNITS)
    centre = logit(np.where(known, value, 0.5))
    slope = np.where(known, value * (1 - value), np.nan)
    error, _, _ = jackknife(value, replicates)
    scaled = np.sqrt(error**2 + variance) / slope
    margin = stdtrit(np.maximum(units, MIN_EFFECTIVE_UNITS) - 1, 0.975) * scaled
    return expit(centre - margin), expit(centre + margin)


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class, rounded to six digits; None if undefined (see the module docstring)."""

    iou: float | None
    #: Ends of the 95 % interval of the IoU; None if there is none (see `class_intervals`).
    iou_low: float | None
    iou_high: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    #: Target pixels.
    pixels: int
    #: Units that contain the class, and their effective number by target pixels (see `effective_units`).
    units: int
    effective_units: float


@dataclass(frozen=True)
class Scores:
    """Scores of a split, rounded to six digits; None if undefined (see the module docstring)."""

    macro_miou: float | None
    #: Ends of the 95 % interval of the macro mIoU; None if there is none (see `macro_interval`).
    macro_miou_low: float | None
    macro_miou_high: float | None
    #: Units (locations or groups) with labelled pixels, and their effective number by these (see `effective_units`).
    interval_units: int
    effective_units: float
    #: Mean over units of each unit's own macro mIoU, over the classes that it contains, and its 95 % interval.
    scene_miou: float | None
    scene_miou_low: float | None
    scene_miou_high: float | None
    #: None without a background class.
    macro_miou_without_background: float | None
    micro_iou: float | None
    pixel_accuracy: float | None
    macro_precision: float | None
    macro_recall: float | None
    macro_f1: float | None
    #: Number of classes with target pixels, which the macro means are over.
    classes_scored: int
    #: By class name, in channel order.
    per_class: dict[str, ClassScores]

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> "Scores":
        """Read the scores from the content of metrics.json.

        Raises:
            KeyError: a score is missing.
        """
        per_class = {name: from_fields(ClassScores, scores) for name, scores in content["per_class"].items()}
        return from_fields(cls, content, per_class=per_class)


def from_fields(kind: type[T], content: Mapping[str, Any], **given: Any) -> T:
    """Build a dataclass from the values of its fields in a mapping, apart from those that are given.

    Raises:
        KeyError: a value is missing.
    """
    read = {field.name: content[field.name] for field in fields(kind) if field.name not in given}  # type: ignore[arg-type]
    return kind(**read, **given)


def summary(matrix: Counts, unit_matrices: Counts, names: Sequence[str], background: str | None) -> Scores:
    """Compute every score.

    Args:
        matrix: (K, K) int64, confusion matrix of the whole split.
        unit_matrices: (S, K, K) int64, one per location or group; they sum to `matrix`.
        names: the K class names, in channel order.
        background: name of the class that `macro_miou_without_background` excludes, or None.

    Raises:
        ValueError: there are not K names, or `background` is not one of them.
    """
    if len(names) != len(matrix):
        raise ValueError(f"{len(names)} names for {len(matrix)} classes")
    if background is not None and background not in names:
        raise ValueError(f"{background!r} is not one of the classes {', '.join(names)}")
    scored = matrix.sum(axis=1) > 0
    foreground = scored & np.array([name != background for name in names])
    units = unit_matrices[unit_matrices.any(axis=(1, 2))]
    low, high = macro_interval(units)
    scene = scene_miou(units) if len(units) else (np.nan, np.nan, np.nan)
    return Scores(
        macro_miou=_mean(iou(matrix), scored),
        macro_miou_low=rounded(low),
        macro_miou_high=rounded(high),
        interval_units=len(units),
        effective_units=round(float(effective_units(units.sum(axis=(1, 2)))), 6),
        scene_miou=rounded(scene[0]),
        scene_miou_low=rounded(scene[1]),
        scene_miou_high=rounded(scene[2]),
        macro_miou_without_background=None if background is None else _mean(iou(matrix), foreground),
        micro_iou=rounded(micro_iou(matrix)),
        pixel_accuracy=rounded(pixel_accuracy(matrix)),
        macro_precision=_mean(np.nan_to_num(precision(matrix)), scored),
        macro_recall=_mean(recall(matrix), scored),
        macro_f1=_mean(f1(matrix), scored),
        classes_scored=int(scored.sum()),
        per_class=dict(zip(names, _class_scores(matrix, units), strict=True)),
    )


def jackknife_iou(matrices: Counts) -> Floats:
    """Return the IoU per class of the sums without each unit: (S, ..., K, K) int64 to (S, ..., K).

    A class has the IoU of all units where the unit left out is the only one with target pixels of it. So the classes,
    and with them what a macro mean estimates, stay the same. NaN for classes without target pixels.
    """
    without = iou(leave_one_out(matrices))
    return np.where(np.isnan(without), iou(matrices.sum(axis=0)), without)


def macro_interval(matrices: Counts) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % interval of the macro mIoU (see `jackknife_iou` and `score_interval`).

    The IoU of a class in one unit does not vary without it. Such a class is given the variance between units that the
    other classes have on average: without this, intervals cover 68 % in simulations where one of 20 units contains it.

    Args:
        matrices: (S, ..., K, K) int64, one per location or group with labelled pixels.

    Returns:
        Lower and upper ends, (...) each; NaN if there is none.
    """
    macro, replicates = known_mean(iou(matrices.sum(axis=0))), jackknife_iou(matrices)
    effective = effective_units(matrices.sum(axis=(-2, -1)))
    return score_interval(macro, known_mean(replicates), effective, _unseen_variance(matrices, replicates))


def _unseen_variance(matrices: Counts, replicates: Floats) -> Floats:
    """Return the variance of the macro mIoU due to classes in one unit: (S, ..., K, K) and (S, ..., K) to (...)."""
    target = matrices.sum(axis=-1)
    units = (target > 0).sum(axis=0)
    spread = replicates.var(axis=0) if len(matrices) else np.nan
    between_units = (len(matrices) - 1) * spread * effective_units(target)
    usual = known_mean(np.where(units > 1, between_units, np.nan))
    single, scored = (units == 1).sum(axis=-1), (units > 0).sum(axis=-1)
    return np.where(single > 0, usual * single / np.maximum(scored, 1) ** 2, 0)


def class_intervals(matrices: Counts) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % intervals of the IoU per class (see `jackknife_iou` and `score_interval`).

    Args:
        matrices: (S, ..., K, K) int64, one per location or group with labelled pixels.

    Returns:
        Lower and upper ends, (..., K) each; NaN if there is none, as for classes in fewer than MIN_UNITS units.
    """
    target = matrices.sum(axis=-1)
    enough = (target > 0).sum(axis=0) >= MIN_UNITS
    effective = np.where(enough, effective_units(target), 0)
    return score_interval(iou(matrices.sum(axis=0)), jackknife_iou(matrices), effective)


def scene_scores(matrices: Counts) -> tuple[Floats, Floats]:
    """Return the mean over units of their own macro mIoU, over the classes that each contains, and its replicates.

    Args:
        matrices: (S, ..., K, K) int64, one per location or group with labelled pixels; S > 0.

    Returns:
        The mean, (...), and the same without each unit, (S, ...).
    """
    own = known_mean(iou(matrices))
    return own.mean(axis=0), (own.sum(axis=0) - own) / max(len(own) - 1, 1)


def scene_miou(matrices: Counts) -> tuple[Floats, Floats, Floats]:
    """Return the mean over units of their own macro mIoU (see `scene_scores`), and its 95 % interval.

    All units weigh the same, so Student's t has S - 1 degrees of freedom.

    Returns:
        The mean, lower and upper ends, (...) each; ends are NaN below MIN_UNITS.
    """
    mean, without = scene_scores(matrices)
    _, low, high = jackknife(mean, without)
    return mean, np.clip(low, 0, 1), np.clip(high, 0, 1)


def _class_scores(matrix: Counts, units: Counts) -> list[ClassScores]:
    target = units.sum(axis=-1)  # (S, K)
    with_class, effective = (target > 0).sum(axis=0), effective_units(target)
    ious, precisions, recalls, f1s = iou(matrix), precision(matrix), recall(matrix), f1(matrix)
    low, high = class_intervals(units)
    return [
        ClassScores(
            iou=rounded(ious[channel]),
            iou_low=rounded(low[channel]),
            iou_high=rounded(high[channel]),
            precision=rounded(precisions[channel]),
            recall=rounded(recalls[channel]),
            f1=rounded(f1s[channel]),
            pixels=int(matrix[channel].sum()),
            units=int(with_class[channel]),
            effective_units=round(float(effective[channel]), 6),
        )
        for channel in range(len(matrix))
    ]


def _margins(matrices: Counts) -> tuple[Counts, Counts, Counts]:
    """Return true positives, target pixels and predicted pixels per class: (..., K) each."""
    return np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(axis=-1), matrices.sum(axis=-2)


def _iou(hits: npt.NDArray[Any], target: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> Floats:
    return np.where(target > 0, ratio(hits, target + predicted - hits), np.nan)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Divide, with NaN for x / 0."""
    divisor = np.asarray(denominator, np.float64)
    quotient: Floats = np.divide(numerator, divisor, out=np.full(divisor.shape, np.nan), where=divisor != 0)
    return quotient


def known_mean(scores: Floats) -> Floats:
    """Return the mean without NaN over the last axis: (..., K) to (...); NaN if all are."""
    known = ~np.isnan(scores)
    return ratio(np.where(known, scores, 0).sum(axis=-1), known.sum(axis=-1))


def _mean(scores: Floats, counted: npt.NDArray[np.bool_]) -> float | None:
    return rounded(scores[counted].mean()) if counted.any() else None


def rounded(value: float | Floats | None) -> float | None:
    """Round a value to six digits, as JSON can represent it: no numpy scalar, no NaN."""
    return None if value is None or np.isnan(value) else round(float(value), 6)
