"""Tile plan: numbering, footprints, and errors of grids that differ."""

from pathlib import Path
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import TRANSFORM, card, random_image, random_labels, scene_table, write_image, write_tif
from pyproj import Transformer
from rasterio import Affine

from landseg.core import tables
from landseg.core.errors import LandsegError
from landseg.core.tables import IMAGERY_COLUMNS
from landseg.tile.plan import Edge, plan_tiles, shared_archives, tile_grid, waste_sentence, write_plan


def make(
    raw: Path, name: str, height: int, width: int, crs: str | None = "EPSG:2180", transform: Affine = TRANSFORM
) -> tuple[str, str, str]:
    write_tif(raw / f"images/{name}.tif", random_image(height, width), crs, transform)
    write_tif(raw / f"masks/{name}.tif", random_labels(height, width), crs, transform)
    return name, f"images/{name}.tif", f"masks/{name}.tif"


def corners(tiles: gpd.GeoDataFrame, tile: str) -> set[tuple[float, float]]:
    [outline] = tiles.loc[tiles["tile"] == tile, "geometry"]
    return set(outline.exterior.coords)


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        # 3 rows of 3 cells; the last of each row and the last row cross the edge. k counts them, too.
        ("drop", [(0, 0, 0), (1, 0, 32), (3, 32, 0), (4, 32, 32)]),
        ("pad", [(3 * row + col, 32 * row, 32 * col) for row in range(3) for col in range(3)]),
    ],
)
def test_grid(edge: Edge, expected: list[tuple[int, int, int]]) -> None:
    assert list(tile_grid(95, 70, 32, edge)) == expected


def test_grid_without_partial_cells() -> None:
    assert list(tile_grid(64, 32, 32, "drop")) == list(tile_grid(64, 32, 32, "pad")) == [(0, 0, 0), (1, 0, 32)]


def test_numbers_match_the_official_split_py() -> None:
    """The published loop, as described in the paper: k counts all windows, written or not."""
    width, height, size = 1700, 1100, 512
    k, official = 0, []
    for y in range(0, height, size):
        for x in range(0, width, size):
            if y + size <= height and x + size <= width:
                official.append((k, y, x))
            k += 1
    assert list(tile_grid(width, height, size, "drop")) == official


def test_plan(tmp_path: Path) -> None:
    tiles = plan_tiles(
        scene_table(make(tmp_path, "b", 64, 70), make(tmp_path, "a", 32, 32)), tmp_path, card(), 32, "drop"
    )
    assert tiles.columns.tolist() == [
        "tile", "archive", "scene", "location", "group", "image", "mask", "row", "col", "height", "width",
        "gsd", "resolution", "dtype", "scaling", "geometry",
    ]  # fmt: skip
    assert tiles["tile"].tolist() == ["b_0", "b_1", "b_3", "b_4", "a_0"]
    assert tiles["archive"].tolist() == ["b.zip"] * 4 + ["a.zip"]
    assert tiles.loc[3, ["row", "col", "height", "width", "image", "mask"]].tolist() == [
        32, 32, 32, 32, "images/b.tif", "masks/b.tif",
    ]  # fmt: skip


def test_padded_windows_end_at_the_edge(tmp_path: Path) -> None:
    tiles = plan_tiles(scene_table(make(tmp_path, "a", 40, 70)), tmp_path, card(), 32, "pad").set_index("tile")
    assert tiles.loc["a_5", ["row", "col", "height", "width"]].tolist() == [32, 64, 8, 6]
    assert tiles.loc["a_5", "geometry"].bounds == (500_032, 399_980, 500_035, 399_984)
    assert (tiles["height"] * tiles["width"]).sum() == 40 * 70


def test_footprints(tmp_path: Path) -> None:
    tiles = plan_tiles(scene_table(make(tmp_path, "a", 64, 64)), tmp_path, card(), 32, "drop")
    assert tiles.crs == "EPSG:2180"
    # 32 px of 0.5 m are 16 m; the fourth tile starts 16 m east and 16 m south of the scene's corner.
    assert corners(tiles, "a_3") == {(500_016, 399_984), (500_032, 399_984), (500_032, 399_968), (500_016, 399_968)}


def test_footprints_of_a_rotated_scene(tmp_path: Path) -> None:
    turned = Affine(0, 2, 1000, 3, 0, 2000)  # x grows with rows, y with columns
    tiles = plan_tiles(scene_table(make(tmp_path, "a", 32, 64, transform=turned)), tmp_path, card(), 32, "drop")
    assert corners(tiles, "a_1") == {(1000, 2096), (1000, 2192), (1064, 2192), (1064, 2096)}


def test_several_crs(tmp_path: Path) -> None:
    scenes = scene_table(
        make(tmp_path, "a", 32, 32), make(tmp_path, "b", 32, 32, "EPSG:32634"), make(tmp_path, "c", 32, 32, None)
    )
    tiles = plan_tiles(scenes, tmp_path, card(), 32, "drop")
    assert tiles.crs == "EPSG:4326"
    degrees = Transformer.from_crs("EPSG:32634", "EPSG:4326", always_xy=True).transform(500_000, 400_000)
    assert min(np.hypot(*(np.array(corner) - degrees)) for corner in corners(tiles, "b_0")) < 1e-9
    assert tiles.loc[2, "geometry"] is None


def test_without_crs(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", random_image(64, 32).transpose(1, 2, 0))
    write_image(tmp_path / "a.png", random_labels(64, 32))
    tiles = plan_tiles(scene_table(("a", "a.jpg", "a.png")), tmp_path, card(), 32, "drop")
    assert tiles.crs is None
    assert tiles["geometry"].isna().all()
    write_plan(tiles, 32, card().bands, tmp_path / "plan.parquet")
    assert gpd.read_parquet(tmp_path / "plan.parquet")["geometry"].isna().all()


@pytest.mark.parametrize("crs", ["EPSG:2180", "+proj=tmerc +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +datum=WGS84"])
def test_written_plan_has_the_crs(tmp_path: Path, crs: str) -> None:
    tiles = plan_tiles(scene_table(make(tmp_path, "a", 64, 64, crs)), tmp_path, card(), 32, "drop")
    write_plan(tiles, 32, card().bands, tmp_path / "plan.parquet")
    read = gpd.read_parquet(tmp_path / "plan.parquet")
    assert read.crs == crs
    pd.testing.assert_frame_equal(
        pd.DataFrame(read.drop(columns="geometry")), pd.DataFrame(tiles.drop(columns="geometry"))
    )
    assert read.geometry.geom_equals(tiles.geometry).all()


def test_no_pixel_is_read(tmp_path: Path) -> None:
    scenes = scene_table(make(tmp_path, "a", 200, 300))
    whole = plan_tiles(scenes, tmp_path, card(), 32, "drop")
    for path in (tmp_path / "images/a.tif", tmp_path / "masks/a.tif"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])  # GDAL writes the header first
    pd.testing.assert_frame_equal(plan_tiles(scenes, tmp_path, card(), 32, "drop"), whole)


def test_smaller_than_a_tile(tmp_path: Path) -> None:
    scenes = scene_table(make(tmp_path, "a", 31, 99))
    with pytest.raises(
        LandsegError, match=r"^scene a: size 99x31 px is smaller than a tile \(32 px\); lower tile\.size, set"
    ):
        plan_tiles(scenes, tmp_path, card(), 32, "drop")
    assert len(plan_tiles(scenes, tmp_path, card(), 32, "pad")) == 4


def test_different_sizes(tmp_path: Path) -> None:
    scenes = scene_table(make(tmp_path, "a", 64, 64))
    write_tif(tmp_path / "masks/a.tif", random_labels(64, 63))
    with pytest.raises(
        LandsegError, match=rf"^{tmp_path}/masks/a\.tif: size 63x64 px differs from its image a\.tif \(64x64 px\)"
    ):
        plan_tiles(scenes, tmp_path, card(), 32, "drop")


@pytest.mark.parametrize(("metres", "fits"), [(0.2, True), (-0.2, True), (0.5, False), (-16, False)])
def test_different_positions(tmp_path: Path, metres: float, fits: bool) -> None:
    scenes = scene_table(make(tmp_path, "a", 64, 64))
    write_tif(
        tmp_path / "masks/a.tif", random_labels(64, 64), transform=Affine(0.5, 0, 500_000 + metres, 0, -0.5, 400_000)
    )
    if fits:
        plan_tiles(scenes, tmp_path, card(), 32, "drop")
    else:
        with pytest.raises(
            LandsegError, match=rf"masks/a\.tif: offset by {abs(metres) * 2:.1f} px from its image a\.tif"
        ):
            plan_tiles(scenes, tmp_path, card(), 32, "drop")


def test_mask_without_georeference(tmp_path: Path) -> None:
    scenes = scene_table(make(tmp_path, "a", 32, 32))
    write_tif(tmp_path / "masks/a.tif", random_labels(32, 32), crs=None, transform=None)
    assert plan_tiles(scenes, tmp_path, card(), 32, "drop").crs == "EPSG:2180"


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_different_crs(tmp_path: Path, crs: str) -> None:
    """Equal coordinates in another CRS are another position."""
    scenes = scene_table(make(tmp_path, "a", 64, 64, "EPSG:32634"))
    write_tif(tmp_path / "masks/a.tif", random_labels(64, 64), crs)
    with pytest.raises(LandsegError) as caught:
        plan_tiles(scenes, tmp_path, card(), 32, "drop")
    assert str(caught.value) == (
        f"{tmp_path}/masks/a.tif: CRS {crs} differs from its image a.tif (EPSG:32634); align both to one "
        "grid, or set dataset.align for a folder of images"
    )


CHIPS = card(bands=("red", "nir"), band_files={"red": "B04", "nir": "B08"})


def make_chip(raw: Path, scene: str, location: str, group: str) -> dict[str, str]:
    """Write two bands and a label; return the row of the imagery table."""
    for band in ("B04", "B08"):
        write_tif(raw / f"s2/{scene}_{band}.tif", random_image(64, 64)[0])
    write_tif(raw / f"labels/{location}.tif", random_labels(64, 64))
    return {
        "scene": scene, "location": location, "group": group, "archive": group, "image": f"s2/{scene}_{{band}}.tif",
        "mask": f"labels/{location}.tif",
    }  # fmt: skip


def test_chips_of_several_locations_in_one_archive(tmp_path: Path) -> None:
    chips = [("36N_01_0105", "36N_01", "36N"), ("36N_02_0105", "36N_02", "36N"), ("36N_01_0209", "36N_01", "36N")]
    scenes = tables.scene_table(make_chip(tmp_path, *names) for names in [*chips, ("37N_00_0105", "37N_00", "37N")])
    tiles = plan_tiles(scenes[list(IMAGERY_COLUMNS)], tmp_path, CHIPS, 64, "drop")
    assert tiles[["tile", "archive", "location", "group"]].to_numpy().tolist() == [
        ["36N_01_0105_0", "36N.zip", "36N_01", "36N"],
        ["36N_02_0105_0", "36N.zip", "36N_02", "36N"],
        ["36N_01_0209_0", "36N.zip", "36N_01", "36N"],
        ["37N_00_0105_0", "37N.zip", "37N_00", "37N"],
    ]
    assert tiles["image"].tolist() == [f"s2/{scene}_{{band}}.tif" for scene in scenes["scene"]]
    assert tiles.geometry.bounds.iloc[3].tolist() == [500_000, 399_968, 500_032, 400_000]


def test_grids_of_all_bands_are_compared(tmp_path: Path) -> None:
    """Including bands that conversion does not use."""
    scenes = tables.scene_table([make_chip(tmp_path, "a", "a", "")])
    path = write_tif(tmp_path / "s2/a_B08.tif", random_image(32, 32)[0])
    with pytest.raises(
        LandsegError, match=rf"^{path}: size 32x32 px differs from the band a_B04\.tif \(64x64 px\); align"
    ):
        plan_tiles(scenes, tmp_path, CHIPS, 32, "drop")
    path.unlink()
    with pytest.raises(LandsegError, match=rf"^{path}: file not found; "):
        plan_tiles(scenes, tmp_path, CHIPS, 32, "drop")


def test_grids_of_masks_and_bands_are_compared(tmp_path: Path) -> None:
    scenes = tables.scene_table([make_chip(tmp_path, "a", "a", "")])
    path = write_tif(tmp_path / "labels/a.tif", random_labels(64, 60))
    with pytest.raises(
        LandsegError, match=rf"^{path}: size 60x64 px differs from its image a_B04\.tif \(64x64 px\); align"
    ):
        plan_tiles(scenes, tmp_path, CHIPS, 32, "drop")


def test_slivers_are_left_out(tmp_path: Path) -> None:
    """Chips of 100 px in tiles of 64 px: three of four windows are partial, and the last is nearly all padding."""
    scenes = scene_table(make(tmp_path, "a", 100, 100))
    kept = {
        share: plan_tiles(scenes, tmp_path, card(), 64, "pad", share)["tile"].tolist()
        for share in (0, 0.25, 0.5, 0.6, 1)
    }
    assert kept == {
        0: ["a_0", "a_1", "a_2", "a_3"],
        0.25: ["a_0", "a_1", "a_2", "a_3"],
        0.5: ["a_0", "a_1", "a_2"],
        0.6: ["a_0"],
        1: ["a_0"],
    }


@pytest.mark.faults
@pytest.mark.parametrize(
    ("side", "size", "edge", "sentence"),
    [
        (
            256,
            512,
            "pad",
            "75% of the tiles are padding; with tile.size = 256 there would be 0% padding, and 0% outside",
        ),
        (
            300,
            256,
            "pad",
            "27% of the pixels are in no tile; with tile.size = 288 there would be 0% padding, and 8% outside",
        ),
        (
            300,
            256,
            "drop",
            "27% of the pixels are in no tile; with tile.size = 288 there would be 0% padding, and 8% outside",
        ),
        (1024, 512, "pad", ""),
        (9000, 512, "pad", ""),
    ],
)
def test_sizes_that_do_not_fit(tmp_path: Path, side: int, size: int, edge: Edge, sentence: str) -> None:
    said: list[str] = []
    scenes = scene_table(make(tmp_path, "a", side, side)) if side < 9000 else None
    if scenes is not None:
        plan_tiles(scenes, tmp_path, card(), size, edge, 0.25, said.append)
    else:
        said += filter(None, [waste_sentence([(side, side)], size, edge, 0.25)])
    assert said == ([sentence] if sentence else [])


@pytest.mark.faults
def test_picture_that_is_far_smaller_than_a_tile(tmp_path: Path) -> None:
    scenes = scene_table(make(tmp_path, "a", 100, 100))
    with pytest.raises(
        LandsegError, match=r"^scene a: size 100x100 px fills less than 25% of a tile \(512 px\); lower"
    ):
        plan_tiles(scenes, tmp_path, card(), 512, "pad", 0.25)


@pytest.mark.faults
def test_huge_raster(tmp_path: Path) -> None:
    """Tiles are counted before they are listed."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        with rasterio.open(
            tmp_path / kind / "a.tif", "w", "GTiff", 10**6, 10**6, 3, dtype="uint8", sparse_ok=True, tiled=True,
            blockxsize=4096, blockysize=4096, compress="deflate", photometric="minisblack", crs="EPSG:2180",
            transform=TRANSFORM, bigtiff="yes",
        ):  # fmt: skip
            pass
    scenes = scene_table(("a", "images/a.tif", "masks/a.tif"))
    with pytest.raises(
        LandsegError, match=r"^scene a: 1,000,000x1,000,000 px would give over 5,000,000 tiles of 128 px; split it"
    ):
        plan_tiles(scenes, tmp_path, card(), 128, "pad")


class TestSharedArchives:
    @pytest.mark.parametrize(
        ("archives", "most", "expected"),
        [
            (["a", "b", "c"], 1, ["a", "b", "c"]),
            (["a", "b", "c"], 2, ["a_and_1_more", "a_and_1_more", "c"]),
            (["a", "b", "c"], 9, ["a_and_2_more"] * 3),
            (["a", "a", "b", "c"], 3, ["a_and_1_more"] * 3 + ["c"]),  # archives of the dataset stay whole
            (["a", "a", "a", "b"], 2, ["a", "a", "a", "b"]),  # also larger ones
            (["a", "b", "a", "b"], 4, ["a_and_1_more"] * 4),
            (["a", "b", "c"], "auto", ["a", "b", "c"]),
        ],
    )
    def test_names(self, archives: list[str], most: int | Literal["auto"], expected: list[str]) -> None:
        assert shared_archives(archives, most) == expected

    @pytest.mark.parametrize(("scenes", "expected"), [(1000, 1000), (1001, 501), (10_000, 1000), (100_001, 991)])
    def test_auto_gives_at_most_a_thousand(self, scenes: int, expected: int) -> None:
        assert len(set(shared_archives([str(number) for number in range(scenes)], "auto"))) == expected

    def test_auto_with_archives_of_several_scenes(self) -> None:
        archives = [str(number // 7) for number in range(9000)]
        joined = shared_archives(archives, "auto")
        assert 500 < len(set(joined)) <= 1000
        assert len(set(zip(archives, joined, strict=True))) == len(set(archives))

    def test_scenes_that_are_added_at_the_end_change_the_last_archive_only(self) -> None:
        before, after = (shared_archives([f"s{number:03}" for number in range(count)], 10) for count in (95, 120))
        assert before[:90] == after[:90]
