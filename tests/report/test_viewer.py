"""The tile viewer of the report page, in a real browser."""

from pathlib import Path

import numpy as np
import pytest
from helpers.browser import PHONE, WatchedPage
from helpers.pages import CLASSES, EVIL, IMAGE_COLOUR, SIZE, Open, pixel, read_run, to_viewer, write_run
from playwright.sync_api import Browser, Locator, expect

from landseg.evaluate.examples import WRONG
from landseg.report.page import render_page


def test_the_slider_moves_by_keyboard_and_by_drag(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    field = CLASSES[0].color
    slider = found.get_by_role("slider", name="Before/after slider")
    assert pixel(found, 0.4, 0.9) == IMAGE_COLOUR
    assert pixel(found, 0.6, 0.9) == field
    slider.focus()
    found.keyboard.press("Home")
    assert slider.get_attribute("aria-valuenow") == "0"
    assert pixel(found, 0.1, 0.9) == field
    found.keyboard.press("End")
    assert pixel(found, 0.9, 0.9) == IMAGE_COLOUR
    for _ in range(5):
        found.keyboard.press("PageDown")
    found.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "51"
    knob = found.locator("#slider span").bounding_box()
    tile_box = found.locator("#map canvas").first.bounding_box()
    assert knob is not None
    assert tile_box is not None
    found.mouse.move(knob["x"] + 19, knob["y"] + 19)
    found.mouse.down()
    found.mouse.move(tile_box["x"] + 0.8 * tile_box["width"], knob["y"] + 40, steps=4)
    found.mouse.up()
    assert pixel(found, 0.7, 0.9) == IMAGE_COLOUR
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
    assert [pixel(found, x, 0.9) for x in (0.3, 0.7)] == [CLASSES[0].color, IMAGE_COLOUR]
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
    found.get_by_label("Map opacity").focus()
    found.keyboard.press("Home")
    assert pixel(found, 0.7, 0.9) == IMAGE_COLOUR


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
    found.get_by_role("button", name="Fit tile").click()
    assert box() == pytest.approx(before, abs=1)


def test_the_classes_under_the_pointer_are_shown(opened: Open, single: Path) -> None:
    found = opened(single)
    to_viewer(found)
    box = found.locator("#map canvas").first.bounding_box()
    assert box is not None
    found.mouse.move(box["x"] + 0.99 * box["width"], box["y"] + 0.99 * box["height"])
    expect(found.locator("#pointed")).to_have_text(f"row 31, column 31 · target: {EVIL} · prediction: field")
    found.mouse.move(box["x"] + 0.01 * box["width"], box["y"] + 0.01 * box["height"])
    expect(found.locator("#pointed")).to_have_text("row 0, column 0 · target: ignored · prediction: field")


def test_tiles_are_listed_by_reason_and_announced(opened: Open, single: Path) -> None:
    found = opened(single)
    assert found.locator("#gallery h3").all_inner_texts() == ["Worst", "Best", "Most classes"]
    status = found.locator("[aria-live=polite]")
    expect(status).to_have_text(
        "Tile good: accuracy 50.0\u00a0%, mIoU\u00a00.25; left image, right prediction, slider at 50 %."
    )
    found.locator("[data-tile=bad]").click()
    expect(status).to_contain_text("Tile bad: accuracy 0.0\u00a0%, mIoU\u00a00.00")
    assert found.locator("[aria-pressed=true]").all_inner_texts()[0].startswith("bad")
    found.get_by_role("button", name="Next").click()
    expect(status).to_contain_text("Tile good")


def test_thumbnails_show_image_target_prediction_and_error_under_headings(opened: Open, single: Path) -> None:
    views = opened(single).locator("[data-tile=bad] .views > span")
    assert views.all_inner_texts() == ["image", "target", "prediction", "error"]
    field, wood, water = (each.color for each in CLASSES)
    expected = [(IMAGE_COLOUR, IMAGE_COLOUR), (field, wood), (water, water), (WRONG, WRONG)]
    assert [halves(view.locator("canvas")) for view in views.all()] == expected


def halves(canvas: Locator) -> tuple[tuple[int, ...], ...]:
    """Return the colours in the middle of the left and of the right half of a canvas."""
    middle = "(canvas) => [...canvas.getContext('2d').getImageData(0, canvas.height / 2, canvas.width, 1).data]"
    row = np.reshape(canvas.evaluate(middle), (-1, 4))
    return tuple(tuple(row[round(share * len(row))][:3].tolist()) for share in (0.25, 0.75))


def test_runs_are_compared_side_by_side(opened: Open, several: Path) -> None:
    found = opened(several)
    to_viewer(found)
    found.locator("#left").select_option(label="prediction – one")
    found.locator("#right").select_option(label="prediction – the other")
    assert pixel(found, 0.3, 0.9) == CLASSES[0].color
    assert pixel(found, 0.7, 0.9) == CLASSES[1].color
    found.locator("#tiles").get_by_label("Run").select_option(label="the other")
    expect(found.locator("#status")).to_contain_text("Tile good: the other accuracy")
    found.locator("[data-tile=alone]").click()  # the first run does not have it
    expect(found.locator("#status")).to_contain_text("left prediction – the other")
    assert "prediction – one" not in found.locator("#left option").all_inner_texts()


@pytest.mark.parametrize("which", ["single", "several"])
def test_a_phone_does_not_scroll_horizontally(which: str, opened: Open, request: pytest.FixtureRequest) -> None:
    found = opened(request.getfixturevalue(which), size=PHONE)
    assert found.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    to_viewer(found)
    stage = found.locator(".stage").bounding_box()
    assert stage is not None
    assert stage["x"] >= 0
    assert stage["x"] + stage["width"] <= PHONE[0]
    found.locator("#slider").focus()
    found.keyboard.press("Home")
    assert pixel(found, 0.3, 0.9) == CLASSES[0].color


def test_a_page_without_example_tiles(tmp_path: Path, browser: Browser) -> None:
    write_run(tmp_path, 0, [])
    file = tmp_path / "page.html"
    file.write_text(render_page("No tiles", [read_run(tmp_path, "bare")]), encoding="utf-8")
    watched = WatchedPage(browser, file)
    assert "evaluate.n_examples" in watched.page.locator("#tiles").inner_text()
    assert not watched.page.locator("#viewer").is_visible()
    assert watched.page.locator("#curves .chart").count() == 4
    assert watched.messages == []
