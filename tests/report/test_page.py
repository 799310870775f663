"""The report page, opened from disk in a real browser."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.browser import PHONE, TimedLoader, chromium
from helpers.root import ROOT
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from landseg import metrics
from landseg.core.classes import IGNORE, ClassTable, LandClass, as_hex, names
from landseg.core.data_card import Card, write_card
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.core.tables import write_csv
from landseg.evaluate.examples import WRONG, ExampleTile, write_examples
from landseg.report.page import PageFigure, render_page
from landseg.results import score_table
from landseg.results.run import Run

SIZE = 32
EVIL = """<script>alert("x")</script> & 'wood'"""
#: Ids with gaps, so that ids and channels differ.
CLASSES = (
    LandClass(id=0, name="field", color=(120, 160, 60)),
    LandClass(id=3, name=EVIL, color=(20, 80, 30)),
    LandClass(id=9, name="water", color=(30, 60, 150)),
)
PHOTOGRAPH = (200, 100, 40)


def tile(name: str, why: str, predicted: int) -> ExampleTile:
    """Return a tile: field on the left, wood on the right, ignored on top, and one class predicted everywhere."""
    image = np.full((SIZE, SIZE, 3), PHOTOGRAPH, np.uint8)
    target = np.full((SIZE, SIZE), 0, np.uint8)
    target[:, SIZE // 2 :] = 3
    target[:8] = IGNORE
    prediction = np.full((SIZE, SIZE), predicted, np.uint8)
    counted = target != IGNORE
    accuracy = float((target == prediction)[counted].mean())
    return ExampleTile(name, "a", why, accuracy, accuracy / 2, image, target, prediction)


def write_run(
    folder: Path, seed: int, shown: list[ExampleTile], classes: ClassTable = CLASSES, warnings: tuple[str, ...] = ()
) -> None:
    """Write what a run leaves behind, as the pipeline does. No water is in its targets."""
    generator = np.random.default_rng(seed)
    units = generator.integers(1, 90_000, (4, len(classes), len(classes)))
    units[:, -1] = 0
    total = units.sum(axis=0)
    scores = asdict(metrics.summary(total, units, names(classes), classes[0].name, resamples=200, seed=0))
    leak = {"edge": 0.25 * seed, "edge_or_corner": 0.25 * seed, "same_location": 0.0, "same_group": None}
    results = folder / "results"
    split = {
        "strategy": "scene",
        "splits": {"train": {"tiles": 1234, "pixels": 1, "share": {}}},
        "leakage": {"test": leak},
        "warnings": list(warnings),
    }
    scored = {
        "dataset": "tiny",
        "split": "test",
        "weights": "best",
        "tiles": 5,
        "scenes": 4,
        "locations": 4,
        "interval_over": "locations",
        "strategy": "scene",
        "leakage": leak,
        **scores,
        "paper_iou": 0.654321,
        "majority": {"class": classes[0].name, "macro_miou": 0.123456},
        "warnings": list(warnings),
    }
    speed = {"images_per_second": 27.437, "peak_memory_gb": 1.634, "seconds": 109.955}
    training = {"speed": speed, "step": 3, "best_epoch": 2, "parameters": 14328789}
    curves = results / "train" / "plots" / "metrics"
    (curves / "val").mkdir(parents=True)
    (curves / "train").mkdir()
    (results / "metrics.json").write_text(json.dumps(scored))
    (results / "split.json").write_text(json.dumps(split))
    (results / "train" / "metrics.json").write_text(json.dumps(training))
    for name in ("train/loss", "val/loss", "val/macro_miou", "val/micro_iou", "val/fscore", "val/accuracy"):
        table = pd.DataFrame({"step": range(4), name.split("/")[1]: generator.random(4)})
        table.to_csv(curves / f"{name}.tsv", sep="\t", index=False)
    write_csv(
        pd.DataFrame([{"class": of.name, "id": of.id, "color": as_hex(of.color)} for of in classes]),
        results / "classes.csv",
    )
    index = pd.MultiIndex.from_product([names(classes), names(classes)], names=["actual", "predicted"])
    write_csv(pd.DataFrame({"pixels": total.ravel()}, index=index).reset_index(), results / "confusion.csv")
    write_examples(folder / Paths("tiny").examples, shown, classes)
    shutil.copy(ROOT / "presets" / "sample.yaml", folder / "params.yaml")


def read_run(folder: Path, name: str) -> Run:
    return Run(name, "abc1234", lambda path: (folder / path).read_bytes())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("one")
    write_run(folder, 0, [tile("bad", "worst spread", 9), tile("good", "best rich", 0)], warnings=("Few places.",))
    return read_run(folder, "one")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("other")
    write_run(folder, 1, [tile("alone", "worst", 9), tile("good", "rich", 3)])
    return read_run(folder, "the other")


@pytest.fixture(scope="module")
def single(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "single.html"
    file.write_text(render_page("Patches: Unet resnet18", [run]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def several(run: Run, other: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="100"><rect width="300" height="100"/></svg>'
    text = render_page(
        "Two <b>losses</b>",
        [run, other],
        about="First paragraph.\n\nSecond & last.",
        findings=["No difference that this test set can show."],
        figures=[PageFigure("A figure", "What it shows.", svg)],
        paper={"one": 0.881},
    )
    file = tmp_path_factory.mktemp("page") / "several.html"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Open pages; whatever a test does with one, it must say nothing and fetch nothing."""
    watched: list[tuple[TimedLoader, Path]] = []

    def open_page(file: Path, **options: Any) -> Page:
        watched.append((TimedLoader(browser, file, **options), file))
        found = watched[-1][0].page
        expect(found.locator("#status")).to_contain_text("accuracy")
        return found

    yield open_page
    for each, file in watched:
        each.page.wait_for_timeout(50)
        assert each.said == []
        assert each.asked == [file.as_uri()]
        each.page.context.close()


def pixel(opened_page: Page, x: float, y: float) -> tuple[int, ...]:
    """Return the colour that is seen on the tile, at shares of its width and height."""
    box = opened_page.locator("#map canvas").first.bounding_box()
    assert box is not None
    shot = opened_page.screenshot(
        clip={"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "width": 1, "height": 1}
    )
    with Image.open(io.BytesIO(shot)) as picture:
        found = picture.convert("RGB").getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


def to_viewer(opened_page: Page) -> None:
    opened_page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")


def test_it_stands_alone(single: Path) -> None:
    text = single.read_text(encoding="utf-8")
    assert "Leaflet 1.9" in text
    assert "(c) 2010-2023 Vladimir Agafonkin" in text
    assert "sourceMappingURL" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r"<(link|img|iframe|script)[^>]+(src|href)=[\"']?(?!data:|#)", text)


def test_numbers_are_those_of_metrics_json(opened: Open, single: Path, run: Run) -> None:
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
        assert float(drawn.get_attribute("data-value") or "") == each.metrics["per_class"]["field"]["iou"]
    assert found.locator("[data-key='paper_reported']").all_inner_texts() == ["0.881", "–"]


def test_confusion_is_that_of_the_run_chosen(opened: Open, several: Path, run: Run, other: Run) -> None:
    found = opened(several)
    for n, each in enumerate((run, other)):
        found.locator("#confused").select_option(str(n))
        cells = found.locator(".confusion:visible [data-pixels]")
        assert [int(cell.get_attribute("data-pixels") or "") for cell in cells.all()] == each.confusion.ravel().tolist()
        share = each.confusion[0, 1] / each.confusion[0].sum()
        assert cells.nth(1).inner_text().split() == [f"{100 * share:.1f}", "%", f"{each.confusion[0, 1]:,}"]


def test_names_are_shown_as_they_are(opened: Open, single: Path, several: Path) -> None:
    found = opened(single)
    assert EVIL in found.locator(".classes th[scope=row]").nth(1).inner_text()
    assert EVIL in found.locator(".confusion th[scope=row]").nth(1).inner_text()
    assert EVIL in found.locator("#legend label").nth(1).inner_text()
    assert opened(several).locator("h1").inner_text() == "Two <b>losses</b>"


def test_it_says_what_the_run_is(opened: Open, single: Path, several: Path) -> None:
    head = opened(single).locator("header").inner_text()
    for words in ("tiny", "5 tiles, 4 scenes, 4 places", "no test tile shares an edge", "Few places.", "0.123"):
        assert words in head
    study = opened(several)
    assert "the other" in study.locator(".sortable tbody").inner_text()
    assert "one: Few places." in study.locator(".warnings").inner_text()
    assert "Second & last." in study.locator("header").inner_text()
    assert "Leakage" not in study.locator(".facts").inner_text()  # it differs
    assert "No difference" in study.locator("#findings").inner_text()
    assert study.locator("#figures img").evaluate("image => image.complete && image.naturalWidth") == 300


@pytest.mark.parametrize("press", ["click", "Enter", "Space"])
def test_headings_sort(press: str, opened: Open, several: Path, run: Run, other: Run) -> None:
    found = opened(several)
    heading = found.locator("th", has=found.get_by_role("button", name="macro mIoU", exact=True))
    scores = sorted([run.metrics["macro_miou"], other.metrics["macro_miou"]], reverse=True)
    for order, wanted in (("descending", scores), ("ascending", scores[::-1])):
        button = heading.get_by_role("button")
        button.click() if press == "click" else button.press(press)
        assert heading.get_attribute("aria-sort") == order
        cells = found.locator(".sortable [data-key=macro_miou]").all()
        assert [float(cell.get_attribute("data-value") or "") for cell in cells] == wanted
    found.get_by_role("button", name="paper reports").click()
    found.get_by_role("button", name="paper reports").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert found.locator("[data-key=paper_reported]").all_inner_texts() == ["0.881", "–"]  # none is last, either way


def test_the_handle_moves_by_keyboard_and_by_drag(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    field = CLASSES[0].color
    handle = found.get_by_role("slider", name="Where the left layer ends")
    assert pixel(found, 0.4, 0.9) == PHOTOGRAPH
    assert pixel(found, 0.6, 0.9) == field
    handle.focus()
    found.keyboard.press("Home")
    assert handle.get_attribute("aria-valuenow") == "0"
    assert pixel(found, 0.1, 0.9) == field
    found.keyboard.press("End")
    assert pixel(found, 0.9, 0.9) == PHOTOGRAPH
    for _ in range(5):
        found.keyboard.press("PageDown")
    found.keyboard.press("ArrowRight")
    assert handle.get_attribute("aria-valuenow") == "51"
    knob = found.locator("#handle span").bounding_box()
    tile_box = found.locator("#map canvas").first.bounding_box()
    assert knob is not None
    assert tile_box is not None
    found.mouse.move(knob["x"] + 19, knob["y"] + 19)
    found.mouse.down()
    found.mouse.move(tile_box["x"] + 0.8 * tile_box["width"], knob["y"] + 40, steps=4)
    found.mouse.up()
    assert pixel(found, 0.7, 0.9) == PHOTOGRAPH
    assert pixel(found, 0.9, 0.9) == field


def test_classes_are_hidden_and_shown(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    found.locator("#left").select_option("target")
    assert [pixel(found, x, 0.9) for x in (0.3, 0.7)] == [CLASSES[0].color, CLASSES[0].color]
    found.locator("#right").select_option("target")
    assert pixel(found, 0.7, 0.9) == CLASSES[1].color
    box = found.get_by_role("checkbox", name=EVIL)
    box.uncheck()
    assert [pixel(found, x, 0.9) for x in (0.3, 0.7)] == [CLASSES[0].color, PHOTOGRAPH]
    box.focus()
    found.keyboard.press("Space")
    assert pixel(found, 0.7, 0.9) == CLASSES[1].color


def test_errors_stand_over_a_grey_image(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    found.locator("#left").select_option("error 0")
    found.locator("#right").select_option("error 0")
    right, wrong = pixel(found, 0.2, 0.9), pixel(found, 0.7, 0.9)
    assert wrong == WRONG
    assert max(right) - min(right) <= 1
    assert min(right) > 150
    assert {pixel(found, (n + 0.5) / SIZE, 0.1)[0] for n in range(4, 9)} == {232, 196}  # ignored: hatched


def test_opacity_lets_the_image_through(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    found.get_by_label("Opacity of maps").focus()
    found.keyboard.press("Home")
    assert pixel(found, 0.7, 0.9) == PHOTOGRAPH


def test_the_map_zooms_and_pans_by_keyboard_and_mouse(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    canvas = found.locator("#map canvas").first

    def box() -> dict[str, float]:
        found_box = canvas.bounding_box()
        assert found_box is not None
        return {"x": found_box["x"], "y": found_box["y"], "width": found_box["width"]}

    before = box()
    found.locator("#map").focus()
    found.keyboard.press("+")
    assert box()["width"] > 1.2 * before["width"]
    found.mouse.move(300, 300)
    found.mouse.wheel(0, -400)
    found.wait_for_timeout(300)
    zoomed = box()
    assert zoomed["width"] > 1.6 * before["width"]
    found.keyboard.press("ArrowRight")
    found.wait_for_timeout(500)
    assert box()["x"] < zoomed["x"]
    panned = box()
    found.mouse.move(300, 300)
    found.mouse.down()
    found.mouse.move(360, 340, steps=4)
    found.mouse.up()
    assert box()["x"] == pytest.approx(panned["x"] + 60, abs=2)
    found.get_by_role("button", name="Whole tile").click()
    assert box() == pytest.approx(before, abs=1)


def test_the_pixel_pointed_at_is_named(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    box = found.locator("#map canvas").first.bounding_box()
    assert box is not None
    found.mouse.move(box["x"] + 0.99 * box["width"], box["y"] + 0.99 * box["height"])
    expect(found.locator("#pointed")).to_have_text(f"row 31, column 31 · target: {EVIL} · prediction: field")
    found.mouse.move(box["x"] + 0.01 * box["width"], box["y"] + 0.01 * box["height"])
    expect(found.locator("#pointed")).to_have_text("row 0, column 0 · target: ignored · prediction: field")


def test_tiles_are_listed_by_why_and_told_aloud(opened: Open, single: Path) -> None:
    found = opened(single)
    assert found.locator("#gallery h3").all_inner_texts() == ["Worst", "Best", "Richest in classes"]
    status = found.locator("[aria-live=polite]")
    expect(status).to_have_text(
        "Tile good: accuracy 50.0\u00a0%, mIoU\u00a00.25; left image, right prediction, parted at 50 %."
    )
    found.locator("[data-tile=bad]").click()
    expect(status).to_contain_text("Tile bad: accuracy 0.0\u00a0%, mIoU\u00a00.00")
    assert found.locator("[aria-pressed=true]").all_inner_texts()[0].startswith("bad")
    found.get_by_role("button", name="Next").click()
    expect(status).to_contain_text("Tile good")


def test_runs_are_looked_at_side_by_side(opened: Open, several: Path) -> None:
    found = opened(several)
    to_viewer(found)
    found.locator("#left").select_option(label="prediction – one")
    found.locator("#right").select_option(label="prediction – the other")
    assert pixel(found, 0.3, 0.9) == CLASSES[0].color
    assert pixel(found, 0.7, 0.9) == CLASSES[1].color
    found.get_by_label("Tiles of").select_option(label="the other")
    expect(found.locator("#status")).to_contain_text("Tile good: the other accuracy")
    found.locator("[data-tile=alone]").click()  # the first run has not looked at it
    expect(found.locator("#status")).to_contain_text("left prediction – the other")
    assert "prediction – one" not in found.locator("#left option").all_inner_texts()


def test_a_legend_hides_a_run_in_all_charts(opened: Open, several: Path) -> None:
    found = opened(several)
    lines = found.locator(".charts [data-run='1'] path")
    assert lines.count() == 5
    found.locator("#curves").get_by_role("checkbox", name="the other").uncheck()
    assert [line.is_visible() for line in lines.all()] == [False] * 5
    assert not found.locator(".interval [data-run='1'] circle").first.is_visible()
    assert found.locator(".charts [data-run='0'] path").first.is_visible()
    assert not found.locator("#classes").get_by_role("checkbox", name="the other").is_checked()


def test_charts_are_named_for_who_cannot_see_them(opened: Open, several: Path) -> None:
    found = opened(several)
    pictures = found.get_by_role("img").all()
    assert len(pictures) == 4 + len(CLASSES) + 1
    assert found.get_by_role("img", name="Macro mIoU, validation. one: ").count() == 1


def test_the_best_epoch_is_marked(opened: Open, single: Path, run: Run) -> None:
    chart = opened(single).locator(".chart").first
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


@pytest.mark.parametrize("which", ["single", "several"])
def test_a_phone_does_not_scroll_sideways(which: str, opened: Open, request: pytest.FixtureRequest) -> None:
    found = opened(request.getfixturevalue(which), size=PHONE)
    assert found.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    to_viewer(found)
    stage = found.locator(".stage").bounding_box()
    assert stage is not None
    assert stage["x"] >= 0
    assert stage["x"] + stage["width"] <= PHONE[0]
    found.locator("#handle").focus()
    found.keyboard.press("Home")
    assert pixel(found, 0.3, 0.9) == CLASSES[0].color


def test_colours_stand_out() -> None:
    style = (ROOT / "src/landseg/page/assets/page.css").read_text()
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


def test_without_tiles_the_rest_is_there(tmp_path: Path, browser: Browser) -> None:
    write_run(tmp_path, 0, [])
    file = tmp_path / "page.html"
    file.write_text(render_page("No tiles", [read_run(tmp_path, "bare")]), encoding="utf-8")
    watched = TimedLoader(browser, file)
    assert "evaluate.n_examples" in watched.page.locator("#tiles").inner_text()
    assert not watched.page.locator("#viewer").is_visible()
    assert watched.page.locator(".chart").count() == 4
    assert watched.said == []


def test_runs_of_other_classes_are_refused(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path, 0, [], CLASSES[:2])
    with pytest.raises(LandsegError, match=r"one and two: have other classes \(field, .*\); report them apart"):
        render_page("Two", [run, read_run(tmp_path, "two")])
    with pytest.raises(LandsegError, match="no runs"):
        render_page("None", [])


def test_the_stage_writes_the_page_of_the_workspace(tmp_path: Path) -> None:
    write_run(tmp_path, 0, [tile("good", "rich", 0)])
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("name: sample", "name: tiny", 1))
    card = Card(name="tiny", title="Patches", licence="CC0-1.0", classes=CLASSES, bands=("red", "green", "blue"))
    write_card(card, tmp_path / Paths("tiny").table("card.json"))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "pipeline/report.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"results/report.html: \d+\.\d MB\n", done.stdout)
    assert "<h1>Patches: Unet resnet18</h1>" in (tmp_path / "results/report.html").read_text()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "dvc", "matplotlib", "geopandas"}
