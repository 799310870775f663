"""Synthetic runs: the result files of `dvc repro`, made from confusion matrices of scenes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from landseg import metrics
from landseg.core.arrays import Counts
from landseg.results.run import Run

CLASSES = ("background", "woodland", "water")
DIGEST = {"train": "aa", "val": "bb", "test": "cc"}


def matrices(accuracies: Sequence[float], pixels: int = 1000, classes: int = 3) -> Counts:
    """Return (S, K, K) confusion matrices with equal target pixels and the given pixel accuracies."""
    made = np.zeros((len(accuracies), classes, classes), np.int64)
    for scene, accuracy in enumerate(accuracies):
        for channel in range(classes):
            right = round(pixels * accuracy)
            made[scene, channel, channel] = right
            made[scene, channel, (channel + 1) % classes] = pixels - right
    return made


def lock(**stages: Mapping[str, Mapping[str, str]]) -> bytes:
    """Return a dvc.lock from stages with hashes of deps and outs by path, and params by section."""
    entry = {
        name: {
            kind: [{"path": path, "md5": md5} for path, md5 in stage.get(kind, {}).items()] for kind in ("deps", "outs")
        }
        | {"params": {"params.yaml": dict(stage.get("params", {}))}}
        for name, stage in stages.items()
    }
    return json.dumps({"schema": "2.0", "stages": entry}).encode()


LOCK = lock(
    download={"deps": {"src/landseg/core": "1.dir"}, "outs": {"data/raw/sample": "2.dir"}},
    convert={"deps": {"data/raw/sample": "2.dir"}, "outs": {"data/tiles/sample": "3.dir"}},
    split={"deps": {"data/tiles/sample": "3.dir"}, "outs": {"data/tables/sample/split.parquet": "4"}},
    evaluate={"deps": {"data/tables/sample/split.parquet": "4"}, "outs": {"results/metrics.json": "5"}},
)


def results(
    units: Counts,
    *,
    classes: Sequence[str] = CLASSES,
    dataset: str = "sample",
    scored_split: str = "test",
    seed: int = 0,
    split: Mapping[str, Any] | None = None,
    digest: Mapping[str, str] | None = DIGEST,
    params: Mapping[str, Any] | None = None,
    scenes: Sequence[str] | None = None,
    dates: int = 1,
) -> dict[str, bytes]:
    """Return the files of a run by path.

    Args:
        units: (S, K, K) int64 confusion matrices, one per location.
        classes: the K names.
        dataset: name of the dataset.
        scored_split: evaluate.split.
        seed: train.seed.
        split: overrides for the section split of params.yaml (default: strategy scene, seed 0).
        digest: digests in split.json; None: no digests, as in old runs.
        params: overrides for sections of params.yaml.
        scenes: names of the locations.
        dates: scenes per location.
    """
    background = "background" if "background" in classes else None
    whole = asdict(metrics.summary(units.sum(axis=0), units, classes, background))
    dealt: dict[str, Any] = {"strategy": "scene", "seed": 0, "ratios": [0.8, 0.1, 0.1], **(split or {})}
    leak = {"edge": 0.0, "edge_or_corner": 0.0, "same_location": 0.0, "same_group": None}
    names = scenes or [f"scene_{n:03}" for n in range(len(units))]
    cells = [
        f"{name},{name},{classes[t]},{classes[p]},{units[n, t, p]}"
        for n, name in enumerate(names)
        for t, p in np.ndindex(len(classes), len(classes))
        if units[n, t, p] or not units[n].any()
    ]
    recorded = {
        "strategy": dealt["strategy"],
        "seed": dealt["seed"],
        "skew": None,
        "splits": {each: {"tiles": 10} for each in DIGEST},
        "leakage": {"test": leak, "val": leak},
        **({} if digest is None else {"digest": dict(digest)}),
    }
    scores = {
        "dataset": dataset,
        "split": scored_split,
        "tiles": 10 * len(units),
        "scenes": dates * len(units),
        "locations": len(units),
        "interval_over": "locations",
        "strategy": dealt["strategy"],
        "leakage": leak,
        **whole,
        "paper_iou": 0.5,
    }
    settings = {
        "dataset": {"name": dataset},
        "split": dealt,
        "loss": {"name": "focal"},
        "train": {"seed": seed},
        "compute": {"workers": 1},
        **(params or {}),
    }
    rows = [f"{name},{number},#00000{number}" for number, name in enumerate(classes)]
    return {
        "params.yaml": json.dumps(settings).encode(),  # YAML, too
        "dvc.lock": LOCK,
        "results/metrics.json": json.dumps(scores).encode(),
        "results/split.json": json.dumps(recorded).encode(),
        "results/classes.csv": "\n".join(["class,id,color", *rows, ""]).encode(),
        "results/scenes.csv": "\n".join(["scene,unit,actual,predicted,pixels", *cells, ""]).encode(),
    }


def run(name: str, files: Mapping[str, bytes]) -> Run:
    """Return a run that reads these files."""

    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    return Run(name, "workspace", read)
