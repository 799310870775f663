"""Scene selection by cloud and no-data share."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from landseg.core.errors import ParamsError
from landseg.core.tables import scene_table
from landseg.filter.select import NO_LAYER, select
from landseg.raster.clouds import CloudCoverage

Rows = Sequence[tuple[str, str, str, CloudCoverage | None]]


def selected(rows: Rows, **limits: Any) -> pd.DataFrame:
    """Select from scenes given as (name, location, date, coverage)."""
    scenes = scene_table(
        {"scene": scene, "location": location, "date": day, "cloud": f"{scene}.tif" if cover else ""}
        for scene, location, day, cover in rows
    )
    table = select(scenes, {scene: cover for scene, *_, cover in rows if cover}, **{"max_cloud_share": 0.1} | limits)
    assert "kept" not in scenes
    pd.testing.assert_frame_equal(table[scenes.columns], scenes)
    return table


def cloudy(share: float, nodata: int = 0) -> CloudCoverage:
    """Return a coverage of 1000 pixels with data, and some without."""
    return CloudCoverage(1000 + nodata, nodata, round(1000 * share))


def test_limits_and_reasons() -> None:
    table = selected(
        [
            ("a", "a", "", cloudy(0.1)),
            ("b", "b", "", cloudy(0.123, nodata=3000)),
            ("c", "c", "", CloudCoverage(10, 10, 0)),
            ("d", "d", "", None),
            ("e", "e", "", cloudy(0.05, nodata=1000)),
            ("f", "f", "", cloudy(0.05, nodata=1001)),
        ],
        max_nodata_share=0.5,
    )
    assert table["kept"].tolist() == [True, False, False, True, True, False]
    assert table["reason"].tolist() == [
        "clear enough", "cloud share 12.3% is over the limit of 10.0%", "no data", NO_LAYER, "clear enough",
        "no-data share 50.02% is over the limit of 50.00%",
    ]  # fmt: skip
    assert table["cloud_share"].tolist() == [0.1, 0.123, pd.NA, pd.NA, 0.05, 0.05]
    assert table["nodata_share"].tolist() == [0, 0.75, 1, pd.NA, 0.5, 1001 / 2001]


DATES = [
    ("a1", "a", "2018-01-05", cloudy(0.05)),
    ("b1", "b", "2018-01-05", cloudy(0.09)),
    ("a2", "a", "2018-03-31", cloudy(0.01, nodata=10)),
    ("a3", "a", "2018-02-01", cloudy(0.01)),  # as many clouds as a2, but with data everywhere
    ("a4", "a", "2018-04-01", cloudy(0.02)),
    ("a5", "a", "2018-12-31", cloudy(0.5)),
    ("a6", "a", "2019-02-02", cloudy(0.03)),
    ("a7", "a", "2018-06-30", cloudy(0.02)),  # as clear as a4, but later
]
OVER = "cloud share 50.0% is over the limit of 10.0%"


def test_clearest_scenes_of_a_location_are_kept() -> None:
    table = selected(DATES, keep=2).set_index("scene")
    assert table.index[table["kept"]].tolist() == ["b1", "a2", "a3"]
    dropped = table.loc[~table["kept"], "reason"]
    two = "not among the 2 clearest scenes of its location"
    assert dropped.to_dict() == {"a1": two, "a4": two, "a5": OVER, "a6": two, "a7": two}
    one = selected(DATES, keep=1).set_index("scene")
    assert one.index[one["kept"]].tolist() == ["b1", "a3"]
    assert one.loc["a4", "reason"] == "not the clearest scene of its location, which is a3"


def test_one_scene_per_quarter() -> None:
    table = selected(DATES, one_per_quarter=True).set_index("scene")
    assert table.index[table["kept"]].tolist() == ["b1", "a3", "a4", "a6"]
    assert table.loc[~table["kept"], "reason"].to_dict() == {
        "a1": "not the clearest scene of its quarter, which is a3",
        "a2": "not the clearest scene of its quarter, which is a3",
        "a5": OVER,
        "a7": "not the clearest scene of its quarter, which is a4",
    }


def test_quarters_apply_before_the_number_of_scenes() -> None:
    table = selected(DATES, one_per_quarter=True, keep=2).set_index("scene")
    assert table.index[table["kept"]].tolist() == ["b1", "a3", "a4"]
    assert table.loc["a6", "reason"] == "not among the 2 clearest scenes of its location"


def test_scenes_without_a_cloud_layer_rank_last() -> None:
    rows = [("x", "p", "2018-01-01", None), ("y", "p", "2018-01-02", cloudy(0.1)), ("z", "p", "2018-01-03", None)]
    assert selected(rows)["kept"].all()
    assert selected(rows, keep=1)["kept"].tolist() == [False, True, False]
    assert selected(rows, keep=2)["kept"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("day", "fault"), [("", "no date"), ("spring", r"the invalid date 'spring' \(expected YYYY-MM-DD\)")]
)
def test_quarters_need_dates(day: str, fault: str) -> None:
    with pytest.raises(ParamsError, match=rf"^filter\.one_per_quarter: scene b has {fault}; set it to false"):
        selected([("a", "p", "2018-01-01", None), ("b", "p", day, None)], one_per_quarter=True)


def test_no_scene_passes_the_cloud_limit() -> None:
    rows: Rows = [(f"s{n:02}", "p", "", cloudy(0.9 - n / 100)) for n in range(12)]
    with pytest.raises(ParamsError) as caught:
        selected([*rows, ("empty", "p", "", CloudCoverage(10, 10, 0))])
    clearest = ", ".join(f"0.{90 - n}0 (s{n:02})" for n in range(11, 1, -1))
    assert str(caught.value) == (
        f"filter.max_cloud_share = 0.1: none of 13 scenes is kept, lowest cloud shares: {clearest}; "
        "raise the limit or get clearer scenes"
    )
    with pytest.raises(ParamsError, match=r"^filter\.max_cloud_share = 0\.1: none of 1 scenes has data; get other"):
        selected([("empty", "p", "", CloudCoverage(10, 10, 0))])


def test_no_scene_passes_the_nodata_limit() -> None:
    rows: Rows = [
        ("a", "p", "", cloudy(0.05, nodata=3000)),
        ("b", "p", "", cloudy(0.2)),
    ]
    with pytest.raises(ParamsError) as caught:
        selected(rows, max_nodata_share=0.5)
    assert str(caught.value) == (
        "filter.max_cloud_share = 0.1, filter.max_nodata_share = 0.5: none of 2 scenes is kept, lowest cloud shares: "
        "0.050 (a, 0.750 without data), 0.200 (b, 0.000 without data); raise the limit or get clearer scenes"
    )
