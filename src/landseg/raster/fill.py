"""Values that fill the border of a scene, or patches of it: most likely pixels without data."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Image, Mask, ValidMask
from landseg.raster.image import MultibandImage
from landseg.raster.io import row_windows

# Share of the pixels of a scene, and their number, from which a fill is reported; and the share of the pixels with its
# values that must lie along the border.
_MIN_FILL, _MIN_PIXELS, _MIN_ALONG = 0.005, 64, 0.99
# Height and width in px of patches; their smallest number in a scene; and how far bytes in them may differ from 0 and
# 255, as they do after compression with loss.
_PATCH, _MIN_PATCHES, _NOISE = 8, 16, 3
# Shares of the pixels of a scene from which patches are reported that may be surfaces, such as roofs, snow or lakes,
# and patches of one band; and the smallest positive value that programs write for pixels without data.
_MIN_SURFACE, _MIN_BAND, _MIN_MARKER = 0.05, 0.1, 9999
# Rows that are compared at a time: they stay in the cache of the processor, which takes less than half the time.
_ROWS = 64
# Length in px of pieces of lines.
_LINE = 16
# Length in px of equal pixels along the lower border from which a scene is read again.
_MIN_RUN = 8

# Where patches are, in words.
_PATCHES = "in patches"

#: Values of the bands of a pixel.
Values = tuple[float, ...]


@dataclass(frozen=True)
class Fill:
    """Values that fill a border or patches."""

    #: One value per band.
    values: Values
    #: Number of pixels with these values.
    count: int
    #: Where they are, in words.
    where: str = "along the border and nowhere else"
    #: Whether bytes differ from the values a little.
    noisy: bool = False

    @property
    def value(self) -> float | None:
        """The value, if it is that of all bands."""
        return self.values[0] if len(set(self.values)) == 1 and not self.noisy else None

    @property
    def text(self) -> str:
        """The values in words."""
        if self.value is not None:
            return f"all bands are {self.value:g}"
        if self.noisy:
            return "all bands are " + (f"0 to {_NOISE}" if self.values[0] == 0 else f"{255 - _NOISE} to 255")
        return f"the bands are {', '.join(f'{value:g}' for value in self.values)}"

    @property
    def caution(self) -> str:
        """What looks the same as patches without data, in words; '' if hardly anything does."""
        if self.where != _PATCHES:
            return ""
        if self.noisy or self.value == 255:
            return (
                "; deep shadows look the same"
                if self.values[0] == 0
                else "; saturated roofs, clouds or snow look the same"
            )
        return "" if _is_marker(self.values) else "; flat surfaces look the same"

    @property
    def remedy(self) -> str:
        """How to declare the pixels as without data in the files."""
        if self.value is not None:
            return f"declare it in the files with gdal_edit -a_nodata {self.value:g}"
        return (
            f"add a mask to the files with nearblack -setmask -color {','.join(f'{value:g}' for value in self.values)}"
        )


class BorderCheck:
    """Counts the pixels that have the values of a corner of a scene, and those of them that extend to the border."""

    def __init__(self, width: int, corners: Iterable[Values]) -> None:
        """Create it for a scene of a width in px, and the values of its corners."""
        self._width = width
        #: By values of a corner: number of pixels with them, and of those in runs from the left or right border.
        self._filled: dict[Values, int] = dict.fromkeys(corners, 0)
        self._along: dict[Values, int] = dict.fromkeys(self._filled, 0)
        self._pixels = 0

    @classmethod
    def of(cls, image: MultibandImage) -> "BorderCheck":
        """Read the corners of an open image, only the upper ones where the others cost a decoding (see `finish`).

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        rows = {0} if image.decodes_from_the_top else {0, image.grid.height - 1}
        return cls(image.grid.width, sorted(_corners(image, rows)))

    def add(self, window: Window, pixels: Image, valid: ValidMask) -> None:
        """Count a window: its pixels, (bands, H, W), and its mask of pixels with data, (H, W)."""
        self._pixels += pixels[0].size
        for values in self._filled:
            equal = _equal(pixels, valid, values)
            if count := int(np.count_nonzero(equal)):
                self._filled[values] += count
                self._along[values] += self._runs(equal, window)

    def finish(self, image: MultibandImage) -> None:
        """Check the lower corners that `of` left out, after all windows. The image is read again if they have runs.

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        if not image.decodes_from_the_top:
            return
        height, width = image.grid.height, image.grid.width
        late = _corners(image, {height - 1}) - set(self._filled)
        lowest = image.read(Window(0, height - 1, width, 1))
        runs = {values: _equal(*lowest, values)[0] for values in late}
        late = {values for values, run in runs.items() if run[:_MIN_RUN].all() or run[-_MIN_RUN:].all()}
        if not late:
            return
        check = BorderCheck(width, sorted(late))
        for window in row_windows(width, height):
            check.add(window, *image.read(window))
        self._filled |= check._filled
        self._along |= check._along

    def _runs(self, equal: Mask, window: Window) -> int:
        """Count the pixels of a window in runs that start at the left or right border of the scene."""
        whole = equal.all(axis=1)
        runs = int(np.count_nonzero(whole)) * equal.shape[1]
        part = ~equal[~whole]
        if window.col_off == 0:
            runs += int(part.argmax(axis=1).sum())
        if window.col_off + window.width >= self._width:
            runs += int(part[:, ::-1].argmax(axis=1).sum())
        return int(runs)

    def fills(self) -> list[Fill]:
        """Return values that fill a border of the scene and occur hardly anywhere else."""
        least = max(_MIN_PIXELS, _MIN_FILL * self._pixels)
        return [
            Fill(values, count)
            for values, count in self._filled.items()
            if least <= count < self._pixels and self._along[values] >= _MIN_ALONG * count
        ]


@dataclass(frozen=True)
class BandFill:
    """A value that fills patches in one band, where the others vary."""

    #: Index of the band.
    band: int
    value: float
    #: Number of pixels.
    count: int


class PatchCheck:
    """Counts the square patches of a scene of which each band has one value, by these values."""

    def __init__(self, bands: int) -> None:
        """Start counting, for an image of a number of different bands."""
        self._bands = bands
        self._patches = Counter[Values]()
        #: Patches of bytes near 0 or 255, by 0 or 255, including the exact ones.
        self._near = Counter[float]()
        #: Patches in which one band has one value and another has several, by band and value.
        self._partial = Counter[tuple[int, float]]()
        #: Pixels in lines, by value.
        self._lines = Counter[float]()
        self._pixels = 0

    def add(self, pixels: Image, valid: ValidMask) -> None:
        """Count a window: its pixels, (bands, H, W), and its mask of pixels with data, (H, W)."""
        self._pixels += pixels[0].size
        self._count_lines(pixels, valid)
        candidates = _maybe_flat(pixels)
        if valid is not None:
            candidates &= _patches(valid[None])[0].all(axis=(1, 3))
        if not candidates.any():
            return
        rows, cols = candidates.nonzero()
        chosen = _patches(pixels)[:, rows, :, cols]  # (patches, bands, height, width): NumPy puts indexes first
        lowest, highest = chosen.min(axis=(2, 3)).T, chosen.max(axis=(2, 3)).T
        constant = lowest == highest
        whole = constant.all(axis=0)
        self._patches.update(map(tuple, lowest[:, whole].T.tolist()))
        for band, flat in enumerate(constant & ~whole):
            self._partial.update((band, value) for value in lowest[band][flat].tolist())
        if pixels.dtype == np.uint8:
            self._near[0] += int(np.count_nonzero((highest <= _NOISE).all(axis=0)))
            self._near[255] += int(np.count_nonzero((lowest >= 255 - _NOISE).all(axis=0)))

    def _count_lines(self, pixels: Image, valid: ValidMask) -> None:
        """Count pixels in lines of one value, which may be narrower than a patch."""
        for value in (0, 255) if pixels.dtype == np.uint8 else (0,):
            equal = _equal(pixels, valid, (value,) * len(pixels))
            if np.count_nonzero(equal) >= _MIN_FILL * equal.size:
                self._lines[value] += max(_in_runs(equal), _in_runs(equal.T))

    def fills(self) -> list[Fill]:
        """Return the values of many patches, and of many lines."""
        found = self._patch_fills()
        known = {fill.values[0] for fill in found}
        for value, count in self._lines.items():
            values = (value,) * 3
            if value not in known and self._is_much(count, _least_share(values)):
                found.append(Fill(values, count, "in lines"))
        return found

    def _patch_fills(self) -> list[Fill]:
        near: dict[Values, int] = {(value,) * 3: count for value, count in self._near.items()}
        found = []
        for values in self._patches.keys() | near.keys():
            exact = self._patches[values]
            patches = max(exact, near.get(values, 0))
            noisy, count = patches > 1.1 * exact, patches * _PATCH**2
            share = _MIN_SURFACE if noisy else _least_share(values)
            flat = self._bands == 1 and not _is_marker(values)  # as a lake in an elevation model
            if not flat and self._is_much(count, share):
                found.append(Fill(values, count, _PATCHES, noisy))
        return sorted(found, key=lambda fill: -fill.count)

    def band_fills(self) -> list[BandFill]:
        """Return the values of many patches in one band."""
        return [
            BandFill(band, value, count)
            for (band, value), patches in self._partial.items()
            if self._bands > 1 and _is_marker((value,)) and self._is_much(count := patches * _PATCH**2, _MIN_BAND)
        ]

    def _is_much(self, count: int, share: float) -> bool:
        """Return whether a number of pixels is worth a message, but not the whole scene."""
        return max(_MIN_PATCHES * _PATCH**2, share * self._pixels) <= count < self._pixels


def _in_runs(equal: Mask) -> int:
    """Count the pixels of a mask in whole pieces of its rows of a fixed length."""
    pieces = equal.shape[1] // _LINE
    return int(equal[:, : pieces * _LINE].reshape(len(equal), pieces, _LINE).all(axis=2).sum()) * _LINE


def _is_marker(values: Values) -> bool:
    """Return whether programs write these values for pixels without data, and surfaces hardly have them."""
    return len(set(values)) == 1 and (values[0] <= 0 or values[0] >= _MIN_MARKER)


def _least_share(values: Values) -> float:
    """Return the share of a scene from which a fill with these values is reported."""
    return _MIN_FILL if _is_marker(values) else _MIN_SURFACE


def _patches(pixels: Image) -> Image:
    """View whole patches, (bands, rows, height, columns, width)."""
    bands, height, width = pixels.shape
    rows, cols = height // _PATCH, width // _PATCH
    whole = pixels[:, : rows * _PATCH, : cols * _PATCH]
    # Not reshape, which would copy a window whose size is no multiple of a patch.
    band, row, col = whole.strides
    strides = (band, row * _PATCH, row, col * _PATCH, col)
    return np.lib.stride_tricks.as_strided(whole, (bands, rows, _PATCH, cols, _PATCH), strides, writeable=False)


def _maybe_flat(pixels: Image) -> Mask:
    """Return whether some pixels of a patch suggest that a band has one value or, for bytes, is near 0 or 255.

    Few patches of imagery are, so most need not be read in full.

    Returns:
        (rows, columns).
    """
    patches, last = _patches(pixels), _PATCH - 1
    ends = ((0, 0), (last, last), (0, last), (last, 0), (_PATCH // 2, _PATCH // 2))
    samples = np.stack([patches[:, :, row, :, col] for row, col in ends])
    flat: Mask = (samples == samples[0]).all(axis=0).any(axis=0)
    if pixels.dtype == np.uint8:
        flat |= (samples <= _NOISE).all(axis=(0, 1)) | (samples >= 255 - _NOISE).all(axis=(0, 1))
    return flat


def _corners(image: MultibandImage, rows: Collection[int]) -> set[Values]:
    """Return the values with data of the first and last pixel of some rows."""
    corners = set()
    for row in rows:
        for col in {0, image.grid.width - 1}:
            pixels, valid = image.read(Window(col, row, 1, 1))
            if valid is None or valid.all():
                corners.add(tuple(float(value) for value in pixels[:, 0, 0]))
    return corners


def _equal(pixels: Image, valid: ValidMask, values: Values) -> Mask:
    """Return the mask of the pixels with data that have given values of their data type, (H, W)."""
    first, *others = map(pixels.dtype.type, values)  # comparing with a float is six times as slow
    equal: Mask = np.empty(pixels.shape[1:], np.bool_)
    for top in range(0, len(equal), _ROWS):
        rows = slice(top, top + _ROWS)
        np.equal(pixels[0, rows], first, out=equal[rows])
        for band, value in zip(pixels[1:, rows], others, strict=True):
            if not equal[rows].any():  # soon, for most values and many bands
                break
            equal[rows] &= band == value
    if valid is not None:
        equal &= valid
    return equal
