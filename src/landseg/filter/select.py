"""Select scenes by cloud and no-data share."""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from landseg.core.data_card import Card
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.parallel import each
from landseg.core.progress import track
from landseg.core.tables import quarter
from landseg.raster.clouds import CloudRule, Coverage, coverage
from landseg.raster.image import opened_image

NO_LAYER = "no cloud layer"


# How many of the clearest scenes a message names.
_SHOWN = 10

# Opening small layers is half the work, under Python's lock, which threads share. Processes do not share it, but take
# seconds to start, in which threads measure some thousand layers.
_PROCESSES_FROM = 4000
# Scenes in a job, at most: handing out small ones singly takes a good part of the time.
_JOB = 32
_REASONS_SHOWN = 20


def coverages(scenes: pd.DataFrame, raw: Path, rule: CloudRule, card: Card, workers: int) -> dict[str, Coverage]:
    """Measure the cloud cover of all scenes that have a cloud layer, side by side, and show progress.

    Args:
        scenes: columns scene, image and cloud.
        raw: the folder from which their paths start.
        rule: what is cloud.
        card: the data card.
        workers: processes or threads to use.
    """
    layered = scenes[scenes["cloud"] != ""]
    files = layered[["image", "cloud"]].to_numpy().tolist()
    size = max(1, min(_JOB, len(files) // (8 * workers)))
    jobs = [files[start : start + size] for start in range(0, len(files), size)]
    kind: Literal["processes", "threads"] = "processes" if len(files) >= _PROCESSES_FROM else "threads"
    measure = partial(_measure, raw=raw, rule=rule, card=card)
    measured = track(each(measure, jobs, workers, kind), len(files), "filter", "scenes", len)
    return dict(zip(layered["scene"], chain.from_iterable(measured), strict=True))


def _measure(files: list[tuple[str, str]], raw: Path, rule: CloudRule, card: Card) -> list[Coverage]:
    """Measure some scenes; an image is opened only where its cloud layer does not say what has no data."""
    found = []
    for image, cloud in files:
        if rule.knows_nodata:
            found.append(coverage(raw, cloud, rule))
        else:
            with opened_image(raw, image, card.bands, card) as source:
                found.append(coverage(raw, cloud, rule, source))
    return found


def select(
    scenes: pd.DataFrame,
    coverages: Mapping[str, Coverage],
    max_cloud_share: float,
    max_nodata_share: float = 1,
    keep: int | None = None,
    one_per_quarter: bool = False,
) -> pd.DataFrame:
    """Return scenes with columns cloud_share, nodata_share, kept and reason.

    A scene without a cloud layer is clear enough; among the scenes of its place it ranks last. The others rank by
    cloud share, then by the share without data, then by date.

    Args:
        scenes: columns scene, place and date.
        coverages: what `coverage` found, by scene, of those that have a cloud layer.
        max_cloud_share: the largest cloud share at which a scene is kept.
        max_nodata_share: the largest share of pixels without data at which it is kept.
        keep: how many scenes of a place to keep at most; None is all.
        one_per_quarter: whether to keep one scene of a place in a quarter of a year at most.

    Raises:
        LandsegError: no scene is kept; or quarters are asked for, and a scene has no date.
    """
    found = [coverages.get(scene) for scene in scenes["scene"]]
    reasons = [_fault(of, max_cloud_share, max_nodata_share) for of in found]
    if all(reasons):
        raise _none_kept(scenes["scene"].tolist(), found, max_cloud_share, max_nodata_share)
    ranking, names = _ranking(found, scenes["date"].tolist()), scenes["scene"].tolist()
    if one_per_quarter:
        _thin(reasons, ranking, names, _quarters(scenes), 1, "of its quarter")
    if keep is not None:
        _thin(reasons, ranking, names, scenes["location"].tolist(), keep, "of its place")
    return scenes.assign(
        cloud_share=pd.array([None if of is None else of.cloud_share for of in found], dtype="Float64"),
        nodata_share=pd.array([None if of is None else of.nodata_share for of in found], dtype="Float64"),
        kept=[not reason for reason in reasons],
        reason=[reason or ("clear enough" if of else NO_LAYER) for reason, of in zip(reasons, found, strict=True)],
    )


def _fault(of: Coverage | None, max_cloud_share: float, max_nodata_share: float) -> str:
    """Say why a scene is not clear enough, '' where it is."""
    if of is None:
        return ""
    if of.cloud_share is None:
        return "no data"
    if of.cloud_share > max_cloud_share:
        return _over("cloud share", of.cloud_share, max_cloud_share)
    if of.nodata_share > max_nodata_share:
        return _over("no-data share", of.nodata_share, max_nodata_share)
    return ""


def _over(what: str, share: float, limit: float) -> str:
    """Say so, in as many digits as it takes to see it."""
    digits = next((some for some in (1, 2, 3, 6) if f"{share:.{some}%}" != f"{limit:.{some}%}"), 9)
    return f"{what} {share:.{digits}%} is over the limit of {limit:.{digits}%}"


def _rank(of: Coverage | None) -> tuple[float, float]:
    return (np.inf, np.inf) if of is None or of.cloud_share is None else (of.cloud_share, of.nodata_share)


def _ranking(found: Sequence[Coverage | None], dates: Sequence[str]) -> list[int]:
    """Return the positions of scenes, the clearest first; of equals, the earliest."""
    return sorted(range(len(found)), key=lambda at: (*_rank(found[at]), dates[at]))


def _quarters(scenes: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Return the place, the year and the quarter of each scene."""
    rows = scenes[["location", "scene", "date"]].to_numpy().tolist()
    return [(place, *_quarter(scene, day)) for place, scene, day in rows]


def _quarter(scene: str, day: str) -> tuple[int, int]:
    try:
        return quarter(day)
    except ValueError:
        fault = f"the date {day!r}, which is none (YYYY-MM-DD)" if day else "no date"
        raise ParamsError(
            f"filter.one_per_quarter needs the dates of scenes, and scene {scene} has {fault}; "
            "set it to false, or correct the scene table"
        ) from None


def _thin(
    reasons: list[str], ranking: Sequence[int], scenes: Sequence[str], groups: Sequence[Hashable], most: int, whose: str
) -> None:
    """Give a reason to fall to all scenes but the first `most`, by rank, of those in each group that still stand."""
    kept: dict[Hashable, list[str]] = {}
    for at in ranking:
        chosen = kept.setdefault(groups[at], [])
        if reasons[at]:
            continue
        if len(chosen) < most:
            chosen.append(scenes[at])
        elif most == 1:
            reasons[at] = f"the clearest {whose} is kept: {chosen[0]}"
        else:
            reasons[at] = f"the {most} clearest {whose} are kept"


def _none_kept(
    scenes: Sequence[str], found: Sequence[Coverage | None], max_cloud_share: float, max_nodata_share: float
) -> LandsegError:
    """Say so, and how clear the clearest scenes are."""
    shares = [(*_rank(of), scene) for of, scene in zip(found, scenes, strict=True) if of and of.nodata < of.pixels]
    empty = any(cloud <= max_cloud_share for cloud, *_ in shares)  # so it is the other limit that they are over
    limits = f"filter.max_cloud_share = {max_cloud_share}"
    limits += f" with filter.max_nodata_share = {max_nodata_share}" * empty
    said = [
        f"{cloud:.3f} ({scene}{f', {nodata:.3f} without data' * empty})"
        for cloud, nodata, scene in sorted(shares)[:_SHOWN]
    ]
    clearest = (
        f"the clearest of which has a cloud share of {', then '.join(said)}" if said else "none of which has data"
    )
    return ParamsError(
        f"{limits} keeps none of {len(scenes)} scenes, {clearest}; raise the limit or get clearer scenes"
    )


def print_selection(scenes: pd.DataFrame, composite: str, table: Path) -> None:
    """Print how many scenes were kept, and why the others were dropped.

    Args:
        scenes: what `select` returns.
        composite: filter.composite.
        table: the file that lists all of them.
    """
    kept, dropped = scenes[scenes["kept"]], scenes[~scenes["kept"]]
    locations = f", one composite for each of {kept['location'].nunique():,} locations"
    print(f"kept {len(kept):,} of {len(scenes):,} scenes{locations if composite == 'median' else ''}")
    for scene in dropped[:_REASONS_SHOWN].itertuples():
        print(f"  dropped {scene.scene}: {scene.reason}")
    if len(dropped) > _REASONS_SHOWN:
        print(f"  ... and {len(dropped) - _REASONS_SHOWN:,} more, see {table}")
