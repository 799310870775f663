"""Cloud layers of a scene: classification into clear, cloudy and nodata pixels, and cloud cover."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Image, Pixels
from landseg.core.data_card import CloudEncoding
from landseg.core.errors import LandsegError, ParamsError
from landseg.raster.bands import ALPHA, coloured_bands, descriptions
from landseg.raster.grid import Grid
from landseg.raster.image import MultibandImage
from landseg.raster.io import declared_mask, open_raster, read_pixels, require_lossless
from landseg.raster.pixel_area import ground_sampling_distance

CloudMethod = Literal["mask", "scl", "cld", "both"]

#: Cloud codes of pixels.
CLEAR, CLOUDY, NO_DATA = range(3)

#: Placeholder for the layer name in a cloud path.
LAYER_PLACEHOLDER = "{layer}"
# Nodata values of Sentinel-2's layers.
_SCL_NODATA, _CLD_NODATA = 0, 255
_BYTES = np.arange(256, dtype=np.uint8)
# Largest number of values of cloudy pixels in a cloud mask, such as thin, thick, shadow and snow; other layers have
# more.
_MAX_CLOUDY_VALUES = 4
# Largest values of Sentinel-2's layers.
_MAX_SCL, _MAX_CLD = 11, 100
# Scenes up to this number of pixels are read in one go.
_MAX_SINGLE_READ = 1 << 18


@dataclass(frozen=True)
class CloudRule:
    """Rule that classifies the values of cloud layers."""

    method: CloudMethod
    #: Values of clear pixels in a cloud mask; all other values with data are cloud.
    clear: tuple[int, ...]
    #: Nodata value of a cloud mask; None if it has none.
    nodata: int | None
    #: Scene classes that count as cloud.
    scl: tuple[int, ...]
    #: Cloud probability in % from which a pixel is cloud.
    cld: int
    #: Distance in metres from cloudy pixels within which clear pixels count as cloudy.
    dilate: float = 0
    #: GDAL drivers that may open the layers, in addition to `landseg.raster.io.TRUSTED_DRIVERS`.
    drivers: tuple[str, ...] = ()
    #: Values that are known to be cloud in a cloud mask; empty if none is known.
    cloudy: tuple[int, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names that replace {layer} in a cloud path; empty for a cloud mask, which is a single file."""
        return {"mask": (), "scl": ("SCL",), "cld": ("CLD",), "both": ("SCL", "CLD")}[self.method]

    @property
    def knows_nodata(self) -> bool:
        """Whether the layers mark pixels without data; Sentinel-2's do."""
        return self.method != "mask" or self.nodata is not None

    @property
    def clear_values(self) -> tuple[int, ...]:
        """Values that mean clear, if a single one or few do."""
        return {"mask": self.clear, "scl": (), "cld": (0,), "both": (0,)}[self.method]

    def fault(self, layer: str, values: Collection[float]) -> str:
        """Return why the values of a layer are those of another kind of layer; '' if they are not.

        Args:
            layer: one of `layers`, or '' for a cloud mask.
            values: different values of the layer.
        """
        if layer == "":
            cloudy = sorted(set(values) - {*self.clear, self.nodata})
            if len(cloudy) <= _MAX_CLOUDY_VALUES:
                return ""
            listed = ", ".join(f"{value:g}" for value in cloudy[:8])
            clear = ", ".join(map(str, self.clear))
            return (
                f"has the values {listed}, ..., so it is no cloud mask ({clear} clear, {self.nodata} nodata, else "
                "cloud); set dataset.cloud_values and filter.method to scl for Sentinel-2 scene classes, or to cld for "
                "probabilities in %"
            )
        known, what = {
            "SCL": ({*range(_MAX_SCL + 1), _SCL_NODATA}, f"scene classes of Sentinel-2 (0 to {_MAX_SCL})"),
            "CLD": (
                {*range(_MAX_CLD + 1), _CLD_NODATA},
                f"cloud probabilities (0 to {_MAX_CLD} %, {_CLD_NODATA} nodata)",
            ),
        }[layer]
        if other := sorted(set(values) - known):
            listed = ", ".join(f"{value:g}" for value in other[:8])
            return (
                f"has the values {listed}, so it has no {what}; set dataset.cloud_values and filter.method to the kind "
                "of the layers: mask, scl or cld"
            )
        return ""

    def codes(self, values: Sequence[Image]) -> Pixels:
        """Classify pixels: (H, W) uint8 of CLEAR, CLOUDY or NO_DATA.

        With two layers, a pixel is cloudy if either says so, and has data if both do.

        Args:
            values: pixels of each of `layers`, or of the cloud mask, (H, W) each; NaN is nodata.
        """
        pairs = zip(self.layers or ("",), values, strict=True)
        return reduce(np.maximum, (self._layer_codes(layer, pixels) for layer, pixels in pairs))

    def _layer_codes(self, layer: str, values: Image) -> Pixels:
        if values.dtype == np.uint8 and values.size > len(_BYTES):  # classify each value once, then look pixels up
            return self._layer_codes(layer, _BYTES).take(values)
        if layer == "SCL":
            cloudy, missing = np.isin(values, self.scl), values == _SCL_NODATA
        elif layer == "CLD":
            cloudy, missing = values >= self.cld, values == _CLD_NODATA
        else:
            cloudy, missing = ~np.isin(values, self.clear), values == self.nodata
        codes = cloudy.astype(np.uint8)  # CLOUDY is 1
        codes[missing | np.isnan(values) if values.dtype.kind == "f" else missing] = NO_DATA
        return codes


def cloud_rule(
    method: CloudMethod,
    scl: tuple[int, ...],
    cld: int,
    encoding: CloudEncoding,
    dilate: float = 0,
    drivers: tuple[str, ...] = (),
) -> CloudRule:
    """Build a cloud rule from the parameters and the cloud encoding of the data card.

    Raises:
        ParamsError: the dataset lacks a cloud layer that the method needs.
    """
    needed = ("scl", "cld") if method == "both" else (method,)
    if missing := [layer for layer in needed if layer not in encoding.layers]:
        raise ParamsError(
            f"filter.method = {method}: this dataset has no cloud layer {' or '.join(missing)} (only "
            f"{', '.join(encoding.layers) or 'none'}); choose another method"
        )
    return CloudRule(method, encoding.clear, encoding.nodata, scl, cld, dilate, drivers, encoding.cloudy)


class CloudLayers:
    """Open cloud layers of a scene; see `open_cloud_layers`."""

    def __init__(self, sources: Sequence[Any], rule: CloudRule) -> None:
        """Create it from the open rasters of the rule's layers, in the rule's order.

        Raises:
            ParamsError: clouds are to be dilated, but the pixel size is unknown.
        """
        self._sources, self._rule = sources, rule
        self._reach = _pixels(rule.dilate, Grid.of(sources[0])) if rule.dilate else 0
        # Alpha band and nodata value of each file, if there are any; a nodata value that means clear does not count.
        self._alphas = [coloured_bands(source).get(ALPHA) for source in sources]
        self._nodata = [None if source.nodata in rule.clear_values else source.nodata for source in sources]
        #: Different values that were read from each layer, without the nodata value of the file; hundreds at most.
        self.distinct: list[set[float]] = [set() for _ in sources]
        #: Height and width in px.
        self.shape: tuple[int, int] = sources[0].shape

    def windows(self) -> Iterator[Window]:
        """Yield disjoint windows that cover the scene: one for a small scene, else the blocks of the file."""
        height, width = self.shape
        if height * width <= _MAX_SINGLE_READ:
            yield Window(0, 0, width, height)
        else:
            yield from (window for _, window in self._sources[0].block_windows(1))

    def read(self, window: Window) -> Pixels:
        """Classify the pixels of a window: (H, W) uint8 of CLEAR, CLOUDY or NO_DATA.

        Clouds outside of the window are dilated into it.

        Raises:
            LandsegError: a layer is damaged or has a fractional value.
        """
        if not self._reach:
            return self._codes(window)
        margin, (height, width) = math.ceil(self._reach), self.shape
        top, left = max(0, window.row_off - margin), max(0, window.col_off - margin)
        bottom = min(height, window.row_off + window.height + margin)
        right = min(width, window.col_off + window.width + margin)
        codes = _dilated(self._codes(Window(left, top, right - left, bottom - top)), self._reach)
        rows = slice(window.row_off - top, window.row_off - top + window.height)
        return codes[rows, window.col_off - left : window.col_off - left + window.width].copy()

    def _codes(self, window: Window) -> Pixels:
        values = [
            _read_integers(source, window, alpha) for source, alpha in zip(self._sources, self._alphas, strict=True)
        ]
        codes = self._rule.codes(values)
        layers = zip(self._sources, values, self.distinct, self._nodata, self._alphas, strict=True)
        for source, pixels, found, nodata, alpha in layers:
            if len(found) <= len(_BYTES):
                found.update(_distinct(pixels))
            if nodata is not None:
                codes[pixels == nodata] = NO_DATA
                found.discard(nodata)
            if (present := declared_mask(source, window, alpha)) is not None:
                codes[~present] = NO_DATA
        return codes

    @property
    def ambiguities(self) -> list[str]:
        """How nodata values are read that cloud masks declare. Sentinel-2's probabilities always declare 0."""
        declared = [source.nodata for source in self._sources if source.nodata not in (None, self._rule.nodata)]
        return [
            f"declare the nodata value {value:g}, "
            + ("which means clear and is read so" if value in self._rule.clear_values else "and are read so")
            for value in declared
            if self._rule.method == "mask"
        ]

    def check(self) -> None:
        """Check the values that were read.

        Raises:
            LandsegError: they are those of another kind of layer.
        """
        for source, layer, found in zip(self._sources, self._rule.layers or ("",), self.distinct, strict=True):
            if fault := self._rule.fault(layer, found):
                raise LandsegError(f"{source.name}: {fault}")


def _distinct(values: Image) -> list[float]:
    if values.dtype == np.uint8:  # ten times as fast as NumPy
        return list(np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256])))
    return list(np.unique(values[np.isfinite(values)] if values.dtype.kind == "f" else values).tolist())


def _pixels(metres: float, grid: Grid) -> float:
    """Return a distance in pixels."""
    size = ground_sampling_distance(grid)
    if not size or not math.isfinite(size):
        raise ParamsError(
            f"filter.dilate = {metres:g}: {grid.name} has no CRS, so its pixel size is unknown; set it to 0, or assign "
            "a CRS"
        )
    # The ground size of a pixel differs from that in the projection by up to one thousandth.
    return metres / size * 1.001


def _dilated(codes: Pixels, reach: float) -> Pixels:
    """Return codes, (H, W), in which clear pixels within `reach` px of a cloudy pixel are cloudy."""
    clear = (codes != CLOUDY).astype(np.uint8)
    if clear.all():
        return codes
    distance = cv2.distanceTransform(clear, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    codes[(codes == CLEAR) & (distance <= reach)] = CLOUDY
    return codes


def _read_integers(source: Any, window: Window, alpha: int | None) -> Image:
    """Read pixels of any dtype; the values must be integers, and the same in all bands but the alpha band."""
    bands = read_pixels(source, window)
    values: Image = bands[0]
    for number, band in enumerate(bands[1:], 2):
        if number != alpha and not np.array_equal(band, values, equal_nan=band.dtype.kind == "f"):
            names = ", ".join(descriptions(source).values())
            raise LandsegError(
                f"{source.name}: has {source.count} bands that differ{f' ({names})' if names else ''}; write a layer "
                "with the band of the clouds alone"
            )
    if values.dtype.kind == "f":
        fractional = np.argwhere(np.isfinite(values) & (values != np.rint(values)))
        if len(fractional):
            row, col = fractional[0].tolist()
            raise LandsegError(
                f"{source.name}: the value {values[row, col]} at row {window.row_off + row}, column "
                f"{window.col_off + col} is not an integer; convert the cloud layer to integers"
            )
    return values


@contextmanager
def open_cloud_layers(root: Path, cloud: str, rule: CloudRule, image: Grid | None = None) -> Iterator[CloudLayers]:
    """Open the cloud layers that a rule needs.

    Args:
        root: root folder of the path.
        cloud: path of the cloud raster, with {layer} if there are several layers.
        rule: cloud rule.
        image: grid of the scene's image, to compare with the layers.

    Raises:
        LandsegError: a layer is missing, damaged or not numeric, or its grid differs from the other layer or the image.
    """
    with ExitStack() as stack:
        paths = [root / cloud.replace(LAYER_PLACEHOLDER, layer) for layer in rule.layers or ("",)]
        sources = [stack.enter_context(open_raster(path, drivers=rule.drivers)) for path in paths]
        for source in sources:
            require_lossless(source)
            if np.dtype(source.dtypes[0]).kind not in "iuf":
                raise LandsegError(
                    f"{source.name}: data type {source.dtypes[0]} is not supported for cloud layers; convert it to "
                    "integers"
                )
        first, *others = (Grid.of(source) for source in sources)
        for other in others:
            other.require_same(first, f"the layer {Path(first.name).name}")
        if image:
            for layer in (first, *others):
                layer.require_same(image, f"its image {Path(image.name).name}")
        yield CloudLayers(sources, rule)


@dataclass(frozen=True)
class CloudCoverage:
    """Pixel counts of a scene: all pixels, pixels without data, cloudy pixels."""

    pixels: int
    nodata: int
    cloudy: int
    #: Different values of each layer.
    distinct: tuple[frozenset[float], ...] = field(default=(), compare=False)
    #: What the layers declare, but do not mean.
    ambiguities: tuple[str, ...] = ()

    @property
    def cloud_share(self) -> float | None:
        """Share of cloudy pixels among pixels with data; None if no pixel has data."""
        with_data = self.pixels - self.nodata
        return self.cloudy / with_data if with_data else None

    @property
    def nodata_share(self) -> float:
        """Share of pixels without data."""
        return self.nodata / self.pixels


def cloud_coverage(root: Path, cloud: str, rule: CloudRule, image: MultibandImage | None = None) -> CloudCoverage:
    """Count the clear, cloudy and nodata pixels of a scene, block by block.

    Args:
        root: root folder of the path.
        cloud: path of the cloud raster; see `open_cloud_layers`.
        rule: cloud rule.
        image: image of the scene, to compare the grids. Its pixels are read if the rule knows no nodata value: then a
            pixel has data if it has data in the image.

    Raises:
        LandsegError: see `open_cloud_layers`; or a layer has a fractional value, or values of another kind of layer, or
            the image is damaged.
    """
    counts = np.zeros(3, np.int64)
    with open_cloud_layers(root, cloud, rule, image.grid if image else None) as layers:
        for window in layers.windows():
            codes = layers.read(window)
            valid = image.read(window)[1] if image and not rule.knows_nodata else None
            if valid is not None:
                codes[~valid] = NO_DATA
            # ten times as fast as np.bincount
            counts += [np.count_nonzero(codes == code) for code in (CLEAR, CLOUDY, NO_DATA)]
        layers.check()
        pixels, nodata, cloudy = int(counts.sum()), int(counts[NO_DATA]), int(counts[CLOUDY])
        distinct = [frozenset(found) for found in layers.distinct]
        return CloudCoverage(pixels, nodata, cloudy, tuple(distinct), tuple(layers.ambiguities))
