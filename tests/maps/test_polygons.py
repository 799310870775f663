from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import shapely
from helpers.maps import CLASSES, TEN_METRES, UTM, gdal, make_map, no_file_over, patches
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

from landseg.core.errors import LandsegError
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA, open_class_map
from landseg.maps.polygons import MAX_SHIFT, MapPolygons, map_polygons, polygons_sentence, write_polygons
from landseg.maps.style import class_legend
from landseg.raster.grid import Grid
from landseg.raster.pixel_area import row_areas

Ids = npt.NDArray[np.uint8]


def vectors(
    path: Path, ids: Any, min_pixels: int = 1, tolerance: float = 0, confidence: Path | None = None, **options: Any
) -> Any:
    with open_class_map(make_map(path, ids, **options)) as classes_map:
        return map_polygons(classes_map, confidence, min_pixels, tolerance).frame


def regions(ids: Ids) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Class and pixels of every region, by scipy."""
    found = []
    for land_class in CLASSES:
        labels, count = ndimage.label(ids == land_class.id)
        found += [(land_class.id, labels == number) for number in range(1, count + 1)]
    return found


def inside(frame: Any, height: int, width: int) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Class and pixels of every polygon, by pixel centres."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = TEN_METRES @ (columns.ravel(), rows.ravel())
    return [
        (value, shapely.contains_xy(geometry, x, y).reshape(height, width))
        for value, geometry in zip(frame["class_id"], frame.geometry, strict=True)
    ]


def keys(found: list[tuple[int, npt.NDArray[np.bool_]]]) -> list[tuple[int, bytes]]:
    return sorted((value, pixels.tobytes()) for value, pixels in found)


def gray(path: Path, pixels: Ids, transform: Affine = TEN_METRES) -> Path:
    shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **shape, crs=UTM, transform=transform) as target:
        target.write(pixels, 1)
    return path


def sums(ids: Ids, values: npt.NDArray[Any]) -> list[tuple[int, float]]:
    """Class of every region and the sum of values over its pixels, by scipy, sorted."""
    found = []
    for land_class in CLASSES:
        labels, count = ndimage.label(ids == land_class.id)
        found += [(land_class.id, total) for total in ndimage.sum_labels(values, labels, range(1, count + 1))]
    return sorted(found)


class TestRegions:
    @pytest.mark.parametrize("seed", range(4))
    def test_match_connected_components(self, seed: int, tmp_path: Path) -> None:
        ids = patches(37, 41, seed, cell=5)
        frame = vectors(tmp_path / "a.tif", ids)
        assert keys(inside(frame, 37, 41)) == keys(regions(ids))
        assert frame.columns.tolist() == ["class_id", "class", "area_m2", "confidence", "geometry"]
        names = {land_class.id: land_class.name for land_class in CLASSES}
        assert frame["class"].tolist() == [names[value] for value in frame["class_id"]]
        assert frame.crs == UTM

    def test_neighbours_share_the_corner_where_three_meet(self, tmp_path: Path) -> None:
        frame = vectors(tmp_path / "a.tif", [[0, 0], [1, 4]])
        above = frame.geometry[frame["class_id"] == 0].item()
        middle = (TEN_METRES.c + 10, TEN_METRES.f - 10)
        assert middle in above.exterior.coords
        assert shapely.get_num_coordinates(above) == 6  # four corners, the shared corner, and the first corner again

    @pytest.mark.parametrize("tolerance", [0, 1.5, 20])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 50), (70, 90)])
    def test_are_a_coverage(self, shape: tuple[int, int], tolerance: float, tmp_path: Path) -> None:
        ids = patches(*shape, seed=5, cell=8)
        ids[ndimage.binary_dilation(ids == NODATA, iterations=3) & (np.indices(shape).sum(axis=0) % 3 > 0)] = NODATA
        ids[-1, -1] = 1
        geometries = vectors(tmp_path / "a.tif", ids, 3, tolerance).geometry.to_numpy()
        assert shapely.is_valid(geometries).all()
        assert shapely.coverage_is_valid(geometries)
        pixels = np.argwhere(ids != NODATA)[:, ::-1]
        left, top = TEN_METRES @ pixels.T.astype(float)
        data = shapely.union_all(shapely.box(left, top - 10, left + 10, top))
        assert shapely.area(geometries).sum() == pytest.approx(100 * len(pixels), rel=1e-12)
        assert shapely.union_all(geometries).symmetric_difference(data).area == pytest.approx(0, abs=1e-6)

    def test_are_simplified(self, tmp_path: Path) -> None:
        rows, columns = np.mgrid[:200, :200]
        ids = np.where(rows + columns // 3 > 120, 1, 4)
        exact, simple = (vectors(tmp_path / "a.tif", ids, tolerance=tolerance) for tolerance in (0, 2))
        assert shapely.get_num_coordinates(exact.geometry).sum() > 250
        assert shapely.get_num_coordinates(simple.geometry).sum() < 20
        assert (simple["area_m2"] == exact["area_m2"]).all()  # the area of the pixels

    def test_a_rotated_map(self, tmp_path: Path) -> None:
        turned = Affine(6, 8, 500_000, 8, -6, 5_000_000)
        frame = vectors(tmp_path / "a.tif", [[NODATA, 1], [NODATA, NODATA]], transform=turned)
        corners = {turned @ corner for corner in [(1, 0), (2, 0), (2, 1), (1, 1)]}
        assert set(frame.geometry.item().exterior.coords) == corners

    def test_no_data_at_all(self, tmp_path: Path) -> None:
        frame = vectors(tmp_path / "a.tif", np.full((5, 6), NODATA), 4, 1)
        assert frame.empty
        for suffix in (".gpkg", ".parquet"):
            write_polygons(frame, tmp_path / f"a{suffix}")


class TestSieve:
    def test_small_regions_go_to_the_largest_neighbour(self, tmp_path: Path) -> None:
        ids = np.zeros((30, 40), np.uint8)
        ids[:, 30:] = 4
        ids[10:13, 28:31] = 1  # 9 pixels between both classes
        ids[20:24, 5:9] = 1
        frame = vectors(tmp_path / "a.tif", ids, 10)
        assert frame["class_id"].value_counts().to_dict() == {0: 1, 4: 1, 1: 1}
        ids[10:13, 28:31] = 0
        assert keys(inside(frame, 30, 40)) == keys(regions(ids))

    def test_noise_leaves_no_small_region(self, tmp_path: Path) -> None:
        """A single pass of GDAL's sieve leaves thousands of small regions without a large neighbour."""
        ids = np.random.default_rng(0).choice(np.array([0, 1, 4], np.uint8), (150, 150))
        frame = vectors(tmp_path / "a.tif", ids, 50)
        assert shapely.area(frame.geometry).min() >= 50 * 100

    def test_pixels_without_data_do_not_change(self, tmp_path: Path) -> None:
        ids = patches(60, 70, 2, cell=3)
        ids[np.random.default_rng(1).random(ids.shape) < 0.1] = NODATA
        ids[30:33, 30:33] = NODATA
        ids[31, 31] = 4  # isolated
        frame = vectors(tmp_path / "a.tif", ids, 20)
        covered = np.any([pixels for _, pixels in inside(frame, 60, 70)], axis=0)
        assert (covered == (ids != NODATA)).all()
        assert any(value == 4 and pixels[31, 31] and pixels.sum() == 1 for value, pixels in inside(frame, 60, 70))

    @pytest.mark.parametrize("min_pixels", [2, 11, 12, 1000])
    def test_a_minimum_larger_than_the_map(self, min_pixels: int, tmp_path: Path) -> None:
        assert shapely.area(vectors(tmp_path / "a.tif", np.ones((3, 4)), min_pixels).geometry).tolist() == [1200]


class TestColumns:
    @pytest.mark.parametrize("transform", [TEN_METRES, Affine(300, 0, 200_000, 0, -400, 9_000_000)])
    def test_area_is_the_ground_area(self, transform: Affine, tmp_path: Path) -> None:
        ids = patches(530, 540, 7, cell=60)
        frame = vectors(tmp_path / "a.tif", ids, tolerance=3, transform=transform)
        with rasterio.open(tmp_path / "a.tif") as source:
            grid = Grid.of(source)
        ground = np.empty(ids.shape)
        for left, right in ((0, 512), (512, 540)):
            areas = row_areas(grid, Window(left, 0, right - left, 530))
            assert areas is not None
            ground[:, left:right] = areas[:, None]
        found = sorted(zip(frame["class_id"], frame["area_m2"], strict=True))
        np.testing.assert_allclose(found, sums(ids, ground), rtol=1e-9)

    def test_no_area_without_a_crs(self, tmp_path: Path) -> None:
        frame = vectors(tmp_path / "a.tif", patches(30, 30), crs=None, transform=Affine.identity())
        assert frame["area_m2"].isna().all()
        assert frame.crs is None
        assert frame.geometry.total_bounds.tolist() == [0, 0, 30, 30]
        for suffix in (".gpkg", ".parquet"):
            write_polygons(frame, tmp_path / f"a{suffix}")

    def test_confidence_is_the_mean_over_the_pixels(self, tmp_path: Path) -> None:
        ids = patches(530, 540, 3, cell=60)
        pixels = np.random.default_rng(3).integers(0, 256, ids.shape).astype(np.uint8)
        frame = vectors(tmp_path / "a.tif", ids, tolerance=2, confidence=gray(tmp_path / "c.tif", pixels))
        total = frame["confidence"] * MAX_CONFIDENCE * shapely.area(vectors(tmp_path / "a.tif", ids).geometry) / 100
        found = sorted(zip(frame["class_id"], total, strict=True))
        np.testing.assert_allclose(found, sums(ids, pixels), rtol=1e-9)
        assert vectors(tmp_path / "a.tif", ids)["confidence"].isna().all()

    def test_confidence_on_another_grid_is_refused(self, tmp_path: Path) -> None:
        ids = patches(30, 30)
        elsewhere = gray(tmp_path / "c.tif", ids, TEN_METRES @ Affine.translation(3, 0))
        with pytest.raises(LandsegError, match=r"c\.tif: offset by 3\.0 px from the map .*a\.tif"):
            vectors(tmp_path / "a.tif", ids, confidence=elsewhere)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("map")
    return vectors(folder / "a.tif", patches(200, 200, cell=6), confidence=gray(folder / "c.tif", patches(200, 200)))


class TestFiles:
    @pytest.mark.parametrize("name", ["a.gpkg", "a.parquet", "A.GPKG"])
    def test_round_trip_of_polygons(self, name: str, frame: Any, tmp_path: Path) -> None:
        write_polygons(frame, tmp_path / name)
        found = (gpd.read_parquet if name.endswith("parquet") else gpd.read_file)(tmp_path / name)
        assert found.crs == UTM
        assert found.columns.tolist() == frame.columns.tolist()
        for column in ("class_id", "class", "area_m2", "confidence"):
            assert found[column].tolist() == frame[column].tolist()
        assert shapely.equals_exact(found.geometry.to_numpy(), frame.geometry.to_numpy()).all()
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_gdal_reads_a_geopackage(self, frame: Any, tmp_path: Path) -> None:
        write_polygons(frame, tmp_path / "a.gpkg", class_legend(CLASSES))
        report = gdal("ogrinfo", "-so", tmp_path / "a.gpkg", "a")
        assert f"Feature Count: {len(frame)}" in report
        assert "Geometry: Polygon" in report
        assert 'ID["EPSG",32633]' in report
        assert "area_m2: Real" in report
        counted = gdal("ogrinfo", "-q", "-sql", "SELECT count(*) AS n FROM rtree_a_geom", tmp_path / "a.gpkg")
        assert f"= {len(frame)}\n" in counted

    def test_qgis_finds_a_style(self, frame: Any, tmp_path: Path) -> None:
        write_polygons(frame, tmp_path / "a.gpkg", class_legend(CLASSES))
        style = gpd.read_file(tmp_path / "a.gpkg", layer="layer_styles")
        assert style[["f_table_name", "f_geometry_column"]].to_numpy().tolist() == [["a", "geom"]]
        assert style["useAsDefault"].tolist() == [True]
        assert 'attr="class_id"' in style["styleQML"].item()
        assert 'label="water &amp; ice"' in style["styleQML"].item()
        assert len(gpd.read_file(tmp_path / "a.gpkg", layer="a")) == len(frame)

    def test_an_unknown_suffix_is_refused(self, frame: Any, tmp_path: Path) -> None:
        with pytest.raises(LandsegError, match=r"a\.shp: unknown polygon format; use the suffix"):
            write_polygons(frame, tmp_path / "a.shp")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
    @pytest.mark.parametrize("short", [1, 5000, 30_000])
    def test_a_full_disk(self, suffix: str, short: int, frame: Any, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        write_polygons(frame, path)
        before = path.read_bytes()
        with no_file_over(len(before) - short), pytest.raises(LandsegError, match=rf"^{path}: "):
            write_polygons(frame, path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


class TestClassAreas:
    """Generalisation takes area from rare classes, whose patches are small."""

    def generalised(self, path: Path, ids: Any, min_pixels: int | None = None, tolerance: float | None = None) -> Any:
        with open_class_map(make_map(path, ids)) as classes_map:
            return map_polygons(classes_map, None, min_pixels, tolerance)

    def areas(self, found: MapPolygons) -> dict[int, float]:
        """Areas of the polygons by class, px, from their geometries."""
        area = found.frame.geometry.area / 100
        return {int(k): float(value) for k, value in area.groupby(found.frame["class_id"]).sum().items()}

    def noisy(self, share: float, seed: int = 0) -> Ids:
        """Two large fields with single pixels of a rare class, and patches of it."""
        ids = np.zeros((120, 120), np.uint8)
        ids[:, 60:] = 4
        ids[np.random.default_rng(seed).random(ids.shape) < share] = 1
        ids[10:40, 20:35] = 1
        return ids

    @pytest.mark.parametrize(("share", "expected"), [(0, (10, 1)), (0.0001, (10, 1)), (0.002, (1, 0)), (0.02, (1, 0))])
    def test_the_default_preserves_them(self, share: float, expected: tuple[int, float], tmp_path: Path) -> None:
        ids = self.noisy(share)
        found = self.generalised(tmp_path / "a.tif", ids)
        before = {k: int((ids == k).sum()) for k in (0, 1, 4)}
        after = self.areas(found)
        for k, pixels in before.items():
            assert abs(after[k] / pixels - 1) <= MAX_SHIFT
            assert found.shifts[k] == pytest.approx(after[k] / pixels - 1, abs=1e-9)
        assert (found.min_pixels, found.tolerance) == expected

    def test_settings_that_are_given_are_kept_and_their_shift_is_told(self, tmp_path: Path) -> None:
        ids = self.noisy(0.02)
        found = self.generalised(tmp_path / "a.tif", ids, 10, 1)
        assert (found.min_pixels, found.tolerance) == (10, 1)
        assert found.shifts[1] < -0.3
        sentence = polygons_sentence(found, CLASSES)
        assert (
            "regions of fewer than 10 px joined their neighbours, outlines are simplified by 1 px: class areas change "
            f"by {100 * found.shifts[1]:+.1f} % (building) to {100 * max(found.shifts.values()):+.1f} % ("
        ) in sentence

    def test_tiny_classes_do_not_prevent_generalisation(self, tmp_path: Path) -> None:
        ids = np.zeros((120, 120), np.uint8)
        ids[:, 60:] = 4
        ids[5, 5] = 1  # 0.007 % of the map
        found = self.generalised(tmp_path / "a.tif", ids)
        assert (found.min_pixels, found.shifts[1]) == (10, -1)
        assert "-100.0 % (building)" in polygons_sentence(found, CLASSES)

    def test_outlines_of_pixels_are_told(self, tmp_path: Path) -> None:
        found = self.generalised(tmp_path / "a.tif", [[0, 0], [1, 4]], 1, 0)
        assert polygons_sentence(found, CLASSES) == "3 polygons with the outlines of the pixels"

    def test_no_data_at_all(self, tmp_path: Path) -> None:
        found = self.generalised(tmp_path / "a.tif", np.full((5, 6), NODATA))
        assert not found.shifts
        assert polygons_sentence(found, CLASSES).startswith("0 polygons")
