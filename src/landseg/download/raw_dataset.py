"""What every data-set module offers: `fetch`, and what it returns."""

import importlib
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from landseg.core.data_card import Card
from landseg.core.errors import LandsegError
from landseg.core.tables import FILE_COLUMNS


def _no_official_split() -> pd.DataFrame:
    return pd.DataFrame({"tile": [], "split": []}, dtype="str")


def _no_files() -> pd.DataFrame:
    return pd.DataFrame(columns=list(FILE_COLUMNS), dtype="str")


@dataclass(frozen=True)
class RawDataset:
    """What a download ends in, beside the raw files themselves."""

    card: Card
    #: As landseg.core.tables.scene_table makes it.
    scenes: pd.DataFrame
    #: Columns tile, part, or place, part; empty where the publisher splits nothing.
    official: pd.DataFrame = field(default_factory=_no_official_split)
    #: Columns file, url, bytes, sha256, etag: where fetched files came from; empty where none was fetched by itself.
    files: pd.DataFrame = field(default_factory=_no_files)


def dataset_module(name: str) -> Any:
    """Import the module of one data set: `fetch`, and `Params`, its section `dataset`.

    No other data set's module is imported, so dvc.yaml lists only the folder of the one in use.

    Raises:
        LandsegError: there is no such data set.
    """
    try:
        return importlib.import_module(f"landseg.datasets.{name}.fetch")
    except ModuleNotFoundError as error:
        if error.name not in (f"landseg.datasets.{name}", f"landseg.datasets.{name}.fetch"):
            raise
        raise LandsegError(f"dataset.name = {name}: no such data set; run `landseg check`") from None
