"""Forest plot: dots, whiskers and rows of differences."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.study_runs import drawn_lines, fits_page, visible_texts
from scipy import stats

from landseg.plotting import COLOURS, PALE
from landseg.results.difference import ScoreDifference
from landseg.studies.forest_plot import forest_plot

RELIABLE = ScoreDifference(
    one="dice",
    other="focal",
    metric="macro_miou",
    scores=(0.7, 0.65),
    error=0.03 / stats.t.ppf(0.975, 39),
    degrees=39,
    units=40,
    effective_units=40,
    unit_noun="scenes",
    seeds=((0,), (0,)),
    split="test",
)


def test_reliable_differences_are_filled_and_others_hollow() -> None:
    few = replace(RELIABLE, metric="per_class.road.iou", effective_units=3)
    undefined = replace(RELIABLE, metric="per_class.water.iou", scores=(None, 0.1), error=None, degrees=None)
    other = replace(RELIABLE, one="cross_entropy", scores=(0.6, 0.65), error=None, degrees=None)
    figure = forest_plot([RELIABLE, few, undefined, other])
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["macro mIoU", "IoU of road", "IoU of water", "macro mIoU"]
    texts = visible_texts(figure)
    assert [text for text in texts if "minus" in text] == ["dice  minus  focal", "cross_entropy  minus  focal"]
    assert {"+5.0", "−5.0"} <= set(texts)
    ((whisker, _),) = drawn_lines(axes, COLOURS[0], "None")
    assert whisker == pytest.approx([2, 8])
    dots = [(line.get_color(), line.get_markerfacecolor()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [(COLOURS[0], COLOURS[0]), (PALE, "white"), (PALE, "white")]
    assert np.diff(axes.get_yticks()).min() >= 1
    assert fits_page(figure)
