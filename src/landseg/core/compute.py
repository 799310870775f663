"""Section `compute`: the machine. No stage lists it, so it never re-runs anything."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from landseg.core.params import Section


class ComputeParams(Section):
    """The machine."""

    workers: int | None = Field(ge=1)
    """Processes and threads to use; null: one a core."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """Where to train and evaluate; auto: a GPU if there is one."""
    micro_batch: int | None = Field(ge=1)
    """Tiles to compute at once, where a batch does not fit into memory; null: a batch, or as many as fit."""
    state: Path
    """Folder for partial downloads and checkpoints; LANDSEG_STATE, where it is set, takes its place."""

    @field_validator("state")
    @classmethod
    def _from_environment(cls, state: Path) -> Path:
        """A study runs in fresh checkouts, and resumes from a folder outside them."""
        return Path(os.environ.get("LANDSEG_STATE") or state)
