"""Section `evaluate`: how a model is scored."""

from typing import Literal

from pydantic import Field

from landseg.core.params import Section


class EvaluateParams(Section):
    """How a model is scored."""

    split: Literal["train", "val", "test"]
    """The split to score."""
    weights: Literal["best", "last"]
    """The epoch to score: the best by train.monitor, or the last."""
    batch_size: int = Field(ge=1)
    """Tiles in a batch; paper_iou, being an average over batches, depends on it."""
    bootstrap: int = Field(ge=100)
    """Resamples of the scenes behind the 95 % interval."""
    seed: int = Field(ge=0)
    """Seed of the resampling."""
    n_examples: int = Field(ge=0, le=50)
    """Example tiles of each kind: worst, best, a spread from worst to best, rich in classes."""
