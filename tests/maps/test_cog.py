import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from helpers.maps import TEN_METRES, gdal, grid_of, no_file_over, patches
from helpers.root import ROOT
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from landseg.core.errors import LandsegError
from landseg.maps.cog import CogWriter, create_cog
from landseg.raster.io import ignore_not_georeferenced

Pixels = npt.NDArray[Any]


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def write(path: Path, pixels: Pixels, rows: int = 97, **options: Any) -> Path:
    bands = pixels.shape[0] if pixels.ndim == 3 else 1
    grid = options.pop("grid", grid_of(pixels))
    with create_cog(path, grid, pixels.dtype.name, bands=bands, **options) as target:
        for row in range(0, grid.height, rows):
            target.write(row, pixels[..., row : row + rows, :])
    return path


def check(path: Path) -> None:
    valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])


class TestContent:
    @pytest.mark.parametrize("rows", [1, 97, 512, 513, 2000])
    def test_rows_in_any_portion(self, rows: int, tmp_path: Path) -> None:
        pixels = noise(1100, 530)
        with rasterio.open(write(tmp_path / "a.tif", pixels, rows)) as source:
            assert (source.read(1) == pixels).all()

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 300), (2, 1030, 700), (1, 512, 512), (1, 40, 1200)])
    def test_round_trip_of_a_valid_cog(self, shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
        pixels = noise(*shape, dtype=dtype)
        path = write(tmp_path / "a.tif", pixels, overviews="average", nodata=255)
        check(path)
        with rasterio.open(path) as source:
            assert (source.read() == pixels).all()
            assert source.dtypes == (dtype,) * shape[0]
            assert source.nodata == 255
            assert source.compression.value == "DEFLATE"
            assert (source.crs, source.transform) == ("EPSG:32633", TEN_METRES)
            assert source.overviews(1) == ([2, 4] if max(shape) > 1024 else [])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_colours_tags_and_names_survive(self, dtype: str, tmp_path: Path) -> None:
        colours = {value: (value % 256, 7, value // 256) for value in range(256 if dtype == "uint8" else 300)}
        pixels = patches(1300, 300).astype(dtype)
        path = write(tmp_path / "a.tif", pixels, colours=colours, tags={"MADE_BY": "Zoë"}, descriptions=["class"])
        check(path)
        for level in (None, 0, 1):
            with rasterio.open(path, **({} if level is None else {"overview_level": level})) as source:
                found = source.colormap(1)
                assert {value: found[value][:3] for value in colours} == colours
        with rasterio.open(path) as source:
            assert source.tags()["MADE_BY"] == "Zoë"
            assert source.descriptions == ("class",)

    @pytest.mark.parametrize("how", ["mode", "nearest"])
    def test_overviews_of_categories_have_no_other_values(
        self, how: Literal["mode", "nearest"], tmp_path: Path
    ) -> None:
        pixels = np.where(noise(1200, 1200) > 60, 9, 1).astype(np.uint8)
        with rasterio.open(write(tmp_path / "a.tif", pixels, overviews=how), overview_level=1) as source:
            overview = source.read(1)
        assert set(np.unique(overview)) == {1, 9}
        assert ((overview == 9).mean() > 0.8) == (how == "mode")

    def test_overviews_of_quantities_are_averages(self, tmp_path: Path) -> None:
        pixels = noise(1200, 1200)
        with rasterio.open(write(tmp_path / "a.tif", pixels, overviews="average"), overview_level=0) as source:
            means = pixels.reshape(600, 2, 600, 2).mean(axis=(1, 3))
            assert np.abs(source.read(1) - means).max() <= 0.5

    @pytest.mark.parametrize("transform", [Affine.identity(), Affine(2, 0, 7, 0, -2, 9)])
    def test_no_crs(self, transform: Affine, tmp_path: Path) -> None:
        pixels = noise(600, 700)
        path = write(tmp_path / "a.tif", pixels, grid=grid_of(pixels, None, transform))
        with ignore_not_georeferenced():
            check(path)
            with rasterio.open(path) as source:
                assert (source.crs, source.transform) == (None, transform)
                assert (source.read(1) == pixels).all()

    def test_a_rotated_grid(self, tmp_path: Path) -> None:
        pixels, turned = noise(600, 700), Affine(3, 4, 500_000, 4, -3, 5_000_000)
        with rasterio.open(write(tmp_path / "a.tif", pixels, grid=grid_of(pixels, transform=turned))) as source:
            assert source.transform == turned

    def test_gdal_reads_it(self, tmp_path: Path) -> None:
        pixels = patches(1300, 700)
        colours = {0: (1, 2, 3), 1: (40, 50, 60), 4: (7, 8, 9)}
        path = write(tmp_path / "a.tif", pixels, nodata=255, colours=colours)
        info = json.loads(gdal("gdalinfo", "-json", path))
        band = info["bands"][0]
        assert info["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
        assert band["noDataValue"] == 255
        assert [entry["size"] for entry in band["overviews"]] == [[350, 650], [175, 325]]
        assert [band["colorTable"]["entries"][value][:3] for value in colours] == [list(c) for c in colours.values()]
        gdal("gdal_translate", "-q", "-expand", "rgb", "-of", "PNG", path, tmp_path / "a.png")
        with rasterio.open(tmp_path / "a.png") as picture:
            assert (picture.read()[:, pixels == 4] == [[7], [8], [9]]).all()


class TestAtomicWrites:
    @pytest.fixture
    def former(self, tmp_path: Path) -> Path:
        return write(tmp_path / "a.tif", noise(20, 20))

    def test_a_block_that_raises(self, former: Path) -> None:
        def interrupted() -> None:
            with create_cog(former, grid_of(noise(1000, 900)), "uint8") as target:
                target.write(0, noise(600, 900))
                raise KeyboardInterrupt

        before = former.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert former.read_bytes() == before
        assert list(former.parent.iterdir()) == [former]

    def test_a_process_that_is_killed(self, former: Path) -> None:
        before = former.read_bytes()
        script = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
from helpers.maps import grid_of, patches
from landseg.maps.cog import create_cog
with create_cog(Path({str(former)!r}), grid_of(patches(600, 600)), "uint8") as target:
    target.write(0, patches(600, 600))
    os.kill(os.getpid(), signal.SIGKILL)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL
        assert former.read_bytes() == before
        assert all(path == former or path.name.startswith(".a.tif.") for path in former.parent.iterdir())

    def test_an_existing_file_is_replaced(self, former: Path) -> None:
        pixels = noise(30, 40)
        write(former, pixels)
        with rasterio.open(former) as source:
            assert (source.read(1) == pixels).all()

    @pytest.mark.parametrize("written", [0, 512, 700])
    def test_missing_rows(self, written: int, former: Path) -> None:
        rows = noise(written, 900)
        with pytest.raises(ValueError, match="of 1000 were written"):
            write(former, rows, max(written, 1000), grid=grid_of(noise(1000, 900)))
        assert list(former.parent.iterdir()) == [former]

    @pytest.mark.parametrize(
        ("row", "pixels"),
        [
            (1, noise(5, 30)),
            (0, noise(21, 30)),
            (0, noise(5, 29)),
            (0, noise(2, 5, 30)),
            (0, noise(5, 30, dtype="uint16")),
        ],
        ids=["not the next row", "too many rows", "another width", "another count of bands", "another dtype"],
    )
    def test_wrong_rows_are_refused(self, row: int, pixels: Pixels, tmp_path: Path) -> None:
        with pytest.raises(ValueError), create_cog(tmp_path / "a.tif", grid_of(noise(20, 30)), "uint8") as target:
            target.write(row, pixels)
        assert not list(tmp_path.iterdir())

    def test_a_file_where_a_folder_should_be(self, former: Path) -> None:
        with pytest.raises(LandsegError, match="expected a folder, found a file"):
            write(former / "b.tif", noise(20, 20))


class TestFullDisk:
    @pytest.mark.parametrize("short", [1, 30, 1000, 50_000, 85_000, 200_000, 430_000])
    def test_is_detected_at_any_size(self, short: int, tmp_path: Path) -> None:
        path, pixels = tmp_path / "a.tif", noise(600, 600)
        size = write(path, pixels).stat().st_size
        before = write(path, noise(20, 20)).read_bytes()
        with no_file_over(size - short), pytest.raises(LandsegError) as error:
            write(path, pixels)
        assert str(error.value).startswith(f"{path}: incomplete write, ")
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
        with no_file_over(size):
            write(path, pixels)
        with rasterio.open(path) as source:
            assert (source.read(1) == pixels).all()

    def test_silently_lost_pixels_are_detected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forgetful(self: CogWriter, row: int, pixels: Pixels) -> None:
            faithful(self, row, pixels)
            if self.rows == 600:
                self._target.write(np.zeros((512, 600), np.uint8), 1, window=((0, 512), (0, 600)))

        faithful = CogWriter.write
        monkeypatch.setattr(CogWriter, "write", forgetful)
        with pytest.raises(LandsegError, match=r"a\.tif: incomplete write, file discarded"):
            write(tmp_path / "a.tif", noise(600, 600))
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    # Not getrusage, which includes the peak of the parent process.
    script = f"""
import re, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np
from helpers.maps import grid_of
from landseg.maps.cog import create_cog

height = int(sys.argv[1])
rows = np.repeat(np.arange(64, dtype=np.uint8)[:, None], 8192, axis=1)
grid = grid_of(np.broadcast_to(rows[:1], (height, 8192)))
with create_cog(Path({str(tmp_path)!r}) / "a.tif", grid, "uint8", nodata=255) as target:
    for row in range(0, height, 64):
        target.write(row, rows)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    # GDAL's cache (32 MB) is full at the smaller height already.
    small, large = (
        int(subprocess.check_output([sys.executable, "-c", script, height], text=True)) for height in ("5120", "12288")
    )
    assert large - small < 40 << 10  # KB; the rasters have 40 and 96 MB
