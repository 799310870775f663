"""PNG encoders and their options: CPU time and size of tiles of 512 px.

    uv run python -m benchmarks.png
    uv run --with imagecodecs --with zlib-ng --with deflate python -m benchmarks.png  # which landseg does not use

All encoders get the same tiles: a generated orthophoto (scene.py), its masks as ids and as RGB, and, if test data are
present, 8 real images. OpenCV decodes the result, which is timed and must equal the input. Times are CPU time of one
thread, the minimum of several runs, because a busy machine only adds time.
"""

import importlib.util
import io
import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from statistics import mean
from typing import Annotated, Any, cast

import cv2
import numpy as np
import typer
from PIL import Image
from rich.table import Table

from benchmarks.common import console, machine, print_facts, save, versions
from benchmarks.scene import mask_like, orthophoto, test_data
from landseg.core.arrays import Pixels
from landseg.core.classes import palette
from landseg.datasets.landcoverai.card import CLASSES
from landseg.raster.png import encode_png

Encoder = Callable[[Pixels], bytes]

_TILES = 8
_STRATEGIES = {"default": 0, "Huffman only": 2, "runs": 3, "fixed codes": 4}  # zlib's numbers
_FILTERS = {"None": 8, "Sub": 16, "Up": 32, "Average": 64, "Paeth": 128}  # libpng's numbers
_COLOURS = palette(CLASSES)


def png_options(level: int, strategy: str, line_filter: str) -> list[int]:
    """Return options for OpenCV's encoder."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, _STRATEGIES[strategy]]
    return [*options, cv2.IMWRITE_PNG_FILTER, _FILTERS[line_filter]]


def opencv(level: int, strategy: str, line_filter: str) -> Encoder:
    """Return OpenCV's encoder with options."""
    options = png_options(level, strategy, line_filter)
    return lambda pixels: cv2.imencode(".png", pixels, options)[1].tobytes()


def pillow(level: int, colours: Pixels | None = None) -> Encoder:
    """Return Pillow's encoder, which chooses a filter per line unless the image has a palette."""

    def encode(pixels: Pixels) -> bytes:
        image, buffer = Image.fromarray(pixels), io.BytesIO()
        if colours is not None:
            image.putpalette(colours.tobytes())
        image.save(buffer, "PNG", compress_level=level, bits=8)
        return buffer.getvalue()

    return encode


def imagecodecs(level: int, strategy: str, line_filter: str) -> Encoder:
    """Return the encoder of imagecodecs with options."""
    from imagecodecs import png_encode  # type: ignore[import-not-found]

    options = {"level": level, "strategy": _STRATEGIES[strategy], "filter": _FILTERS[line_filter]}
    return lambda pixels: cast(bytes, png_encode(pixels, **options))


def isal(level: int, line_filter: str) -> Encoder:
    """Return landseg's PNG writer, around ISA-L's deflate, with another level or filter."""
    from isal import isal_zlib

    return _filtered(lambda lines: isal_zlib.compress(lines, level), line_filter)


def zlib_ng(level: int, strategy: str) -> Encoder:
    """Return the same writer around zlib-ng, with filter Up."""
    from zlib_ng import zlib_ng as library  # type: ignore[import-not-found]

    def compress(lines: Pixels) -> bytes:
        stream = library.compressobj(level, 8, 15, 8, _STRATEGIES[strategy])
        return cast(bytes, stream.compress(lines) + stream.flush())

    return _filtered(compress, "Up")


def libdeflate(level: int) -> Encoder:
    """Return the same writer around libdeflate, with filter Up."""
    from deflate import zlib_compress  # type: ignore[import-not-found]

    return _filtered(lambda lines: bytes(zlib_compress(lines.tobytes(), level)), "Up")


def _filtered(compress: Callable[[Pixels], bytes], line_filter: str) -> Encoder:
    number = {"None": 0, "Up": 2}[line_filter]
    return lambda pixels: encode_png(pixels, 0 if pixels.ndim == 2 else 2, number, compress=compress)


def jpeg(pixels: Pixels) -> bytes:
    """Encode as JPEG 95, for comparison; lossy."""
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def encoders() -> dict[str, dict[str, Encoder]]:
    """Return the encoders by kind of tile and by name; libraries that are not installed are left out."""
    image = {
        f"OpenCV, {strategy}, {line_filter}": opencv(1, strategy, line_filter)
        for strategy in ("runs", "Huffman only", "default")
        for line_filter in ("Sub", "Up", "Average")
    }
    image |= {"OpenCV, level 3, default, Up": opencv(3, "default", "Up"), "Pillow": pillow(1), "JPEG 95": jpeg}
    rgb = {
        f"OpenCV, {strategy}, {line_filter}": opencv(1, strategy, line_filter)
        for strategy in ("runs", "Huffman only", "default", "fixed codes")
        for line_filter in ("None", "Sub", "Up")
    }
    rgb |= {"Pillow": pillow(1)}
    ids = {"Pillow, palette": pillow(1, _COLOURS), "OpenCV, default, None": opencv(1, "default", "None")}
    if importlib.util.find_spec("imagecodecs"):
        image |= {
            f"imagecodecs, {name}, Up": imagecodecs(1, name, "Up") for name in ("Huffman only", "runs", "default")
        }
        rgb |= {"imagecodecs, default, None": imagecodecs(1, "default", "None")}
    if importlib.util.find_spec("zlib_ng"):
        image |= {
            "zlib-ng, Huffman only, Up": zlib_ng(1, "Huffman only"),
            "zlib-ng, level 2, Up": zlib_ng(2, "default"),
        }
    if importlib.util.find_spec("deflate"):
        image |= {"libdeflate, level 1, Up": libdeflate(1)}
    image |= {f"ISA-L, level {level}, Up": isal(level, "Up") for level in (0, 1, 2, 3)}
    masks = {f"ISA-L, level 2, {name}": isal(2, name) for name in ("None", "Up")}
    rgb, ids = rgb | masks, ids | masks
    return {"image": image, "real image": image, "mask as RGB": rgb, "mask": ids}


def tiles() -> dict[str, list[Pixels]]:
    """Return tiles of 512 px by kind."""
    image = next(iter(orthophoto(512, 512 * _TILES, seed=0)))[1]
    mask = mask_like(512 * _TILES, 512 * _TILES, seed=0)
    offsets = range(0, 512 * _TILES, 512)
    ids = [np.ascontiguousarray(mask[offset : offset + 512, offset : offset + 512]) for offset in offsets]
    kinds = {
        "image": [np.ascontiguousarray(image[:, offset : offset + 512]) for offset in offsets],
        "real image": real_tiles(),
        "mask as RGB": [_COLOURS[tile] for tile in ids],
        "mask": ids,
    }
    return {kind: images for kind, images in kinds.items() if images}


def real_tiles() -> list[Pixels]:
    """Return the upper left corners of 8 real images; an empty list without test data."""
    data = test_data()
    paths = sorted((data / "multisource/images").glob("*.jpg")) if data else []
    images = (np.asarray(Image.open(path)) for path in paths[::4])
    large = (image for image in images if min(image.shape[:2]) >= 512)
    return [np.ascontiguousarray(image[:512, :512]) for image in islice(large, _TILES)]


def measure(encoders: Mapping[str, Encoder], images: list[Pixels], turns: int) -> dict[str, dict[str, float]]:
    """Return, by encoder, the CPU time to encode and to decode a tile, ms, and its size, KiB.

    The encoders alternate, so that a slow moment of the machine affects all of them.
    """
    encoded = {name: [encode(image) for image in images] for name, encode in encoders.items()}
    for name, contents in encoded.items():
        check(name, images[0], contents[0])
    buffers = {name: [np.frombuffer(content, np.uint8) for content in contents] for name, contents in encoded.items()}
    results = {name: {"kib": mean(map(len, contents)) / 1024} for name, contents in encoded.items()}
    for _ in range(turns):
        for name, encode in encoders.items():
            for key, function, items in (("encode_ms", encode, images), ("decode_ms", decode, buffers[name])):
                results[name][key] = min(results[name].get(key, math.inf), milliseconds(function, items))
    return results


def decode(buffer: Pixels) -> Any:
    """Decode with OpenCV, as training does."""
    return cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)


def check(name: str, image: Pixels, content: bytes) -> None:
    """Check that a PNG decodes to the image, up to the order of the bands: OpenCV assumes BGR.

    Raises:
        SystemExit: the pixels differ.
    """
    decoded = np.asarray(Image.open(io.BytesIO(content)))
    same = np.array_equal(decoded, image) or np.array_equal(decoded[..., ::-1], image)
    if content.startswith(b"\x89PNG") and not same:
        raise SystemExit(f"{name}: the decoded tile differs from the input")


def milliseconds(function: Callable[[Any], Any], items: list[Any]) -> float:
    """Return the mean CPU time of one call, ms."""
    start = time.thread_time()
    for item in items:
        function(item)
    return (time.thread_time() - start) / len(items) * 1e3


def main(turns: Annotated[int, typer.Option(help="Runs over all tiles.", min=1)] = 9) -> None:
    """Measure, print, and write benchmarks/results/png.json."""
    facts, packages = machine(), versions("opencv-python-headless", "pillow", "isal", "numpy")
    cv2.setNumThreads(1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for kind, images in tiles().items():
        table = Table(kind, title=f"{len(images)} tiles of 512 px")
        for column in ("encode, ms", "decode, ms", "KiB"):
            table.add_column(column, justify="right")
        results[kind] = measure(encoders()[kind], images, turns)
        for name, one in results[kind].items():
            table.add_row(name, f"{one['encode_ms']:.1f}", f"{one['decode_ms']:.1f}", f"{one['kib']:.0f}")
        console.print(table)
    print_facts(facts, packages)
    save("png", {"machine": facts, "versions": packages, "tiles": results})


if __name__ == "__main__":
    typer.run(main)
