from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from helpers.changes import many
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from PIL import Image

from landseg.core.classes import ClassTable, LandClass, as_hex
from landseg.core.errors import LandsegError
from landseg.datasets.landcoverai import card as landcoverai
from landseg.datasets.landcovernet import card as landcovernet
from landseg.maps.change.pair import ChangeMatrix
from landseg.maps.change.sankey import flow_figure, write_flow_figure
from landseg.maps.style import changed_colour, unchanged_colour

# Three classes of 600, 300 and 100 ha before, of which 140 ha changed.
AREAS = [[500, 80, 20], [30, 270, 0], [10, 0, 90]]
CLASSES = landcoverai.CLASSES[1:4]


def change_of(areas: npt.ArrayLike, classes: ClassTable = CLASSES, hectares: bool = True) -> ChangeMatrix:
    pixels = np.asarray(areas, np.int64)
    return ChangeMatrix(
        "before.tif", "after.tif", classes, pixels, pixels.astype(float) if hectares else None, 0, 0, None
    )


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def bars(figure: Figure) -> list[tuple[float, float, str]]:
    """x, height in inches, colour."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [(bar.get_x(), bar.get_height(), to_hex(bar.get_facecolor())) for bar in found]


def ribbons(figure: Figure) -> list[tuple[str, float, float]]:
    """Colour, height in inches on the left and on the right."""
    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, PathPatch):
            corners: Any = patch.get_path().vertices
            colour = to_hex(patch.get_facecolor())
            found.append((colour, corners[7, 1] - corners[0, 1], corners[4, 1] - corners[3, 1]))
    return found


def random_change(classes: ClassTable, share: float, seed: int = 0) -> ChangeMatrix:
    rng, count = np.random.default_rng(seed), len(classes)
    moved = rng.gamma(0.5, 1, (count, count))
    np.fill_diagonal(moved, 0)
    areas = np.diag(rng.dirichlet(np.full(count, 0.8))) * (1 - share) + share * moved / moved.sum()
    return change_of(np.ceil(areas * 1e6), classes)


def test_heights_of_bars_and_ribbons_are_proportional_to_area(tmp_path: Path) -> None:
    areas = np.array(AREAS) * np.array([[1], [1], [1]])
    areas[0, 1] = 380  # so much change that there is one panel
    figure = flow_figure(change_of(areas))
    found = bars(figure)
    scale = found[0][1] / areas[0].sum()
    by_side = {x: [(height / scale, colour) for at, height, colour in found if at == x] for x, _, _ in found}
    assert len(by_side) == 2
    expected = [as_hex(each.color) for each in CLASSES]
    left, right = (by_side[x] for x in sorted(by_side))
    assert [colour for _, colour in left] == [colour for _, colour in right] == expected
    assert [area for area, _ in left] == pytest.approx(areas.sum(axis=1))
    assert [area for area, _ in right] == pytest.approx(areas.sum(axis=0))
    drawn = {colour: (one / scale, other / scale) for colour, one, other in ribbons(figure)}
    for (before, after), area in np.ndenumerate(areas):
        start, end = CLASSES[before].color, CLASSES[after].color
        colour = as_hex(unchanged_colour(start) if before == after else changed_colour(start, end))
        assert (colour in drawn) == (area > 0)
        if area:
            assert drawn[colour] == pytest.approx((area, area))
    assert "Changes only" not in " ".join(texts(figure))


def test_ribbons_fill_the_bars() -> None:
    figure = flow_figure(random_change(landcovernet.CLASSES, 0.6))
    found: list[Any] = [p.get_path().vertices for p in figure.axes[0].patches if isinstance(p, PathPatch)]
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    for side, ends in enumerate(((0, 7), (3, 4))):
        spans = sorted(tuple(corners[ends, 1]) for corners in found)
        covered: list[tuple[float, float]] = []  # merged spans of touching ribbons
        for top, bottom in spans:
            if covered and top == pytest.approx(covered[-1][1]):
                covered[-1] = (covered[-1][0], bottom)
            else:
                covered.append((top, bottom))
        bars_there = sorted((b.get_y(), b.get_y() + b.get_height()) for b in boxes if (b.get_x() > 4.5) == bool(side))
        assert np.array(covered) == pytest.approx(np.array(bars_there))


def test_bars_have_names_areas_and_shares() -> None:
    printed = texts(flow_figure(change_of(AREAS)))
    for text in ("before.tif", "after.tif", "600.0 ha, 60.0 %", "540.0 ha, 54.0 %", "110.0 ha, 11.0 %"):
        assert printed.count(text) == 1
    assert printed.count("woodland") == 4  # twice per panel
    assert texts(flow_figure(change_of(AREAS, hectares=False))).count("600 px, 60.0 %") == 1


def test_little_change_has_an_enlarged_panel() -> None:
    figure = flow_figure(change_of(AREAS))
    found = bars(figure)
    assert len(found) == 12
    whole, alone = found[0][1] / 600, found[6][1] / 100  # losses of building
    printed = next(text for text in texts(figure) if text.startswith("Changes only"))
    assert printed == f"Changes only: 140.0 ha, 14.0 % of the total, {alone / whole:.1f} times the scale above"
    assert {"losses", "gains", "100.0 ha, 71.4 %"} <= set(texts(figure))
    pale_ones = {as_hex(unchanged_colour(each.color)) for each in CLASSES}
    assert sum(colour in pale_ones for colour, _, _ in ribbons(figure)) == 3  # in the first panel only


def test_no_change_is_noted() -> None:
    figure = flow_figure(change_of(np.diag([500, 300, 100])))
    assert len(bars(figure)) == 6
    assert texts(figure)[-1] == "Heights are proportional to area. No change."


def test_thin_ribbons_are_noted() -> None:
    notes = " ".join(texts(flow_figure(change_of(AREAS))))
    assert "hairline" not in notes
    rare = np.diag([600_000, 300_000, 100_000])
    rare[0, 1] = 10
    figure = flow_figure(change_of(rare))
    assert "Ribbons thinner than a hairline are drawn as a hairline." in " ".join(texts(figure))
    thin = ribbons(figure)[3]
    assert thin[1] == pytest.approx(bars(figure)[0][1] * 10 / 600_010)  # not exaggerated


def test_small_classes_share_a_bar_and_are_named() -> None:
    classes = many(25)
    areas = np.diag(np.arange(100, 2600, 100))
    areas[0, 1], areas[1, 20], areas[24, 23] = 70, 40, 30  # the first two classes are among the smallest
    figure = flow_figure(change_of(areas, classes))
    left = [bar for bar in bars(figure) if bar[0] == bars(figure)[0][0]]
    assert len(left[:12]) == 12
    printed = " ".join(texts(figure))
    assert "14 other classes: " in printed
    small = printed.partition("14 other classes: ")[2].partition(".")[0].replace("\n", " ").split(", ")
    assert small == [f"class {k}" for k in reversed(range(14))]
    # Among the other classes, unchanged areas are light and changes dark.
    scale = left[0][1] / areas[24].sum()
    others = (150, 150, 150)
    drawn = {colour: height / scale for colour, height, _ in ribbons(figure)[: 12 + 3]}
    assert drawn[as_hex(unchanged_colour(others))] == pytest.approx(np.trace(areas[:14, :14]))
    assert drawn[as_hex(changed_colour(others, others))] == pytest.approx(70)
    assert drawn[as_hex(changed_colour(others, classes[20].color))] == pytest.approx(40)


def test_a_class_on_one_side_only_has_one_bar() -> None:
    figure = flow_figure(change_of([[0, 500, 0], [0, 400, 100], [0, 0, 0]]))
    assert [colour for _, _, colour in bars(figure)] == [
        as_hex(CLASSES[k].color)
        for k in (1, 0, 1, 2)  # in descending order
    ]


LONG = tuple(LandClass(id=k, name=f"a $long$ name of {k} " * 4, color=(k, 0, 0)) for k in range(14))


@pytest.mark.parametrize(
    ("classes", "share"), [(landcovernet.CLASSES, 0.1), (many(25), 0.001), (many(25), 0.6), (LONG, 0.1)]
)
def test_text_is_on_the_page_and_does_not_overlap(classes: ClassTable, share: float) -> None:
    figure = flow_figure(random_change(classes, share))
    canvas: Any = figure.canvas
    renderer = canvas.get_renderer() if hasattr(canvas, "get_renderer") else None
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    for box in boxes:
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= width
        assert box.y1 <= height
    for side in (0, 1):  # labels per side, from top to bottom
        column = sorted((box for box in boxes if (box.x0 < 280) != side and box.width < 300), key=lambda box: -box.y1)
        assert len(column) > 10
        for upper, lower in pairwise(column):
            assert upper.y0 >= lower.y1 - 1 or upper.x1 < lower.x0 or lower.x1 < upper.x0


def test_bars_do_not_touch() -> None:
    figure = flow_figure(random_change(many(25), 0.1))
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    left = sorted((bar.get_y(), bar.get_height()) for bar in found if bar.get_x() == found[0].get_x())
    assert len(left) == 24
    assert all(y + height < below for (y, height), (below, _) in pairwise(left))


def test_files_are_deterministic_white_and_1350_px_wide(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    change = change_of(AREAS)
    for folder in ("one", "two"):
        for suffix in ("png", "svg"):
            write_flow_figure(change, tmp_path / folder / f"flow.{suffix}")
    for name in ("flow.png", "flow.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    page = np.asarray(Image.open(tmp_path / "one" / "flow.png").convert("RGB"))
    assert page.shape[1] == 1350
    assert {tuple(page[y, x].tolist()) for y in (0, -1) for x in (0, -1)} == {(255, 255, 255)}
    svg = (tmp_path / "one" / "flow.svg").read_text(encoding="utf-8")
    assert ">woodland</text>" in svg
    assert "<dc:date>" not in svg
    assert mpl.__version__ not in svg
    assert dict(mpl.rcParams) == before
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["flow.png", "flow.svg"]


def test_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=r"flow\.pdf: unknown figure format; use the suffix"):
        write_flow_figure(change_of(AREAS), tmp_path / "flow.pdf")
    assert not list(tmp_path.iterdir())
