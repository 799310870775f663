"""A real map with 1,580 reference points under three designs, and the results of another program, AcATaMa."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.maps import make_map

from landseg.core.classes import ClassTable, LandClass
from landseg.maps.area.measure import AreaMeasurement, measure_areas
from landseg.maps.area.report import area_report
from landseg.maps.class_map import NODATA
from landseg.maps.estimator import strata_estimate

CHANGES: ClassTable = tuple(
    LandClass(id=number, name=name, color=(number, 0, 0))
    for number, name in ((1, "Stable Forest"), (2, "Deforestation"), (5, "Non-Stable Forest"))
)
#: Pixels of 30 m, and the map, in hectares.
PIXEL, TOTAL = 0.09, 214_812


@pytest.fixture
def tinigua(tmp_path: Path, real_data: Path) -> Path:
    """The map in landseg's format, and its points with the column `class`."""
    folder = real_data / "acatama_tinigua_accuracy"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with rasterio.open(folder / "map_2019_2020_change.tif") as source:
        ids = source.read(1)
        make_map(tmp_path / "map.tif", np.where(ids == 0, NODATA, ids), CHANGES, source.crs.to_wkt(), source.transform)
    for design in ("stratified", "simple", "systematic"):
        table = json.loads((folder / f"points_{design}.geojson").read_text())
        for feature in table["features"]:
            feature["properties"] = {"class": feature["properties"]["ref_class"]}
        (tmp_path / f"{design}.geojson").write_text(json.dumps(table))
    return tmp_path


def measured(folder: Path, design: str) -> AreaMeasurement:
    found = measure_areas([folder / "map.tif"], folder / f"{design}.geojson")
    assert found.pixels.tolist() == [1_611_984, 63_375, 711_441]
    return found


@pytest.mark.parametrize(
    ("design", "overall", "hectares", "errors", "producers"),
    [
        (
            "stratified",
            (0.91445, 0.0128),
            (138436.63, 5829.38, 70545.99),
            (2709.38, 712.02, 2711.11),
            (0.96093, 0.84147, 0.82927),
        ),
        (
            "simple",
            (0.95353, 0.00948),
            (141812.36, 6151.51, 66848.13),
            # Of its "quadratic error matrix"; the errors beside its areas (1161.23 ha, ...) are of another formula.
            np.array([0.00927, 0.00208, 0.00948]) * TOTAL,
            (0.9779, 0.92721, 0.90425),
        ),
        (
            "systematic",
            (0.91875, 0.01122),
            (138726.06, 3410.03, 72675.91),
            np.array([0.01045, 0.00413, 0.01122]) * TOTAL,
            (0.97069, 0.90065, 0.82043),
        ),
    ],
)
def test_results_of_another_program(
    tinigua: Path,
    design: str,
    overall: Sequence[float],
    hectares: Sequence[float],
    errors: Sequence[float],
    producers: Sequence[float],
) -> None:
    found = measured(tinigua, design)
    assert found.estimate is not None
    assert found.hectares is not None
    assert found.points is not None
    assert found.points.outside == found.points.blank == 0
    # AcATaMa counts pixels of 0.09 ha; landseg measures the ground, where UTM's scale differs from 1.
    scale = found.hectares.sum() / (PIXEL * found.pixels.sum())
    assert scale == pytest.approx(1, abs=1e-3)
    assert (round(found.estimate.overall, 5), round(found.estimate.overall_se, 5)) == tuple(overall)
    assert found.estimate.areas / scale == pytest.approx(hectares, rel=2e-5)
    assert found.estimate.areas_se / scale == pytest.approx(
        errors, abs=6e-6 * TOTAL if design != "stratified" else 0.01
    )
    assert found.estimate.producers == pytest.approx(producers, abs=1e-5)
    low, high = found.estimate.areas_interval.T / scale
    assert (low < hectares).all()
    assert (hectares < high).all()


@pytest.mark.parametrize(
    ("design", "overall", "hectares"),
    [
        ("simple", (0.954, 0.00938), (142635.17, 7733.23, 64443.60)),
        ("systematic", (0.92042, 0.01127), (134164.59, 2973.18, 77674.24)),
    ],
)
def test_the_estimator_without_post_stratification(
    tinigua: Path, design: str, overall: Sequence[float], hectares: Sequence[float]
) -> None:
    """Shares of all points: a single stratum. Post-stratified areas have smaller standard errors."""
    found = measured(tinigua, design)
    assert found.points is not None
    assert found.estimate is not None
    simple = strata_estimate(PIXEL * found.pixels.astype(float), np.ones(1), found.points.sample[None])
    assert (round(simple.overall, 5), round(simple.overall_se, 5)) == tuple(overall)
    assert simple.areas == pytest.approx(hectares, rel=1e-5)
    assert (found.estimate.areas_se < 0.9 * simple.areas_se).all()


def test_the_report_of_a_real_map(tinigua: Path) -> None:
    printed = area_report(measured(tinigua, "stratified"))
    assert "502 points of" in printed
    assert "0.91 (0.89 to 0.94)" in printed
