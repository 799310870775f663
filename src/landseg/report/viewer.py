"""The tiles of the page's viewer, as what its script reads.

Class maps travel as their ids, deflated: no picture format, colour profile or canvas stands between an id and
the colour that the legend gives it.
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

# Wider tiles lose what an eye hardly sees, and four fifths of their size; narrower ones are looked at pixel by pixel.
_EXACT = 256


def viewer_data(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Any]:
    """Return what the viewer shows.

    Returns:
        classes: id, name and color ("#rrggbb") each; wrong: the colour of wrong pixels;
        tiles: by a key that tells tiles of one name and other pixels apart, width and height (px), image (data:
        URL) and target (deflated ids, base64); runs: label and tiles each, with the tile's key, name, scene, why it
        was chosen, accuracy, miou and prediction (as target).
    """
    tiles: dict[str, dict[str, Any]] = {}
    listed = []
    for run, label in zip(runs, labels, strict=True):
        seen = []
        for each in run.examples:
            key = hashlib.sha256(each.tile.encode() + each.image.tobytes() + each.target.tobytes()).hexdigest()[:12]
            if key not in tiles:
                tiles[key] = _ground(each)
            seen.append(_prediction(each, key))
        listed.append({"label": label, "tiles": seen})
    classes = [{"id": each.id, "name": each.name, "color": as_hex(each.color)} for each in runs[0].classes]
    return {"classes": classes, "wrong": as_hex(WRONG), "tiles": tiles, "runs": listed}


def _ground(each: ExampleTile) -> dict[str, Any]:
    height, width = each.target.shape
    return {"width": width, "height": height, "image": _picture(each.image), "target": _deflated(each.target)}


def _prediction(each: ExampleTile, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "tile": each.tile,
        "scene": each.scene,
        "why": each.why.split(),
        "accuracy": each.accuracy,
        "miou": None if math.isnan(each.miou) else each.miou,
        "prediction": _deflated(each.prediction),
    }


def _picture(image: Pixels) -> str:
    """Return an image (H, W, 3) uint8 as a data: URL."""
    buffer = io.BytesIO()
    exact = max(image.shape) <= _EXACT
    Image.fromarray(image).save(buffer, "WEBP", lossless=exact, quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _deflated(ids: Pixels) -> str:
    return base64.b64encode(zlib.compress(ids.tobytes(), 9)).decode()
