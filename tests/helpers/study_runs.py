"""Runs of studies as result files on disk, and what is visible in their figures."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from helpers.calibration import calibration_files
from helpers.root import ROOT
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from landseg import metrics
from landseg.core.arrays import Counts
from landseg.core.classes import IGNORE, ClassTable, LandClass, as_hex, class_names
from landseg.evaluate.examples import ExampleTile, write_examples
from landseg.results.run import CURVES, Run

CLASSES = (
    LandClass(id=1, name="water", color=(0, 0, 255)),
    LandClass(id=4, name="wood", color=(0, 160, 0)),
    LandClass(id=7, name="$ and $", color=(200, 100, 0)),
)
LEAKAGE = {"edge": 0.25, "edge_or_corner": 0.5, "same_location": 1.0, "same_group": None}


def unit_matrices(seed: int = 0, units: int = 8, classes: int = 3, accuracy: float = 0.6) -> Counts:
    """Return random confusion matrices of units, (units, K, K), with about the given accuracy."""
    generator = np.random.default_rng(seed)
    shares = np.full((classes, classes), (1 - accuracy) / classes) + accuracy * np.eye(classes)
    pixels = generator.integers(50, 400, size=(units, classes, 1))
    return generator.poisson(pixels * shares).astype(np.int64)


def example_tile(tile: str, value: int = 4, why: str = "rich", accuracy: float = 0.5, side: int = 16) -> ExampleTile:
    """Return a tile with one target class, the upper quarter ignored, and one predicted class."""
    target = np.full((side, side), 4, np.uint8)
    target[: side // 4] = IGNORE
    image = np.full((side, side, 3), (90, 120, 60), np.uint8)
    return ExampleTile(tile, "a", why, accuracy, 0.3, image, target, np.full((side, side), value, np.uint8))


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def study_run(
    folder: Path,
    matrices: Counts | None = None,
    *,
    classes: ClassTable = CLASSES,
    strategy: str = "scene",
    leakage: Mapping[str, float | None] | None = LEAKAGE,
    curve: Sequence[float] = (0.1, 0.3, 0.2),
    tiles: Sequence[ExampleTile] = (),
    seed: int = 0,
) -> Run:
    """Write the result files of a run as the pipeline does, and return the run."""
    matrices = unit_matrices() if matrices is None else matrices
    labels = class_names(classes)
    calibration, bins = calibration_files(labels, temperature=1)
    scores = {
        "dataset": "tiny",
        "split": "test",
        "tiles": 5,
        "scenes": 3,
        "locations": 3,
        "interval_over": "locations",
        "strategy": strategy,
        "leakage": leakage,
        **asdict(metrics.summary(matrices.sum(axis=0), matrices, labels, None)),
        "paper_iou": 0.5,
        "majority": {"class": labels[0], "macro_miou": 0.1},
        "calibration": calibration,
        "warnings": [],
    }
    split = {
        "strategy": strategy,
        "seed": 0,
        "skew": None,
        "splits": {"train": {"tiles": 10, "pixels": 1, "share": {}}},
        "leakage": {"test": leakage},
        "digest": {"train": "a", "val": "b", "test": "c"},
        "warnings": [],
    }
    speed = {"images_per_second": 20.0, "peak_memory_gb": 1.0, "seconds": 5.0}
    training = {"speed": speed, "step": len(curve) - 1, "best_epoch": 1, "parameters": 1000}
    params = YAML(typ="safe").load(ROOT / "presets/sample.yaml")
    params["dataset"]["name"], params["split"]["strategy"], params["train"]["seed"] = "tiny", strategy, seed
    rows = [
        {"scene": f"s{scene}", "unit": f"s{scene}", "actual": labels[a], "predicted": labels[p], "pixels": pixels}
        for (scene, a, p), pixels in np.ndenumerate(matrices)
    ]
    totals = [
        {"actual": labels[a], "predicted": labels[p], "pixels": pixels}
        for (a, p), pixels in np.ndenumerate(matrices.sum(axis=0))
    ]
    results = folder / "results"
    write_rows(results / "scenes.csv", rows)
    write_rows(results / "confusion.csv", totals)
    write_rows(results / "classes.csv", [{"class": c.name, "id": c.id, "color": as_hex(c.color)} for c in classes])
    (results / "calibration.csv").write_text(bins)
    for path, content in {
        "params.yaml": params,  # JSON is valid YAML
        "results/metrics.json": scores,
        "results/split.json": split,
        "results/train/metrics.json": training,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    for factor, (name, file) in enumerate(CURVES.items(), start=1):
        column = name.rpartition("/")[2]
        values = [{"step": step, column: factor * value} for step, value in enumerate(curve)]
        write_rows(results / "train/plots/metrics" / file, values, "\t")
    write_examples(folder / "data/examples/tiny.zip", tiles, classes)
    return Run(folder.name, "workspace", lambda path: (folder / path).read_bytes())


def visible_texts(figure: Figure) -> list[str]:
    found = figure.findobj(lambda artist: isinstance(artist, mpl.text.Text) and artist.get_visible())
    return [artist.get_text() for artist in found if isinstance(artist, mpl.text.Text) and artist.get_text()]


def drawn_lines(axes: Axes, colour: str, marker: str | None = None) -> list[tuple[list[float], list[float]]]:
    """Return x and y of the lines with a colour and, if given, a marker."""
    return [
        ([float(x) for x in np.asarray(line.get_xdata())], [float(y) for y in np.asarray(line.get_ydata())])
        for line in axes.lines
        if line.get_color() == colour and (marker is None or line.get_marker() == marker)
    ]


def fits_page(figure: Figure) -> bool:
    """Whether everything lies within the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return bool(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height)
