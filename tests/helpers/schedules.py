"""Schedules of short runs."""

from collections.abc import MutableMapping
from typing import Any


def fit_schedule(params: MutableMapping[str, Any]) -> None:
    """Shorten the learning rate schedule of presets to the run, because a longer one is refused."""
    scheduler = params["scheduler"]
    scheduler["step"] = min(scheduler["step"], params["train"]["epochs"])
