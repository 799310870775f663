"""Leakage figure: order, leakage and the gap between split strategies."""

from pathlib import Path

import numpy as np
import pytest
from helpers.study_runs import LEAKAGE, drawn_lines, fits_page, study_run, unit_matrices, visible_texts

from landseg import metrics
from landseg.plotting import PALE
from landseg.results.run import Run
from landseg.studies.leakage_figure import gap_sentence, leakage_figure, score_gap
from landseg.studies.style import COLOURS, macro_mious


def runs_by_split(tmp_path: Path) -> dict[str, list[Run]]:
    none = dict.fromkeys(LEAKAGE, 0.0)
    return {
        "by scene": [study_run(tmp_path / "scene", unit_matrices(1, accuracy=0.4), strategy="scene", leakage=none)],
        "at random": [study_run(tmp_path / "random", unit_matrices(2, accuracy=0.8), strategy="random")],
        "in blocks": [
            study_run(
                tmp_path / "block",
                unit_matrices(3),
                strategy="block",
                leakage={**LEAKAGE, "edge": None, "edge_or_corner": None},
            )
        ],
    }


def test_figure_orders_splits_by_leakage_and_states_the_gap(tmp_path: Path) -> None:
    runs = runs_by_split(tmp_path)
    figure = leakage_figure(runs)
    axes, edge, corner, scene = figure.axes
    order = ["at random", "in blocks", "by scene"]
    assert [label.get_text() for label in axes.get_yticklabels()] == order
    scores = [runs[label][0].scores for label in order]
    assert drawn_lines(axes, COLOURS[0], "o") == [([each.macro_miou], [row]) for row, each in enumerate(scores)]
    whiskers = [x for x, _ in drawn_lines(axes, COLOURS[0], "None")]
    assert whiskers == [[each.macro_miou_low, each.macro_miou_high] for each in scores]
    assert [x for x, _ in drawn_lines(axes, PALE, "D")] == [[each.micro_iou] for each in scores]
    assert [text.get_text() for text in edge.texts] == ["25 %", "unknown", "0 %"]
    assert [text.get_text() for text in scene.texts] == ["100 %", "100 %", "0 %"]
    assert [bar.get_width() for bar in corner.patches[1::2]] == [0.5, 0, 0]  # type: ignore[attr-defined]
    difference, low, high = score_gap(runs["at random"], runs["by scene"])
    assert low is not None
    assert high is not None
    assert f"{100 * difference:.1f} points" in visible_texts(figure)
    sentence = gap_sentence("at random", runs["at random"], "by scene", runs["by scene"])
    assert sentence == (
        f"at random is {100 * difference:.1f} points above by scene in macro mIoU, "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} (8 and 8 scenes, too few to rely on it; one run each: "
        "other seeds may differ; different test tiles, so not paired)"
    )
    assert sentence in [text.replace("\n", " ") for text in visible_texts(figure)]
    assert fits_page(figure)


def test_gap_is_an_unpaired_interval(tmp_path: Path) -> None:
    a, b = (
        study_run(tmp_path / "a", unit_matrices(1, 40, accuracy=0.7)),
        study_run(tmp_path / "b", unit_matrices(2, 40, accuracy=0.65)),
    )
    difference, low, high = score_gap([a], [b])
    assert low is not None
    assert high is not None
    assert difference == pytest.approx(a.metrics["macro_miou"] - b.metrics["macro_miou"])
    assert low < difference < high
    # The variance of a difference of independent scores is the sum of theirs.
    spread = [np.nanmean(metrics.resampled_iou(run.units[1], 2000, 7), axis=-1).std() for run in (a, b)]
    assert high - low == pytest.approx(2 * 1.96 * np.hypot(*spread), rel=0.1)
    same, low, high = score_gap([a], [a])
    assert low is not None
    assert high is not None
    assert same == 0
    assert low < 0 < high  # a paired interval would have zero width
    back, _, _ = score_gap([b], [a])
    assert back == pytest.approx(-difference)


def test_gap_of_single_units_has_no_interval(tmp_path: Path) -> None:
    a, b = study_run(tmp_path / "a", unit_matrices(1, units=1)), study_run(tmp_path / "b")
    assert score_gap([a], [b])[1:] == (None, None)
    sentence = gap_sentence("a", [a], "b", [b])
    assert "no interval: fewer than two units" in sentence


def test_gap_sentence_states_direction_significance_and_unshared_classes(tmp_path: Path) -> None:
    few = unit_matrices(1, accuracy=0.4)
    few[:, 0] = 0
    a, b = study_run(tmp_path / "a", few), study_run(tmp_path / "b", unit_matrices(2, accuracy=0.8))
    sentence = gap_sentence("a", [a], "b", [b])
    assert "points below b in macro mIoU" in sentence
    assert sentence.endswith("; water scored in only one)")
    _, low, high = score_gap([b], [a])
    assert low is not None
    assert high is not None
    assert f"{100 * low:.1f} to {100 * high:.1f}" in gap_sentence("b", [b], "a", [a])
    assert ", not significant (" in gap_sentence("b", [b], "c", [b])


def test_figure_of_one_split_and_of_several_seeds(tmp_path: Path) -> None:
    runs = runs_by_split(tmp_path)
    assert not any("points" in text for text in visible_texts(leakage_figure({"one": runs["by scene"]})))
    seeds = [*runs["at random"], study_run(tmp_path / "more", unit_matrices(5, accuracy=0.7), strategy="random")]
    axes = leakage_figure({"random": seeds, "scene": runs["by scene"]}).axes[0]
    scores = macro_mious(seeds)
    assert drawn_lines(axes, COLOURS[0], "o")[0][0] == [pytest.approx(np.mean(scores))]
    assert drawn_lines(axes, COLOURS[0], "None")[0][0] == [min(scores), max(scores)]
