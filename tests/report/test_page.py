"""The report page in a real browser: numbers, tables, charts and colours."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import PHONE
from helpers.pages import CLASSES, EVIL, Open, read_run, tile, write_run
from helpers.root import ROOT

from landseg.core.data_card import DataCard, write_card
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.report.content import run_facts
from landseg.report.page import render_page
from landseg.results import score_table
from landseg.results.run import Run


def test_the_page_has_no_external_resources(single: Path) -> None:
    text = single.read_text(encoding="utf-8")
    assert "Leaflet 1.9" in text
    assert "(c) 2010-2023 Vladimir Agafonkin" in text
    assert "sourceMappingURL" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r"<(link|img|iframe|script)[^>]+(src|href)=[\"']?(?!data:|#)", text)


def test_numbers_match_metrics_json(opened: Open, single: Path, run: Run) -> None:
    columns = {column.key: column for column in score_table.score_columns([run])}
    known: dict[str, Any] = {**run.metrics, **score_table.score_values(run)}
    cells = opened(single).locator("[data-key]").all()
    seen = set()
    for cell in cells:
        key, value, text = cell.get_attribute("data-key"), cell.get_attribute("data-value"), cell.inner_text()
        assert key is not None
        seen.add(key)
        wanted = known[key] if key in known else per_class(run, key)
        if wanted is None:
            assert (value, text) == ("", "–")
        elif isinstance(wanted, str):
            assert value == text == wanted
        else:
            assert value is not None
            assert float(value) == wanted
            kind = columns[key].kind if key in columns else "count" if isinstance(wanted, int) else "score"
            assert text == score_table.format_value(score_table.ScoreColumn(key, "", "", kind), wanted)
    scores = {key for key, value in run.metrics.items() if isinstance(value, float)}
    assert scores - {"macro_miou_without_background"} <= seen
    assert "without_background" in seen  # its name in the score table
    assert {f"per_class.{name}.iou_low" for name in ("field", EVIL)} <= seen


def per_class(run: Run, key: str) -> float | None:
    prefix, name, score = key.split(".")[0], ".".join(key.split(".")[1:-1]), key.split(".")[-1]
    assert prefix == "per_class"
    found: float | None = run.metrics["per_class"][name][score]
    return found


def test_several_runs_show_the_numbers_of_each(opened: Open, several: Path, run: Run, other: Run) -> None:
    found = opened(several)
    for n, each in enumerate((run, other)):
        row = found.locator(f".sortable tr[data-run='{n}']")
        for key in ("macro_miou", "macro_miou_low", "micro_iou", "paper_iou"):
            assert float(row.locator(f"[data-key='{key}']").get_attribute("data-value") or "") == each.metrics[key]
        drawn = found.locator(f".classes td[data-run='{n}'] [data-key='per_class.field.iou']")
        assert float(drawn.get_attribute("data-value") or "") == each.scores.per_class["field"].iou
    assert found.locator("[data-key='paper_reported']").all_inner_texts() == ["0.881", "–"]


def test_the_confusion_matrix_is_that_of_the_chosen_run(opened: Open, several: Path, run: Run, other: Run) -> None:
    found = opened(several)
    for n, each in enumerate((run, other)):
        found.locator("#confused").select_option(str(n))
        cells = found.locator(".confusion:visible [data-pixels]")
        assert [int(cell.get_attribute("data-pixels") or "") for cell in cells.all()] == each.confusion.ravel().tolist()
        share = each.confusion[0, 1] / each.confusion[0].sum()
        assert cells.nth(1).inner_text().split() == [f"{100 * share:.1f}", "%", f"{each.confusion[0, 1]:,}"]


def test_names_are_escaped(opened: Open, single: Path, several: Path) -> None:
    found = opened(single)
    assert EVIL in found.locator(".classes th[scope=row]").nth(1).inner_text()
    assert EVIL in found.locator(".confusion th[scope=row]").nth(1).inner_text()
    assert EVIL in found.locator("#legend label").nth(1).inner_text()
    assert opened(several).locator("h1").inner_text() == "Two <b>losses</b>"


def test_the_header_describes_the_run(opened: Open, single: Path, several: Path) -> None:
    head = opened(single).locator("header").inner_text()
    for words in (
        "tiny",
        "5 tiles, 6 scenes, 6 locations",
        "over 6 scenes (effectively ",
        "no test tile shares an edge",
        "Few places.",
        "0.123",
    ):
        assert words in head
    study = opened(several)
    assert "the other" in study.locator(".sortable tbody").inner_text()
    assert "one: Few places." in study.locator(".warnings").inner_text()
    assert "Second & last." in study.locator("header").inner_text()
    assert "Leakage" not in study.locator(".facts").inner_text()  # the runs differ
    assert "No significant difference" in study.locator("#findings").inner_text()
    assert study.locator("#figures figcaption").all_inner_texts() == [f"Figure {n} What it shows." for n in (1, 2)]


@pytest.mark.parametrize("press", ["click", "Enter", "Space"])
def test_headings_sort(press: str, opened: Open, several: Path, run: Run, other: Run) -> None:
    found = opened(several)
    heading = found.locator("th", has=found.get_by_role("button", name="macro mIoU", exact=True))
    scores = sorted([run.scores.macro_miou or 0, other.scores.macro_miou or 0], reverse=True)
    for order, wanted in (("descending", scores), ("ascending", scores[::-1])):
        button = heading.get_by_role("button")
        button.click() if press == "click" else button.press(press)
        assert heading.get_attribute("aria-sort") == order
        cells = found.locator(".sortable [data-key=macro_miou]").all()
        assert [float(cell.get_attribute("data-value") or "") for cell in cells] == wanted
    found.get_by_role("button", name="reported by the paper").click()
    found.get_by_role("button", name="reported by the paper").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert found.locator("[data-key=paper_reported]").all_inner_texts() == [
        "0.881",
        "–",
    ]  # missing values come last in both orders


def test_a_legend_hides_a_run_in_all_charts(opened: Open, several: Path) -> None:
    found = opened(several)
    lines = found.locator(".charts [data-run='1'] path")
    assert lines.count() == 6
    found.locator("#curves").get_by_role("checkbox", name="the other").uncheck()
    assert [line.is_visible() for line in lines.all()] == [False] * 6
    assert not found.locator(".interval [data-run='1'] circle").first.is_visible()
    assert found.locator(".charts [data-run='0'] path").first.is_visible()
    assert not found.locator("#classes").get_by_role("checkbox", name="the other").is_checked()


def test_charts_have_accessible_names(opened: Open, several: Path) -> None:
    found = opened(several)
    pictures = found.get_by_role("img").all()
    assert len(pictures) == 4 + len(CLASSES) + 1 + 2  # curves, classes, reliability, figures
    assert found.get_by_role("img", name="Figure 2", exact=True).count() == 1
    assert found.get_by_role("img", name="Macro mIoU (validation). one: ").count() == 1


def test_reliability_diagrams_show_both_temperatures(opened: Open, single: Path, several: Path, run: Run) -> None:
    found = opened(single).locator("#confidence")
    assert found.locator("figcaption").all_inner_texts()[0].startswith("all classes\nECE 0.020 (95 % interval 0.0")
    assert found.locator("svg").count() == 1 + len(CLASSES)
    chart = found.locator("svg").first
    width, height = 230, 230
    for drawn, suffix in ((chart.locator(".line:not(.dotted)"), ""), (chart.locator(".line.dotted"), "_before")):
        bins = run.reliability[""]
        expected = [
            (40 + each[f"confidence{suffix}"] * width, 240 - each[f"accuracy{suffix}"] * height) for each in bins
        ]
        points = [
            (float(circle.get_attribute("cx") or ""), float(circle.get_attribute("cy") or ""))
            for circle in drawn.locator("circle").all()
        ]
        np.testing.assert_allclose(points, expected, atol=0.06)
    assert "it says how likely the mapped class is" in found.inner_text()
    rows = opened(several).locator("#confidence tbody tr")
    assert rows.all_inner_texts() == [
        f"{name}\t1.5\t{run.calibration.ece:.3f}\t{run.calibration.ece_low:.3f} to {run.calibration.ece_high:.3f}\t6"
        for name in (" one", " the other")
    ]


def test_the_best_epoch_is_marked(opened: Open, single: Path, run: Run) -> None:
    chart = opened(single).locator("#curves .chart").first
    mark = re.match(r"M([\d.]+) ", chart.locator(".mark").get_attribute("d") or "")
    best = chart.locator("text[text-anchor=middle]").get_by_text(str(run.training["best_epoch"]), exact=True)
    assert mark is not None
    assert mark[1] == best.get_attribute("x")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(scheme: str, opened: Open, single: Path) -> None:
    found = opened(single, scheme=scheme)

    def dark() -> bool:
        paper = found.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(number) for number in re.findall(r"\d+", paper)[:3]) < 380

    assert dark() == (scheme == "dark")
    found.locator("#theme").click()
    assert dark() != (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_have_the_colours_of_the_page(scheme: str, opened: Open, several: Path) -> None:
    found = opened(several, scheme=scheme)
    for _ in range(2):
        for variable, drawn in (
            ("ink", found.locator("#figures text", has_text="<b>dark</b>").first),
            ("pale", found.locator("#figures text", has_text="pale").first),
            ("paper", found.locator("#figures use[style*=run-0]").first),
        ):
            wanted = found.evaluate(
                "name => { const sample = document.body.appendChild(document.createElement('i'));"
                "sample.style.color = `var(--${name})`; return getComputedStyle(sample).color; }",
                variable,
            )
            assert drawn.evaluate("element => getComputedStyle(element).fill") == wanted
        found.locator("#theme").click()


def test_figures_do_not_change_the_page(opened: Open, several: Path) -> None:
    found = opened(several)
    ids = found.locator("[id]").evaluate_all("elements => elements.map((element) => element.id)")
    assert len(ids) == len(set(ids))
    assert found.locator("svg style").count() == 0
    for shape in found.locator("#figures use").all():
        assert found.locator(shape.get_attribute("xlink:href") or "").count() == 1


def test_wide_figures_scroll_on_a_phone(opened: Open, several: Path) -> None:
    found = opened(several, size=PHONE)
    assert found.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    drawn = found.locator("#figures svg").first.bounding_box()
    assert drawn is not None
    assert drawn["width"] >= 600


def test_colours_have_enough_contrast() -> None:
    style = (ROOT / "src/landseg/report/assets/page.css").read_text()
    pairs = {name: colours for name, *colours in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", style)}
    for scheme in (0, 1):
        of = {name: colours[scheme] for name, colours in pairs.items()}
        for ink, ground in (
            ("ink", "paper"),
            ("pale", "paper"),
            ("pale", "raised"),
            ("accent", "paper"),
            ("ink", "heat"),
        ):
            assert contrast(of[ink], of[ground]) >= 4.5, (scheme, ink, ground)
        for n in range(8):
            assert contrast(of[f"run-{n}"], of["paper"]) >= 3, (scheme, n)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.1."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_runs_with_different_classes_are_refused(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path, 0, [], CLASSES[:2])
    with pytest.raises(LandsegError, match=r"one and two have different classes \(field, .*\); report them separately"):
        render_page("Two", [run, read_run(tmp_path, "two")])
    with pytest.raises(LandsegError, match="no runs"):
        render_page("None", [])


def test_the_stage_writes_page_and_figures(tmp_path: Path) -> None:
    write_run(tmp_path, 0, [tile("good", "rich", 0)])
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("name: sample", "name: tiny", 1))
    card = DataCard(name="tiny", title="Patches", licence="CC0-1.0", classes=CLASSES, bands=("red", "green", "blue"))
    write_card(card, tmp_path / Paths("tiny").table("card.json"))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "pipeline/report.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"results/report.html: \d+\.\d MB\n", done.stdout)
    assert "<h1>Patches: Unet resnet18</h1>" in (tmp_path / "results/report.html").read_text()
    assert (tmp_path / "results/figures/confusion.png").is_file()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "lightning_fabric", "dvc", "geopandas"}


def test_a_sum_of_losses_reads_well(run: Run) -> None:
    def read(path: str) -> bytes:
        return run.read(path).replace(b"name: cross_entropy", b"name: dice+cross_entropy")

    assert ("Loss", "dice + cross entropy") in run_facts([Run("sum", run.revision, read)])
