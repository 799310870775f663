"""Section `compute` of params.yaml: machine settings. No stage depends on them, so they never re-run a stage."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from landseg.core.params import Section


class ComputeParams(Section):
    """Machine settings; they never re-run a stage."""

    workers: int | None = Field(ge=1, le=10_000)
    """Number of processes and threads; null: one per core."""
    engine: Literal["local", "dask"] = "local"
    """Where scenes are prepared and mapped: local (this machine) | dask (workers of a Dask scheduler)."""
    address: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786 (dask only)."""
    cluster: str | None = None
    """Dask workers to start: local (processes of this machine), or a jobqueue section such as slurm (dask only)."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """Device for training and evaluation; auto: a GPU if available."""
    devices: int = Field(default=1, ge=1, le=1024)
    """Devices of each node that train together: GPUs, or processes on a CPU."""
    nodes: int = Field(default=1, ge=1, le=1024)
    """Nodes that train together."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Training on several devices: ddp (each has the whole model) | fsdp (each has a part of it; GPUs only)."""
    micro_batch: int | None = Field(ge=1)
    """Tiles per forward pass (gradient accumulation); null: the batch, or as many as fit in memory."""
    checkpoint_minutes: float = Field(default=10, ge=0, le=100_000)
    """Minutes after which training also writes a checkpoint within an epoch."""
    state: Path
    """Folder for partial downloads and checkpoints; the environment variable LANDSEG_STATE overrides it."""

    @model_validator(mode="after")
    def _one_scheduler(self) -> "ComputeParams":
        if self.engine == "dask" and (self.address is None) == (self.cluster is None):
            raise ValueError(
                "compute.engine = dask needs compute.address, of a running scheduler, or compute.cluster, of workers "
                "to start; set one of them"
            )
        return self

    @field_validator("state")
    @classmethod
    def _from_environment(cls, state: Path) -> Path:
        """Apply LANDSEG_STATE. Studies set it so that runs in temporary checkouts can resume."""
        return Path(os.environ.get("LANDSEG_STATE") or state)
