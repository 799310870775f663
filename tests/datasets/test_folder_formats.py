"""Formats of several files, formats that refer to other files, and odd names, through the stages to convert."""

import http.server
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.converting import members
from helpers.rasters import TRANSFORM, Project, random_image, random_labels, write_image, write_tif

pytestmark = pytest.mark.faults

SCENES = ("a", "b")
IMAGE = random_image(64, 96)


def project(folder: Path, write: Callable[[Path, str], None]) -> Project:
    """Return a project of two scenes whose images `write` writes into a folder, by name."""
    made = Project(folder)
    for n, scene in enumerate(SCENES):
        (made.local / "images").mkdir(exist_ok=True)
        write(made.local / "images", scene)
        write_tif(made.local / f"masks/{scene}.tif", random_labels(64, 96, n))
    return made


def assert_converted(made: Project) -> None:
    """Assert that all tiles of the first scene have the pixels of IMAGE."""
    made.run("download", "filter", "tile", "convert")
    found = members(made / "data/tiles/folder/a.zip")
    for k in range(6):
        row, col = 32 * (k // 3), 32 * (k % 3)
        tile = np.asarray(found[f"images/a_{k}.png"])
        np.testing.assert_array_equal(tile, IMAGE.transpose(1, 2, 0)[row : row + 32, col : col + 32])


def write_by(driver: str, suffix: str, **options: str) -> Callable[[Path, str], None]:
    def write(folder: Path, scene: str) -> None:
        georeference = {"crs": "EPSG:2180", "transform": TRANSFORM}
        shape = {"count": 3, "height": 64, "width": 96, "dtype": "uint8"}
        with rasterio.open(
            folder / f"{scene}{suffix}", "w", driver=driver, **shape, **georeference, **options
        ) as target:
            target.write(IMAGE)

    return write


def write_vrt(folder: Path, scene: str, source: str = "../bands/{scene}_{band}.tif", relative: int = 1) -> None:
    """Write one file per band, and a VRT of them."""
    bands = ""
    for number, pixels in enumerate(IMAGE, 1):
        write_tif(folder.parent / f"bands/{scene}_{number}.tif", pixels)
        name = source.format(scene=scene, band=number)
        bands += (
            f'<VRTRasterBand dataType="Byte" band="{number}"><SimpleSource><SourceFilename relativeToVRT="{relative}">'
            f"{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
    (folder / f"{scene}.vrt").write_text(f'<VRTDataset rasterXSize="96" rasterYSize="64">{bands}</VRTDataset>')


class TestSeveralFiles:
    @pytest.mark.parametrize("pattern", ["images/*", "images/*.img", "images/*.dat"])
    def test_envi(self, tmp_path: Path, pattern: str) -> None:
        made = project(tmp_path, write_by("ENVI", ".dat" if "dat" in pattern else ".img"))
        made.change(dataset={"images": pattern, "drivers": ["ENVI"]})
        assert_converted(made)

    @pytest.mark.parametrize("pattern", ["images/*", "images/*.img"])
    def test_erdas_with_a_spill_file(self, tmp_path: Path, pattern: str) -> None:
        made = project(tmp_path, write_by("HFA", ".img", USE_SPILL="YES"))
        assert (made.local / "images/a.ige").is_file()
        made.change(dataset={"images": pattern, "drivers": ["HFA"]})
        assert_converted(made)

    def test_jpeg_2000(self, tmp_path: Path) -> None:
        assert_converted(project(tmp_path, write_by("JP2OpenJPEG", ".jp2", REVERSIBLE="YES", QUALITY="100")))

    @pytest.mark.parametrize("beside", [".json", ".tif.points", ".rrd", ".aux", ".txt"])
    def test_other_files_beside_an_image(self, tmp_path: Path, beside: str) -> None:
        def write(folder: Path, scene: str) -> None:
            write_tif(folder / f"{scene}.tif", IMAGE)
            (folder / f"{scene}{beside}").write_text("{}")

        assert_converted(project(tmp_path, write))

    def test_two_images_of_one_name(self, tmp_path: Path) -> None:
        def write(folder: Path, scene: str) -> None:
            write_tif(folder / f"{scene}.tif", IMAGE)
            write_image(folder / f"{scene}.png", IMAGE.transpose(1, 2, 0))

        assert project(tmp_path, write).fails("download") == (
            "error: data/local/images/a.tif: the same name 'a' as a.png; rename or remove one of them\n"
        )


class TestDrivers:
    def test_other_drivers_must_be_named(self, tmp_path: Path) -> None:
        made = project(tmp_path, write_by("ENVI", ".dat"))
        made.change(dataset={"images": "images/*.dat"})
        made.run("download", "filter")
        assert "add its GDAL driver to dataset.drivers" in made.fails("tile")
        made.change(dataset={"drivers": ["ENVY"]})
        assert "'ENVY' is no GDAL driver" in made.fails("download")

    def test_vrt_of_ones_own(self, tmp_path: Path) -> None:
        """All files that it reads are copied, so that they are versioned."""
        made = project(tmp_path, write_vrt)
        made.run("download", "filter")
        assert "a.vrt: cannot be opened as a raster" in made.fails("tile")
        made.change(dataset={"drivers": ["VRT"]})
        assert_converted(made)
        copied = sorted(path.name for path in (tmp_path / "data/raw/folder/bands").iterdir())
        assert copied == [f"{scene}_{band}.tif" for scene in SCENES for band in (1, 2, 3)]

    @pytest.mark.parametrize(
        ("source", "relative", "fault"),
        [
            ("/etc/hostname", 0, "reads '/etc/hostname', which is no path relative to it"),
            ("/etc/hostname", 1, "reads '/etc/hostname', which is no path relative to it"),
            ("/vsicurl/http://127.0.0.1:9/a.tif", 0, "reads '/vsicurl/http://127.0.0.1:9/a.tif', which is no path"),
            ("NETCDF:a.nc:b", 1, "reads 'NETCDF:a.nc:b', which is no path"),
            ("../../../outside.tif", 1, "which lies outside of download.folder; move it there"),
            ("nothing.tif", 1, "reads 'nothing.tif', which is not there"),
            ("{scene}.vrt", 1, "another VRT"),
        ],
    )
    def test_vrt_of_other_files(self, tmp_path: Path, source: str, relative: int, fault: str) -> None:
        write_tif(tmp_path / "outside.tif", IMAGE[0])
        made = project(tmp_path, lambda folder, scene: write_vrt(folder, scene, source, relative))
        made.change(dataset={"drivers": ["VRT"]})
        assert fault in made.fails("download")

    @pytest.mark.parametrize("kind", ["VRTRawRasterBand", "VRTDerivedRasterBand"])
    def test_vrt_with_raw_or_derived_bands(self, tmp_path: Path, kind: str) -> None:
        def write(folder: Path, scene: str) -> None:
            write_vrt(folder, scene)
            path = folder / f"{scene}.vrt"
            path.write_text(path.read_text().replace('band="1"', f'band="1" subClass="{kind}"'))

        made = project(tmp_path, write)
        made.change(dataset={"drivers": ["VRT"]})
        assert f"contains a {kind}, which may read any bytes or run code" in made.fails("download")


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback: its address, and the paths that were requested."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_vrt_under_the_name_of_a_geotiff(tmp_path: Path, requests: tuple[str, list[str]]) -> None:
    """As a server could send one: it is not opened, so no request is sent and no local file is read."""
    address, seen = requests

    def write(folder: Path, scene: str) -> None:
        write_vrt(folder, scene, f"/vsicurl/{address}/{{scene}}.tif", 0)
        (folder / f"{scene}.vrt").rename(folder / f"{scene}.tif")

    made = project(tmp_path, write)
    made.run("download", "filter")
    assert "a.tif: cannot be opened as a raster" in made.fails("tile")
    assert seen == []


def test_names_in_two_unicode_forms(tmp_path: Path) -> None:
    """macOS decomposes accented letters, other systems do not."""
    made = Project(tmp_path)
    write_tif(made.local / "images" / unicodedata.normalize("NFD", "Köln.tif"), IMAGE)
    write_tif(made.local / "masks" / unicodedata.normalize("NFC", "Köln.tif"), random_labels(64, 96))
    made.run("download", "filter", "tile", "convert")


def test_name_with_a_placeholder(tmp_path: Path) -> None:
    """Only datasets with one file per band replace {band}."""
    made = Project(tmp_path)
    write_tif(made.local / "images/x_{band}.tif", IMAGE)
    write_tif(made.local / "masks/x_{band}.tif", random_labels(64, 96))
    made.run("download", "filter", "tile", "convert")
