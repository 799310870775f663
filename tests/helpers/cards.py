"""Results of a run, as files, for model cards; and the rows of a card."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from helpers.calibration import calibration_files
from helpers.root import ROOT
from helpers.runs import CLASSES, matrices, results
from ruamel.yaml import YAML

from landseg.core.arrays import Counts
from landseg.core.classes import LandClass
from landseg.core.data_card import DataCard

PARAMS = YAML(typ="safe").load(ROOT / "presets/sample.yaml")


TABLE = tuple(LandClass(id=n, name=name, color=(0, 0, n)) for n, name in enumerate(CLASSES))


DIGEST = "ab12" * 16


SHARES = {"background": 0.75, "woodland": 0.24, "water": 0.01}


TRAINING = {"step": 6, "best_epoch": 5, "parameters": 14_328_789, "speed": {"seconds": 117.25}}


def run_files(
    units: Counts | None = None,
    *,
    leakage: Mapping[str, float | None] | None = None,
    scores: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    **others: Any,
) -> dict[str, bytes]:
    """Return the files of a run on synthetic scenes, with changes."""
    changed = {name: {**section, **(params or {}).get(name, {})} for name, section in PARAMS.items()}
    units = matrices([0.9, 0.8, 0.7, 0.9, 0.8, 0.7]) if units is None else units
    files = results(units, params=changed, **others)
    metrics, summary = json.loads(files["results/metrics.json"]), json.loads(files["results/split.json"])
    metrics |= {"weights": "best", "majority": {"class": "background", "macro_miou": 0.09}, "warnings": []}
    metrics["calibration"], _ = calibration_files(others.get("classes", CLASSES), **(calibration or {}))
    metrics["leakage"] |= leakage or {}
    summary["splits"]["train"]["share"] = SHARES
    fields = {
        "name": "sample",
        "title": "Scenes",
        "licence": "CC0-1.0",
        "citation": "Somebody et al., 2020",
        "url": "https://example.org",
        "bands": ("red", "green", "blue"),
        "classes": TABLE,
    }
    classes, whole = others.get("classes", CLASSES), units.sum(axis=0)
    cells = [f"{classes[t]},{classes[p]},{whole[t, p]}" for t, p in np.ndindex(*whole.shape)]
    return files | {
        "results/confusion.csv": "\n".join(["actual,predicted,pixels", *cells, ""]).encode(),
        "results/metrics.json": json.dumps(metrics | dict(scores or {})).encode(),
        "results/split.json": json.dumps(summary).encode(),
        "results/train/metrics.json": json.dumps(TRAINING).encode(),
        "data/tables/sample/card.json": DataCard.model_validate(fields | dict(card or {})).model_dump_json().encode(),
    }


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def table_row(text: str, first: str, cells: int) -> list[str]:
    """Return the only row with this first cell and number of cells."""
    [found] = [each for each in table_rows(text) if each[0] == first and len(each) == cells]
    return found
