"""LandCover.ai, from a small archive in the publisher's layout."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.servers import Cut, FileServer
from rasterio import Affine

from landseg.core.classes import class_names
from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine
from landseg.core.tables import SCENE_COLUMNS
from landseg.datasets.landcoverai import fetch as landcoverai
from landseg.datasets.landcoverai.card import CARD
from landseg.datasets.landcoverai.params import LandCoverAiParams
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset

# The projection of the real orthophotos, which has no EPSG code.
CRS = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +datum=WGS84 +units=m +no_defs"
SCENES = ("M-33-20-D-c-4-2", "M-33-7-A-d-2-3", "N-34-140-A-b-3-2")
SPLITS = {
    "train": "M-33-7-A-d-2-3_0\nM-33-7-A-d-2-3_1\n\nN-34-140-A-b-3-2_12\n",
    "val": "M-33-20-D-c-4-2_7\r\n",
    "test": "M-33-20-D-c-4-2_8\n  N-34-140-A-b-3-2_0  \n\n",
}


def tif(pixels: np.ndarray, metres: float) -> bytes:
    """Encode (bands, height, width) uint8 as a GeoTIFF."""
    bands, height, width = pixels.shape
    buffer = io.BytesIO()
    with rasterio.open(
        buffer,
        "w",
        driver="GTiff",
        count=bands,
        height=height,
        width=width,
        dtype="uint8",
        crs=CRS,
        transform=Affine(metres, 0, 250_000, 0, -metres, 450_000),
    ) as raster:
        raster.write(pixels)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """The members of an archive as the publisher packs it."""
    chance = np.random.default_rng(5)
    members = {"split.py": b"# cuts the tiles\n", **{f"{split}.txt": text.encode() for split, text in SPLITS.items()}}
    for scene, metres in zip(SCENES, (0.25, 0.25, 0.5), strict=True):
        members[f"images/{scene}.tif"] = tif(chance.integers(0, 256, (3, 60, 70), np.uint8), metres)
        members[f"masks/{scene}.tif"] = tif(chance.integers(0, 5, (1, 60, 70), np.uint8), metres)
    return members


def pack(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def fetch(folder: Path, archive: bytes, url: str | None = None, *, official: bool = False) -> RawDataset:
    download = DownloadParams(
        folder=folder / "local",
        url=url,
        sha256=None if official else hashlib.sha256(archive).hexdigest(),
        timeout=5,
        attempts=3,
    )
    return landcoverai.fetch(
        LandCoverAiParams(name="landcoverai"), download, folder / "raw", folder / "state", LocalEngine(1)
    )


def fetch_local(folder: Path, members: dict[str, bytes]) -> RawDataset:
    """Fetch from an archive in download.folder."""
    archive = pack(members)
    (folder / "local").mkdir()
    (folder / "local/landcover.ai.v1.zip").write_bytes(archive)
    return fetch(folder, archive)


def without(members: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: content for name, content in members.items() if name not in names}


def test_from_the_network(
    server: FileServer, tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pack(whole)
    server.add("/mirror/lc.zip", archive, faults=[Cut(after=len(archive) // 2)])
    fetched = fetch(tmp_path, archive, server.url("/mirror/lc.zip"))

    raw = tmp_path / "raw"
    assert {path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*") if path.is_file()} == whole
    assert tuple(fetched.scenes.columns) == SCENE_COLUMNS
    assert fetched.scenes[["scene", "image", "mask", "cloud"]].to_numpy().tolist() == [
        [scene, f"images/{scene}.tif", f"masks/{scene}.tif", ""] for scene in SCENES
    ]
    assert list(fetched.official.columns) == ["tile", "split"]
    assert fetched.official.to_numpy().tolist() == [
        ["M-33-7-A-d-2-3_0", "train"],
        ["M-33-7-A-d-2-3_1", "train"],
        ["N-34-140-A-b-3-2_12", "train"],
        ["M-33-20-D-c-4-2_7", "val"],
        ["M-33-20-D-c-4-2_8", "test"],
        ["N-34-140-A-b-3-2_0", "test"],
    ]
    kept = tmp_path / "state/downloads/landcover.ai.v1.zip"
    assert kept.read_bytes() == archive
    assert f"{kept} (" in capsys.readouterr().err.replace("\n", "")


def test_a_second_run_fetches_nothing(server: FileServer, tmp_path: Path, whole: dict[str, bytes]) -> None:
    archive = pack(whole)
    server.add("/lc.zip", archive)
    fetch(tmp_path, archive, server.url("/lc.zip"))
    (tmp_path / "raw").rename(tmp_path / "the first run's")
    fetch(tmp_path, archive, server.url("/lc.zip"))
    assert len(server.requests) == 1
    assert (tmp_path / "raw/images").is_dir()


def test_publishers_checksums_by_default(server: FileServer, tmp_path: Path, whole: dict[str, bytes]) -> None:
    archive = pack(whole)
    server.add("/lc.zip", archive)
    with pytest.raises(LandsegError, match=f"md5 is .*, expected {landcoverai.MD5}"):
        fetch(tmp_path, archive, server.url("/lc.zip"), official=True)
    assert not (tmp_path / "raw").exists()


def test_from_a_local_folder(tmp_path: Path, whole: dict[str, bytes]) -> None:
    fetched = fetch_local(tmp_path, whole)
    assert len(fetched.scenes) == len(SCENES)
    assert not (tmp_path / "state").exists()


def test_another_file_in_the_local_folder(tmp_path: Path, whole: dict[str, bytes]) -> None:
    local = tmp_path / "local/landcover.ai.v1.zip"
    local.parent.mkdir()
    local.write_bytes(b"not that archive")
    with pytest.raises(LandsegError, match=f"^{local}: sha256 is"):
        fetch(tmp_path, pack(whole))
    assert not (tmp_path / "raw").exists()


def test_archive_with_one_top_folder(tmp_path: Path, whole: dict[str, bytes]) -> None:
    fetched = fetch_local(tmp_path, {f"landcover.ai.v1/{name}": content for name, content in whole.items()})
    assert fetched.scenes["image"][0] == f"landcover.ai.v1/images/{SCENES[0]}.tif"
    assert (tmp_path / "raw" / fetched.scenes["mask"][0]).is_file()
    assert len(fetched.official) == 6


def test_card() -> None:
    card = CARD
    assert (card.name, card.licence) == ("landcoverai", "CC-BY-NC-SA-4.0")
    assert card.bands == ("red", "green", "blue")
    assert class_names(card.classes) == ["background", "building", "woodland", "water", "road"]
    assert [land_class.id for land_class in card.classes] == [0, 1, 2, 3, 4]
    assert (card.mask.values, card.background) == ("ids", "background")


@pytest.mark.parametrize(("there", "missing"), [("images", "masks"), ("masks", "images")])
def test_unpaired(tmp_path: Path, whole: dict[str, bytes], there: str, missing: str) -> None:
    with pytest.raises(LandsegError, match=rf"{there}/{SCENES[1]}\.tif without {missing}/{SCENES[1]}\.tif"):
        fetch_local(tmp_path, without(whole, f"{missing}/{SCENES[1]}.tif"))


def test_no_images(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(LandsegError, match="no folder images"):
        fetch_local(tmp_path, {name: content for name, content in whole.items() if name.endswith(".txt")})


def test_empty_images(tmp_path: Path, whole: dict[str, bytes]) -> None:
    lists = {name: content for name, content in whole.items() if name.endswith(".txt")}
    with pytest.raises(LandsegError, match=r"no \*\.tif in images"):
        fetch_local(tmp_path, {**lists, "images/readme": b""})


def test_missing_list(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(LandsegError, match=r"val\.txt not found"):
        fetch_local(tmp_path, without(whole, "val.txt"))


def test_tile_in_two_splits(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(LandsegError, match=r"test\.txt: M-33-20-D-c-4-2_7 is also in val\.txt"):
        fetch_local(tmp_path, {**whole, "test.txt": b"M-33-20-D-c-4-2_7\n"})


def test_invalid_line(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(LandsegError, match=r"val\.txt: 'M-33-20-D-c-4-2' is not <scene>_<number>"):
        fetch_local(tmp_path, {**whole, "val.txt": b"M-33-20-D-c-4-2\n"})


def test_scene_sizes_and_projection_survive(tmp_path: Path, whole: dict[str, bytes]) -> None:
    fetched = fetch_local(tmp_path, whole)
    with rasterio.open(tmp_path / "raw" / fetched.scenes["image"][1]) as raster:
        assert (raster.count, raster.shape, raster.res) == (3, (60, 70), (0.25, 0.25))
        assert raster.crs.to_epsg() is None
