"""How much of a scene lies under clouds, and which scenes are clear enough."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from landseg.errors import LandsegError
from landseg.rasters import opened, read

NO_LAYER = "no cloud layer"


def cloud_share(path: Path, clear: Sequence[int], nodata: int | None) -> float | None:
    """Return the share of cloudy pixels among those with data, or None where no pixel has data.

    Args:
        path: a cloud layer, in the first band of a raster.
        clear: the values of clear pixels; any other value with data is cloud.
        nodata: the value of pixels without data, if there is one.

    Raises:
        LandsegError: the layer cannot be read, or is not uint8.
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


def judge(scenes: pd.DataFrame, shares: Mapping[str, float | None], limit: float) -> pd.DataFrame:
    """Return scenes with columns cloud_share, kept and reason; a scene without a cloud layer is kept.

    Args:
        scenes: columns scene and cloud; cloud is '' where a scene has no layer.
        shares: the cloud share of every layer, as `cloud_share` gives it.
        limit: the largest share at which a scene is kept.

    Raises:
        LandsegError: no scene is kept.
    """
    share = [shares[cloud] if cloud else None for cloud in scenes["cloud"]]
    layers = zip(share, scenes["cloud"], strict=True)
    kept, reason = zip(*(_verdict(one, limit) if cloud else (True, NO_LAYER) for one, cloud in layers), strict=True)
    if not any(kept):
        known = [one for one in share if one is not None]
        clearest = f"the clearest of which has a cloud share of {min(known):.3f}" if known else "none of which has data"
        raise LandsegError(
            f"params.yaml: filter.max_cloud_share = {limit} keeps none of {len(scenes)} scenes, {clearest}; "
            "raise the limit or get clearer scenes"
        )
    return scenes.assign(cloud_share=pd.array(share, dtype="Float64"), kept=kept, reason=reason)


def _verdict(share: float | None, limit: float) -> tuple[bool, str]:
    if share is None:
        return False, "no data"
    if share > limit:
        return False, f"cloud share {share:.1%} is over the limit of {limit:.1%}"
    return True, "clear enough"
