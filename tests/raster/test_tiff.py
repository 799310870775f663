"""Multi-band tiles as GeoTIFF: written by raster.tiff, read by core.tiff and by GDAL in a tile archive."""

import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.rasters import TRANSFORM
from rasterio import CRS, Affine
from rasterio.enums import ColorInterp, Interleaving

from landseg.core.arrays import Image
from landseg.core.tiff import decode_tiff
from landseg.raster.tiff import encode_tiff

CRS_2180 = CRS.from_epsg(2180)
DTYPES = ("uint8", "uint16", "int16", "float32")


def image(bands: int, dtype: str = "uint16", size: int = 64) -> Image:
    """Return a smooth image with noise over the range of a data type, (H, W, bands)."""
    rng = np.random.default_rng(bands)
    values = rng.normal(size=(size, size, bands)).cumsum(axis=1) / 20
    if dtype == "float32":
        return values.astype(np.float32)
    limits = np.iinfo(dtype)
    scaled = limits.min + (values - values.min()) / np.ptp(values) * (limits.max - limits.min)
    pixels: Image = scaled.round().astype(dtype)
    return pixels


def names(bands: int) -> list[str]:
    return [f"B{number:02}" for number in range(1, bands + 1)]


def encode(pixels: Image, crs: CRS | None = CRS_2180, transform: Affine = TRANSFORM) -> bytes:
    return encode_tiff(pixels, crs, transform, names(pixels.shape[2]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 10, 14])
def test_decoded_as_encoded(bands: int, dtype: str) -> None:
    pixels = image(bands, dtype)
    decoded = decode_tiff(encode(pixels))
    assert (decoded.dtype, decoded.flags.c_contiguous, decoded.flags.writeable) == (pixels.dtype, True, True)
    np.testing.assert_array_equal(decoded, pixels)


def test_floats_keep_their_bits() -> None:
    special = [np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38]
    pixels = np.resize(np.array(special, np.float32), (32, 32, 5))
    pixels[0, 0, 0] = np.array(0xFFC12345, np.uint32).view(np.float32)  # NaN with a payload
    np.testing.assert_array_equal(decode_tiff(encode(pixels)).view(np.uint32), pixels.view(np.uint32))


def test_parts_of_larger_arrays() -> None:
    """Convert cuts tiles from rows of windows and has bands first."""
    rows = np.ascontiguousarray(image(6, size=128).transpose(2, 0, 1))
    part = rows[:, 32:96, 64:].transpose(1, 2, 0)
    np.testing.assert_array_equal(decode_tiff(encode(part)), part)
    assert encode(part) == encode(part.copy())


@pytest.mark.parametrize("size", [32, 96, 512])
def test_one_block_per_band(size: int) -> None:
    with rasterio.MemoryFile(encode(image(4, size=size))) as memory, memory.open() as source:
        assert source.block_shapes == [(size, size)] * 4
        assert source.interleaving == Interleaving.band


def test_equal_tiles_give_equal_bytes_in_threads() -> None:
    """Also if tiles of other threads fill GDAL's block cache, and whatever GDAL is told about threads."""
    pixels, other = image(14, "float32", 256), image(10, "uint16", 256)
    alone = encode(pixels)

    def encode_in_thread(number: int) -> bytes:
        with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
            return encode(pixels if number % 2 else other)

    with ThreadPoolExecutor(4) as pool:
        encoded = list(pool.map(encode_in_thread, range(16)))
    assert set(encoded) == {alone, encode(other)}
    assert alone != encode(pixels + 1)


def test_small_block_cache(tmp_path: Path) -> None:
    """GDAL reads the size of its block cache once in a process; a full cache must not change the order of blocks."""
    script = """
        import sys
        import numpy as np
        from rasterio import Affine
        from landseg.raster.tiff import encode_tiff

        pixels = np.arange(128 * 128 * 9, dtype=np.uint16).reshape(128, 128, 9)
        sys.stdout.buffer.write(encode_tiff(pixels, None, Affine(2, 0, 0, 0, -2, 0), "abcdefghi"))
    """
    lines = "\n".join(line.strip() for line in script.splitlines())
    usual, small = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", lines], env={"GDAL_CACHEMAX": size}, capture_output=True, check=True
        ).stdout
        for size in ("64MB", "200KB")
    )
    assert usual == small
    assert decode_tiff(small).shape == (128, 128, 9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 10])
def test_no_colours_and_no_alpha(bands: int, dtype: str) -> None:
    with rasterio.MemoryFile(encode(image(bands, dtype, 32))) as memory, memory.open() as source:
        assert source.colorinterp == (ColorInterp.gray, *[ColorInterp.undefined] * (bands - 1))
        assert source.nodata is None
        assert source.read_masks().all()


def test_gdal_reads_it_in_an_archive(tmp_path: Path) -> None:
    pixels, place = image(6, "int16"), TRANSFORM @ Affine.translation(512, 1024)
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.writestr("images/scene_2_1.tif", encode(pixels, transform=place))
    with rasterio.open(f"/vsizip/{tmp_path}/scene.zip/images/scene_2_1.tif") as source:
        assert (source.crs, source.transform) == (CRS_2180, place)
        assert source.descriptions == tuple(names(6))
        np.testing.assert_array_equal(source.read([5, 2]), pixels[..., [4, 1]].transpose(2, 0, 1))


CUSTOM = CRS.from_string("+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +datum=WGS84 +units=m")
PLACES = {
    "degrees": (CRS.from_epsg(4326), Affine(1e-4, 0, -7.123456789, 0, -1e-4, 38.5)),
    "without EPSG code": (CUSTOM, TRANSFORM),
    "no CRS": (None, TRANSFORM),
    "turned": (CRS_2180, TRANSFORM @ Affine.rotation(30)),
    "no georeference": (None, Affine.identity()),
    "no georeference, second tile": (None, Affine.translation(512, 0)),
}


@pytest.mark.parametrize(("crs", "transform"), PLACES.values(), ids=PLACES.keys())
def test_georeference(crs: CRS | None, transform: Affine) -> None:
    """Warnings are errors in tests: neither writing nor reading warns of a missing georeference."""
    content = encode(image(4, "uint8", 32), crs, transform)
    with rasterio.MemoryFile(content) as memory, memory.open() as source:
        assert source.crs == crs
        assert source.transform.almost_equals(transform, 1e-12)
    assert decode_tiff(content).shape == (32, 32, 4)


def test_names_must_match_the_bands() -> None:
    with pytest.raises(ValueError, match="3 names for 4 bands"):
        encode_tiff(image(4), None, TRANSFORM, ["red", "green", "blue"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_truncated(dtype: str) -> None:
    content = encode(image(4, dtype, 32))
    for length in (*range(0, len(content), 97), len(content) - 1):
        with pytest.raises(OSError, match="damaged GeoTIFF"):
            decode_tiff(content[:length])


def test_damaged_block() -> None:
    content = encode(image(2))
    start = content.index(b"\x28\xb5\x2f\xfd")  # Zstandard's magic number
    with pytest.raises(OSError, match="damaged GeoTIFF"):
        decode_tiff(content[:start] + bytes(8) + content[start + 8 :])


def test_other_formats_are_refused() -> None:
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="PNG", width=8, height=8, count=1, dtype="uint8", transform=TRANSFORM) as target:
            target.write(np.ones((1, 8, 8), np.uint8))
        content = memory.read()
    for other in (content, b"", b"II*\0", bytes(1000)):
        with pytest.raises(OSError, match="damaged GeoTIFF"):
            decode_tiff(other)


def test_decodes_in_threads() -> None:
    tiles = [image(bands, size=128) for bands in (4, 6, 10)]
    contents = [encode(tile) for tile in tiles]
    with ThreadPoolExecutor(4) as pool:
        for number, decoded in enumerate(pool.map(decode_tiff, contents * 10)):
            np.testing.assert_array_equal(decoded, tiles[number % 3])


def test_rasterio_is_imported_by_the_first_call_only() -> None:
    """Training on PNG tiles does without it."""
    code = "import sys, landseg.core.tiff; sys.exit('rasterio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
