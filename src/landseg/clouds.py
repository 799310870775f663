"""How much of a scene lies under clouds, and which scenes are clear enough."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from landseg.errors import LandsegError
from landseg.rasters import opened, read

NO_LAYER = "no cloud layer"


def cloud_share(path: Path, clear: Sequence[int], nodata: int | None) -> float | None:
    """Return the share of cloudy pixels among those with data, or None where no pixel has data.

    Args:
        path: a single-band cloud layer.
        clear: the values of clear pixels; any other value with data is cloud.
        nodata: the value of pixels without data, if there is one.

    Raises:
        LandsegError: the layer cannot be read.
    """
    counts = np.zeros(256, np.int64)
    with opened(path) as source:
        if source.dtypes[0] != "uint8":
            raise LandsegError(f"{path}: a cloud layer is uint8, this one is {source.dtypes[0]}; convert it")
        for _, window in source.block_windows(1):
            counts += np.bincount(read(source, window, 1).ravel(), minlength=256)
    if nodata is not None:
        counts[nodata] = 0
    total = counts.sum()
    return float(1 - counts[list(clear)].sum() / total) if total else None


def verdict(share: float | None, has_layer: bool, limit: float) -> tuple[bool, str]:
    """Say whether a scene is kept, and why: scenes without a cloud layer are, scenes without data are not."""
    if not has_layer:
        return True, NO_LAYER
    if share is None:
        return False, "no data"
    if share > limit:
        return False, f"cloud share {share:.1%} is over the limit of {limit:.1%}"
    return True, "clear enough"
