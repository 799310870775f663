"""How much of a scene lies under clouds, and which scenes are clear enough."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from landseg.core.arrays import Image, Pixels
from landseg.core.data_card import CloudEncoding
from landseg.core.errors import LandsegError, ParamsError
from landseg.raster.grid import Grid
from landseg.raster.io import open_raster, read_pixels

CloudMethod = Literal["mask", "scl", "cld", "both"]

#: What a pixel of the sky can be.
CLEAR, CLOUDY, NO_DATA = range(3)

#: What stands in a cloud layer's path for its name.
LAYER_PLACEHOLDER = "{layer}"
#: What Sentinel-2's layers hold where there are no data.
_SCL_NODATA, _CLD_NODATA = 0, 255
_BYTES = np.arange(256, dtype=np.uint8)
# Up to so many pixels, a scene is read in one go.
_CHIP = 1 << 18


@dataclass(frozen=True)
class CloudRule:
    """Which layers say where clouds are, and which of their values are cloud."""

    method: CloudMethod
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

    def codes(self, values: Sequence[Image]) -> Pixels:
        """Return what each pixel of the sky is: (H, W), CLEAR, CLOUDY or NO_DATA.

        A pixel that one of two layers calls cloud is cloud; it has data where both have.

        Args:
            values: the pixels of `layers`, or of the mask, (H, W) each; NaN is no data.
        """
        verdicts = [self._verdicts(layer, of) for layer, of in zip(self.layers or ("",), values, strict=True)]
        return reduce(np.maximum, verdicts)

    def _verdicts(self, layer: str, values: Image) -> Pixels:
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


def cloud_rule(method: CloudMethod, scl: tuple[int, ...], cld: int, layers: CloudEncoding) -> CloudRule:
    """Make a rule from the parameters and from what the data card says of cloud layers.

    Raises:
        LandsegError: the data set has no layer of that kind.
    """
    wanted = ("scl", "cld") if method == "both" else (method,)
    if missing := [layer for layer in wanted if layer not in layers.layers]:
        raise ParamsError(
            f"filter.method = {method} needs {' and '.join(missing)}, and the cloud layers of this data "
            f"set are {', '.join(layers.layers) or 'none'}; choose another method"
        )
    return CloudRule(method, layers.clear, layers.nodata, scl, cld)


class CloudLayers:
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

    def read(self, window: Window) -> Pixels:
        """Return what each pixel of a window is: (H, W), CLEAR, CLOUDY or NO_DATA.

        Raises:
            LandsegError: a layer is damaged, or holds a fraction.
        """
        return self._rule.codes([_whole(source, window) for source in self._sources])


def _whole(source: Any, window: Window) -> Image:
    """Read whole numbers, of whatever dtype."""
    values = read_pixels(source, window, 1)
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
def open_cloud_layers(root: Path, cloud: str, rule: CloudRule, image: Grid | None = None) -> Iterator[CloudLayers]:
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
        paths = [root / cloud.replace(LAYER_PLACEHOLDER, layer) for layer in rule.layers or ("",)]
        sources = [stack.enter_context(open_raster(path)) for path in paths]
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
        yield CloudLayers(sources, rule)


@dataclass(frozen=True)
class CloudCoverage:
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
    """An open image, as far as it matters here: one of landseg.raster.image."""

    grid: Grid

    def read(self, window: Window) -> tuple[Image, npt.NDArray[np.bool_] | None]:
        """Return a window, and where it has data, (H, W); None is everywhere."""


def cloud_coverage(root: Path, cloud: str, rule: CloudRule, image: Seen | None = None) -> CloudCoverage:
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
    with open_cloud_layers(root, cloud, rule, image.grid if image else None) as sky:
        for window in sky.windows():
            codes = sky.read(window)
            present = image.read(window)[1] if image else None
            if present is not None:
                codes[~present] = NO_DATA
            counts += [np.count_nonzero(codes == code) for code in (CLEAR, CLOUDY, NO_DATA)]  # a tenth of a bincount
    return CloudCoverage(pixels=int(counts.sum()), nodata=int(counts[NO_DATA]), cloudy=int(counts[CLOUDY]))
