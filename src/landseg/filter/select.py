"""Scene selection by cloud and no-data share."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from landseg.core.data_card import DataCard
from landseg.core.errors import ParamsError
from landseg.core.parallel import Engine
from landseg.core.progress import track
from landseg.core.tables import quarter
from landseg.core.wording import first_and_others
from landseg.raster.clouds import CloudCoverage, CloudRule, cloud_coverage
from landseg.raster.image import open_image

NO_LAYER = "no cloud layer"

# Opening small layers is half the work and holds Python's lock, which threads share. Processes avoid this, but they
# take seconds to start; threads measure some thousand layers in that time.
_PROCESSES_FROM = 4000
# Largest number of scenes per job: handing out small layers one by one is slow.
_JOB_SIZE = 32
# How many of the clearest scenes the error message names.
_MAX_CLEAREST = 10
# Share of pixels without data in all cloud layers from which it is printed, and largest probability, in %, below which
# they may be tenths.
_MUCH_NODATA, _TENTHS = 0.5, 10
# Values of cloud masks, which a layer of scene classes or probabilities hardly has alone.
_MASK_VALUES = ({0, 1}, {0, 255})
# How many dropped scenes are printed.
_MAX_PRINTED = 20


def coverages(
    scenes: pd.DataFrame, raw: Path, rule: CloudRule, card: DataCard, engine: Engine
) -> dict[str, CloudCoverage]:
    """Measure the cloud cover of all scenes that have a cloud layer, in parallel, with a progress bar.

    Args:
        scenes: columns scene, image and cloud.
        raw: folder of the raw files, to which paths are relative.
        rule: which pixels are cloud.
        card: the data card.
        engine: where they are measured.

    Returns:
        Coverage by scene.

    Raises:
        LandsegError: a cloud layer is missing, damaged or not on the grid of its image.
    """
    layered = scenes[scenes["cloud"] != ""]
    files = list(zip(layered["image"], layered["cloud"], strict=True))
    size = max(1, min(_JOB_SIZE, len(files) // (8 * engine.workers)))
    jobs = [files[start : start + size] for start in range(0, len(files), size)]
    kind: Literal["processes", "threads"] = "processes" if len(files) >= _PROCESSES_FROM else "threads"
    measure = partial(_measure, raw=raw, rule=rule, card=card)
    results = engine.map(measure, jobs, prefer=kind, name=_job_name)
    measured = track(results, len(files), "filter", "scenes", len)
    return dict(zip(layered["scene"], chain.from_iterable(measured), strict=True))


def _job_name(files: list[tuple[str, str]]) -> str:
    return first_and_others([cloud for _, cloud in files])


def _measure(files: list[tuple[str, str]], raw: Path, rule: CloudRule, card: DataCard) -> list[CloudCoverage]:
    """Measure some scenes."""
    measured = []
    for image, cloud in files:
        bands = card.bands[:1] if rule.knows_nodata else card.bands  # the grid of one band is that of all
        with open_image(raw, image, bands, card) as source:
            measured.append(cloud_coverage(raw, cloud, rule, source))
    return measured


def warnings(scenes: int, found: Iterable[CloudCoverage], rule: CloudRule) -> list[str]:
    """Return what a person should know of the cloud layers of a dataset.

    Args:
        scenes: number of scenes.
        found: coverage of all scenes that have a cloud layer.
        rule: which pixels are cloud.
    """
    measured = list(found)
    declared = Counter(text for coverage in measured for text in coverage.ambiguities)
    texts = [f"{count:,} cloud layers {text}" for text, count in declared.items()]
    if 0 < len(measured) < scenes:
        texts.append(f"{scenes - len(measured):,} of {scenes:,} scenes have no cloud layer; they count as clear enough")
    distinct = [frozenset[float]().union(*layer) for layer in zip(*(each.distinct for each in measured), strict=True)]
    if distinct and not rule.layers:
        texts += _mask_warnings(distinct[0], rule)
    pixels, nodata = (sum(getattr(each, name) for each in measured) for name in ("pixels", "nodata"))
    if nodata > _MUCH_NODATA * pixels:
        texts.append(
            f"{nodata / pixels:.0%} of the pixels of the cloud layers are read as without data; if they have data, the "
            "layers have another coding than filter.method"
        )
    for layer, values in zip(rule.layers, distinct, strict=False):
        if len(values) > 1 and any(values <= mask for mask in _MASK_VALUES):
            listed = " and ".join(f"{value:g}" for value in sorted(values))
            texts.append(
                f"all cloud layers ({layer}) have the values {listed} only, as a cloud mask; if they are masks, set "
                "dataset.cloud_values and filter.method to mask"
            )
        elif layer == "CLD" and 1 < max(values - {255}, default=0) <= _TENTHS:
            texts.append(
                f"no cloud probability is above {max(values - {255}):g} %; if they are tenths, multiply them by 10"
            )
    return texts


def _mask_warnings(values: frozenset[float], rule: CloudRule) -> Iterable[str]:
    """Yield how the values of cloud masks are read where they may mean something else."""
    cloudy = sorted(values - {*rule.clear, rule.nodata})
    if rule.nodata in values and not rule.cloudy:
        yield f"cloud masks: {rule.nodata} is read as no data; if it is cloud, set dataset.cloud_nodata to null"
    unknown = [value for value in cloudy if value not in rule.cloudy]
    if unknown not in ([], [1]):
        listed = ", ".join(f"{value:g}" for value in unknown)
        yield f"cloud masks: {listed} are read as cloud; list values of clear pixels in dataset.cloud_clear"


def select(
    scenes: pd.DataFrame,
    measured: Mapping[str, CloudCoverage],
    max_cloud_share: float,
    max_nodata_share: float = 1,
    keep: int | None = None,
    one_per_quarter: bool = False,
) -> pd.DataFrame:
    """Select scenes: return the table with columns cloud_share, nodata_share, kept and reason.

    Scenes of a location rank by cloud share, then no-data share, then date. A scene without a cloud layer passes both
    limits and ranks last.

    Args:
        scenes: columns scene, location and date.
        measured: coverage by scene, for scenes that have a cloud layer.
        max_cloud_share: largest cloud share of a kept scene.
        max_nodata_share: largest share of pixels without data of a kept scene.
        keep: largest number of scenes per location; None keeps all.
        one_per_quarter: whether to keep at most one scene per location and quarter.

    Raises:
        ParamsError: no scene is kept, or `one_per_quarter` is set and a scene has no date.
    """
    found = [measured.get(scene) for scene in scenes["scene"]]
    reasons = [_exceeded_limit(cover, max_cloud_share, max_nodata_share) for cover in found]
    if all(reasons):
        raise _none_kept(scenes["scene"].tolist(), found, max_cloud_share, max_nodata_share)
    ranking, names = _ranking(found, scenes["date"].tolist()), scenes["scene"].tolist()
    if one_per_quarter:
        _drop_all_but(1, reasons, ranking, names, _quarters(scenes), "quarter")
    if keep is not None:
        _drop_all_but(keep, reasons, ranking, names, scenes["location"].tolist(), "location")
    return scenes.assign(
        cloud_share=pd.array([None if cover is None else cover.cloud_share for cover in found], dtype="Float64"),
        nodata_share=pd.array([None if cover is None else cover.nodata_share for cover in found], dtype="Float64"),
        kept=[not reason for reason in reasons],
        reason=[
            reason or ("clear enough" if cover else NO_LAYER) for reason, cover in zip(reasons, found, strict=True)
        ],
    )


def _exceeded_limit(cover: CloudCoverage | None, max_cloud_share: float, max_nodata_share: float) -> str:
    """Return why a scene is dropped, or '' if it passes both limits."""
    if cover is None:
        return ""
    if cover.cloud_share is None:
        return "no data"
    if cover.cloud_share > max_cloud_share:
        return _over("cloud share", cover.cloud_share, max_cloud_share)
    if cover.nodata_share > max_nodata_share:
        return _over("no-data share", cover.nodata_share, max_nodata_share)
    return ""


def _over(name: str, share: float, limit: float) -> str:
    """Return a reason with enough digits to tell the share from the limit."""
    digits = next((n for n in (1, 2, 3, 6) if f"{share:.{n}%}" != f"{limit:.{n}%}"), 9)
    return f"{name} {share:.{digits}%} is over the limit of {limit:.{digits}%}"


def _rank(cover: CloudCoverage | None) -> tuple[float, float]:
    if cover is None or cover.cloud_share is None:
        return np.inf, np.inf
    return cover.cloud_share, cover.nodata_share


def _ranking(found: Sequence[CloudCoverage | None], dates: Sequence[str]) -> list[int]:
    """Return the positions of scenes, clearest first, ties by date."""
    return sorted(range(len(found)), key=lambda position: (*_rank(found[position]), dates[position]))


def _quarters(scenes: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Return location, year and quarter of each scene."""
    rows = scenes[["location", "scene", "date"]].to_numpy().tolist()
    return [(location, *_quarter(scene, day)) for location, scene, day in rows]


def _quarter(scene: str, day: str) -> tuple[int, int]:
    if fault := date_fault(day):
        raise ParamsError(
            f"filter.one_per_quarter: scene {scene} has {fault}; set it to false or correct the scene table"
        )
    return quarter(day)


def date_fault(day: str) -> str:
    """Return what is wrong with the date of a scene, such as 'no date'; '' if it is YYYY-MM-DD."""
    try:
        quarter(day)
    except ValueError:
        return f"the invalid date {day!r} (expected YYYY-MM-DD)" if day else "no date"
    return ""


def _drop_all_but(
    count: int,
    reasons: list[str],
    ranking: Sequence[int],
    scenes: Sequence[str],
    groups: Sequence[Hashable],
    group_name: str,
) -> None:
    """Keep the first `count` scenes of each group by rank; set the reason of the others, in place."""
    kept: dict[Hashable, list[str]] = {}
    for position in ranking:
        if reasons[position]:
            continue
        clearest = kept.setdefault(groups[position], [])
        if len(clearest) < count:
            clearest.append(scenes[position])
        elif count == 1:
            reasons[position] = f"not the clearest scene of its {group_name}, which is {clearest[0]}"
        else:
            reasons[position] = f"not among the {count} clearest scenes of its {group_name}"


def _none_kept(
    scenes: Sequence[str], found: Sequence[CloudCoverage | None], max_cloud_share: float, max_nodata_share: float
) -> ParamsError:
    """Return the error that names the limits and the clearest scenes."""
    ranked = sorted((*_rank(cover), scene) for cover, scene in zip(found, scenes, strict=True))
    ranked = [(cloud, nodata, scene) for cloud, nodata, scene in ranked if np.isfinite(cloud)]
    limits = f"filter.max_cloud_share = {max_cloud_share}"
    if not ranked:
        return ParamsError(f"{limits}: none of {len(scenes)} scenes has data; get other scenes")
    # A scene below the cloud limit is dropped for its no-data share, so name that limit and those shares, too.
    over_nodata = ranked[0][0] <= max_cloud_share
    if over_nodata:
        limits += f", filter.max_nodata_share = {max_nodata_share}"
    clearest = [
        f"{cloud:.3f} ({scene}, {nodata:.3f} without data)" if over_nodata else f"{cloud:.3f} ({scene})"
        for cloud, nodata, scene in ranked[:_MAX_CLEAREST]
    ]
    return ParamsError(
        f"{limits}: none of {len(scenes)} scenes is kept, lowest cloud shares: {', '.join(clearest)}; "
        "raise the limit or get clearer scenes"
    )


def print_selection(scenes: pd.DataFrame, image: str, table: Path) -> None:
    """Print the number of kept scenes and why the others were dropped.

    Args:
        scenes: the table that `select` returns.
        image: what is made of the scenes of a location, such as 'one composite'; '' if nothing is.
        table: file that lists all scenes.
    """
    kept, dropped = scenes[scenes["kept"]], scenes[~scenes["kept"]]
    summary = f"kept {len(kept):,} of {len(scenes):,} scenes"
    if image:
        summary += f", {image} for each of {kept['location'].nunique():,} locations"
    print(summary)
    for scene in dropped[:_MAX_PRINTED].itertuples():
        print(f"  dropped {scene.scene}: {scene.reason}")
    if len(dropped) > _MAX_PRINTED:
        print(f"  ... and {len(dropped) - _MAX_PRINTED:,} more, see {table}")
