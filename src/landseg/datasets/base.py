"""What every data-set module offers: `fetch`, and what it returns."""

from dataclasses import dataclass, field

import pandas as pd

from landseg.datasets.card import Card


def _no_official_split() -> pd.DataFrame:
    return pd.DataFrame({"tile": [], "part": []}, dtype="str")


@dataclass(frozen=True)
class Fetched:
    """What a download ends in, beside the raw files themselves."""

    card: Card
    #: Columns scene, image, mask, cloud (see landseg.tables); '' where a scene has no such file.
    scenes: pd.DataFrame
    #: Columns tile, part; empty where the publisher splits nothing.
    official: pd.DataFrame = field(default_factory=_no_official_split)
