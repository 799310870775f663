"""Time as bands: seasonal composites and stacks of dates, from the filter stage to the split table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
from helpers.converting import members
from helpers.rasters import TRANSFORM, Project, card, random_image, random_labels, write_tif
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.core.data_card import imagery_card, read_card
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.params import read_section
from landseg.core.tables import read_bands, scene_table
from landseg.filter.composite import find_gaps, medians, write_composite
from landseg.filter.layers import Layers, composite_layers, gap_sentence
from landseg.filter.params import QUARTERS, FilterParams
from landseg.raster.clouds import CloudRule
from landseg.raster.image import open_image

RULE = CloudRule(method="mask", clear=(0,), nodata=255, scl=(), cld=1)
BANDS = ("red", "green", "blue")
#: Two years with two dates in each quarter but the last, which has one; not in order of time.
DAYS = ("2018-08-01", "2018-01-05", "2019-03-31", "2018-04-01", "2018-12-31", "2019-06-30", "2019-07-01")
SEASONS = {"q1": [1, 2], "q2": [3, 5], "q3": [0, 6], "q4": [4]}


def kept(*rows: tuple[str, str, float | None], nodata: Sequence[float | None] = ()) -> pd.DataFrame:
    """Return kept scenes from (location, date, cloud share); without a share, they have no cloud layer."""
    table = scene_table(
        {"scene": f"{location}{n}", "location": location, "date": day} for n, (location, day, _) in enumerate(rows)
    )
    shares = [share for *_, share in rows]
    nodata = nodata or [None if share is None else 0 for share in shares]
    return table.assign(cloud_share=pd.array(shares, dtype="Float64"), nodata_share=pd.array(nodata, dtype="Float64"))


def positions(layers: Layers) -> dict[str, list[int]]:
    return {name: list(dates) for name, dates in layers.items()}


def test_dates_of_all_years_fall_into_quarters() -> None:
    scenes = kept(*(("a", day, 0.1) for day in DAYS), *(("b", day, 0.1) for day in DAYS[::-1]))
    # Scenes of several locations in any order: positions count within a location.
    mixed = pd.concat([scenes[::2], scenes[1::2]])
    found = composite_layers(scenes, "seasonal", 0)
    assert positions(found["a"]) == SEASONS
    assert positions(found["b"]) == {name: sorted(6 - n for n in dates) for name, dates in SEASONS.items()}
    for location, layers in composite_layers(mixed, "seasonal", 0).items():
        days = mixed.loc[mixed["location"] == location, "date"].tolist()
        months = {name: {int(days[n][5:7]) for n in dates} for name, dates in layers.items()}
        assert months == {"q1": {1, 3}, "q2": {4, 6}, "q3": {7, 8}, "q4": {12}}


def test_clearest_dates_are_stacked_in_order_of_time() -> None:
    rows = [("a", "2018-05-01", 0.2), ("a", "2018-02-01", 0.1), ("a", "2018-03-01", 0.1), ("a", "2018-01-01", None)]
    assert positions(composite_layers(kept(*rows), "none", 2)["a"]) == {"d1": [1], "d2": [2]}
    assert positions(composite_layers(kept(*rows), "none", 3)["a"]) == {"d1": [1], "d2": [2], "d3": [0]}
    assert positions(composite_layers(kept(*rows), "none", 4)["a"]) == {"d1": [3], "d2": [1], "d3": [2], "d4": [0]}
    tied = kept(*(("a", f"2018-0{n}-01", 0.1) for n in (3, 1, 2)))  # ties by date
    assert positions(composite_layers(tied, "none", 2)["a"]) == {"d1": [1], "d2": [2]}
    empty = kept(*(("a", f"2018-0{n}-01", 0.1) for n in (3, 1, 2)), nodata=(0, 0.5, 0))  # then by data, as filter.keep
    assert positions(composite_layers(empty, "none", 2)["a"]) == {"d1": [2], "d2": [0]}


def test_other_settings_have_no_layers() -> None:
    scenes = kept(("a", "", 0.1), ("b", "spring", 0.1), ("a", "", 0.2))
    assert composite_layers(scenes, "none", 0) == {}
    assert {name: positions(each) for name, each in composite_layers(scenes, "median", 0).items()} == {
        "a": {"": [0, 1]},
        "b": {"": [0]},
    }


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_medians_of_layers(dtype: str) -> None:
    """Against a loop over pixels with `numpy.median`."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 250, (2, 9, 8, 7)).astype(dtype)
    clear = rng.random((9, 8, 7)) < 0.3
    clear[0, 0] = False
    gaps = find_gaps(clear, SEASONS)
    found = medians(values.copy(), clear, SEASONS, gaps, 99)
    assert found.shape == (8, 9, 8)
    assert found.dtype == dtype
    filled = 0
    for layer, dates in enumerate(SEASONS.values()):
        for row, col in np.ndindex(9, 8):
            use = [n for n in dates if clear[row, col, n]] or [n for n in range(7) if clear[row, col, n]]
            is_gap = bool(use) and not clear[row, col, dates].any()
            expected = np.median(values[:, row, col, use].astype(float), axis=-1) if use else np.full(2, 99.0)
            expected = np.round(expected) if dtype != "float32" else expected  # half to even
            assert found[2 * layer : 2 * layer + 2, row, col].tolist() == expected.tolist()
            assert gaps[layer, row, col] == is_gap
            filled += is_gap
    assert 0 < filled == gaps.sum()


def test_share_of_gaps(tmp_path: Path) -> None:
    """Four pixels of two dates: clear on both, on the first, on the second, on none."""
    for n, sky in enumerate(([0, 0, 1, 1], [0, 1, 0, 1])):
        write_tif(tmp_path / f"{n}.tif", np.full((3, 1, 4), 10 + n, np.uint16), nodata=0)
        write_tif(tmp_path / f"c{n}.tif", np.array([sky], np.uint8))
    scenes = scene_table({"scene": str(n), "image": f"{n}.tif", "cloud": f"c{n}.tif"} for n in range(2))
    share = write_composite(scenes, tmp_path, tmp_path / "s.tif", RULE, card(), {"d1": [0], "d2": [1]})
    assert share == 2 / 6  # two of three pixels lack one of two dates; the fourth has no data at all
    with rasterio.open(tmp_path / "s.tif") as source:
        assert source.read()[::3].tolist() == [[[10, 10, 11, 0]], [[11, 10, 11, 0]]]
    assert write_composite(scenes, tmp_path, tmp_path / "m.tif", RULE, card()) == 0
    assert gap_sentence({"a": 0.0, "b": 0.125, "c": 0.5}, "date") == (
        "pixels without a clear value in a date take the median over all clear dates of the location: 12.5% of the "
        "pixels of a location (median), at most 50.0% (c)"
    )


def test_four_layers_of_one_byte_have_no_alpha_band(tmp_path: Path) -> None:
    """GDAL tags the fourth of four bytes as alpha, which would hide pixels if its values are those of a mask."""
    of = card(bands=("grey",))
    for n in range(4):
        write_tif(tmp_path / f"{n}.tif", np.array([[0, 255, 255], [255, 0, n]], np.uint8))
    scenes = scene_table({"scene": str(n), "image": f"{n}.tif"} for n in range(4))
    write_composite(scenes, tmp_path, tmp_path / "s.tif", RULE, of, {name: [n] for n, name in enumerate(QUARTERS)})
    stacked = imagery_card(of, QUARTERS)
    with open_image(tmp_path, "s.tif", stacked.bands, stacked) as image:
        pixels, present = image.read(Window(0, 0, 3, 2))
    assert pixels[:, 1, 2].tolist() == [0, 1, 2, 3]
    assert present is not None
    assert present.tolist() == [[False, True, True], [True, False, True]]
    with rasterio.open(tmp_path / "s.tif") as source:
        assert ColorInterp.alpha not in source.colorinterp
        assert source.descriptions == ("grey_q1", "grey_q2", "grey_q3", "grey_q4")


@pytest.mark.parametrize(("shape", "block"), [((100, 200), (48, 200)), ((600, 300), (48, 256))])
def test_blocks_are_written_once(
    tmp_path: Path, shape: tuple[int, int], block: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fit into windows, however many values there are: GDAL leaves a block that it writes again in the file."""
    monkeypatch.setattr("landseg.filter.composite._MAX_VALUES", 2 * 3 * 256 * 50)
    images = [random_image(*shape, n) for n in range(2)]
    for n, image in enumerate(images):
        write_tif(tmp_path / f"{n}.tif", image)
    scenes = scene_table({"scene": str(n), "image": f"{n}.tif"} for n in range(2))
    write_composite(scenes, tmp_path, tmp_path / "s.tif", RULE, card(), {"d1": [0], "d2": [1]})
    with rasterio.open(tmp_path / "s.tif") as source:
        assert set(source.block_shapes) == {block}
        np.testing.assert_array_equal(source.read(), np.concatenate(images))


def test_scale_and_offset_of_all_layers(tmp_path: Path) -> None:
    of = card(bands=("red", "heat"))
    for n in range(2):
        with rasterio.open(write_tif(tmp_path / f"{n}.tif", random_image(4, 4, n)[:2]), "r+") as target:
            target.scales, target.offsets = (1e-4, 0.1), (-0.1, -273.15)
    scenes = scene_table({"scene": str(n), "image": f"{n}.tif"} for n in range(2))
    write_composite(scenes, tmp_path, tmp_path / "s.tif", RULE, of, {"d1": [0], "d2": [1]})
    stacked = imagery_card(of, ("d1", "d2"))
    with open_image(tmp_path, "s.tif", ("heat_d2", "red_d2", "heat_d1"), stacked) as image:
        assert image.scaling == ("0.1 -273.15", "0.0001 -0.1", "0.1 -273.15")


class Year:
    """A project after download: chips of 32 x 32 px with seven dates each, a third of their pixels under cloud."""

    def __init__(self, folder: Path, locations: int = 2) -> None:
        self.project = Project(folder)
        self.project.change(
            dataset={"clouds": "clouds/*"}, filter={"max_cloud_share": 1}, split={"ratios": [0.5, 0.25, 0.25]}
        )
        self.images, self.clear = {}, {}
        rng = np.random.default_rng(0)
        for n in range(locations * len(DAYS)):
            scene = f"p{n // len(DAYS)}_{n % len(DAYS)}"
            self.images[scene] = random_image(32, 32, n).clip(1)
            self.clear[scene] = rng.random((32, 32)) < 0.7
            place = TRANSFORM @ Affine.translation(100 * (n // len(DAYS)), 0)
            for kind, pixels in (
                ("images", self.images[scene]),
                ("masks", random_labels(32, 32, n // 7, 4)),
                ("clouds", (~self.clear[scene]).astype(np.uint8)),
            ):
                write_tif(self.project.local / f"{kind}/{scene}.tif", pixels, transform=place)
        self.project.run("download")
        self.table(lambda scenes: {"location": scenes.str[:2], "date": [DAYS[int(name[-1])] for name in scenes]})

    def table(self, change: Any) -> None:
        """Change columns of the scene table, given its names."""
        path = self.project / "data/tables/folder/scenes.csv"
        scenes = pd.read_csv(path, keep_default_na=False)
        scenes.assign(**change(scenes["scene"])).to_csv(path, index=False)

    def expected(self, location: str, layers: Layers) -> npt.NDArray[Any]:
        """Return the composite of a location, computed in one piece."""
        scenes = [f"{location}_{n}" for n in range(len(DAYS))]
        values = np.stack([self.images[scene] for scene in scenes]).astype(float)
        values[~np.broadcast_to(np.stack([self.clear[scene] for scene in scenes])[:, None], values.shape)] = np.nan
        of_all = np.nanmedian(values, axis=0)
        parts = []
        for dates in layers.values():
            few = values[list(dates)]
            lacking = np.isnan(few).all(axis=0)
            parts.append(np.where(lacking, of_all, np.nanmedian(np.where(lacking, 0, few), axis=0)))
        return np.round(np.concatenate(parts)).astype(np.uint8)


def read(path: Path) -> npt.NDArray[Any]:
    with rasterio.open(path) as source:
        return np.asarray(source.read())


def test_seasons_from_the_filter_stage_to_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    year = Year(tmp_path, locations=8)
    project = year.project
    bands = ["red_q1", "blue_q4", "green_q2"]
    project.change(filter={"composite": "seasonal"}, convert={"bands": bands})
    capsys.readouterr()
    project.run("filter")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kept 56 of 56 scenes, one composite of four quarters for each of 8 locations"
    assert lines[1].startswith("pixels without a clear value in a quarter take the median over all clear dates")
    names = tuple(f"{band}_{quarter}" for quarter in QUARTERS for band in BANDS)
    for n in range(8):
        np.testing.assert_array_equal(read(project / f"data/imagery/folder/p{n}.tif"), year.expected(f"p{n}", SEASONS))
    own, imagery = (read_card(project / f"data/{part}/folder/card.json") for part in ("tables", "imagery"))
    assert (own.bands, imagery.bands, imagery.layers) == (BANDS, names, QUARTERS)

    project.run("tile", "convert", "split")
    tile = np.asarray(members(project / "data/tiles/folder/p1_0.zip")["images/p1_0.png"])
    chosen = [names.index(band) for band in bands]
    np.testing.assert_array_equal(tile.transpose(2, 0, 1), year.expected("p1", SEASONS)[chosen])
    for table in ("plan", "tiles", "split"):
        assert read_bands(project / f"data/tables/folder/{table}.parquet") == names


def test_stack_of_dates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    year = Year(tmp_path)
    year.project.change(filter={"dates": "stack 3"}, convert={"bands": ["red_d3", "red_d2", "red_d1"]})
    capsys.readouterr()
    year.project.run("filter", "tile", "convert")
    assert "kept 14 of 14 scenes, one stack of 3 dates for each of 2 locations\n" in capsys.readouterr().out
    for location in ("p0", "p1"):
        shares = {n: 1 - year.clear[f"{location}_{n}"].mean() for n in range(len(DAYS))}
        clearest = sorted(sorted(shares, key=lambda n: (shares[n], DAYS[n]))[:3], key=lambda n: DAYS[n])
        layers = {f"d{k}": [n] for k, n in enumerate(clearest, 1)}
        pixels = read(year.project / f"data/imagery/folder/{location}.tif")
        np.testing.assert_array_equal(pixels, year.expected(location, layers))
        seen = year.clear[f"{location}_{clearest[0]}"]  # on clear pixels, a layer is its date
        np.testing.assert_array_equal(pixels[:3, seen], year.images[f"{location}_{clearest[0]}"][:, seen])
    # Files do not change if they are written again.
    before = (year.project / "data/imagery/folder/p0.tif").read_bytes()
    year.project.run("filter")
    assert (year.project / "data/imagery/folder/p0.tif").read_bytes() == before


def test_imagery_card_of_composites_has_no_band_files(tmp_path: Path) -> None:
    year = Year(tmp_path)
    year.project.change(filter={"composite": "median"})
    path = year.project / "data/tables/folder/card.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"band_files": {"red": "R", "green": "G", "blue": "B"}}))
    year.project.run("filter")
    assert json.loads((year.project / "data/imagery/folder/card.json").read_text()) == content


MESSAGES: Mapping[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "a quarter without a date": (
        {"composite": "seasonal"},
        {"p0_4": "2018-07-01", "p1_3": "2018-01-01", "p1_5": "2018-01-01"},
        "location p0: no kept date in quarter 4 (October to December) (and 1 more location), but filter.composite = "
        "seasonal needs one in every quarter; keep more dates (filter.max_cloud_share, filter.keep), get more (dataset."
        "dates_per_quarter), or set filter.composite = median",
    ),
    "too few dates": (
        {"dates": "stack 8"},
        {},
        "location p0: 7 kept date(s) (and 1 more location), but filter.dates = stack 8 needs 8; keep more dates "
        "(filter.max_cloud_share, filter.keep, filter.one_per_quarter), get more, or stack fewer",
    ),
    "no dates": (
        {"composite": "seasonal"},
        {f"p{n // 7}_{n % 7}": "" for n in range(14)},
        "params.yaml: filter.composite = seasonal: scene p0_0 has no date (and 13 more scenes); set it to median or "
        "none, or correct the scene table",
    ),
    "one scene without a date": (
        {"dates": "stack 2"},
        {"p1_2": ""},
        "params.yaml: filter.dates = stack 2: scene p1_2 has no date; set it to each, or correct the scene table",
    ),
    "dates that are not dates": (
        {"dates": "stack 2"},
        {"p0_1": "2018-02-30", "p0_2": "spring"},
        "params.yaml: filter.dates = stack 2: scene p0_1 has the invalid date '2018-02-30' (expected YYYY-MM-DD) (and "
        "1 more scene); set it to each, or correct the scene table",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize(("change", "dates", "sentence"), MESSAGES.values(), ids=MESSAGES.keys())
def test_dates_that_cannot_be_stacked(
    tmp_path: Path, change: dict[str, Any], dates: dict[str, str], sentence: str
) -> None:
    year = Year(tmp_path)
    year.project.change(filter=change)
    year.table(lambda scenes: {"date": [dates.get(name, DAYS[int(name[-1])]) for name in scenes]})
    assert year.project.fails("filter") == f"error: {sentence}\n"
    assert not (year.project / "data/imagery").exists()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dates": "stack 1"}, "filter.dates = 'stack 1': must be each, or stack <n> with n from 2 to 64, as in"),
        ({"dates": "stack 65"}, "filter.dates = 'stack 65': must be each, or stack <n> with n from 2 to 64, as in"),
        ({"dates": "stack 4\n"}, r"filter.dates = 'stack 4\n': must be each, or stack <n>"),
        ({"dates": 4}, "filter.dates = 4: must be a string"),
        (
            {"dates": "stack 4", "composite": "median"},
            "filter.dates = stack 4: stacks single dates, so it needs filter.composite = none, not median",
        ),
        ({"dates": "stack 4", "composite": "seasonal"}, "filter.dates = stack 4: stacks single dates, so it needs"),
        ({"dates": "stack 4", "keep": 3}, "filter.keep = 3: filter.dates = stack 4 needs 4 dates per location; raise"),
        ({"composite": "seasonal", "keep": 3}, "filter.keep = 3: filter.composite = seasonal needs 4 dates per"),
        ({"composite": "season"}, "filter.composite = 'season': must be 'none', 'median' or 'seasonal'; did you mean"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    project = Project(tmp_path)
    project.change(filter=change)
    with pytest.raises(LandsegError) as caught:
        read_section(FilterParams, "filter", project / "params.yaml")
    assert str(caught.value).startswith(f"{project / 'params.yaml'}: {message}")


@pytest.mark.parametrize("keep", [None, 4, 5])
def test_settings_that_agree(keep: int | None) -> None:
    stack = FilterParams(max_cloud_share=1, dates="stack 4", keep=keep)
    assert (stack.stacked, stack.layers, stack.needed_dates) == (4, ("d1", "d2", "d3", "d4"), 4)
    seasonal = FilterParams(max_cloud_share=1, composite="seasonal", keep=keep)
    assert (seasonal.stacked, seasonal.layers) == (0, QUARTERS)
    median = FilterParams(max_cloud_share=1, composite="median", keep=1)
    assert (median.stacked, median.layers, median.needed_dates) == (0, (), 0)
    assert FilterParams(max_cloud_share=1, dates="stack 64").stacked == 64


@pytest.mark.faults
def test_band_that_has_the_name_of_a_layer(tmp_path: Path) -> None:
    year = Year(tmp_path)
    year.project.change(filter={"composite": "seasonal"})
    path = year.project / "data/tables/folder/card.json"
    path.write_text(path.read_text().replace('"green"', '"red_q1"'))
    assert year.project.fails("filter").startswith("error: dataset.bands: 'red_q1' would also be the name of a layer")


def test_missing_dates_are_named_for_each_scene() -> None:
    with pytest.raises(ParamsError, match=r"^filter\.composite = seasonal: scene a1 has no date; set it to median or"):
        composite_layers(kept(("a", "2018-01-01", 0.1), ("a", "", 0.1)), "seasonal", 0)
