import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.changes import change_of, many, pair_of_maps

from landseg.maps.change.pair import open_map_pair
from landseg.maps.change.patches import find_patches
from landseg.maps.change.report import change_report, write_change_table


def test_csv_has_one_row_per_transition_in_descending_order(tmp_path: Path) -> None:
    change = change_of(*pair_of_maps(tmp_path))
    write_change_table(change, None, tmp_path / "change.csv")
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["pixels"] for row in rows] == ["3", "2", "2", "1", "1", "1"]
    assert {(row["before"], row["after"], row["pixels"]) for row in rows} == {
        ("other", "building", "3"),
        ("other", "other", "2"),
        ("water & ice", "water & ice", "2"),
        ("building", "other", "1"),
        ("building", "building", "1"),
        ("water & ice", "other", "1"),
    }
    assert {row["before"]: row["before_id"] for row in rows} == {"other": "0", "building": "1", "water & ice": "4"}
    assert sum(float(row["mapped"]) for row in rows) == pytest.approx(change.areas.sum())
    assert {row["unit"] for row in rows} == {"ha"}
    assert float(rows[0]["share"]) == pytest.approx(0.3, rel=1e-6)


def test_nothing_changed(tmp_path: Path) -> None:
    before, _ = pair_of_maps(tmp_path)
    change = change_of(before, before)
    with open_map_pair(before, before) as pair:
        found = find_patches(pair)
    assert change.changed == 0
    assert len(found.frame) == found.omitted == 0
    printed = change_report(change, found)
    assert "Mapped change: 0.0000 of 0.1101 ha, 0.0 %." in printed
    assert "→" in printed.splitlines()[0]
    assert "→" not in "".join(printed.splitlines()[1:])


def test_report_shows_the_matrix_and_the_largest_changes(tmp_path: Path) -> None:
    lines = change_report(change_of(*pair_of_maps(tmp_path))).splitlines()
    assert lines[0] == (
        f"{tmp_path / 'a.tif'} → {tmp_path / 'b.tif'}: 10 pixels with a class on both maps, 1 on the first only, "
        "1 on the second only"
    )
    at = lines.index("Change matrix in ha (rows: class before, columns: class after):")
    cells = [line.split() for line in lines[at + 1 : at + 6]]
    assert cells[0] == ["other", "building", "water", "&", "ice", "total"]
    assert cells[1] == ["other", "0.0200", "0.0300", "·", "0.0500"]
    assert cells[4] == ["total", "0.0400", "0.0400", "0.0200", "0.1001"]
    assert "Mapped change: 0.0500 of 0.1001 ha, 50.0 %." in lines
    at = next(row for row, line in enumerate(lines) if line.startswith("change "))
    assert [line.split("  ")[0] for line in lines[at + 1 : at + 4]] == [
        "other → building",
        "building → other",
        "water & ice → other",
    ]
    assert "contains the errors of both" in lines[-1]
    assert "--matrix" in lines[-1]


def test_report_of_many_classes_shows_those_that_occur(tmp_path: Path) -> None:
    before = np.full((20, 20), 2)
    before[:, :9] = np.arange(2, 11)
    after = before.copy()
    after[0, :9] = np.arange(3, 12)
    lines = change_report(change_of(*pair_of_maps(tmp_path, before, after, classes=many(25)))).splitlines()
    header = next(line for line in lines if line.split()[:2] == ["2", "3"]).split()
    assert header == [str(number) for number in range(2, 12)] + ["total"]  # ids, because names would be too wide
    assert [line.split("  ")[0] for line in lines if line.startswith("4 ")] == ["4 class 2"]
    assert any(line.startswith("change ") for line in lines)
