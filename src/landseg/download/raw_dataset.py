"""What the datasets return to the download stage, beside the raw files."""

from dataclasses import dataclass, field

import pandas as pd

from landseg.core.tables import FILE_COLUMNS


def _no_official_split() -> pd.DataFrame:
    return pd.DataFrame({"tile": [], "split": []}, dtype="str")


def _no_files() -> pd.DataFrame:
    return pd.DataFrame(columns=list(FILE_COLUMNS), dtype="str")


@dataclass(frozen=True)
class RawDataset:
    """Result of a download, beside the raw files."""

    #: The scene table, as landseg.core.tables.scene_table makes it.
    scenes: pd.DataFrame
    #: The publisher's split: columns tile, split, or location, split. Empty if there is none.
    official: pd.DataFrame = field(default_factory=_no_official_split)
    #: Source of every fetched file: columns file, url, bytes, sha256, etag. Empty for archives and local data.
    files: pd.DataFrame = field(default_factory=_no_files)
