"""What conversion finds in labels: all values without a class, and classes without pixels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from landseg.convert.encode import SceneFindings
from landseg.convert.labels import LabelDecoder, LabelValue
from landseg.core.arrays import Counts
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.parallel import Engine
from landseg.core.rendering import Rendering
from landseg.raster.image import open_inputs
from landseg.raster.io import open_raster, row_windows

# How many values a message lists.
_MAX_LISTED = 8


def unlisted_values(plan: pa.Table, root: Path, card: DataCard, engine: Engine) -> str:
    """Return all values or colours without a class in the label rasters of a plan, as the end of a message.

    Args:
        plan: tile plan with the column mask.
        root: root folder of its paths.
        card: data card.
        engine: where label rasters are read.
    """
    censuses = _censuses(plan, root, card, engine)
    found = sum((unlisted for unlisted, _, _ in censuses), Counter[LabelValue]())
    rasters = sum(1 for unlisted, _, _ in censuses if unlisted)
    total = sum(pixels for _, _, pixels in censuses)
    kind = "colours" if card.mask.values == "rgb" else "values"
    return f"{kind} without a class in {rasters} of {len(censuses)} label rasters: {_listed(found, total)}"


def require_classes(
    counts: Counts,
    findings: Sequence[SceneFindings],
    plan: pa.Table,
    root: Path,
    card: DataCard,
    rendering: Rendering,
    engine: Engine,
) -> None:
    """Require pixels of at least two classes.

    Args:
        counts: pixels of each class, then ignored pixels, (K + 1,).
        findings: findings of all scenes.
        plan: tile plan with the columns image and mask.
        root: root folder of its paths.
        card: data card.
        rendering: bands of the tiles.
        engine: where label rasters are read for the message.

    Raises:
        LandsegError: fewer than two classes have pixels.
    """
    present = [land_class.name for land_class, count in zip(card.classes, counts, strict=False) if count]
    if len(present) > 1:
        return
    censuses = _censuses(plan, root, card, engine)
    ignored = sum((unlisted + values for unlisted, values, _ in censuses), Counter[LabelValue]())
    total = sum(pixels for *_, pixels in censuses)
    causes = [f"ignored labels: {_listed(ignored, total)}"]
    if without_data := sum(each.without_data for each in findings):
        masks = ", ".join(dict.fromkeys(each.data_mask or "NaN" for each in findings if each.without_data))
        causes.append(f"labelled pixels without data in the images ({masks}): {_percent(without_data / total)}")
        if empty := _empty_bands(plan, root, card, rendering):
            causes.append(
                f"no pixel of the first image has data in {', '.join(empty)}, so leave it out of convert.bands"
            )
    if transparent := sum(each.transparent for each in findings):
        causes.append(f"labelled pixels that are transparent in the label rasters: {_percent(transparent / total)}")
    which = f"only {present[0]} has" if present else "no class has"
    raise LandsegError(
        f"{which} labelled pixels with data in {len(censuses)} label rasters, but a model needs two classes; "
        f"{'; '.join(causes)}; correct dataset.classes, dataset.ignore or dataset.remap, or the files"
    )


def _empty_bands(plan: pa.Table, root: Path, card: DataCard, rendering: Rendering) -> list[str]:
    """Return the bands of the first image that have no data in any pixel, unless all have none."""
    image = plan["image"][0].as_py()
    empty = [band for band in rendering.stored if _is_empty(root, image, card, rendering, band)]
    return empty if len(empty) < len(rendering.stored) else []


def _is_empty(root: Path, image: str, card: DataCard, rendering: Rendering, band: str) -> bool:
    with open_inputs(root, image, replace(rendering, format="tif", bands=(band,), show=()), card) as source:
        for window in row_windows(source.grid.width, source.grid.height):
            _, valid = source.read(window)
            if valid is None or valid.any():
                return False
        return True


def _censuses(
    plan: pa.Table, root: Path, card: DataCard, engine: Engine
) -> list[tuple[Counter[LabelValue], Counter[LabelValue], int]]:
    masks = plan["mask"].unique().to_pylist()
    return list(engine.map(partial(_census, card=card), [root / mask for mask in masks], prefer="threads"))


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
