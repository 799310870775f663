import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import t as student

from landseg import metrics
from landseg.core.arrays import Counts
from landseg.core.classes import IGNORE, ClassTable, LandClass, as_hex, names
from landseg.core.errors import LandsegError
from landseg.evaluate.examples import ExampleTile, write_examples
from landseg.plotting import PALE
from landseg.results.run import CURVES, Run
from landseg.studies import figures as drawing
from landseg.studies import leakage_figure as gaps
from landseg.studies import panel as panels
from landseg.studies.style import COLOURS, styles

CLASSES = (
    LandClass(id=1, name="water", color=(0, 0, 255)),
    LandClass(id=4, name="wood", color=(0, 160, 0)),
    LandClass(id=7, name="$ and $", color=(200, 100, 0)),
)
LEAK = {"edge": 0.25, "edge_or_corner": 0.5, "same_location": 1.0, "same_group": None}


def counts(seed: int = 0, units: int = 8, classes: int = 3, right: float = 0.6) -> Counts:
    """Matrices of units, mostly right."""
    generator = np.random.default_rng(seed)
    shares = np.full((classes, classes), (1 - right) / classes) + right * np.eye(classes)
    pixels = generator.integers(50, 400, size=(units, classes, 1))
    return generator.poisson(pixels * shares).astype(np.int64)


def shown(tile: str, value: int = 4, why: str = "rich", accuracy: float = 0.5, side: int = 16) -> ExampleTile:
    target = np.full((side, side), 4, np.uint8)
    target[: side // 4] = IGNORE
    image = np.full((side, side, 3), (90, 120, 60), np.uint8)
    return ExampleTile(tile, "a", why, accuracy, 0.3, image, target, np.full((side, side), value, np.uint8))


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def make(
    folder: Path,
    matrices: Counts | None = None,
    *,
    classes: ClassTable = CLASSES,
    strategy: str = "scene",
    leak: Mapping[str, float | None] | None = LEAK,
    curve: Sequence[float] = (0.1, 0.3, 0.2),
    tiles: Sequence[ExampleTile] = (),
) -> Run:
    """A run from files as the pipeline writes them."""
    matrices = counts() if matrices is None else matrices
    scores = asdict(metrics.summary(matrices.sum(axis=0), matrices, names(classes), None, resamples=200, seed=0))
    head = {"dataset": "tiny", "split": "test", "interval_over": "locations", "locations": 3, "scenes": 3}
    split = {"strategy": strategy, "leakage": leak}
    results = folder / "results"
    rows = [
        {"scene": f"s{s}", "unit": f"s{s}", "actual": names(classes)[a], "predicted": names(classes)[p], "pixels": n}
        for (s, a, p), n in np.ndenumerate(matrices)
    ]
    write_rows(results / "scenes.csv", rows)
    write_rows(results / "classes.csv", [{"class": c.name, "id": c.id, "color": as_hex(c.color)} for c in classes])
    (results / "metrics.json").write_text(json.dumps({**head, "split": split, **scores}))
    (results / "split.json").write_text(json.dumps({"strategy": strategy, "leakage": {"test": leak}}))
    for factor, (name, file) in enumerate(CURVES.items(), start=1):
        column = name.rpartition("/")[2]
        values = [{"step": step, column: factor * value} for step, value in enumerate(curve)]
        write_rows(results / "train/plots/metrics" / file, values, "\t")
    write_examples(folder / "data/examples/tiny.zip", tiles, classes)
    return Run(folder.name, "workspace", lambda path: (folder / path).read_bytes())


def texts(figure: Figure) -> list[str]:
    """Every text that is seen."""
    found = figure.findobj(lambda artist: isinstance(artist, mpl.text.Text) and artist.get_visible())
    return [artist.get_text() for artist in found if isinstance(artist, mpl.text.Text) and artist.get_text()]


def lines(axes: Axes, colour: str, marker: str | None = None) -> list[tuple[list[float], list[float]]]:
    """x and y of lines of a colour, and of those with a marker alone."""
    return [
        ([float(x) for x in np.asarray(line.get_xdata())], [float(y) for y in np.asarray(line.get_ydata())])
        for line in axes.lines
        if line.get_color() == colour and (marker is None or line.get_marker() == marker)
    ]


def inside(figure: Figure) -> bool:
    """Whether everything lies on the page."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return bool(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height)


def test_curves_draw_every_seed_and_a_bold_mean_from_epoch_one(tmp_path: Path) -> None:
    of = [make(tmp_path / "a", curve=[0.1, 0.3, 0.2]), make(tmp_path / "b", curve=[0.3, 0.5])]
    figure = drawing.curves({"focal": of, "dice": [make(tmp_path / "c")]})
    axes = {each.get_title(loc="left"): each for each in figure.axes}
    macro = axes["macro mIoU, validation part"]
    assert macro.get_xlim()[0] > 0
    assert macro.get_xticks().tolist() == [1, 2, 3]
    drawn = {(tuple(x), tuple(np.round(y, 6))) for x, y in lines(macro, COLOURS[0])}
    # The third curve of the files; the mean ends where one seed does.
    assert drawn == {((1, 2, 3), (0.3, 0.9, 0.6)), ((1, 2), (0.9, 1.5)), ((1, 2), (0.6, 1.2))}
    widths = [line.get_linewidth() for line in macro.lines if line.get_color() == COLOURS[0]]
    assert sorted(widths)[-1] > 2 * sorted(widths)[1]
    assert len(lines(macro, COLOURS[1])) == 1
    loss = axes["loss, validation part (dashed: training part)"]
    by_dash = {str(line.get_linestyle()): line for line in loss.lines if line.get_color() == COLOURS[1]}
    assert np.asarray(by_dash["--"].get_ydata()).tolist() == pytest.approx([0.1, 0.3, 0.2])
    assert np.asarray(by_dash["-"].get_ydata()).tolist() == pytest.approx([0.2, 0.6, 0.4])
    assert set(axes) >= {"micro IoU, validation part", "F-score, validation part"}


def test_curves_of_one_epoch_show_a_marker(tmp_path: Path) -> None:
    figure = drawing.curves({"one": [make(tmp_path / "a", curve=[0.1])]})
    axes = figure.axes[0]
    assert axes.get_xticks().tolist() == [1]
    ((x, y),) = lines(axes, COLOURS[0])
    assert x == [1]
    assert y == pytest.approx([0.3])
    assert axes.lines[0].get_marker() == "o"
    assert axes.lines[0].get_markevery() == [0]


def test_losses_far_apart_stand_on_a_logarithm(tmp_path: Path) -> None:
    figure = drawing.curves({"a": [make(tmp_path / "a", curve=[1.0])], "b": [make(tmp_path / "b", curve=[0.01])]})
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear", "linear", "log"]
    assert figure.axes[3].get_title(loc="left").endswith(", log scale")


def test_settings_differ_in_colour_and_marker() -> None:
    some = [style for style, _ in zip(styles(), range(42), strict=False)]
    assert len(set(some)) == 42
    assert len({style.marker for style in some[:7]}) == 7


def test_class_bars_show_score_and_interval_commonest_class_first(tmp_path: Path) -> None:
    matrices = counts()
    matrices[:, 2] *= 9
    run = make(tmp_path / "a", matrices)
    runs = {"one": [run]}
    axes = drawing.class_bars(runs).axes[0]
    of = run.metrics["per_class"]
    order = sorted(of, key=lambda name: -of[name]["pixels"])
    assert order[0] == "$ and $"
    labels = [label.get_text() for label in axes.get_yticklabels()]
    share = of["$ and $"]["pixels"] / sum(each["pixels"] for each in of.values())
    assert labels[0] == f"$ and $ ({share:.1%})"
    assert [label.split(" (")[0] for label in labels] == order
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())
    assert [x for x, _ in lines(axes, COLOURS[0], "o")] == [[of[name]["iou"]] for name in order]
    ends = [x for x, _ in lines(axes, COLOURS[0], "None")]
    assert ends == [[of[name]["iou_low"], of[name]["iou_high"]] for name in order]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first on top
    assert "95 % interval over places" in drawing.class_bars_caption(runs)


def test_class_bars_of_several_seeds_show_mean_seeds_and_range(tmp_path: Path) -> None:
    of = [make(tmp_path / str(seed), counts(seed)) for seed in range(3)]
    axes = drawing.class_bars({"one": of}).axes[0]
    first = axes.get_yticklabels()[0].get_text()  # shares differ between these, and so stand nowhere
    scores = [run.metrics["per_class"][first]["iou"] for run in of]
    assert lines(axes, COLOURS[0], "|")[0][0] == scores
    assert lines(axes, COLOURS[0], "o")[0][0] == [pytest.approx(np.mean(scores))]
    assert lines(axes, COLOURS[0], "None")[0][0] == [min(scores), max(scores)]
    caption = drawing.class_bars_caption({"one": of})
    assert "range" in caption
    assert "95 %" not in caption
    mixed = drawing.class_bars_caption({"one": of, "two": of[:1]})
    assert "range" in mixed
    assert "95 %" in mixed


def test_a_class_without_target_is_said_not_drawn(tmp_path: Path) -> None:
    matrices = counts()
    matrices[:, 0] = 0
    run, full = make(tmp_path / "a", matrices), make(tmp_path / "b")
    assert run.metrics["per_class"]["water"]["iou"] is None
    figure = drawing.class_bars({"a": [run], "b": [run]})
    assert texts(figure).count("no target pixel") == 1
    assert len(lines(figure.axes[0], COLOURS[0], "o")) == 2
    figure = drawing.class_bars({"a": [run], "b": [full]})
    assert texts(figure).count("no target pixel") == 1
    assert [len(lines(figure.axes[0], *style)) for style in ((COLOURS[0], "o"), (COLOURS[1], "s"))] == [2, 3]


def test_one_unit_has_a_dot_and_no_whisker(tmp_path: Path) -> None:
    run = make(tmp_path / "a", counts(units=1))
    assert run.metrics["per_class"]["wood"]["iou_low"] is None
    axes = drawing.class_bars({"a": [run]}).axes[0]
    assert len(lines(axes, COLOURS[0], "o")) == 3
    assert lines(axes, COLOURS[0], "None") == []


def test_many_classes_settings_and_long_names_stay_on_the_page(tmp_path: Path) -> None:
    many = tuple(LandClass(id=i, name=f"class {i} of a $long$ name " * 3, color=(i, i, 0)) for i in range(25))
    run = make(tmp_path / "a", counts(classes=25), classes=many, tiles=[shown("a", value=3)])
    runs = {f"a_setting $with a long name {n} " * (1 + 3 * (n % 2)): [run] for n in range(6)}
    for figure in (
        drawing.class_bars(runs),
        drawing.curves(runs),
        drawing.seeds(runs),
        gaps.leakage(runs),
        panels.panel(runs),
    ):
        assert inside(figure)
    rows = drawing.class_bars(runs).axes[0].get_yticks()
    assert len(rows) == 25
    assert np.diff(rows).min() == pytest.approx(6.8)  # no row on another


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    figure = drawing.curves({"_5 $ to 9 $": [make(tmp_path / "a")], r"\frac $\frac$": [make(tmp_path / "b")]})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_5 $ to 9 $", r"\frac $\frac$"]
    drawing.save(figure, tmp_path, "curves")
    assert "_5 $ to 9 $" in (tmp_path / "curves.svg").read_text()


def test_panel_shows_image_target_and_a_prediction_a_setting(tmp_path: Path) -> None:
    a = make(tmp_path / "a", tiles=[shown("t1", 4, accuracy=1), shown("t2", why="worst"), shown("t3", 1, accuracy=0)])
    b = make(tmp_path / "b", tiles=[shown("t1", 7, "best rich", accuracy=0.125), shown("t2")])
    figure = panels.panel({"focal": [a, b], "dice": [b]})
    said = texts(figure)
    assert [text for text in said if text in ("image", "target", "focal", "dice")] == [
        "image",
        "target",
        "focal",
        "dice",
    ]
    assert [text for text in said if "accuracy" in text] == ["accuracy 100.0%", "accuracy 12.5%"]
    assert [text for text in said if text.startswith("t")] == ["target", "t1"]
    assert {"wood", "$ and $", "ignored"} <= set(said)
    assert not {"water", "wrong"} & set(said)
    pictures = [np.asarray(image.get_array()) for image in figure.axes[0].images[:4]]
    assert [tuple(picture[-1, -1]) for picture in pictures] == [(90, 120, 60), (0, 160, 0), (0, 160, 0), (200, 100, 0)]
    red, green, blue = pictures[1][0, 0]  # ignored
    assert red == green == blue >= 190
    assert figure.axes[0].images[2].get_interpolation() == "nearest"


def test_panel_takes_as_many_tiles_as_wanted_those_least_ignored_first(tmp_path: Path) -> None:
    full = shown("z")
    full.target[:] = 4
    run = make(tmp_path / "a", tiles=[shown("c"), shown("a"), full, shown("b")])
    tiles = [text for text in texts(panels.panel({"x": [run]}, wanted=3)) if text in "abcz"]
    assert tiles == ["z", "a", "b"]


def test_runs_without_a_tile_in_common_are_named(tmp_path: Path) -> None:
    a, b = (
        make(tmp_path / "a", tiles=[shown("t1")]),
        make(tmp_path / "b", tiles=[shown("t2"), shown("t1", why="worst")]),
    )
    with pytest.raises(LandsegError, match="these runs show no tile in common: a, b; "):
        panels.panel({"x": [a], "y": [b]})


def splits(tmp_path: Path) -> dict[str, list[Run]]:
    none = dict.fromkeys(LEAK, 0.0)
    return {
        "by scene": [make(tmp_path / "scene", counts(1, right=0.4), strategy="scene", leak=none)],
        "at random": [make(tmp_path / "random", counts(2, right=0.8), strategy="random")],
        "in blocks": [
            make(tmp_path / "block", counts(3), strategy="block", leak={**LEAK, "edge": None, "edge_or_corner": None})
        ],
    }


def test_leakage_orders_splits_and_tells_the_gap(tmp_path: Path) -> None:
    runs = splits(tmp_path)
    figure = gaps.leakage(runs)
    axes, edge, corner, scene = figure.axes
    order = ["at random", "in blocks", "by scene"]
    assert [label.get_text() for label in axes.get_yticklabels()] == order
    scores = [runs[label][0].metrics for label in order]
    dots = [(x, y) for x, y in lines(axes, COLOURS[0], "o")]
    assert dots == [([each["macro_miou"]], [row]) for row, each in enumerate(scores)]
    whiskers = [x for x, _ in lines(axes, COLOURS[0], "None")]
    assert whiskers == [[each["macro_miou_low"], each["macro_miou_high"]] for each in scores]
    assert [x for x, _ in lines(axes, PALE, "D")] == [[each["micro_iou"]] for each in scores]
    assert [text.get_text() for text in edge.texts] == ["25 %", "unknown", "0 %"]
    assert [text.get_text() for text in scene.texts] == ["100 %", "100 %", "0 %"]
    assert [bar.get_width() for bar in corner.patches[1::2]] == [0.5, 0, 0]  # type: ignore[attr-defined]
    difference, low, high = gaps.gap(runs["at random"], runs["by scene"])
    assert low is not None
    assert high is not None
    assert f"{100 * difference:.1f} points" in texts(figure)
    sentence = gaps.gap_sentence("at random", runs["at random"], "by scene", runs["by scene"])
    assert sentence == (
        f"at random scores {100 * difference:.1f} points more than by scene, "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} (8 and 8 scenes, too few to rely on it; one run each: "
        "other seeds may differ; different test tiles, so not paired)"
    )
    assert sentence in [text.replace("\n", " ") for text in texts(figure)]
    assert inside(figure)


def test_gap_is_an_unpaired_interval(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a", counts(1, 40, right=0.7)), make(tmp_path / "b", counts(2, 40, right=0.65))
    difference, low, high = gaps.gap([a], [b])
    assert low is not None
    assert high is not None
    assert difference == pytest.approx(a.metrics["macro_miou"] - b.metrics["macro_miou"])
    assert low < difference < high
    # The variance of a difference of independent scores is the sum of theirs.
    spread = [np.nanmean(metrics.resampled_iou(run.units[1], 2000, 7), axis=-1).std() for run in (a, b)]
    assert high - low == pytest.approx(2 * 1.96 * np.hypot(*spread), rel=0.1)
    same, low, high = gaps.gap([a], [a])
    assert low is not None
    assert high is not None
    assert same == 0
    assert low < 0 < high  # paired, it would have no width
    back, _, _ = gaps.gap([b], [a])
    assert back == pytest.approx(-difference)


def test_gap_of_single_units_has_no_interval(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a", counts(1, units=1)), make(tmp_path / "b")
    assert gaps.gap([a], [b])[1:] == (None, None)
    sentence = gaps.gap_sentence("a", [a], "b", [b])
    assert "no interval: fewer than two units" in sentence


def test_gap_sentence_says_less_no_gap_and_other_classes(tmp_path: Path) -> None:
    few = counts(1, right=0.4)
    few[:, 0] = 0
    a, b = make(tmp_path / "a", few), make(tmp_path / "b", counts(2, right=0.8))
    sentence = gaps.gap_sentence("a", [a], "b", [b])
    assert "points less than b" in sentence
    assert sentence.endswith("; water scored in one alone)")
    _, low, high = gaps.gap([b], [a])
    assert low is not None
    assert high is not None
    assert f"{100 * low:.1f} to {100 * high:.1f}" in gaps.gap_sentence("b", [b], "a", [a])
    assert ", so there may be no gap (" in gaps.gap_sentence("b", [b], "c", [b])


def test_leakage_of_one_split_and_of_several_seeds(tmp_path: Path) -> None:
    runs = splits(tmp_path)
    assert not any("points" in text for text in texts(gaps.leakage({"one": runs["by scene"]})))
    seeds = [*runs["at random"], make(tmp_path / "more", counts(5, right=0.7), strategy="random")]
    axes = gaps.leakage({"random": seeds, "scene": runs["by scene"]}).axes[0]
    scores = [run.metrics["macro_miou"] for run in seeds]
    assert lines(axes, COLOURS[0], "o")[0][0] == [pytest.approx(np.mean(scores))]
    assert lines(axes, COLOURS[0], "None")[0][0] == [min(scores), max(scores)]


def test_seeds_show_every_seed_and_the_words(tmp_path: Path) -> None:
    of = [make(tmp_path / str(seed), counts(seed)) for seed in range(3)]
    figure = drawing.seeds({"focal": of, "dice": of[:1]})
    scores = [run.metrics["macro_miou"] for run in of]
    assert lines(figure.axes[0], COLOURS[0], "o") == [(scores, [0, 0, 0]), (scores[:1], [1])]
    deviation = np.std(scores, ddof=1)
    words = f"mean {np.mean(scores):.3f}, standard deviation {deviation:.3f}, "
    words += f"range {min(scores):.3f} to {max(scores):.3f}"
    assert words in texts(figure)
    assert f"{scores[0]:.3f}, one seed" in texts(figure)
    bound = 100 * student.interval(0.95, 2)[1] * np.sqrt(2) * deviation
    assert drawing.seeds_sentence("focal", of) == (
        f"focal: macro mIoU over 3 seeds: {words}; a difference between two runs of one seed each must be larger than "
        f"about {bound:.1f} points to be more than the seed"
    )
    assert "two seeds at least" in drawing.seeds_sentence("dice", of[:1])


def test_the_bound_of_seeds_holds_for_19_of_20_pairs(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    held = []
    for scores in generator.normal(0.5, 0.02, size=(2000, 5)).tolist():
        of = [Run("x", "y", json_of(score)) for score in scores[:3]]
        bound = float(drawing.seeds_sentence("x", of).partition("about ")[2].partition(" points")[0])
        held.append(100 * abs(scores[3] - scores[4]) <= bound)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def json_of(score: float) -> Any:
    return lambda path: json.dumps({"macro_miou": score}).encode()


def drawn(tmp_path: Path) -> dict[str, Figure]:
    runs = {label: [make(tmp_path / label, counts(n), tiles=[shown("t")])] for n, label in enumerate("ab")}
    return {
        "curves": drawing.curves(runs),
        "classes": drawing.class_bars(runs),
        "seeds": drawing.seeds(runs),
        "panel": panels.panel(runs),
        "leakage": gaps.leakage(runs),
    }


def test_saved_twice_is_the_same_bytes_and_leaves_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    first = drawn(tmp_path)
    for folder, figures in (("one", first), ("two", drawn(tmp_path)), ("again", first)):
        for name, figure in figures.items():
            drawing.save(figure, tmp_path / folder, name)
    for name in first:
        for suffix in ("png", "svg"):
            content = (tmp_path / "one" / f"{name}.{suffix}").read_bytes()
            assert content == (tmp_path / "two" / f"{name}.{suffix}").read_bytes()
            assert content == (tmp_path / "again" / f"{name}.{suffix}").read_bytes()
            assert mpl.__version__.encode() not in content
    assert len(list((tmp_path / "one").iterdir())) == 10
    assert dict(mpl.rcParams) == before


def test_png_is_white_and_svg_takes_the_pages_ground_and_ink(tmp_path: Path) -> None:
    for name, figure in drawn(tmp_path).items():
        drawing.save(figure, tmp_path, name)
        page: npt.NDArray[np.uint8] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGBA"))
        assert page.shape[1] == 1350
        assert {tuple(page[y, x]) for x in (0, -1) for y in (0, -1)} == {(255, 255, 255, 255)}
        svg = (tmp_path / f"{name}.svg").read_text()
        assert "<text" in svg
        assert "fill: #222222" in svg
        assert "#ffffff" not in svg
        assert "<dc:date>" not in svg


def test_ids_of_two_figures_on_a_page_differ(tmp_path: Path) -> None:
    figure = drawn(tmp_path)["curves"]
    clips = []
    for name in ("one", "two"):
        drawing.save(figure, tmp_path, name)
        text = (tmp_path / f"{name}.svg").read_text()
        clips.append({part.partition('"')[0] for part in text.split('<clipPath id="')[1:]})
    assert clips[0]
    assert not clips[0] & clips[1]
