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
# Share of the range that the values of a scene use, below which it is printed: fewer than 8 of 256 levels.
_MIN_SCENE_CONTRAST = 0.03
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
    """Yield warnings if the values of all scenes together, or of some scenes, use little of the range."""
    checks = [each.values for each in findings if each.values.with_data]
    lowest = min((check.lowest for check in checks), default=0)
    highest = max((check.highest for check in checks), default=0)
    black, white = (checks[0].black, checks[0].white) if checks else (0, 1)
    if (highest - lowest) < _MIN_CONTRAST * (white - black) < math.inf:
        yield (
            f"the values of all scenes, {lowest:g} to {highest:g}, use {(highest - lowest) / (white - black):.0%} of "
            f"the range {black:g} to {white:g}, so tiles have hardly any contrast; set convert.range to the values of "
            "the images, or rescale images of uint8"
        )
        return
    faint = [each for each in findings if 0 < each.values.contrast < _MIN_SCENE_CONTRAST]
    if faint:
        check = faint[0].values
        yield (
            f"the values of {_scenes(len(faint))}, first {faint[0].scene} with {check.lowest:g} to {check.highest:g}, "
            f"use under {_MIN_SCENE_CONTRAST:.0%} of the range {black:g} to {white:g}; check their unit and scale"
        )


def _constant(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield a warning if bands of some scenes have one value throughout."""
    constant = [each for each in findings if each.values.constant_bands]
    if constant:
        bands = constant[0].values.constant_bands
        listed = ", ".join(f"{band} is {value:g}" for band, value in bands.items())
        yield (
            f"one value throughout in bands of {_scenes(len(constant))}, first {constant[0].scene}, where {listed}; "
            "replace or remove such images"
        )


def _scenes(count: int) -> str:
    return f"{count:,} scene" + ("s" if count > 1 else "")


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
    filled = [(each.scene, fill, each.values.pixels) for each in findings if (fill := each.values.fill())]
    for scene, fill, pixels in sorted(filled, key=lambda each: -each[1].count / each[2])[:_MAX_LISTED]:
        key = f"set dataset.nodata = {fill.value:g}, or " if fill.value is not None else ""
        yield (
            f"scene {scene}: {fill.text} in {fill.count:,} pixels ({fill.count / pixels:.1%}) along its border and "
            f"nowhere else; if they have no data, {key}{fill.remedy}"
        )
    if len(filled) > _MAX_LISTED:
        yield f"borders of one value in {len(filled) - _MAX_LISTED:,} more scenes"
    clipped = max(findings, key=lambda each: each.values.clipped, default=None)
    if clipped and clipped.values.clipped >= _MIN_SHARE:
        yield (
            f"up to {clipped.values.clipped:.0%} of the values of a scene fall at an end of convert.range "
            f"(scene {clipped.scene})"
        )
    partly = max(findings, key=lambda each: each.values.partly_nodata / max(each.values.pixels, 1), default=None)
    if partly and partly.values.partly_nodata >= _MIN_SHARE * partly.values.pixels:
        yield (
            f"up to {partly.values.partly_nodata / partly.values.pixels:.0%} of the pixels of a scene (scene "
            f"{partly.scene}) have the nodata value {partly.values.nodata:g} in some bands only; they count as data"
        )
    yield from _constant(findings)
    yield from _narrow_range(findings)
    declared = {each.nodata_class: each.scene for each in reversed(findings) if each.nodata_class}
    for what, scene in declared.items():
        yield (
            f"label rasters, first of scene {scene}, declare {what}; these pixels are read as the class, so add the "
            "value or colour to dataset.ignore if they are not labelled"
        )
