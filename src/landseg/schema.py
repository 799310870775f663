"""Schema of params.yaml: all sections, checks across sections, and the JSON Schema for editors."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from landseg.convert.params import ConvertParams
from landseg.core.compute import ComputeParams
from landseg.core.data_card import expand_names, layer_names
from landseg.core.errors import ParamsError
from landseg.core.params import PARAMS, Section, read_params, validate
from landseg.datasets.folder.params import FolderParams
from landseg.datasets.ghana.params import GhanaParams
from landseg.datasets.landcoverai.params import LandCoverAiParams
from landseg.datasets.landcovernet.params import LandCoverNetParams
from landseg.datasets.sample.params import SampleParams
from landseg.download.params import DownloadParams
from landseg.evaluate.params import EvaluateParams
from landseg.filter.params import FilterParams
from landseg.raster.derived import DerivedBands, UnknownBandError
from landseg.split.params import SplitParams
from landseg.tile.params import TileParams
from landseg.train.params import (
    AugmentParams,
    LossParams,
    ModelParams,
    OptimizerParams,
    SchedulerParams,
    TrainParams,
    schedule_fault,
)

#: Parameters of every dataset. To add one, see docs/add-a-dataset.md.
AnyDataset = Annotated[
    SampleParams | LandCoverAiParams | FolderParams | LandCoverNetParams | GhanaParams, Field(discriminator="name")
]


class Params(Section):
    """Parameters of the landseg pipeline."""

    dataset: AnyDataset
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
        """Check sections against each other."""
        data, tile = self.dataset, self.tile
        faults = (
            data.split_fault(self.split.strategy, tile.size, tile.edge, self.download.source),
            self._bands_fault(),
            self._clouds_fault(),
            self._dates_fault(),
            self._source_fault(),
            self._weights_fault(),
            self._weights_bands_fault(),
            schedule_fault(self.scheduler, self.train),
        )
        if found := list(filter(None, faults)):
            raise ValueError("\n".join(found))
        return self

    def _bands_fault(self) -> str | None:
        data, known = self.dataset, self.dataset.band_names
        layers = self.filter.layers
        stacked = layer_names(known, layers or ("",))
        fetch = ", or add it to dataset.bands" if data.chooses_bands else ""
        for key in ("bands", "show"):
            try:
                layered = self.convert.of_layers(stacked, layers)
                scaled = layered.values == "scaled"
                derived = DerivedBands.of(getattr(layered, key) or (), stacked, data.decibel_bands, scaled=scaled)
                if derived:
                    derived.require_tif(layered.tile_format)
            except ParamsError as error:
                remedy = fetch if isinstance(error, UnknownBandError) else ""
                return str(error).replace("convert.bands", f"convert.{key}", 1) + remedy
        size = self.convert.resolution
        if isinstance(size, str) and size not in stacked:
            return (
                f"convert.resolution = {size}: not a band of this dataset; choose from {', '.join(stacked)}, or give a "
                "pixel size in units of the CRS"
            )
        if self.convert.min_consensus and not data.has_consensus:
            return "convert.min_consensus: only labels of landcovernet have a consensus score; set it to 0"
        return None

    def _clouds_fault(self) -> str | None:
        known = self.dataset.cloud_methods
        if self.filter.method in known:
            return None
        return f"filter.method = {self.filter.method}: no such cloud layer in this dataset; choose {' or '.join(known)}"

    def _dates_fault(self) -> str | None:
        """Return why locations cannot have the dates that stacked imagery needs."""
        chosen, needed, quarters = self.filter, self.filter.needed_dates, self.dataset.quarters
        if not needed:
            return None
        if not quarters:
            other = "filter.dates to each" if chosen.stacked else "filter.composite to median or none"
            return f"{chosen.stacking}: scenes of this dataset have no dates; set {other}"
        limits = dict(self.dataset.date_limits)
        if chosen.one_per_quarter:
            limits["filter.one_per_quarter"] = quarters
        if not chosen.stacked:
            limits["dataset.dates"] = quarters
        for key, most in limits.items():
            if most < needed:
                return f"{chosen.stacking}: needs {needed} dates per location, but {key} allows {most}; change it"
        return None

    def _source_fault(self) -> str | None:
        if self.download.source == "source-coop" or self.dataset.has_sources:
            return None
        return f"download.source = {self.download.source}: only landcovernet and ghana use this key; remove it"

    def _weights_bands_fault(self) -> str | None:
        named = {name.casefold() for name in self.model.weights_bands or ()}
        layers = self.filter.layers
        bands = expand_names(self.convert.bands, layer_names(self.dataset.band_names, layers or ("",)), layers)
        if not named or named & {band.casefold() for band in bands}:
            return None
        return (
            f"model.weights_bands: {', '.join(self.model.weights_bands or ())} has none of the bands "
            f"{', '.join(bands)}; correct the names, or set it to null"
        )

    def _weights_fault(self) -> str | None:
        weights, count = self.loss.class_weights, self.dataset.class_count
        if not isinstance(weights, tuple) or count is None or len(weights) == count:
            return None
        return (
            f"loss.class_weights: has {len(weights)} numbers, but the dataset has {count} classes; give one per class"
        )


def check_params(path: Path = PARAMS) -> Params:
    """Read and check all sections of a params file.

    Raises:
        LandsegError: a key is unknown or missing, or a value is wrong.
    """
    return validate(Params, read_params(path), "", path)


def params_schema() -> str:
    """Return the JSON Schema of params.yaml, for completion and validation in editors."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    return json.dumps(content, indent=2) + "\n"
