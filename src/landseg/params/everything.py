"""The whole of params.yaml: what `landseg check` checks, and its JSON Schema."""

import json
from pathlib import Path

from pydantic import model_validator

from landseg.params.base import PARAMS, Section, read, validate
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.dataset import DatasetParams, DownloadParams, FolderParams, LandCoverAiParams, SampleParams
from landseg.params.evaluate import EvaluateParams
from landseg.params.filter import FilterParams
from landseg.params.split import SplitParams
from landseg.params.tile import TileParams
from landseg.params.train import AugmentParams, LossParams, ModelParams, OptimizerParams, SchedulerParams, TrainParams


class Params(Section):
    """Parameters of the landseg pipeline."""

    dataset: DatasetParams
    download: DownloadParams
    filter: FilterParams
    tile: TileParams
    convert: ConvertParams
    split: SplitParams
    model: ModelParams
    loss: LossParams
    optimizer: OptimizerParams
    scheduler: SchedulerParams
    augment: AugmentParams
    train: TrainParams
    evaluate: EvaluateParams
    compute: ComputeParams

    @model_validator(mode="after")
    def _agree(self) -> "Params":
        """Check what one section says against what another does."""
        official = isinstance(self.dataset, LandCoverAiParams) and (self.tile.size, self.tile.edge) == (512, "drop")
        if self.split.strategy == "official" and not official:
            raise ValueError(
                "split.strategy official needs the publisher's tiles; set dataset.name landcoverai, tile.size 512 and "
                "tile.edge drop, or choose another strategy"
            )
        if isinstance(self.dataset, SampleParams) and self.dataset.cloudy > self.dataset.scenes - 3:
            raise ValueError("dataset.cloudy leaves fewer than three clear scenes; lower it, or raise dataset.scenes")
        bands = self.dataset.bands if isinstance(self.dataset, FolderParams) else ("red", "green", "blue")
        for band in self.convert.bands:
            if band not in bands:
                raise ValueError(
                    f"convert.bands names {band!r}, which the data set has not; choose from {', '.join(bands)}"
                )
        return self


def check(path: Path = PARAMS) -> Params:
    """Check a whole params file.

    Raises:
        LandsegError: a key is unknown or missing, or a value is wrong.
    """
    return validate(Params, read(path), "", path)


def schema() -> str:
    """Return the JSON Schema of params.yaml, as editors use it."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    return json.dumps(content, indent=2) + "\n"
