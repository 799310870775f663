"""The files of a run with a model card."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from helpers.root import ROOT
from helpers.runs import CLASSES, matrices, results
from ruamel.yaml import YAML

from landseg.core.arrays import Counts
from landseg.core.classes import LandClass
from landseg.core.data_card import Card

PARAMS = YAML(typ="safe").load(ROOT / "presets/sample.yaml")


TABLE = tuple(LandClass(id=n, name=name, color=(0, 0, n)) for n, name in enumerate(CLASSES))


DIGEST = "ab12" * 16


SHARES = {"background": 0.75, "woodland": 0.24, "water": 0.01}


TRAINING = {"step": 6, "best_epoch": 5, "parameters": 14_328_789, "speed": {"seconds": 117.25}}


def files(
    units: Counts | None = None,
    *,
    leakage: Mapping[str, float | None] | None = None,
    scores: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    **others: Any,
) -> dict[str, bytes]:
    """The files of a run on generated scenes, with what differs."""
    changed = {name: {**of, **(params or {}).get(name, {})} for name, of in PARAMS.items()}
    units = matrices([0.9, 0.8, 0.7]) if units is None else units
    made = results(units, params=changed, **others)
    metrics, dealt = json.loads(made["results/metrics.json"]), json.loads(made["results/split.json"])
    metrics |= {"weights": "best", "majority": {"class": "background", "macro_miou": 0.09}, "warnings": []}
    metrics["leakage"] |= leakage or {}
    dealt["splits"]["train"]["share"] = SHARES
    described = {
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
    return made | {
        "results/confusion.csv": "\n".join(["actual,predicted,pixels", *cells, ""]).encode(),
        "results/metrics.json": json.dumps(metrics | dict(scores or {})).encode(),
        "results/split.json": json.dumps(dealt | dict(split or {})).encode(),
        "results/train/metrics.json": json.dumps(TRAINING).encode(),
        "data/tables/sample/card.json": Card.model_validate(described | dict(card or {})).model_dump_json().encode(),
    }


def rows(text: str) -> list[list[str]]:
    """The rows of all tables, as their cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def row(text: str, first: str, cells: int) -> list[str]:
    """The one row of so many cells that begins so."""
    [found] = [each for each in rows(text) if each[0] == first and len(each) == cells]
    return found
