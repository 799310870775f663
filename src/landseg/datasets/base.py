"""What every data-set module offers: `fetch`, and what it returns."""

from dataclasses import dataclass, field

import pandas as pd

from landseg.datasets.card import Card
from landseg.tables import FILE_COLUMNS


def _no_official_split() -> pd.DataFrame:
    return pd.DataFrame({"tile": [], "part": []}, dtype="str")


def _no_files() -> pd.DataFrame:
    return pd.DataFrame(columns=list(FILE_COLUMNS), dtype="str")


@dataclass(frozen=True)
class Fetched:
    """What a download ends in, beside the raw files themselves."""

    card: Card
    #: As landseg.tables.scene_table makes it.
    scenes: pd.DataFrame
    #: Columns tile, part, or place, part; empty where the publisher splits nothing.
    official: pd.DataFrame = field(default_factory=_no_official_split)
    #: Columns file, url, bytes, sha256, etag: where fetched files came from; empty where none was fetched by itself.
    files: pd.DataFrame = field(default_factory=_no_files)
