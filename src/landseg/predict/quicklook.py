"""Quicklook: a small picture of a scene beside its map, as PNG."""

from math import ceil
from pathlib import Path

import numpy as np

from landseg.core.arrays import Image, Pixels, ValidMask
from landseg.core.classes import ClassTable, palette
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.core.rendering import Rendering
from landseg.maps.class_map import open_class_map
from landseg.raster.image import MultibandImage
from landseg.raster.io import row_windows
from landseg.raster.png import colour_mask, encode_image

# Largest height and width of either picture, px; the space between them; and the grey of pixels without data.
_MAX_SIDE, _GAP, _EMPTY = 1024, 8, 230


def require_pictures(rendering: Rendering) -> None:
    """Require that a model reads the bands that pictures show.

    Raises:
        LandsegError: it does not.
    """
    if missing := [band for band in rendering.shown if band not in rendering.bands]:
        raise LandsegError(
            f"--quicklook: pictures of this model show {', '.join(missing)}, which it does not read; leave it out"
        )


def write_quicklook(
    path: Path, image: MultibandImage, class_map: Path, rendering: Rendering, classes: ClassTable
) -> None:
    """Write the picture of a scene and its map side by side, atomically.

    Every n-th pixel of every n-th row is shown, so that neither has more than 1,024 px in height or width. The picture
    shows the bands of convert.show, by the model's stretch.

    Args:
        path: the PNG file.
        image: the open scene, with the bands of the model.
        class_map: its map, on the same grid.
        rendering: bands and stretch of the model.
        classes: class table.

    Raises:
        LandsegError: a file is damaged.
    """
    step = ceil(max(image.grid.height, image.grid.width) / _MAX_SIDE)
    scene = _picture(*_sampled(image, step), rendering)
    mapped = _map(class_map, step, classes)
    gap = np.full((len(scene), _GAP, 3), 255, np.uint8)
    with atomic(path) as temporary:
        temporary.write_bytes(encode_image(np.concatenate([scene, gap, mapped], axis=1)))


def _sampled(image: MultibandImage, step: int) -> tuple[Image, ValidMask]:
    """Read every n-th pixel of every n-th row: (bands, h, w), and the mask of those with data, (h, w)."""
    pieces, masks = [], []
    for window in row_windows(image.grid.width, image.grid.height):
        first = -int(window.row_off) % step
        pixels, valid = image.read(window)
        data = np.ones(pixels.shape[1:], np.bool_) if valid is None else valid
        pieces.append(pixels[:, first::step, ::step].copy())  # a view would keep the whole window
        masks.append(data[first::step, ::step].copy())
    return np.concatenate(pieces, axis=1), np.concatenate(masks)


def _picture(pixels: Image, valid: ValidMask, rendering: Rendering) -> Pixels:
    picture = rendering.picture(rendering(pixels, valid)).copy()
    picture[~np.asarray(valid)] = _EMPTY
    return picture


def _map(path: Path, step: int, classes: ClassTable) -> Pixels:
    """Return every n-th pixel of every n-th row of a map in class colours, (h, w, 3)."""
    with open_class_map(path) as source:
        windows = row_windows(source.grid.width, source.grid.height)
        ids = np.concatenate([source.read(window)[-int(window.row_off) % step :: step, ::step] for window in windows])
    coloured = colour_mask(np.ascontiguousarray(ids), palette(classes))
    coloured[ids == source.nodata] = _EMPTY
    return coloured
