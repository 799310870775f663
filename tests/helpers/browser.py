"""A real browser without a window: Chromium, driven by Playwright, with nothing of the network."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

DESK, PHONE = (1280, 900), (380, 740)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium of this machine; skip the test where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        if "LANDSEG_BROWSER" in os.environ:
            pytest.fail("no Chromium, and LANDSEG_BROWSER asks for one")
        pytest.skip("no Chromium: install chromium or google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class TimedLoader:
    """A page that was opened from disk, with what it said and what it asked for."""

    def __init__(
        self, browser: Browser, file: Path, size: tuple[int, int] = DESK, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", offline=True
        )
        context.set_default_timeout(5000)
        self.page: Page = context.new_page()
        #: Console messages and errors of scripts.
        self.said: list[str] = []
        #: Addresses that were asked for, but for data: URLs.
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self._request(request.url))
        self.page.goto(file.as_uri())

    def _dialog(self, dialog: Any) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()

    def _request(self, url: str) -> None:
        if not url.startswith("data:"):
            self.asked.append(url)
