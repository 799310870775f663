"""Codecs of multi-band tiles: time to encode and to decode, size, threads against processes, cost of the import.

    uv run python -m benchmarks.tile_codecs                                      # 10 minutes on two cores
    uv run --with tifffile --with imagecodecs python -m benchmarks.tile_codecs   # libraries that landseg does not use

Tiles of 512 px are cut or put together from the real test data (`TILES`); patches that are smaller are mirrored and
turned, so that no pixels occur twice in one orientation. All codecs get the same tiles and must return them exactly,
as one array with bands last. They alternate within a turn. Wall and processor time are medians over turns, with
minimum and maximum.
"""

import importlib.util
import io
import json
import multiprocessing
import subprocess
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any, cast

import cv2
import numpy as np
import rasterio
import typer
from PIL import Image as PillowImage
from rasterio import CRS, Affine
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window
from rich.table import Table

from benchmarks.common import console, machine, print_facts, save, spread, versions
from benchmarks.scene import test_data
from landseg.core.arrays import Image
from landseg.core.tiff import decode_tiff
from landseg.raster.png import encode_image
from landseg.raster.tiff import encode_tiff

SIZE = 512
_CRS, _TRANSFORM = CRS.from_epsg(32636), Affine(10, 0, 500_000, 0, -10, 100_000)
_SENTINEL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_HAS_TIFFFILE = all(importlib.util.find_spec(name) for name in ("tifffile", "imagecodecs"))


@dataclass(frozen=True)
class Codec:
    """A codec: its functions of an image (H, W, bands) and of the encoded tile."""

    encode: Callable[[Image], bytes]
    decode: Callable[[bytes], Image] = decode_tiff


def gdal(**options: Any) -> Codec:
    """Return GDAL's GTiff with creation options; decoded by `decode_tiff`."""

    def encode(image: Image) -> bytes:
        height, width, count = image.shape
        profile = {"height": height, "width": width, "count": count, "dtype": image.dtype}
        profile |= {"driver": "GTiff", "photometric": "minisblack", "blockysize": height, "num_threads": 1}
        with MemoryFile() as memory:
            with memory.open(**profile | options, crs=_CRS, transform=_TRANSFORM) as target:
                target.write(image.transpose(2, 0, 1))
            return bytes(memory.getbuffer())

    return Codec(encode)


def landseg_tiff(image: Image) -> bytes:
    """Encode as landseg does, with georeference and band descriptions."""
    return encode_tiff(image, _CRS, _TRANSFORM, [f"B{band}" for band in range(image.shape[2])])


def jpeg2000(image: Image) -> bytes:
    """Encode as lossless JPEG 2000 with GDAL's OpenJPEG."""
    profile = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": image.dtype}
    with MemoryFile() as memory:
        with memory.open(
            driver="JP2OpenJPEG", quality=100, reversible="YES", **profile, transform=_TRANSFORM
        ) as target:
            target.write(image.transpose(2, 0, 1))
        return bytes(memory.getbuffer())


def decode_gdal(content: bytes) -> Image:
    """Decode any format with GDAL."""
    with MemoryFile(content) as memory, memory.open() as source:
        return np.ascontiguousarray(source.read().transpose(1, 2, 0))


def tifffile(compression: str | None, predictor: bool = False, band: bool = False, **options: Any) -> Codec:
    """Return the encoder of tifffile, without georeference, and its decoder; both compress with imagecodecs."""
    import tifffile  # type: ignore[import-not-found]

    def encode(image: Image) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            image.transpose(2, 0, 1) if band else image,
            photometric="minisblack",
            planarconfig="separate" if band else "contig",
            compression=compression,
            compressionargs=options or None,
            predictor=predictor,
            rowsperstrip=len(image),
            maxworkers=1,
            metadata=None,
        )
        return buffer.getvalue()

    return Codec(encode, decode_tifffile)


def decode_tifffile(content: bytes) -> Image:
    """Decode a TIFF, of any writer, with tifffile and imagecodecs."""
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(content)) as tiff:
        page: Any = tiff.pages[0]
        pixels: Image = page.asarray(maxworkers=1)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)) if page.planarconfig == 2 else pixels


def codecs(dtype: np.dtype[Any]) -> dict[str, Codec]:
    """Return the codecs for a data type by name."""
    predictors = (1, 2, 3) if dtype.kind == "f" else (1, 2)
    found = {"landseg": Codec(landseg_tiff)}
    for layout in ("band", "pixel"):
        found[f"GDAL none, {layout}"] = gdal(interleave=layout)
        for predictor in predictors:
            for level in (1, 6):
                options = {"compress": "deflate", "zlevel": level, "predictor": predictor, "interleave": layout}
                found[f"GDAL deflate {level}, predictor {predictor}, {layout}"] = gdal(**options)
            for level in (1, 3, 9):
                options = {"compress": "zstd", "zstd_level": level, "predictor": predictor, "interleave": layout}
                found[f"GDAL zstd {level}, predictor {predictor}, {layout}"] = gdal(**options)
        found[f"GDAL lzw, predictor 2, {layout}"] = gdal(compress="lzw", predictor=2, interleave=layout)
        found[f"GDAL lerc, {layout}"] = gdal(compress="lerc", max_z_error=0, interleave=layout)
        found[f"GDAL lerc_zstd, {layout}"] = gdal(compress="lerc_zstd", max_z_error=0, interleave=layout)
        # GDAL's default: strips of about 8 KiB.
        strips = {"compress": "zstd", "zstd_level": 1, "predictor": 2, "interleave": layout, "blockysize": None}
        found[f"GDAL zstd 1, predictor 2, {layout}, strips"] = gdal(**strips)
    if dtype.kind != "f":
        found["GDAL JPEG 2000"] = Codec(jpeg2000, decode_gdal)
    return found | (tifffile_codecs() if _HAS_TIFFFILE else {})


def tifffile_codecs() -> dict[str, Codec]:
    """Return the codecs of tifffile by name, among them its decoder for the tiles of landseg."""
    found = {"landseg, decoded by tifffile": Codec(landseg_tiff, decode_tifffile)}
    for layout in ("band", "pixel"):
        band = layout == "band"
        found[f"tifffile zstd 1, predictor 2, {layout}"] = tifffile("zstd", True, band, level=1)
        found[f"tifffile deflate 1, predictor 2, {layout}"] = tifffile("zlib", True, band, level=1)
        found[f"tifffile lerc, {layout}"] = tifffile("lerc", False, band)
    return found


def tiles(data: Path) -> dict[str, list[Image]]:
    """Return real tiles of 512 px, (H, W, bands), by kind."""
    flood = data / "sen1floods11_sample/Spain_7370579"
    sentinel = sentinel_tiles(data)
    return {
        "uint8, 4 bands": jpeg_tiles(data),
        "uint16, 6 bands": landsat_tiles(data),
        "uint16, 10 bands": sentinel,
        "uint16, 14 bands": chip_tiles(data),
        "int16, 13 bands": [last(read(Path(f"{flood}_S2Hand.tif")))],
        "float32, 2 bands": [last(read(Path(f"{flood}_S1Hand.tif")))],
        "float32, 10 bands": [(tile / 10_000).astype(np.float32) for tile in sentinel[:2]],
    }


def jpeg_tiles(data: Path) -> list[Image]:
    """Return RGB of aerial and satellite images, each with the green of another image as fourth band."""
    images = (np.asarray(PillowImage.open(path)) for path in sorted((data / "multisource/images").glob("*.jpg"))[::8])
    large = list(islice((image[:SIZE, :SIZE] for image in images if min(image.shape[:2]) >= SIZE), 4))
    return [np.dstack([image, other[..., 1]]) for image, other in pairwise(large)]


def landsat_tiles(data: Path) -> list[Image]:
    """Return windows of a Landsat 7 scene."""
    corners = ((0, 0), (SIZE, 0), (2 * SIZE, SIZE))
    path = data / "gewata_landsat7/gewata_l7_6band.tif"
    return [last(read(path, window=Window(col, row, SIZE, SIZE))) for col, row in corners]


def sentinel_tiles(data: Path) -> list[Image]:
    """Return mosaics of BigEarthNet's Sentinel-2 patches of 120 px; bands of 20 m are interpolated to 10 m."""
    folders = sorted((data / "bigearthnet_s2_s1_tiny/tiny").iterdir())
    resampled = {"out_shape": (1, 120, 120), "resampling": Resampling.bilinear}
    patches = [
        np.concatenate([read(folder / f"{folder.name}_{band}.tif", **resampled) for band in _SENTINEL])
        for folder in folders
    ]
    return mosaics(patches, 5, 3)


def chip_tiles(data: Path) -> list[Image]:
    """Return mosaics of two 14-band chips of LandCoverNet, 256 px."""
    folders = sorted((data / "landcovernet/sentinel2").iterdir())
    return mosaics([np.concatenate([read(path) for path in sorted(folder.glob("*.tif"))]) for folder in folders], 2, 3)


def mosaics(patches: Sequence[Image], side: int, count: int) -> list[Image]:
    """Put patches (bands, H, W) together to tiles of side × side patches, each patch in its eight orientations."""
    oriented = (
        np.rot90(patch if turns < 4 else patch[:, ::-1], turns % 4, axes=(1, 2))
        for turns in range(8)
        for patch in patches
    )
    rows = (np.concatenate(list(islice(oriented, side)), axis=2) for _ in range(side * count))
    whole = (np.concatenate(list(islice(rows, side)), axis=1) for _ in range(count))
    return [last(tile[:, :SIZE, :SIZE]) for tile in whole]


def read(path: Path, **options: Any) -> Image:
    """Read a raster: (bands, H, W)."""
    with rasterio.open(path) as source:
        pixels: Image = source.read(**options)
    return pixels


def last(pixels: Image) -> Image:
    """Return (bands, H, W) as contiguous (H, W, bands)."""
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def measure(codecs: Mapping[str, Codec], images: Sequence[Image], turns: int) -> dict[str, dict[str, list[float]]]:
    """Return, by codec, the time of a tile in each turn, ms of wall and processor, and its size as a share of none."""
    contents = {name: [codec.encode(image) for image in images] for name, codec in codecs.items()}
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, codec in codecs.items():
        check(name, codec, images, contents[name])
        results[name]["size"] = [mean(map(len, contents[name])) / images[0].nbytes]
    for _ in range(turns):
        for name, codec in codecs.items():
            for key, function, items in (("encode", codec.encode, images), ("decode", codec.decode, contents[name])):
                wall, processor = milliseconds(function, items)
                results[name][f"{key}_wall_ms"].append(round(wall, 3))
                results[name][f"{key}_cpu_ms"].append(round(processor, 3))
    return results


def check(name: str, codec: Codec, images: Sequence[Image], contents: Sequence[bytes]) -> None:
    """Check that tiles are decoded to the same bits, bands last.

    Raises:
        SystemExit: a tile differs.
    """
    for image, content in zip(images, contents, strict=True):
        decoded = codec.decode(content)
        if decoded.dtype != image.dtype or decoded.shape != image.shape or decoded.tobytes() != image.tobytes():
            raise SystemExit(f"{name}: the decoded tile differs from the input")


def milliseconds(function: Callable[[Any], Any], items: Sequence[Any]) -> tuple[float, float]:
    """Return the mean wall and processor time of one call, ms."""
    wall, processor = time.perf_counter(), time.process_time()
    for item in items:
        function(item)
    ends = time.perf_counter(), time.process_time()
    return (ends[0] - wall) / len(items) * 1e3, (ends[1] - processor) / len(items) * 1e3


def decode_png(content: bytes) -> Image:
    """Decode an RGB PNG as the loader does."""
    return cast(Image, cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))


def small_codecs() -> dict[str, Codec]:
    """Return the codecs that are compared by tile size."""
    found = codecs(np.dtype(np.uint16))
    names = ("landseg", "GDAL none, band", "GDAL zstd 1, predictor 1, band", "GDAL zstd 1, predictor 2, pixel")
    others = [name for name in found if name in ("landseg, decoded by tifffile", "tifffile zstd 1, predictor 2, pixel")]
    return {name: found[name] for name in (*names, *others)}


def decoders(images: Mapping[str, Sequence[Image]]) -> dict[str, tuple[Callable[[bytes], Image], bytes]]:
    """Return decoders with a tile each, for threads and processes."""
    ten = images["uint16, 10 bands"][0]
    rgb = np.ascontiguousarray(images["uint8, 4 bands"][0][..., :3])
    found: dict[str, tuple[Callable[[bytes], Image], bytes]] = {
        "PNG, RGB, 512 px": (decode_png, encode_image(rgb)),
        "landseg, 10 bands, 512 px": (decode_tiff, landseg_tiff(ten)),
        "landseg, 10 bands, 128 px": (decode_tiff, landseg_tiff(ten[:128, :128])),
    }
    if _HAS_TIFFFILE:
        content = tifffile("zstd", True, level=1)
        for size in (512, 128):
            tile = np.ascontiguousarray(ten[:size, :size])
            found[f"tifffile, 10 bands, {size} px"] = (decode_tifffile, content.encode(tile))
    return found


def rate(decode: Callable[[bytes], Image], content: bytes, workers: int, processes: bool, seconds: float) -> float:
    """Return the tiles per second that threads or forked processes decode together."""
    fork = multiprocessing.get_context("fork")
    counts: Any = fork.Array("q", workers)
    start = fork.Barrier(workers) if processes else threading.Barrier(workers)

    def work(number: int) -> None:
        decode(content)
        start.wait()
        end, done = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            decode(content)
            done += 1
        counts[number] = done

    kind: Any = fork.Process if processes else threading.Thread
    jobs = [kind(target=work, args=(number,)) for number in range(workers)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    return float(sum(counts)) / seconds


def rates(images: Mapping[str, Sequence[Image]], turns: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Return, by decoder and kind of workers, the tiles per second in each turn; the kinds alternate."""
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    sides = (("1 thread", 1, False), ("2 threads", 2, False), ("1 process", 1, True), ("2 processes", 2, True))
    for _ in range(turns):
        for name, (decode, content) in decoders(images).items():
            for side, workers, processes in sides:
                results[name][side].append(rate(decode, content, workers, processes, seconds))
    return results


_COST = """
import json, sys, time
import psutil
{setup}
content = sys.stdin.buffer.read()
before, start = psutil.Process().memory_full_info(), time.perf_counter()
{decode}
seconds = time.perf_counter() - start
after = psutil.Process().memory_full_info()
print(json.dumps([seconds, (after.uss - before.uss) / 2**20, before.uss / 2**20]))
"""
_GDAL = "from landseg.core.tiff import decode_tiff; decode_tiff(content)"
_TIFFFILE = "import io; from tifffile import TiffFile; TiffFile(io.BytesIO(content)).pages[0].asarray()"


def first_call(content: bytes, turns: int) -> dict[str, dict[str, list[float]]]:
    """Return the cost of the first decoded tile of a process: time, s, and private memory, MiB; import included."""
    loader = "import landseg.loader.batches, landseg.loader.tile_set"
    sides = {"landseg, in a process with torch": (loader, _GDAL)}
    if _HAS_TIFFFILE:
        sides["tifffile, in a process with torch"] = (loader, _TIFFFILE)
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(turns):
        for name, (setup, decode) in sides.items():
            code = _COST.format(setup=setup, decode=decode)
            done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
            for key, value in zip(("seconds", "mib", "before_mib"), json.loads(done.stdout), strict=True):
                results[name][key].append(value)
    return results


def print_codecs(title: str, results: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Print times and sizes, sorted by decode time."""
    table = Table("codec", title=title, title_justify="left")
    columns = ("encode_wall_ms", "encode_cpu_ms", "decode_wall_ms", "decode_cpu_ms")
    for column in ("encode, ms", "CPU, ms", "decode, ms", "CPU, ms", "size, %"):
        table.add_column(column, justify="right")
    for name, one in sorted(results.items(), key=lambda item: median(item[1]["decode_wall_ms"])):
        table.add_row(name, *(spread(one[column], 1) for column in columns), f"{one['size'][0]:.1%}")
    console.print(table)


def print_values(title: str, results: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Print medians with minimum and maximum, one column per key."""
    keys = list(next(iter(results.values())))
    table = Table("", title=title, title_justify="left")
    for key in keys:
        table.add_column(key, justify="right")
    for name, one in results.items():
        table.add_row(name, *(spread(one[key]) for key in keys))
    console.print(table)


def windows(images: Sequence[Image], size: int) -> Iterator[Image]:
    """Yield tiles of a smaller size, cut from tiles."""
    for image in images:
        for offset in range(0, SIZE, size):
            yield np.ascontiguousarray(image[offset : offset + size, offset : offset + size])


def main(
    turns: Annotated[int, typer.Option(help="Runs over all tiles.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Time of each measurement with threads or processes.")] = 1.0,
) -> None:
    """Measure, print, and write benchmarks/results/tile_codecs.json."""
    data = test_data()
    if data is None:
        raise SystemExit("no test data; set LANDSEG_TEST_DATA")
    libraries = ["rasterio", "numpy", "opencv-python-headless", *(["tifffile", "imagecodecs"] if _HAS_TIFFFILE else [])]
    facts, packages = machine(), versions(*libraries) | {"gdal": rasterio.__gdal_version__}
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    cv2.setNumThreads(1)
    images = tiles(data)
    by_codec: dict[str, Any] = {}
    with rasterio.Env():
        for kind, some in images.items():
            by_codec[kind] = measure(codecs(some[0].dtype), some, turns)
            print_codecs(f"{kind}: {len(some)} tiles of {SIZE} px", by_codec[kind])
        for size in (256, 128):
            kind = f"uint16, 10 bands, {size} px"
            by_codec[kind] = measure(small_codecs(), list(windows(images["uint16, 10 bands"], size)), turns)
            print_codecs(kind, by_codec[kind])
    parallel = rates(images, turns, seconds)
    print_values("tiles per second", parallel)
    cost = first_call(landseg_tiff(images["uint16, 10 bands"][0]), turns)
    print_values("first decoded tile of a process: time, s; private memory, MiB; before it, MiB", cost)
    print_facts(facts, packages)
    save("tile_codecs", {"machine": facts, "versions": packages, "tiles": by_codec, "rates": parallel, "first": cost})


if __name__ == "__main__":
    typer.run(main)
