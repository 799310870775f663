"""Section `compute` of params.yaml: machine settings. No stage depends on them, so they never re-run a stage."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from landseg.core.params import Section


class ComputeParams(Section):
    """Machine settings; they never re-run a stage."""

    workers: int | None = Field(ge=1, le=10_000)
    """Number of processes and threads; null: one per core."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """Device for training and evaluation; auto: a GPU if available."""
    micro_batch: int | None = Field(ge=1)
    """Tiles per forward pass (gradient accumulation); null: the batch, or as many as fit in memory."""
    checkpoint_minutes: float = Field(default=10, ge=0, le=100_000)
    """Minutes after which training also writes a checkpoint within an epoch."""
    state: Path
    """Folder for partial downloads and checkpoints; the environment variable LANDSEG_STATE overrides it."""

    @field_validator("state")
    @classmethod
    def _from_environment(cls, state: Path) -> Path:
        """Apply LANDSEG_STATE. Studies set it so that runs in temporary checkouts can resume."""
        return Path(os.environ.get("LANDSEG_STATE") or state)
