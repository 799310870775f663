"""Figures of a study: what is drawn, and reproducible files."""

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from helpers.study_runs import drawn_lines, example_tile, fits_page, study_run, unit_matrices, visible_texts
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import t as student

from landseg.core.classes import LandClass
from landseg.plotting import COLOURS
from landseg.results.run import Run
from landseg.studies.figures import (
    class_plot,
    class_plot_caption,
    curve_plot,
    save_figure,
    seed_plot,
    seed_sentence,
    study_figures,
)
from landseg.studies.panel import prediction_panel
from landseg.studies.style import macro_mious, marker_styles


def test_curves_show_every_seed_and_a_bold_mean_from_epoch_one(tmp_path: Path) -> None:
    group = [study_run(tmp_path / "a", curve=[0.1, 0.3, 0.2]), study_run(tmp_path / "b", curve=[0.3, 0.5])]
    figure = curve_plot({"focal": group, "dice": [study_run(tmp_path / "c")]})
    axes = {each.get_title(loc="left"): each for each in figure.axes}
    macro = axes["macro mIoU, validation set"]
    assert macro.get_xlim()[0] > 0
    assert macro.get_xticks().tolist() == [1, 2, 3]
    drawn = {(tuple(x), tuple(np.round(y, 6))) for x, y in drawn_lines(macro, COLOURS[0])}
    # val/macro_miou is the third curve; the mean ends with the shorter seed.
    assert drawn == {((1, 2, 3), (0.3, 0.9, 0.6)), ((1, 2), (0.9, 1.5)), ((1, 2), (0.6, 1.2))}
    widths = [line.get_linewidth() for line in macro.lines if line.get_color() == COLOURS[0]]
    assert sorted(widths)[-1] > 2 * sorted(widths)[1]
    assert len(drawn_lines(macro, COLOURS[1])) == 1
    loss = axes["loss, validation set (dashed: training set)"]
    by_dash = {str(line.get_linestyle()): line for line in loss.lines if line.get_color() == COLOURS[1]}
    assert np.asarray(by_dash["--"].get_ydata()).tolist() == pytest.approx([0.1, 0.3, 0.2])
    assert np.asarray(by_dash["-"].get_ydata()).tolist() == pytest.approx([0.2, 0.6, 0.4])
    assert set(axes) >= {"micro IoU, validation set", "F-score, validation set"}


def test_curves_of_one_epoch_show_a_marker(tmp_path: Path) -> None:
    figure = curve_plot({"one": [study_run(tmp_path / "a", curve=[0.1])]})
    axes = figure.axes[0]
    assert axes.get_xticks().tolist() == [1]
    ((x, y),) = drawn_lines(axes, COLOURS[0])
    assert x == [1]
    assert y == pytest.approx([0.3])
    assert axes.lines[0].get_marker() == "o"
    assert axes.lines[0].get_markevery() == [0]


def test_a_wide_range_of_losses_gets_a_log_scale(tmp_path: Path) -> None:
    figure = curve_plot({"a": [study_run(tmp_path / "a", curve=[1.0])], "b": [study_run(tmp_path / "b", curve=[0.01])]})
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear", "linear", "log"]
    assert figure.axes[3].get_title(loc="left").endswith(", log scale")


def test_settings_differ_in_colour_and_marker() -> None:
    some = [style for style, _ in zip(marker_styles(), range(42), strict=False)]
    assert len(set(some)) == 42
    assert len({style.marker for style in some[:7]}) == 7


def test_class_plot_shows_scores_and_intervals_most_frequent_class_first(tmp_path: Path) -> None:
    matrices = unit_matrices()
    matrices[:, 2] *= 9
    run = study_run(tmp_path / "a", matrices)
    runs = {"one": [run]}
    axes = class_plot(runs).axes[0]
    per_class = run.scores.per_class
    order = sorted(per_class, key=lambda name: -per_class[name].pixels)
    assert order[0] == "$ and $"
    labels = [label.get_text() for label in axes.get_yticklabels()]
    share = per_class["$ and $"].pixels / sum(scores.pixels for scores in per_class.values())
    assert labels[0] == f"$ and $ ({share:.1%})"
    assert [label.split(" (")[0] for label in labels] == order
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())
    assert [x for x, _ in drawn_lines(axes, COLOURS[0], "o")] == [[per_class[name].iou] for name in order]
    ends = [x for x, _ in drawn_lines(axes, COLOURS[0], "None")]
    assert ends == [[per_class[name].iou_low, per_class[name].iou_high] for name in order]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first row is at the top
    assert "95 % interval over locations" in class_plot_caption(runs)


def test_class_plot_of_several_seeds_shows_mean_seeds_and_range(tmp_path: Path) -> None:
    group = [study_run(tmp_path / str(seed), unit_matrices(seed)) for seed in range(3)]
    axes = class_plot({"one": group}).axes[0]
    first = axes.get_yticklabels()[0].get_text()  # pixel shares differ between runs and are not shown
    scores = [run.scores.per_class[first].iou or 0.0 for run in group]
    assert drawn_lines(axes, COLOURS[0], "|")[0][0] == scores
    assert drawn_lines(axes, COLOURS[0], "o")[0][0] == [pytest.approx(np.mean(scores))]
    assert drawn_lines(axes, COLOURS[0], "None")[0][0] == [min(scores), max(scores)]
    caption = class_plot_caption({"one": group})
    assert "range" in caption
    assert "95 %" not in caption
    mixed = class_plot_caption({"one": group, "two": group[:1]})
    assert "range" in mixed
    assert "95 %" in mixed


def test_class_plot_marks_classes_without_target_pixels(tmp_path: Path) -> None:
    matrices = unit_matrices()
    matrices[:, 0] = 0
    run, full = study_run(tmp_path / "a", matrices), study_run(tmp_path / "b")
    assert run.scores.per_class["water"].iou is None
    figure = class_plot({"a": [run], "b": [run]})
    assert visible_texts(figure).count("no target pixel") == 1
    assert len(drawn_lines(figure.axes[0], COLOURS[0], "o")) == 2
    figure = class_plot({"a": [run], "b": [full]})
    assert visible_texts(figure).count("no target pixel") == 1
    assert [len(drawn_lines(figure.axes[0], *style)) for style in ((COLOURS[0], "o"), (COLOURS[1], "s"))] == [2, 3]


def test_a_single_unit_has_no_whisker(tmp_path: Path) -> None:
    run = study_run(tmp_path / "a", unit_matrices(units=1))
    assert run.scores.per_class["wood"].iou_low is None
    axes = class_plot({"a": [run]}).axes[0]
    assert len(drawn_lines(axes, COLOURS[0], "o")) == 3
    assert drawn_lines(axes, COLOURS[0], "None") == []


def test_many_classes_settings_and_long_names_fit_the_page(tmp_path: Path) -> None:
    many = tuple(LandClass(id=i, name=f"class {i} of a $long$ name " * 3, color=(i, i, 0)) for i in range(25))
    run = study_run(tmp_path / "a", unit_matrices(classes=25), classes=many, tiles=[example_tile("a", value=3)])
    runs = {f"a_setting $with a long name {n} " * (1 + 3 * (n % 2)): [run] for n in range(6)}
    for figure in (
        class_plot(runs),
        curve_plot(runs),
        seed_plot(runs),
        prediction_panel(runs),
    ):
        assert fits_page(figure)
    rows = class_plot(runs).axes[0].get_yticks()
    assert len(rows) == 25
    assert np.diff(rows).min() == pytest.approx(6.8)  # rows do not overlap


def test_labels_are_not_parsed_as_math(tmp_path: Path) -> None:
    figure = curve_plot({"_5 $ to 9 $": [study_run(tmp_path / "a")], r"\frac $\frac$": [study_run(tmp_path / "b")]})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_5 $ to 9 $", r"\frac $\frac$"]
    save_figure(figure, tmp_path, "curves")
    assert "_5 $ to 9 $" in (tmp_path / "curves.svg").read_text()


def test_seed_plot_shows_every_seed_and_its_statistics(tmp_path: Path) -> None:
    group = [study_run(tmp_path / str(seed), unit_matrices(seed)) for seed in range(3)]
    figure = seed_plot({"focal": group, "dice": group[:1]})
    scores = macro_mious(group)
    assert drawn_lines(figure.axes[0], COLOURS[0], "o") == [(scores, [0, 0, 0]), (scores[:1], [1])]
    deviation = np.std(scores, ddof=1)
    statistics = f"mean {np.mean(scores):.3f}, standard deviation {deviation:.3f}, "
    statistics += f"range {min(scores):.3f} to {max(scores):.3f}"
    assert statistics in visible_texts(figure)
    assert f"{scores[0]:.3f}, one seed" in visible_texts(figure)
    bound = 100 * student.interval(0.95, 2)[1] * np.sqrt(2) * deviation
    assert seed_sentence("focal", group) == (
        f"focal: macro mIoU over 3 seeds: {statistics}; two single-seed runs must differ by more than about "
        f"{bound:.1f} points to exceed the variation between seeds"
    )
    assert "at least two seeds" in seed_sentence("dice", group[:1])


def test_the_seed_bound_holds_for_95_percent_of_pairs(tmp_path: Path) -> None:
    scored = study_run(tmp_path / "a").metrics

    def run_with(score: float) -> Run:
        return Run("x", "y", lambda _: json.dumps(scored | {"macro_miou": score}).encode())

    generator = np.random.default_rng(0)
    held = []
    for scores in generator.normal(0.5, 0.02, size=(2000, 5)).tolist():
        sentence = seed_sentence("x", [run_with(score) for score in scores[:3]])
        bound = float(sentence.partition("about ")[2].partition(" points")[0])
        held.append(100 * abs(scores[3] - scores[4]) <= bound)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def all_figures(tmp_path: Path) -> dict[str, Figure]:
    """Draw every figure of two runs, except for the forest plot."""
    runs = {
        label: [study_run(tmp_path / label, unit_matrices(n), tiles=[example_tile("t")])]
        for n, label in enumerate("ab")
    }
    wanted = ("curves", "classes", "seeds", "panel")
    return {drawn.name: drawn.figure for drawn in study_figures(wanted, runs, [])}


def test_saved_files_are_reproducible_and_matplotlib_settings_unchanged(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    first = all_figures(tmp_path)
    for folder, figures in (("one", first), ("two", all_figures(tmp_path)), ("again", first)):
        for name, figure in figures.items():
            save_figure(figure, tmp_path / folder, name)
    for name in first:
        for suffix in ("png", "svg"):
            content = (tmp_path / "one" / f"{name}.{suffix}").read_bytes()
            assert content == (tmp_path / "two" / f"{name}.{suffix}").read_bytes()
            assert content == (tmp_path / "again" / f"{name}.{suffix}").read_bytes()
            assert mpl.__version__.encode() not in content
    assert len(list((tmp_path / "one").iterdir())) == 8
    assert dict(mpl.rcParams) == before


def test_png_is_white_and_svg_transparent(tmp_path: Path) -> None:
    for name, figure in all_figures(tmp_path).items():
        save_figure(figure, tmp_path, name)
        page: npt.NDArray[np.uint8] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGBA"))
        assert page.shape[1] == 1350
        assert {tuple(page[y, x]) for x in (0, -1) for y in (0, -1)} == {(255, 255, 255, 255)}
        svg = (tmp_path / f"{name}.svg").read_text()
        assert "<text" in svg
        assert "fill: #222222" in svg
        assert not {"#ffffff", "#000000"} & set(re.findall("#[0-9a-f]{6}", svg))
        assert "<dc:date>" not in svg


def test_svg_ids_of_different_figures_differ(tmp_path: Path) -> None:
    figure = all_figures(tmp_path)["curves"]
    clips = []
    for name in ("one", "two"):
        save_figure(figure, tmp_path, name)
        text = (tmp_path / f"{name}.svg").read_text()
        clips.append({part.partition('"')[0] for part in text.split('<clipPath id="')[1:]})
    assert clips[0]
    assert not clips[0] & clips[1]
