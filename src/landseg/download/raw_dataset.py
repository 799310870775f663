"""Interface between the download stage and the datasets: `fetch`, and its result."""

import importlib
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from landseg.core.data_card import DataCard
from landseg.core.errors import ParamsError
from landseg.core.tables import FILE_COLUMNS


def _no_official_split() -> pd.DataFrame:
    return pd.DataFrame({"tile": [], "split": []}, dtype="str")


def _no_files() -> pd.DataFrame:
    return pd.DataFrame(columns=list(FILE_COLUMNS), dtype="str")


@dataclass(frozen=True)
class RawDataset:
    """Result of a download, beside the raw files."""

    card: DataCard
    #: The scene table, as landseg.core.tables.scene_table makes it.
    scenes: pd.DataFrame
    #: The publisher's split: columns tile, split, or location, split. Empty if there is none.
    official: pd.DataFrame = field(default_factory=_no_official_split)
    #: Source of every fetched file: columns file, url, bytes, sha256, etag. Empty for archives and local data.
    files: pd.DataFrame = field(default_factory=_no_files)


def dataset_module(name: str) -> Any:
    """Import the module of a dataset: the function `fetch`, and the class `Params` of its section `dataset`.

    No other dataset is imported, so dvc.yaml lists only the folder of the dataset in use.

    Raises:
        ParamsError: no dataset has this name.
    """
    try:
        return importlib.import_module(f"landseg.datasets.{name}.fetch")
    except ModuleNotFoundError as error:
        if error.name not in (f"landseg.datasets.{name}", f"landseg.datasets.{name}.fetch"):
            raise
        raise ParamsError(f"dataset.name = {name}: unknown dataset; run `landseg check`") from None
