"""What conversion prints of labels and values that it can read, but that are probably not what they seem."""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

import numpy as np

from landseg.convert.encode import SceneFindings
from landseg.convert.findings import absent_classes
from landseg.core.arrays import Counts
from landseg.core.band_statistics import BandStatistics
from landseg.core.data_card import DataCard
from landseg.core.rendering import Rendering
from landseg.core.wording import scenes_in_words
from landseg.raster.fill import Fill
from landseg.raster.values import MIN_CONTRAST

# Share of the pixels of a scene from which it is printed: labels without data, transparent or without a class; values
# at an end of the range; nodata values in some bands.
_MIN_SHARE = 0.01
# Share of the range that the values of a scene use, below which it is printed: fewer than 8 of 256 levels.
_MIN_SCENE_CONTRAST = 0.03
# Share of the largest value of the median scene, and of the contrast of the strongest band, below which it is printed.
_MIN_OF_OTHERS = 0.1
# Number of pixels of a class in the dataset below which it is printed.
_FEW_PIXELS = 100
# Share of the values of a band outside of the range of pictures, above which it is printed.
_MUCH_OUTSIDE = 0.5
# How many scenes a message lists.
_MAX_LISTED = 8


def print_notices(texts: Iterable[str], counts: Counts, card: DataCard) -> None:
    """Print the classes without a pixel, and notices.

    Args:
        texts: notices.
        counts: pixels of each class, then ignored pixels, (K + 1,).
        card: data card.
    """
    if absent := absent_classes(counts, card):
        print(
            f"error: no tile has a labelled pixel of {', '.join(absent)}: models cannot learn these classes, and "
            "scores leave them out; correct dataset.classes, the labels or tile.edge",
            file=sys.stderr,
        )
    for text in texts:
        print(f"warning: {text}")


def picture_notices(whole: BandStatistics, rendering: Rendering) -> Iterator[str]:
    """Yield a warning of bands of which pictures show little, where tiles keep their values.

    Args:
        whole: statistics of all tiles.
        rendering: bands and stretch of pictures.
    """
    if rendering.format == "png" or rendering.stretch != "fixed" or rendering.dtype == "uint8":
        return
    low, high = rendering.range
    shares = {band: whole.outside(rendering.stored.index(band), low, high) for band in rendering.shown}
    listed = ", ".join(f"{share:.0%} of {band}" for band, share in shares.items() if share > _MUCH_OUTSIDE)
    if listed:
        yield (
            f"pictures are nearly black or white: {listed} fall outside of convert.range, {low:g} to {high:g}; set it "
            "to the values of the images, or set convert.stretch = percentiles"
        )


def notices(findings: Sequence[SceneFindings], counts: Counts, card: DataCard) -> list[str]:
    """Return what a person should know of classes, labels and values that look wrong, one sentence each.

    Args:
        findings: findings of all scenes.
        counts: pixels of each class, then ignored pixels, (K + 1,).
        card: data card.
    """
    few = [
        f"{each.name} ({count})" for each, count in zip(card.classes, counts, strict=False) if 0 < count < _FEW_PIXELS
    ]
    found = [f"classes with hardly any pixel in the whole dataset: {', '.join(few)}"] if few else []
    for find in (_labels, _fills, _clipping, _bands, _contrast, _units):
        found += find(findings)
    return found


def _labels(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield warnings of label pixels that do not count."""

    def because(finding: SceneFindings) -> str:
        if not finding.data_mask:
            return "a band is NaN or infinite there"
        advice = "; if the band holds data, name it in dataset.bands" if finding.data_mask.startswith("alpha") else ""
        return f"the {finding.data_mask} marks them as without data{advice}"

    without_data = (
        (each.without_data / each.labelled, each, f"of the labelled pixels are ignored, because {because(each)}")
        for each in findings
        if each.labelled
    )
    text = "of the pixels with a class are ignored, because the label raster is transparent there"
    transparent = (
        (each.transparent / (each.labelled + each.transparent), each, text) for each in findings if each.transparent
    )
    other = "of the label pixels have no class and are ignored (dataset.unlisted); set it to error to see their values"
    unlisted = ((each.unlisted / (each.labelled + each.unlisted), each, other) for each in findings if each.unlisted)
    for found in (without_data, transparent, unlisted):
        large = ((share, each, ("", text)) for share, each, text in found if share >= _MIN_SHARE)
        yield from _by_text(large, digits=0)
    yield from _other_coding(findings)
    declared = {each.nodata_class: each.scene for each in reversed(findings) if each.nodata_class}
    for what, scene in declared.items():
        yield (
            f"label rasters, first of scene {scene}, declare {what}; these pixels are read as the class, so add the "
            "value or colour to dataset.ignore if they are not labelled"
        )


def _other_coding(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield a warning of scenes whose ignored pixels may be a class, as in masks of 0 and 255 among 0 and 1."""
    known = [each for each in findings if each.labelled]
    single = [each for each in known if each.classes == 1 and each.ignored >= _MIN_SHARE * each.labelled]
    usual = [each for each in known if each.classes > 1 and not each.ignored]
    if single and usual:
        scenes = scenes_in_words([each.scene for each in single])
        yield (
            f"{scenes}: labels of one class and ignored values, where others, first scene {usual[0].scene}, have "
            "several classes and none ignored; if the ignored value is a class there, recode these label rasters"
        )


def _by_text(found: Iterable[tuple[float, SceneFindings, tuple[str, str]]], digits: int) -> Iterator[str]:
    """Yield a sentence for each pair of texts: the scene with the largest share, how many others there are, the share.

    Args:
        found: shares of pixels, scenes, and the texts before and after the share.
        digits: decimals of the share in %.
    """
    by_text: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for share, finding, texts in found:
        by_text.setdefault(texts, []).append((share, finding.scene))
    for (before, after), pairs in by_text.items():
        pairs.sort(key=lambda pair: -pair[0])
        scenes = scenes_in_words([scene for _, scene in pairs])
        yield f"{scenes}: {before}{'up to ' if len(pairs) > 1 else ''}{pairs[0][0]:.{digits}%} {after}"


def _fills(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield warnings of values that are probably no data."""
    found: list[tuple[float, SceneFindings, tuple[str, str]]] = []
    for each in findings:
        for fill in each.values.fills():
            text = f"of the pixels {fill.where}; if they have no data, {_remedy(fill, each)}{fill.caution}"
            found.append((fill.count / each.values.pixels, each, (f"{fill.text} in ", text)))
        for band, value, share in each.values.band_fills():
            text = "of the pixels in patches where other bands vary; if they have no data, repair or mask these images"
            found.append((share, each, (f"{band} is {value:g} in ", text)))
    sentences = list(_by_text(found, digits=1))
    yield from sentences[:_MAX_LISTED]
    if len(sentences) > _MAX_LISTED:
        yield f"borders or patches of {len(sentences) - _MAX_LISTED:,} more values"


def _remedy(fill: Fill, finding: SceneFindings) -> str:
    if finding.data_mask.startswith("alpha") or finding.data_mask == "mask":
        return f"correct the {finding.data_mask}, which marks them as data"
    if finding.data_mask:
        return f"correct the {finding.data_mask}: gdal_edit -a_nodata, or dataset.nodata where files declare none"
    return fill.remedy if fill.value is None else f"set dataset.nodata = {fill.value:g}, or {fill.remedy}"


def _clipping(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield warnings of values at an end of the range, and of nodata values in some bands."""
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


def _bands(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield warnings of bands that have one value, are equal, or have another unit than the others."""
    constant = [each for each in findings if each.values.constant_bands]
    if constant:
        listed = ", ".join(f"{band} is {value:g}" for band, value in constant[0].values.constant_bands.items())
        yield (
            f"one value in nearly all pixels in bands of {_scenes(len(constant))}, first {constant[0].scene}, where "
            f"{listed}; replace or remove such images"
        )
    equal = [each for each in findings if each.values.equal_band_names and each not in constant]
    if equal:
        listed = ", ".join(" and ".join(pair) for pair in equal[0].values.equal_band_names)
        yield (
            f"bands are equal throughout in {_scenes(len(equal))}, first {equal[0].scene}: {listed}; if they are "
            "one band, give them one name"
        )
    used = [each.values for each in findings if each.values.with_data]
    if not used or used[0].rendering.format == "tif":  # of which each band is normalised by its own values
        return
    lowest, highest = (np.array([getattr(each, name) for each in used]) for name in ("minima", "maxima"))
    spans = highest.max(axis=0) - lowest.min(axis=0)
    strongest = int(spans.argmax())
    for band, name in enumerate(used[0].bands):
        if 0 < spans[band] < _MIN_OF_OTHERS * spans[strongest]:
            yield (
                f"the values of {name}, {lowest[:, band].min():g} to {highest[:, band].max():g}, span far less than "
                f"those of {used[0].bands[strongest]}, {lowest[:, strongest].min():g} to "
                f"{highest[:, strongest].max():g}; check their unit and scale"
            )


def _contrast(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield warnings if the values of all scenes together, or of some scenes, use little of the range."""
    used = [each for each in findings if each.values.with_data]
    if not used or used[0].values.rendering.format == "tif" or not math.isfinite(used[0].values.white):
        return
    checks = [each.values for each in used]
    lowest, highest = min(check.lowest for check in checks), max(check.highest for check in checks)
    black, white = checks[0].black, checks[0].white
    share = (highest - lowest) / (white - black)
    if share < MIN_CONTRAST:
        yield (
            f"the values of all scenes, {lowest:g} to {highest:g}, use {share:.0%} of the range {black:g} to "
            f"{white:g}, so tiles have hardly any contrast; set convert.range to the values of the images, or rescale "
            "images of uint8"
        )
        return
    usual = median(check.highest for check in checks)
    faint = [
        each
        for each in used
        if 0 < each.values.contrast < _MIN_SCENE_CONTRAST or 0 < each.values.highest < _MIN_OF_OTHERS * usual
    ]
    if faint:
        check = faint[0].values
        yield (
            f"{_scenes(len(faint))}, first {faint[0].scene} with values from {check.lowest:g} to {check.highest:g}, "
            f"would be all but black in the range {black:g} to {white:g}, unlike the others (up to {usual:g} in the "
            "median scene); check their unit and scale"
        )


def _units(findings: Sequence[SceneFindings]) -> Iterable[str]:
    """Yield a warning of scenes whose values are far smaller than those of the others, in tiles that keep them."""
    used = [each for each in findings if each.values.with_data and each.values.rendering.format == "tif"]
    if not used:
        return
    largest = np.array([np.maximum(np.abs(each.values.minima), np.abs(each.values.maxima)) for each in used])
    usual = np.median(largest, axis=0)
    small = [each for each, values in zip(used, largest, strict=True) if (values < _MIN_OF_OTHERS * usual).all()]
    if small:
        bands, values = small[0].values.bands, small[0].values
        yield (
            f"{_scenes(len(small))}, first {small[0].scene} with {bands[0]} up to {values.maxima[0]:g}, have values "
            f"far smaller than the others (up to {usual[0]:g} in the median scene); check their unit and scale"
        )


def _scenes(count: int) -> str:
    return f"{count:,} scene" + ("s" if count > 1 else "")
