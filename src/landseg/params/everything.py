"""The whole of params.yaml: what `landseg check` checks, and its JSON Schema."""

import json
from pathlib import Path

from pydantic import model_validator

from landseg.params.base import PARAMS, Section, read, validate
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.dataset import (
    BANDS,
    DatasetParams,
    DownloadParams,
    FolderParams,
    GhanaParams,
    LandCoverAiParams,
    LandCoverNetParams,
    SampleParams,
)
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
        for fault in (self._split_fault(), self._bands_fault(), self._clouds_fault(), self._dataset_fault()):
            if fault:
                raise ValueError(fault)
        return self

    def _split_fault(self) -> str | None:
        strategy, data = self.split.strategy, self.dataset
        if isinstance(data, GhanaParams):
            if strategy not in ("official", "scene"):
                return (
                    f"split.strategy {strategy}: the positions of this data set are moved at random, so it is split by "
                    "the id of a chip alone; choose official or scene"
                )
            if strategy == "official" and data.lists is None and self.download.source != "local":
                return "split.strategy official needs the publisher's lists; set dataset.lists, or choose scene"
            return None
        official = isinstance(data, LandCoverAiParams) and (self.tile.size, self.tile.edge) == (512, "drop")
        if strategy == "official" and not official:
            return (
                "split.strategy official needs the publisher's tiles; set dataset.name landcoverai, tile.size 512 and "
                "tile.edge drop, or choose another strategy"
            )
        if strategy == "group" and not isinstance(data, LandCoverNetParams):
            return "split.strategy group needs scenes in groups, which only landcovernet has; choose another strategy"
        return None

    def _bands_fault(self) -> str | None:
        has = (
            self.dataset.bands
            if isinstance(self.dataset, FolderParams | LandCoverNetParams)
            else BANDS[self.dataset.name]
        )
        for band in self.convert.bands:
            if band not in has:
                fetch = "; add it to dataset.bands" if isinstance(self.dataset, LandCoverNetParams) else ""
                return f"convert.bands names {band!r}, which the data set has not{fetch}; choose from {', '.join(has)}"
        if self.convert.min_consensus and not isinstance(self.dataset, LandCoverNetParams):
            return "convert.min_consensus needs labels with a consensus score, which only landcovernet has; set it to 0"
        return None

    def _clouds_fault(self) -> str | None:
        has = ("scl", "cld", "both") if isinstance(self.dataset, LandCoverNetParams) else ("mask",)
        if self.filter.method not in has:
            return (
                f"filter.method {self.filter.method}: the data set has no such cloud layer; choose {' or '.join(has)}"
            )
        return None

    def _dataset_fault(self) -> str | None:
        data = self.dataset
        if self.download.source != "source-coop" and not isinstance(data, LandCoverNetParams | GhanaParams):
            return f"download.source {self.download.source}: only landcovernet and ghana do so; remove the key"
        if isinstance(data, SampleParams) and data.cloudy > data.scenes - 3:
            return "dataset.cloudy leaves fewer than three clear scenes; lower it, or raise dataset.scenes"
        return None


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
