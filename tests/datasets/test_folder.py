"""Your own images and masks: pairing, sidecar files, and the stages before training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.converting import convert_rows
from helpers.rasters import (
    CLASSES,
    TRANSFORM,
    Project,
    class_colours,
    random_image,
    random_labels,
    write_image,
    write_tif,
)
from PIL import Image as PILImage

from landseg.core.data_card import MaskEncoding
from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine
from landseg.core.rendering import Rendering
from landseg.datasets.folder import fetch as folder
from landseg.datasets.folder.card import card as folder_card
from landseg.datasets.folder.files import find_files
from landseg.datasets.folder.params import FolderParams, NamePattern
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.schema import check_params
from landseg.tile.plan import plan_tiles


def fill(at: Path, *files: str) -> Path:
    for file in files:
        (at / file).parent.mkdir(parents=True, exist_ok=True)
        (at / file).write_text(file)
    return at


def folder_params(**changes: Any) -> FolderParams:
    plain: dict[str, Any] = {
        "name": "folder", "images": "images/*", "masks": "masks/*", "bands": ["red", "green", "blue"],
        "mask_values": "ids", "classes": CLASSES, "ignore": [], "unlisted": "error",
    }  # fmt: skip
    return FolderParams.model_validate(plain | changes)


def fetch(local: Path, raw: Path, **changes: Any) -> RawDataset:
    """Fetch without the keys on which the raw files do not depend: using one would fail."""
    dataset = folder_params(**changes)
    for key in dataset.card_keys:
        del dataset.__dict__[key]
    return folder.fetch(dataset, DownloadParams(folder=local), raw, raw.parent / "state", LocalEngine(1))


def scenes(fetched: RawDataset) -> list[list[str]]:
    assert (fetched.scenes["location"] == fetched.scenes["scene"]).all()
    assert (fetched.scenes["archive"] == fetched.scenes["scene"]).all()
    return fetched.scenes[["scene", "image", "mask", "cloud"]].to_numpy().tolist()


def test_any_extension(tmp_path: Path) -> None:
    local = fill(
        tmp_path / "l",
        "images/b.tif",
        "images/a.v2.JPG",
        "images/c.png",
        "masks/a.v2.png",
        "masks/b.tif",
        "masks/c.tif",
    )
    assert scenes(fetch(local, tmp_path / "raw")) == [
        ["a.v2", "images/a.v2.JPG", "masks/a.v2.png", ""],
        ["b", "images/b.tif", "masks/b.tif", ""],
        ["c", "images/c.png", "masks/c.tif", ""],
    ]
    assert (tmp_path / "raw/images/a.v2.JPG").read_text() == "images/a.v2.JPG"


def test_names_that_differ_around_the_star(tmp_path: Path) -> None:
    local = fill(
        tmp_path / "l",
        "images/image0001.jpg",
        "images/image02.jpg",
        "masks/mask0001.png",
        "masks/mask02.png",
        "masks/x.txt",
    )
    fetched = fetch(local, tmp_path / "raw", images="images/image*.jpg", masks="masks/mask*.png")
    assert scenes(fetched) == [
        ["0001", "images/image0001.jpg", "masks/mask0001.png", ""],
        ["02", "images/image02.jpg", "masks/mask02.png", ""],
    ]


def test_one_folder_per_scene(tmp_path: Path) -> None:
    """Files of the same name in several folders stay apart."""
    local = fill(tmp_path / "l", "x/image.tif", "x/mask.tif", "y/image.tif", "y/mask.tif", "z/other.tif")
    fetched = fetch(local, tmp_path / "raw", images="*/image.tif", masks="*/mask.tif")
    assert scenes(fetched) == [["x", "x/image.tif", "x/mask.tif", ""], ["y", "y/image.tif", "y/mask.tif", ""]]
    assert (tmp_path / "raw/y/image.tif").read_text() == "y/image.tif"


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    local = fill(tmp_path / "l", "a_rgb.tif", "a_label.tif", "b_rgb.tif", "b_label.tif")
    fetched = fetch(local, tmp_path / "raw", images="*_rgb.tif", masks="*_label.tif")
    assert scenes(fetched) == [["a", "a_rgb.tif", "a_label.tif", ""], ["b", "b_rgb.tif", "b_label.tif", ""]]


def test_sidecar_files_are_copied(tmp_path: Path) -> None:
    beside = ("images/a.tfw", "images/a.tif.aux.xml", "images/b.JGW", "images/b.wld", "masks/a.tif.ovr", "masks/b.prj")
    local = fill(
        tmp_path / "l", "images/a.tif", "images/b.jpg", "masks/a.tif", "masks/b.png", *beside, "images/.hidden.tif"
    )
    assert [row[0] for row in scenes(fetch(local, tmp_path / "raw"))] == ["a", "b"]
    copied = {path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    assert copied == {"images/a.tif", "images/b.jpg", "masks/a.tif", "masks/b.png", *beside}


def test_a_world_file_georeferences_its_image(tmp_path: Path) -> None:
    local = tmp_path / "l"
    write_image(local / "images/a.jpg", random_image(64, 64).transpose(1, 2, 0))
    write_image(local / "masks/a.png", random_labels(64, 64))
    (local / "images/a.jgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n399999.75\n")
    fetch(local, tmp_path / "raw")
    with rasterio.open(tmp_path / "raw/images/a.jpg") as image:
        assert image.transform == TRANSFORM


def test_cloud_layers(tmp_path: Path) -> None:
    local = fill(tmp_path / "l", "images/a.tif", "images/b.tif", "masks/a.tif", "masks/b.tif", "clouds/b.tif")
    fetched = fetch(local, tmp_path / "raw", clouds="clouds/*.tif")
    assert fetched.scenes["cloud"].tolist() == ["", "clouds/b.tif"]
    assert (tmp_path / "raw/clouds/b.tif").is_file()


def chips(at: Path) -> Path:
    names = ("north_001", "north_002", "south_001")
    return fill(at, *(f"{kind}/{name}.tif" for kind in ("images", "masks") for name in names))


def test_locations_and_groups_by_pattern(tmp_path: Path) -> None:
    scenes = fetch(chips(tmp_path / "in"), tmp_path / "raw", groups={"pattern": "(.*)_[0-9]+"}).scenes
    assert scenes["group"].tolist() == ["north", "north", "south"]
    assert scenes["location"].tolist() == ["north_001", "north_002", "south_001"]
    scenes = fetch(tmp_path / "in", tmp_path / "raw2", locations={"pattern": "(north|south).*"}).scenes
    assert scenes["location"].tolist() == ["north", "north", "south"]
    assert scenes["group"].tolist() == ["", "", ""]


def test_locations_and_groups_by_table(tmp_path: Path) -> None:
    at = chips(tmp_path / "in")
    (at / "places.csv").write_text("image,site,flight\nsouth_001,s,2\nnorth_001,n,1\nnorth_002,n,1\nother,o,3\n")
    by = {"locations": {"table": "places.csv", "column": "site"}, "groups": {"table": "places.csv", "column": "flight"}}
    scenes = fetch(at, tmp_path / "raw", **by).scenes
    assert scenes["location"].tolist() == ["n", "n", "s"]
    assert scenes["group"].tolist() == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("groups", "table", "fault"),
    [
        (
            {"pattern": "(north)_.*"},
            "",
            r"dataset\.groups: pattern '\(north\)_\.\*' gives no name for 1 images, first 'south_001'",
        ),
        (
            {"table": "t.csv", "column": "g"},
            "",
            r"dataset\.groups\.table: .*t\.csv not found; add it to download\.folder",
        ),
        (
            {"table": "t.csv", "column": "g"},
            "image,h\n",
            r"t\.csv has no column 'g', only image, h; correct dataset\.groups\.col",
        ),
        (
            {"table": "t.csv", "column": "g"},
            "image,g\nnorth_001,a\n",
            "t.csv gives no name for 2 images, first 'north_002'",
        ),
        ({"table": "t.csv", "column": "g"}, "image,g\nx,a\nx,b\n", "has two different rows for image 'x'; keep one"),
    ],
)
def test_images_without_a_group(tmp_path: Path, groups: dict[str, str], table: str, fault: str) -> None:
    at = chips(tmp_path / "in")
    if table:
        (at / "t.csv").write_text(table)
    with pytest.raises(LandsegError, match=fault):
        fetch(at, tmp_path / "raw", groups=groups)


@pytest.mark.parametrize(
    ("pattern", "fault"), [("(a", "not a regular expression"), ("a", "has 0 groups"), ("(a)(b)", "has 2")]
)
def test_invalid_patterns_of_names(pattern: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        NamePattern(pattern=pattern)


def test_names_with_glob_characters(tmp_path: Path) -> None:
    local = fill(tmp_path / "my [data]*", "im[1]/a b#1.tif", "masks/a b#1.tif")
    fetched = fetch(local, tmp_path / "raw", images="im[1]/*.tif")
    assert scenes(fetched) == [["a b#1", "im[1]/a b#1.tif", "masks/a b#1.tif", ""]]


def test_card(tmp_path: Path) -> None:
    local = fill(tmp_path / "village", "images/a.tif", "masks/a.tif")
    colours = {
        "mask_values": "rgb",
        "ignore": [[155, 155, 155], "#000001"],
        "unlisted": "ignore",
        "background": "background",
    }
    card = folder_card(folder_params(licence="CC0-1.0", **colours), DownloadParams(folder=local))
    assert (card.name, card.title, card.licence, card.bands) == (
        "folder",
        "Images and labels of village",
        "CC0-1.0",
        ("red", "green", "blue"),
    )
    assert (card.classes, card.background) == (CLASSES, "background")
    assert card.mask == MaskEncoding(values="rgb", ignore=((155, 155, 155), (0, 0, 1)), unlisted="ignore")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"images": "images/b.tif"}, r"dataset\.images = 'images/b\.tif': must contain a \* for the name"),
        ({"masks": "**/*.tif"}, r"dataset\.masks = '\*\*/\*\.tif': must contain a \* for the name"),
        ({"images": "../*.tif"}, r"dataset\.images = '\.\./\*\.tif': leads out of download\.folder"),
        ({"images": "/images/*.tif"}, r"dataset\.images = '/images/\*\.tif': leads out of download\.folder"),
        (
            {"images": "image/*"},
            r"l: no file matches 'image/\*'; add files, or correct dataset\.images",
        ),
        ({"clouds": "clouds/*"}, r"no file matches 'clouds/\*'; .* dataset\.clouds"),
    ],
)
def test_invalid_patterns(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    local = fill(tmp_path / "l", "images/a.tif", "masks/a.tif")
    with pytest.raises(LandsegError, match=fault):
        fetch(local, tmp_path / "raw", **changes)
    assert not (tmp_path / "raw").exists()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=rf"download\.folder = '{tmp_path}/l': not a folder; set it to"):
        find_files(tmp_path / "l", "*.tif", "dataset.images")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("masks/b.tif", r"images/b\.tif: image without mask; add the mask, or remove the image"),
        ("images/c.tif", r"masks/c\.tif: mask without image; add the image, or remove the mask"),
    ],
)
def test_unpaired(tmp_path: Path, missing: str, sentence: str) -> None:
    local = fill(tmp_path / "l", *(f"{kind}/{name}.tif" for kind in ("images", "masks") for name in "abc"))
    (local / missing).unlink()
    with pytest.raises(LandsegError, match=sentence):
        fetch(local, tmp_path / "raw")


def test_several_unpaired_are_counted(tmp_path: Path) -> None:
    local = fill(tmp_path / "l", "images/a.tif", "images/b.tif", "images/c.tif", "masks/b.tif")
    with pytest.raises(LandsegError, match=r"images/a\.tif: image without mask \(and 1 more\); add the mask"):
        fetch(local, tmp_path / "raw")
    fill(tmp_path / "l", "masks/a.tif", "masks/c.tif", "clouds/d.tif")
    with pytest.raises(LandsegError, match=r"clouds/d\.tif: cloud layer without image"):
        fetch(local, tmp_path / "raw", clouds="clouds/*")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    local = fill(tmp_path / "l", "images/a.tif", "images/a.jpg", "masks/a.png")
    with pytest.raises(LandsegError, match=r"images/a\.tif: the same name 'a' as a\.jpg; rename or remove one"):
        fetch(local, tmp_path / "raw")


def test_all_the_stages_before_training(tmp_path: Path) -> None:
    """Mixed formats, masks of colours, a cloud layer and nodata, through the stage scripts."""
    project = Project(tmp_path)
    project.change(
        dataset={"clouds": "clouds/*", "mask_values": "rgb", "ignore": [[155, 155, 155]]},
        split={"strategy": "random", "ratios": [0.5, 0.25, 0.25]},
    )
    ids, image = random_labels(64, 96), random_image(64, 96).clip(1)
    colours = class_colours(ids)
    colours[:5] = (155, 155, 155)
    image[:, :, -7:] = 0
    write_tif(project.local / "images/a.tif", image, nodata=0)
    write_image(project.local / "masks/a.png", colours)
    write_image(project.local / "images/b.png", random_image(70, 50, 1).transpose(1, 2, 0))
    write_image(project.local / "masks/b.png", class_colours(random_labels(70, 50, 1)))
    project.add("c", mask=class_colours(ids).transpose(2, 0, 1), cloud=np.ones((64, 96), np.uint8))

    project.run("download", "filter", "tile", "convert", "split")

    kept = pd.read_csv(project / "data/tables/folder/kept.csv")
    assert kept["kept"].tolist() == [True, True, False]
    assert kept["reason"].tolist() == [
        "no cloud layer",
        "no cloud layer",
        "cloud share 100.0% is over the limit of 20.0%",
    ]
    tiles = pd.read_parquet(project / "data/tables/folder/split.parquet")
    assert tiles["tile"].tolist() == [*(f"a_{k}" for k in range(6)), "b_0", "b_2"]
    assert sorted(path.name for path in (project / "data/tiles/folder").iterdir()) == ["a.zip", "b.zip"]
    counts = tiles.filter(like="pixels_")
    assert (counts.sum(axis=1) == 32 * 32).all()
    assert tiles.loc[tiles["scene"] == "a", "pixels_ignored"].sum() == 5 * 96 + 7 * 64 - 5 * 7
    assert set(tiles["split"]) == {"train", "val", "test"}


MULTISOURCE: dict[str, Any] = {
    "images": "images/image*.jpg",
    "masks": "masks/mask*.png",
    "mask_values": "rgb",
    "classes": [
        {"id": 0, "name": "building", "color": [60, 16, 152]},
        {"id": 1, "name": "land", "color": [132, 41, 246]},
        {"id": 2, "name": "road", "color": [110, 193, 228]},
        {"id": 3, "name": "vegetation", "color": [254, 221, 58]},
        {"id": 4, "name": "water", "color": [226, 169, 41]},
    ],
    "ignore": [[155, 155, 155], [0, 0, 0]],
}


@pytest.fixture
def multisource(real_data: Path) -> Path:
    if not (real_data / "multisource").is_dir():
        pytest.skip("no multisource pairs")
    return real_data / "multisource"


def test_real_pairs(multisource: Path, tmp_path: Path) -> None:
    """Five pairs through fetch, tile and convert; pixel counts equal those of the masks read by Pillow."""
    for mask in sorted((multisource / "masks").glob("*.png"))[::22]:
        image = f"images/{mask.stem.replace('mask', 'image')}.jpg"
        for source in (mask.relative_to(multisource).as_posix(), image):
            (tmp_path / "l" / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(multisource / source, tmp_path / "l" / source)
    fetched = fetch(tmp_path / "l", tmp_path / "raw", **MULTISOURCE)
    card = folder_card(folder_params(**MULTISOURCE), DownloadParams(folder=tmp_path / "l"))
    tiles = pd.DataFrame(plan_tiles(fetched.scenes, tmp_path / "raw", card, 512, "pad"))
    rendering = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1.0)
    for _, rows in tiles.groupby("archive"):
        counts = convert_rows(rows, tmp_path / "raw", tmp_path, card, rendering, 512, False, 2)
        colours = np.asarray(PILImage.open(tmp_path / "raw" / str(rows["mask"].iloc[0])).convert("RGB")).reshape(-1, 3)
        expected = [int((colours == land_class.color).all(axis=1).sum()) for land_class in card.classes]
        assert counts.sum().tolist() == [*expected, len(colours) - sum(expected)]


@pytest.mark.slow
def test_all_real_pairs(multisource: Path, tmp_path: Path) -> None:
    fetched = fetch(multisource, tmp_path / "raw", **MULTISOURCE)
    assert len(fetched.scenes) == 110
    card = folder_card(folder_params(**MULTISOURCE), DownloadParams(folder=multisource))
    tiles = pd.DataFrame(plan_tiles(fetched.scenes, tmp_path / "raw", card, 512, "pad"))
    rendering = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1.0)
    for _, rows in tiles.groupby("archive"):
        convert_rows(rows, tmp_path / "raw", tmp_path, card, rendering, 512, False, 2)


def test_split_by_group_needs_groups(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.change(split={"strategy": "group"})
    with pytest.raises(LandsegError, match=r"split\.strategy group needs scenes in groups.*; set dataset\.groups"):
        check_params(tmp_path / "params.yaml")
    project.change(dataset={"groups": {"pattern": "(.*)_[0-9]+"}})
    check_params(tmp_path / "params.yaml")
