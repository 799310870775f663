"""Synthetic runs for the report page, and helpers for its viewer."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.calibration import calibration_files
from helpers.root import ROOT
from PIL import Image
from playwright.sync_api import Page

from landseg import metrics
from landseg.core.classes import IGNORE, ClassTable, LandClass, as_hex, class_names
from landseg.core.paths import Paths
from landseg.core.tables import write_csv
from landseg.evaluate.examples import ExampleTile, write_examples
from landseg.results.run import Run

SIZE = 32
EVIL = """<script>alert("x")</script> & 'wood'"""
#: Ids with gaps, so that ids differ from channels.
CLASSES = (
    LandClass(id=0, name="field", color=(120, 160, 60)),
    LandClass(id=3, name=EVIL, color=(20, 80, 30)),
    LandClass(id=9, name="water", color=(30, 60, 150)),
)
IMAGE_COLOUR = (200, 100, 40)


#: Opens a page in the browser; keyword arguments go to WatchedPage.
Open = Callable[..., Page]


def tile(name: str, why: str, predicted: int) -> ExampleTile:
    """Return a tile: field on the left, wood on the right, ignored pixels on top, one class predicted everywhere."""
    image = np.full((SIZE, SIZE, 3), IMAGE_COLOUR, np.uint8)
    target = np.full((SIZE, SIZE), 0, np.uint8)
    target[:, SIZE // 2 :] = 3
    target[:8] = IGNORE
    prediction = np.full((SIZE, SIZE), predicted, np.uint8)
    counted = target != IGNORE
    accuracy = float((target == prediction)[counted].mean())
    return ExampleTile(name, "a", why, accuracy, accuracy / 2, image, target, prediction)


def write_run(
    folder: Path, seed: int, examples: list[ExampleTile], classes: ClassTable = CLASSES, warnings: tuple[str, ...] = ()
) -> None:
    """Write the results of a run with random scores, as the pipeline does. Its targets have no water."""
    generator = np.random.default_rng(seed)
    units = generator.integers(1, 90_000, (6, len(classes), len(classes)))
    units[:, -1] = 0
    total = units.sum(axis=0)
    scores = asdict(metrics.summary(total, units, class_names(classes), classes[0].name))
    leak = {"edge": 0.25 * seed, "edge_or_corner": 0.25 * seed, "same_location": 0.0, "same_group": None}
    results = folder / "results"
    split = {
        "strategy": "scene",
        "splits": {"train": {"tiles": 1234, "pixels": 1, "share": {}}},
        "leakage": {"test": leak},
        "warnings": list(warnings),
    }
    calibration, bins = calibration_files(class_names(classes))
    scored = {
        "dataset": "tiny",
        "split": "test",
        "weights": "best",
        "tiles": 5,
        "scenes": 6,
        "locations": 6,
        "interval_over": "locations",
        "strategy": "scene",
        "leakage": leak,
        **scores,
        "paper_iou": 0.654321,
        "majority": {"class": classes[0].name, "macro_miou": 0.123456},
        "calibration": calibration,
        "warnings": list(warnings),
    }
    speed = {"images_per_second": 27.437, "peak_memory_gb": 1.634, "seconds": 109.955}
    training = {"speed": speed, "step": 3, "best_epoch": 2, "parameters": 14328789}
    curves = results / "train" / "plots" / "metrics"
    (curves / "val").mkdir(parents=True)
    (curves / "train").mkdir()
    (results / "metrics.json").write_text(json.dumps(scored))
    (results / "calibration.csv").write_text(bins)
    (results / "split.json").write_text(json.dumps(split))
    (results / "train" / "metrics.json").write_text(json.dumps(training))
    for name in ("train/loss", "val/loss", "val/macro_miou", "val/micro_iou", "val/fscore", "val/accuracy"):
        table = pd.DataFrame({"step": range(4), name.split("/")[1]: generator.random(4)})
        table.to_csv(curves / f"{name}.tsv", sep="\t", index=False)
    write_csv(
        pd.DataFrame([{"class": of.name, "id": of.id, "color": as_hex(of.color)} for of in classes]),
        results / "classes.csv",
    )
    index = pd.MultiIndex.from_product([class_names(classes), class_names(classes)], names=["actual", "predicted"])
    write_csv(pd.DataFrame({"pixels": total.ravel()}, index=index).reset_index(), results / "confusion.csv")
    write_examples(folder / Paths("tiny").examples, examples, classes)
    shutil.copy(ROOT / "presets" / "sample.yaml", folder / "params.yaml")


def read_run(folder: Path, name: str) -> Run:
    return Run(name, "abc1234", lambda path: (folder / path).read_bytes())


def pixel(opened_page: Page, x: float, y: float) -> tuple[int, ...]:
    """Return the colour on screen at a position on the tile, as shares of its width and height."""
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
    """Scroll to the viewer."""
    opened_page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")
