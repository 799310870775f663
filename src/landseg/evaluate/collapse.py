"""Signs that a model has learned little."""

from landseg.metrics import Scores

#: IoU below which a model does not find a class.
COLLAPSED_IOU = 0.01


def collapse_warnings(scores: Scores, majority: str, majority_miou: float | None) -> list[str]:
    """Return what shows that a model has learned little: classes that it does not find, or no better than one class.

    Args:
        scores: the scores.
        majority: most frequent class of the training split.
        majority_miou: macro mIoU of a map of this class alone.
    """
    warnings = []
    found = {name: each.iou for name, each in scores.per_class.items() if each.iou is not None and each.pixels}
    missed = [name for name, iou in found.items() if iou < COLLAPSED_IOU]
    if missed and len(missed) >= len(found) / 2:
        warnings.append(
            f"the model finds {len(missed)} of {len(found)} classes hardly anywhere (IoU below {COLLAPSED_IOU}: "
            f"{', '.join(missed)}); train longer, change loss.class_weights or optimizer.lr, or add labels"
        )
    if scores.macro_miou is not None and majority_miou is not None and scores.macro_miou <= majority_miou:
        warnings.append(
            f"macro mIoU {scores.macro_miou:.3f} is not above that of a map of {majority} alone ({majority_miou:.3f})"
        )
    return warnings
