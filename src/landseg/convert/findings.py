"""What conversion finds in labels and values: refused where it would spoil training, else printed."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from landseg.convert.encode import SceneFindings
from landseg.convert.labels import LabelDecoder, LabelValue
from landseg.core.arrays import Counts
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.parallel import parallel_map
from landseg.raster.io import open_raster, row_windows

# Share of the labelled pixels of a scene without data, and of values at an end of the range, from which it is printed.
_MIN_SHARE = 0.01
# Share of the range that the values of all scenes use, below which it is printed.
_MIN_CONTRAST = 0.125
# How many values or scenes a message lists.
_MAX_LISTED = 8


def unlisted_values(plan: pa.Table, root: Path, card: DataCard, workers: int) -> str:
    """Return all values or colours without a class in the label rasters of a plan, as the end of a message.

    Args:
        plan: tile plan with the column mask.
        root: root folder of its paths.
        card: data card.
        workers: number of threads.
    """
    censuses = _censuses(plan, root, card, workers)
    found = sum((unlisted for unlisted, _, _ in censuses), Counter[LabelValue]())
    rasters = sum(1 for unlisted, _, _ in censuses if unlisted)
    total = sum(pixels for _, _, pixels in censuses)
    kind = "colours" if card.mask.values == "rgb" else "values"
    return f"{kind} without a class in {rasters} of {len(censuses)} label rasters: {_listed(found, total)}"


def require_classes(counts: Counts, plan: pa.Table, root: Path, card: DataCard, workers: int) -> None:
    """Require pixels of at least two classes.

    Args:
        counts: pixels of each class, then ignored pixels, (K + 1,).
        plan: tile plan with the column mask.
        root: root folder of its paths.
        card: data card.
        workers: number of threads that read label rasters for the message.

    Raises:
        LandsegError: fewer than two classes have pixels.
    """
    present = [land_class.name for land_class, count in zip(card.classes, counts, strict=False) if count]
    if len(present) > 1:
        return
    censuses = _censuses(plan, root, card, workers)
    ignored = sum((values for _, values, _ in censuses), Counter[LabelValue]())
    which = f"only {present[0]} has" if present else "no class has"
    raise LandsegError(
        f"{which} labelled pixels with data in {len(censuses)} label rasters, but a model needs two classes; ignored "
        f"labels: {_listed(ignored, sum(pixels for *_, pixels in censuses))}; correct dataset.classes, dataset.ignore "
        "or dataset.remap"
    )


def _censuses(
    plan: pa.Table, root: Path, card: DataCard, workers: int
) -> list[tuple[Counter[LabelValue], Counter[LabelValue], int]]:
    masks = plan["mask"].unique().to_pylist()
    return list(parallel_map(partial(_census, card=card), [root / mask for mask in masks], workers, "threads"))


def _census(path: Path, card: DataCard) -> tuple[Counter[LabelValue], Counter[LabelValue], int]:
    """Count the pixels of each value of a label raster: without a class, ignored; and all pixels."""
    unlisted, ignored = Counter[LabelValue](), Counter[LabelValue]()
    with open_raster(path, drivers=card.drivers) as source:
        decoder = LabelDecoder(source, card.mask, card.classes)
        for window in row_windows(source.width, source.height):
            for total, found in zip((unlisted, ignored), decoder.census(*decoder.read(source, window)), strict=True):
                total.update(found)
        return unlisted, ignored, source.width * source.height


def _listed(values: Counter[LabelValue], total: int) -> str:
    if not values:
        return "none"
    listed = ", ".join(f"{value} ({_percent(count / total)})" for value, count in values.most_common(_MAX_LISTED))
    return listed + (f" and {len(values) - _MAX_LISTED:,} more" if len(values) > _MAX_LISTED else "")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "under 1%"


def absent_classes(counts: Counts, card: DataCard) -> list[str]:
    """Return the names of the classes without a pixel in the dataset, from the counts of `require_classes`."""
    return [land_class.name for land_class, count in zip(card.classes, counts, strict=False) if not count]


def print_findings(findings: Sequence[SceneFindings], counts: Counts, card: DataCard) -> None:
    """Print what a person should know: absent classes, and labels and values of scenes that look wrong.

    Args:
        findings: findings of all scenes.
        counts: pixels of each class, then ignored pixels, (K + 1,).
        card: data card.
    """
    if absent := absent_classes(counts, card):
        print(
            f"error: no label raster has a pixel of {', '.join(absent)}: models cannot learn these classes, and scores "
            "leave them out; correct dataset.classes or the labels",
            file=sys.stderr,
        )
    for warning in _warnings(findings):
        print(f"warning: {warning}")


def _narrow_range(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield a warning if the values of all scenes together use little of the range: tiles have hardly any contrast."""
    lowest = min((each.values.lowest for each in findings), default=0)
    highest = max((each.values.highest for each in findings), default=0)
    black, white = (findings[0].values.black, findings[0].values.white) if findings else (0, 1)
    if (highest - lowest) < _MIN_CONTRAST * (white - black) < math.inf:
        yield (
            f"the values of all scenes, {lowest:g} to {highest:g}, use {(highest - lowest) / (white - black):.0%} of "
            f"the range {black:g} to {white:g}, so tiles have hardly any contrast; set convert.range to the values of "
            "the images, or rescale images of uint8"
        )


def _warnings(findings: Sequence[SceneFindings]) -> Iterable[str]:
    hidden = [each for each in findings if each.labelled and each.without_data >= _MIN_SHARE * each.labelled]
    for each in sorted(hidden, key=lambda each: -each.without_data / each.labelled)[:_MAX_LISTED]:
        yield (
            f"scene {each.scene}: {each.without_data / each.labelled:.0%} of its labelled pixels are ignored, because "
            f"its {each.data_mask or 'values'} marks them as without data"
            + ("; if the band holds data, name it in dataset.bands" if each.data_mask.startswith("alpha") else "")
        )
    if len(hidden) > _MAX_LISTED:
        yield f"labelled pixels without data in {len(hidden) - _MAX_LISTED:,} more scenes"
    filled = [(each.scene, *fill, each.values.pixels) for each in findings if (fill := each.values.fill())]
    for scene, value, count, pixels in sorted(filled, key=lambda each: -each[2] / each[3])[:_MAX_LISTED]:
        yield (
            f"scene {scene}: all bands are {value:g} in {count:,} pixels ({count / pixels:.1%}) along its border and "
            f"nowhere else; if they have no data, set dataset.nodata = {value:g}, or declare it in the files with "
            f"gdal_edit -a_nodata"
        )
    if len(filled) > _MAX_LISTED:
        yield f"borders of one value in {len(filled) - _MAX_LISTED:,} more scenes"
    clipped = max(findings, key=lambda each: each.values.clipped, default=None)
    if clipped and clipped.values.clipped >= _MIN_SHARE:
        yield (
            f"up to {clipped.values.clipped:.0%} of the values of a scene fall at an end of convert.range "
            f"(scene {clipped.scene})"
        )
    yield from _narrow_range(findings)
    classes = {each.nodata_class: each.scene for each in reversed(findings) if each.nodata_class is not None}
    for value, scene in classes.items():
        yield (
            f"label rasters, first of scene {scene}, declare the nodata value {value:g}, which is also a class id; "
            f"these pixels are read as the class, so add {value:g} to dataset.ignore if they are not labelled"
        )
