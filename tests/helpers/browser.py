"""Headless Chromium, driven by Playwright, without network access."""

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
    """Start the installed Chromium; skip the test without one."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        if "LANDSEG_BROWSER" in os.environ:
            pytest.fail("Chromium not found, but LANDSEG_BROWSER requires it")
        pytest.skip("Chromium not found: install chromium or google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class WatchedPage:
    """A page opened from disk, with its messages and requests."""

    def __init__(
        self, browser: Browser, file: Path, size: tuple[int, int] = DESK, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", offline=True
        )
        context.set_default_timeout(5000)
        self.page: Page = context.new_page()
        #: Console messages, script errors and dialogs.
        self.messages: list[str] = []
        #: Requested URLs, without data: URLs.
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self._request(request.url))
        self.page.goto(file.as_uri())

    def _dialog(self, dialog: Any) -> None:
        self.messages.append(dialog.message)
        dialog.dismiss()

    def _request(self, url: str) -> None:
        if not url.startswith("data:"):
            self.requests.append(url)
