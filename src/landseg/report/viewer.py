"""Data of the tile viewer: images and class maps, as JSON for viewer.js.

Class maps are embedded as deflated ids: no image format or colour profile stands between an id and its legend colour.
"""

import base64
import hashlib
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

from landseg.core.arrays import Pixels
from landseg.core.classes import as_hex
from landseg.evaluate.examples import WRONG, ExampleTile
from landseg.results.run import Run

# Tiles up to this side, px, are viewed pixel by pixel and embedded lossless; lossy WebP is a fifth of the size.
_MAX_LOSSLESS = 256


def viewer_data(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the data of the viewer.

    Returns:
        classes: id, name and color ("#rrggbb") of each class; wrong: colour of wrong pixels;
        tiles: by a key made of name and pixels: width and height (px), image (data: URL) and target (deflated ids,
        base64); runs: label and tiles of each run; a tile has the key of its pixels, tile, scene, why (reasons for
        choosing it), accuracy, miou and prediction (as target).
    """
    tiles: dict[str, dict[str, Any]] = {}
    listed = []
    for run in runs:
        entries = []
        for each in run.examples:
            key = hashlib.sha256(each.tile.encode() + each.image.tobytes() + each.target.tobytes()).hexdigest()[:12]
            if key not in tiles:
                tiles[key] = _tile(each)
            entries.append(_entry(each, key))
        listed.append({"label": run.name, "tiles": entries})
    classes = [{"id": each.id, "name": each.name, "color": as_hex(each.color)} for each in runs[0].classes]
    return {"classes": classes, "wrong": as_hex(WRONG), "tiles": tiles, "runs": listed}


def _tile(each: ExampleTile) -> dict[str, Any]:
    height, width = each.target.shape
    return {"width": width, "height": height, "image": _data_url(each.image), "target": _deflate(each.target)}


def _entry(each: ExampleTile, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "tile": each.tile,
        "scene": each.scene,
        "why": each.why.split(),
        "accuracy": each.accuracy,
        "miou": None if math.isnan(each.miou) else each.miou,
        "prediction": _deflate(each.prediction),
    }


def _data_url(image: Pixels) -> str:
    """Return an image (H, W, 3) uint8 as a data: URL."""
    buffer = io.BytesIO()
    lossless = max(image.shape) <= _MAX_LOSSLESS
    Image.fromarray(image).save(buffer, "WEBP", lossless=lossless, quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _deflate(ids: Pixels) -> str:
    return base64.b64encode(zlib.compress(ids.tobytes(), 9)).decode()
