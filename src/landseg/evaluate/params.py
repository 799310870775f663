"""Section `evaluate`: evaluation settings."""

from typing import Literal

from pydantic import Field

from landseg.core.params import Section


class EvaluateParams(Section):
    """Evaluation settings."""

    split: Literal["train", "val", "test"]
    """Split to score."""
    weights: Literal["best", "last"]
    """Epoch to score: best (by train.monitor) or last."""
    batch_size: int = Field(ge=1, le=100_000)
    """Tiles per batch; affects paper_iou, which is an average over batches."""
    calibrate: Literal["temperature", "none"]
    """Calibration of confidences: temperature (fitted on the validation split) | none."""
    n_examples: int = Field(ge=0, le=50)
    """Number of example tiles of each kind: worst, best, evenly spaced by accuracy, most classes."""
