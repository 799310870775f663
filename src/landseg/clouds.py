"""How much of a scene lies under clouds, and which scenes are clear enough."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.windows import Window

from landseg.datasets.card import CloudLayer
from landseg.errors import LandsegError
from landseg.rasters import Grid, Image, opened, read

Method = Literal["mask", "scl", "cld", "both"]
Codes = npt.NDArray[np.uint8]

#: What a pixel of the sky can be.
CLEAR, CLOUDY, NO_DATA = range(3)
NO_LAYER = "no cloud layer"

#: What stands in a cloud layer's path for its name.
LAYER = "{layer}"
#: What Sentinel-2's layers hold where there are no data.
_SCL_NODATA, _CLD_NODATA = 0, 255
_BYTES = np.arange(256, dtype=np.uint8)
# Up to so many pixels, a scene is read in one go.
_CHIP = 1 << 18
# How many of the clearest scenes a message names.
_SHOWN = 10


@dataclass(frozen=True)
class CloudRule:
    """Which layers say where clouds are, and which of their values are cloud."""

    method: Method
    #: The values of clear pixels in a mask; any other value with data is cloud.
    clear: tuple[int, ...]
    #: The value of pixels without data in a mask, if there is one.
    nodata: int | None
    #: Scene classes that count as cloud.
    scl: tuple[int, ...]
    #: Cloud probability, %, from which a pixel is cloud.
    cld: int

    @property
    def layers(self) -> tuple[str, ...]:
        """What to put for {layer} in a path, in turn; nothing for a mask, which is one file."""
        return {"mask": (), "scl": ("SCL",), "cld": ("CLD",), "both": ("SCL", "CLD")}[self.method]

    @property
    def knows_nodata(self) -> bool:
        """Whether the layers say where a scene has no data; Sentinel-2's do."""
        return self.method != "mask" or self.nodata is not None

    def codes(self, values: Sequence[Image]) -> Codes:
        """Return what each pixel of the sky is: (H, W), CLEAR, CLOUDY or NO_DATA.

        A pixel that one of two layers calls cloud is cloud; it has data where both have.

        Args:
            values: the pixels of `layers`, or of the mask, (H, W) each; NaN is no data.
        """
        verdicts = [self._verdicts(layer, of) for layer, of in zip(self.layers or ("",), values, strict=True)]
        return reduce(np.maximum, verdicts)

    def _verdicts(self, layer: str, values: Image) -> Codes:
        if values.dtype == np.uint8 and values.size > len(_BYTES):  # judge each value once, then look pixels up
            return self._verdicts(layer, _BYTES).take(values)
        if layer == "SCL":
            cloudy, missing = np.isin(values, self.scl), values == _SCL_NODATA
        elif layer == "CLD":
            cloudy, missing = values >= self.cld, values == _CLD_NODATA
        else:
            cloudy, missing = ~np.isin(values, self.clear), values == self.nodata
        codes = cloudy.astype(np.uint8)  # CLOUDY is 1
        codes[missing | np.isnan(values) if values.dtype.kind == "f" else missing] = NO_DATA
        return codes


def cloud_rule(method: Method, scl: tuple[int, ...], cld: int, layers: CloudLayer) -> CloudRule:
    """Make a rule from the parameters and from what the data card says of cloud layers.

    Raises:
        LandsegError: the data set has no layer of that kind.
    """
    wanted = ("scl", "cld") if method == "both" else (method,)
    if missing := [layer for layer in wanted if layer not in layers.layers]:
        raise LandsegError(
            f"params.yaml: filter.method = {method} needs {' and '.join(missing)}, and the cloud layers of this data "
            f"set are {', '.join(layers.layers) or 'none'}; choose another method"
        )
    return CloudRule(method, layers.clear, layers.nodata, scl, cld)


class Sky:
    """The open cloud layers of a scene; made by `opened_sky`."""

    def __init__(self, sources: Sequence[Any], rule: CloudRule) -> None:
        """Take the open rasters of the rule's layers, in its order."""
        self._sources, self._rule = sources, rule
        #: Height and width, px.
        self.shape: tuple[int, int] = sources[0].shape

    def windows(self) -> Iterator[Window]:
        """Walk windows that cover the scene without overlap: the blocks of the file, or, of a chip, all in one."""
        height, width = self.shape
        if height * width <= _CHIP:
            yield Window(0, 0, width, height)
        else:
            yield from (window for _, window in self._sources[0].block_windows(1))

    def read(self, window: Window) -> Codes:
        """Return what each pixel of a window is: (H, W), CLEAR, CLOUDY or NO_DATA.

        Raises:
            LandsegError: a layer is damaged, or holds a fraction.
        """
        return self._rule.codes([_whole(source, window) for source in self._sources])


def _whole(source: Any, window: Window) -> Image:
    """Read whole numbers, of whatever dtype."""
    values = read(source, window, 1)
    if values.dtype.kind == "f":
        odd = np.argwhere(np.isfinite(values) & (values != np.rint(values)))
        if len(odd):
            row, col = odd[0].tolist()
            raise LandsegError(
                f"{source.name}: the pixel at row {window.row_off + row}, column {window.col_off + col} has the value "
                f"{values[row, col]}, and a cloud layer holds whole numbers; convert it"
            )
    return values


@contextmanager
def opened_sky(root: Path, cloud: str, rule: CloudRule, image: Grid | None = None) -> Iterator[Sky]:
    """Open the cloud layers of a scene that a rule looks at.

    Args:
        root: the folder from which the path starts.
        cloud: a path, with {layer} in it where there are several layers.
        rule: which layers to look at.
        image: the grid of the scene's image, where that is open.

    Raises:
        LandsegError: a layer is missing, damaged or of a dtype that holds no numbers, or does not cover the same pixels
            as the other, or as the image.
    """
    with ExitStack() as stack:
        paths = [root / cloud.replace(LAYER, layer) for layer in rule.layers or ("",)]
        sources = [stack.enter_context(opened(path)) for path in paths]
        for source in sources:
            if np.dtype(source.dtypes[0]).kind not in "iuf":
                raise LandsegError(
                    f"{source.name}: a cloud layer holds whole numbers, this one {source.dtypes[0]}; convert it"
                )
        first, *others = (Grid.of(source) for source in sources)
        for other in others:
            other.require(first, f"the layer {Path(first.name).name}")
        if image:
            for layer in (first, *others):
                layer.require(image, f"its image {Path(image.name).name}")
        yield Sky(sources, rule)


@dataclass(frozen=True)
class Coverage:
    """What a scene's sky comes to, px."""

    pixels: int
    nodata: int
    cloudy: int

    @property
    def cloud_share(self) -> float | None:
        """The share of cloudy pixels among those with data; None where none has."""
        seen = self.pixels - self.nodata
        return self.cloudy / seen if seen else None

    @property
    def nodata_share(self) -> float:
        """The share of pixels without data."""
        return self.nodata / self.pixels


class Seen(Protocol):
    """An open image, as far as it matters here: one of landseg.imagery."""

    grid: Grid

    def read(self, window: Window) -> tuple[Image, npt.NDArray[np.bool_] | None]:
        """Return a window, and where it has data, (H, W); None is everywhere."""


def coverage(root: Path, cloud: str, rule: CloudRule, image: Seen | None = None) -> Coverage:
    """Count a scene's sky, block by block.

    Args:
        root: the folder from which the path starts.
        cloud: the path, as `opened_sky` takes it.
        rule: what is cloud.
        image: the image, where it counts, too: a pixel has data where both it and the layers have.

    Raises:
        LandsegError: as `opened_sky`, where a layer holds a fraction, and where the image is damaged.
    """
    counts = np.zeros(3, np.int64)
    with opened_sky(root, cloud, rule, image.grid if image else None) as sky:
        for window in sky.windows():
            codes = sky.read(window)
            present = image.read(window)[1] if image else None
            if present is not None:
                codes[~present] = NO_DATA
            counts += [np.count_nonzero(codes == code) for code in (CLEAR, CLOUDY, NO_DATA)]  # a tenth of a bincount
    return Coverage(pixels=int(counts.sum()), nodata=int(counts[NO_DATA]), cloudy=int(counts[CLOUDY]))


def judge(
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
        _thin(reasons, ranking, names, scenes["place"].tolist(), keep, "of its place")
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
    rows = scenes[["place", "scene", "date"]].to_numpy().tolist()
    return [(place, *_quarter(scene, day)) for place, scene, day in rows]


def quarter(day: str) -> tuple[int, int]:
    """Return the year and the quarter, from 0, of a date (YYYY-MM-DD).

    Raises:
        ValueError: it is no date.
    """
    found = date.fromisoformat(day[:10])
    return found.year, (found.month - 1) // 3


def _quarter(scene: str, day: str) -> tuple[int, int]:
    try:
        return quarter(day)
    except ValueError:
        fault = f"the date {day!r}, which is none (YYYY-MM-DD)" if day else "no date"
        raise LandsegError(
            f"params.yaml: filter.one_per_quarter needs the dates of scenes, and scene {scene} has {fault}; "
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
    return LandsegError(
        f"params.yaml: {limits} keeps none of {len(scenes)} scenes, {clearest}; raise the limit or get clearer scenes"
    )
