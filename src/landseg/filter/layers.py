"""Layers of composites: which dates of a location each one is the median of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Literal

import pandas as pd

from landseg.core.errors import LandsegError, ParamsError
from landseg.filter.params import QUARTERS
from landseg.filter.select import date_fault

#: Positions of the dates of each layer, among the scenes of a location, by the name of the layer.
Layers = Mapping[str, Sequence[int]]

_MONTHS = ("January to March", "April to June", "July to September", "October to December")


@dataclass(frozen=True)
class _Date:
    """A date of a location: its position among the scenes of the location, and what it is ranked by."""

    position: int
    day: date
    cloud_share: float
    nodata_share: float

    @property
    def rank(self) -> tuple[float, float, date]:
        """The clearest dates have the lowest ranks, as for filter.keep."""
        return self.cloud_share, self.nodata_share, self.day


def composite_layers(
    kept: pd.DataFrame, composite: Literal["none", "median", "seasonal"], stacked: int
) -> dict[str, Layers]:
    """Return the layers of the composite of each location; empty if each scene is an image of its own.

    - median: a single layer without a name, of all dates;
    - seasonal: q1 to q4, of the dates in each quarter of the year, whatever the year;
    - stacked: d1 to dn in order of time, of one date each: the n clearest, by cloud share, then no-data share, then
      date, as for filter.keep.

    Args:
        kept: the kept scenes, with columns scene, location, date, cloud_share and nodata_share.
        composite: filter.composite.
        stacked: number of dates in filter.dates; 0: none.

    Raises:
        LandsegError: a location has no date in a quarter, or too few dates.
        ParamsError: a scene has no date.
    """
    if stacked:
        return _stacks(_dates(kept, f"filter.dates = stack {stacked}", "each"), stacked)
    if composite == "seasonal":
        return _seasons(_dates(kept, "filter.composite = seasonal", "median or none"))
    if composite == "median":
        return {str(location): {"": range(len(of))} for location, of in kept.groupby("location", sort=False)}
    return {}


def _dates(scenes: pd.DataFrame, key: str, other: str) -> dict[str, list[_Date]]:
    """Return the dates of each location, in the order of its scenes.

    Raises:
        ParamsError: a scene has no date, or an invalid one.
    """
    rows = scenes[["scene", "location", "date"]].to_numpy().tolist()
    faults = [(scene, fault) for scene, _, day in rows if (fault := date_fault(day))]
    if faults:
        raise ParamsError(
            f"{key}: scene {faults[0][0]} has {faults[0][1]}{_more(len(faults) - 1, 'scene')}; set it to {other}, or "
            "correct the scene table"
        )
    shares = scenes[["cloud_share", "nodata_share"]].astype("Float64").fillna(float("inf")).to_numpy(float).tolist()
    found: dict[str, list[_Date]] = {}
    for (_, location, day), (cloud, nodata) in zip(rows, shares, strict=True):
        dates = found.setdefault(location, [])
        dates.append(_Date(len(dates), date.fromisoformat(day[:10]), cloud, nodata))
    return found


def _seasons(dates: Mapping[str, Sequence[_Date]]) -> dict[str, Layers]:
    """Return the quarters of the year as layers, for each location."""
    seasons: dict[str, Layers] = {
        location: {
            name: [each.position for each in of if (each.day.month - 1) // 3 == quarter]
            for quarter, name in enumerate(QUARTERS)
        }
        for location, of in dates.items()
    }
    lacking = [location for location, layers in seasons.items() if not all(layers.values())]
    if lacking:
        quarter = [bool(found) for found in seasons[lacking[0]].values()].index(False)
        raise LandsegError(
            f"location {lacking[0]}: no kept date in quarter {quarter + 1} ({_MONTHS[quarter]})"
            f"{_more(len(lacking) - 1, 'location')}, but filter.composite = seasonal needs one in every quarter; keep "
            "more dates (filter.max_cloud_share, filter.keep), get more (dataset.dates_per_quarter), or "
            "set filter.composite = median"
        )
    return seasons


def _stacks(dates: Mapping[str, Sequence[_Date]], count: int) -> dict[str, Layers]:
    """Return the clearest dates, in order of time, as layers, for each location."""
    few = [location for location, of in dates.items() if len(of) < count]
    if few:
        raise LandsegError(
            f"location {few[0]}: {len(dates[few[0]])} kept date(s){_more(len(few) - 1, 'location')}, but filter.dates "
            f"= stack {count} needs {count}; keep more dates (filter.max_cloud_share, filter.keep, "
            "filter.one_per_quarter), get more, or stack fewer"
        )
    stacks: dict[str, Layers] = {}
    for location, of in dates.items():
        clearest = sorted(of, key=lambda each: each.rank)[:count]
        in_time = sorted(clearest, key=lambda each: (each.day, each.position))
        stacks[location] = {f"d{n}": [each.position] for n, each in enumerate(in_time, 1)}
    return stacks


def _more(count: int, name: str) -> str:
    """Return how many more scenes or locations have a fault, for a message."""
    return f" (and {count:,} more {name}{'s' if count > 1 else ''})" if count else ""


def gap_sentence(shares: Mapping[str, float], layer: str) -> str:
    """Return a sentence on the pixels that `composite.medians` filled.

    Args:
        shares: their share by location.
        layer: what a layer stands for, quarter or date.
    """
    most = max(shares, key=lambda location: shares[location])
    return (
        f"pixels without a clear value in a {layer} take the median over all clear dates of the location: "
        f"{median(shares.values()):.1%} of the pixels of a location (median), at most {shares[most]:.1%} ({most})"
    )
