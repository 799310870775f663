"""Report pages of one and of two synthetic runs, and a browser to open them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import WatchedPage, chromium
from helpers.pages import Open, read_run, tile, write_run
from matplotlib.figure import Figure
from playwright.sync_api import Browser, Page, expect

from landseg.plotting import COLOURS, INK, PALE
from landseg.report.page import PageFigure, render_page
from landseg.results.run import Run
from landseg.studies.figures import save_figure


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("one")
    write_run(folder, 0, [tile("bad", "worst spread", 9), tile("good", "best rich", 0)], warnings=("Few places.",))
    return read_run(folder, "one")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("other")
    write_run(folder, 1, [tile("alone", "worst", 9), tile("good", "rich", 3)])
    return read_run(folder, "the other")


@pytest.fixture(scope="session")
def single(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "single.html"
    file.write_text(render_page("Patches: Unet resnet18", [run]), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def several(run: Run, other: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    figures = [PageFigure(f"Figure {n}", "What it shows.", drawing(folder, f"figure{n}")) for n in (1, 2)]
    text = render_page(
        "Two <b>losses</b>",
        [run, other],
        about="First paragraph.\n\nSecond & last.",
        findings=["No significant difference on this test set."],
        figures=figures,
        paper={"one": 0.881},
    )
    file = folder / "several.html"
    file.write_text(text, encoding="utf-8")
    return file


def drawing(folder: Path, name: str) -> str:
    """Return a figure with text in three inks, a line with hollow markers, and a clipped image, as SVG."""
    figure = Figure((9, 2))
    axes = figure.add_subplot()
    axes.imshow([[0, 1]], aspect="auto", clip_on=True)
    axes.plot([0, 1], [0, 0], "o-", color=COLOURS[0], markerfacecolor="white")
    axes.set_title("<b>dark</b>", color=INK)
    axes.set_xlabel("pale", color=PALE)
    save_figure(figure, folder, name)
    return (folder / f"{name}.svg").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Open pages, and check at the end that they logged no message and made no request."""
    watched: list[tuple[WatchedPage, Path]] = []

    def open_page(file: Path, **options: Any) -> Page:
        watched.append((WatchedPage(browser, file, **options), file))
        found = watched[-1][0].page
        expect(found.locator("#status")).to_contain_text("accuracy")
        return found

    yield open_page
    for each, file in watched:
        each.page.wait_for_timeout(50)
        assert each.messages == []
        assert each.requests == [file.as_uri()]
        each.page.context.close()
