"""PNG encoders and their settings: processor time and size, on tiles of 512 px.

    uv run python -m benchmarks.png
    uv run --with imagecodecs --with isal python -m benchmarks.png  # two libraries that landseg does without

Every encoder gets the same tiles: generated orthophoto (scene.py), its masks as ids and as RGB, and, where there is
real test data, 8 real pictures. What it writes is decoded by OpenCV, timed, and must equal what went in. Times are
processor time of one thread, the least of several turns, since a busy machine only ever adds.
"""

import importlib.util
import io
import math
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Annotated, Any, cast

import cv2
import numpy as np
import typer
from PIL import Image
from rich.table import Table

from benchmarks.common import console, machine, print_facts, save, versions
from benchmarks.scene import Pixels, mask_like, orthophoto, test_data
from landseg.core.classes import palette
from landseg.datasets.landcoverai.fetch import CLASSES

Encoder = Callable[[Pixels], bytes]

_TILES = 8
_STRATEGIES = {"default": 0, "Huffman only": 2, "runs": 3, "fixed codes": 4}  # as zlib numbers them
_FILTERS = {"None": 8, "Sub": 16, "Up": 32, "Average": 64, "Paeth": 128}  # as libpng numbers them
_COLOURS = palette(CLASSES)


def opencv(level: int, strategy: str, line_filter: str) -> Encoder:
    """Return OpenCV's encoder with a setting; it is what landseg writes images with."""
    setting = [cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, _STRATEGIES[strategy]]
    setting += [cv2.IMWRITE_PNG_FILTER, _FILTERS[line_filter]]
    return lambda pixels: cv2.imencode(".png", pixels, setting)[1].tobytes()


def pillow(level: int, colours: Pixels | None = None) -> Encoder:
    """Return Pillow's encoder, which chooses a filter line by line unless the picture has a palette."""

    def encode(pixels: Pixels) -> bytes:
        picture, buffer = Image.fromarray(pixels), io.BytesIO()
        if colours is not None:
            picture.putpalette(colours.tobytes())
        picture.save(buffer, "PNG", compress_level=level, bits=8)
        return buffer.getvalue()

    return encode


def imagecodecs(level: int, strategy: str, line_filter: str) -> Encoder:
    """Return the encoder of imagecodecs."""
    from imagecodecs import png_encode  # type: ignore[import-not-found]

    setting = {"level": level, "strategy": _STRATEGIES[strategy], "filter": _FILTERS[line_filter]}
    return lambda pixels: cast(bytes, png_encode(pixels, **setting))


def isal(level: int, up: bool) -> Encoder:
    """Return a PNG writer of a dozen lines around ISA-L's deflate, with filter Up or none."""
    from isal import isal_zlib  # type: ignore[import-not-found]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def encode(pixels: Pixels) -> bytes:
        height, width, *bands = pixels.shape
        lines = pixels.reshape(height, -1)
        filtered = np.empty((height, lines.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2 if up else 0
        filtered[:, 1:] = lines
        if up:
            np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
        header = struct.pack(">IIBBBBB", width, height, 8, 2 if bands else 0, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", isal_zlib.compress(filtered, level)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body

    return encode


def jpeg(pixels: Pixels) -> bytes:
    """Encode as JPEG 95, for comparison: it loses what it leaves out."""
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def encoders() -> dict[str, dict[str, Encoder]]:
    """Return what to try, by kind of tile, then by name; libraries that are not installed are left out."""
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
    if importlib.util.find_spec("isal"):
        image |= {f"ISA-L, level {level}, Up": isal(level, up=True) for level in (1, 2)}
        rgb |= {"ISA-L, level 1, None": isal(1, up=False)}
        ids |= {"ISA-L, level 1, None": isal(1, up=False)}
    return {"image": image, "real image": image, "mask as RGB": rgb, "mask": ids}


def tiles() -> dict[str, list[Pixels]]:
    """Return tiles of 512 px by kind."""
    picture = next(iter(orthophoto(512, 512 * _TILES, seed=0)))[1]
    mask = mask_like(512 * _TILES, 512 * _TILES, seed=0)
    offsets = range(0, 512 * _TILES, 512)
    ids = [np.ascontiguousarray(mask[offset : offset + 512, offset : offset + 512]) for offset in offsets]
    kinds = {
        "image": [np.ascontiguousarray(picture[:, offset : offset + 512]) for offset in offsets],
        "real image": real_tiles(),
        "mask as RGB": [_COLOURS[tile] for tile in ids],
        "mask": ids,
    }
    return {kind: found for kind, found in kinds.items() if found}


def real_tiles() -> list[Pixels]:
    """Return the upper left corners of some real pictures, where there is test data."""
    data = test_data()
    paths = sorted((data / "multisource/images").glob("*.jpg")) if data else []
    pictures = (np.asarray(Image.open(path)) for path in paths[::4])
    large = (picture for picture in pictures if min(picture.shape[:2]) >= 512)
    return [np.ascontiguousarray(picture[:512, :512]) for picture, _ in zip(large, range(_TILES), strict=False)]


def measure(encoders: Mapping[str, Encoder], pictures: list[Pixels], turns: int) -> dict[str, dict[str, float]]:
    """Return, by encoder, processor time to encode and to decode a tile, ms, and its size, KiB.

    The encoders take turns, so that a slow moment of the machine meets them all.
    """
    encoded = {name: [encode(picture) for picture in pictures] for name, encode in encoders.items()}
    for name, contents in encoded.items():
        check(name, pictures[0], contents[0])
    buffers = {name: [np.frombuffer(content, np.uint8) for content in contents] for name, contents in encoded.items()}
    found = {name: {"kib": mean(map(len, contents)) / 1024} for name, contents in encoded.items()}
    for _ in range(turns):
        for name, encode in encoders.items():
            for what, function, items in (("encode_ms", encode, pictures), ("decode_ms", decode, buffers[name])):
                found[name][what] = min(found[name].get(what, math.inf), milliseconds(function, items))
    return found


def decode(buffer: Pixels) -> Any:
    """Decode as landseg does when it trains."""
    return cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)


def check(name: str, picture: Pixels, content: bytes) -> None:
    """Check that a PNG holds the picture; OpenCV takes the bands for blue, green, red.

    Raises:
        SystemExit: it does not.
    """
    decoded = np.asarray(Image.open(io.BytesIO(content)))
    same = np.array_equal(decoded, picture) or np.array_equal(decoded[..., ::-1], picture)
    if content.startswith(b"\x89PNG") and not same:
        raise SystemExit(f"{name}: a decoded tile is not what was encoded")


def milliseconds(function: Callable[[Any], Any], items: list[Any]) -> float:
    """Return the processor time of one call, ms, as the mean over the items."""
    start = time.thread_time()
    for item in items:
        function(item)
    return (time.thread_time() - start) / len(items) * 1e3


def main(turns: Annotated[int, typer.Option(help="Passes over the tiles.", min=1)] = 9) -> None:
    """Measure, print, and write benchmarks/results/png.json."""
    facts, packages = machine(), versions("opencv-python-headless", "pillow", "numpy")
    cv2.setNumThreads(1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for kind, pictures in tiles().items():
        table = Table(kind, title=f"{len(pictures)} tiles of 512 px")
        for column in ("encode, ms", "decode, ms", "KiB"):
            table.add_column(column, justify="right")
        results[kind] = measure(encoders()[kind], pictures, turns)
        for name, found in results[kind].items():
            table.add_row(name, f"{found['encode_ms']:.1f}", f"{found['decode_ms']:.1f}", f"{found['kib']:.0f}")
        console.print(table)
    print_facts(facts, packages)
    save("png", {"machine": facts, "versions": packages, "tiles": results})


if __name__ == "__main__":
    typer.run(main)
