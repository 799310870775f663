"""Results of a run: parameters, scores, learning curves and tables, from the workspace or a git revision.

Git holds all files except the example tiles, which are in DVC's cache.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from landseg.core.arrays import Counts
from landseg.core.classes import ClassTable, LandClass
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.evaluate.calibration import Calibration
from landseg.evaluate.collapse import collapse_warnings
from landseg.evaluate.examples import ExampleTile, read_examples
from landseg.metrics import Scores

#: Files of the learning curves, under results/train/plots/metrics.
CURVES = {
    "train/loss": "train/loss.tsv",
    "val/loss": "val/loss.tsv",
    "val/macro_miou": "val/macro_miou.tsv",
    "val/micro_iou": "val/micro_iou.tsv",
    "val/fscore": "val/fscore.tsv",
    "val/accuracy": "val/accuracy.tsv",
}

#: Name of the uncommitted state of the working tree, beside the names of revisions.
WORKSPACE = "workspace"

#: What to do about missing or outdated results.
RERUN = "run `dvc repro` there and commit the results"

#: Returns the content of a file of the project by its path; raises FileNotFoundError.
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Run:
    """The results of one run; files are read on first use."""

    #: Display name: a revision as typed, or a cell of a study.
    name: str
    #: Short hash of the git commit, or 'workspace'.
    revision: str
    read: Read

    @cached_property
    def params(self) -> dict[str, Any]:
        """params.yaml."""
        return self._mapping("params.yaml")

    @cached_property
    def lock(self) -> dict[str, Any]:
        """dvc.lock: hashes and parameters of the stages that produced the results."""
        return self._mapping("dvc.lock")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """results/metrics.json (see docs/scores.md); for scores use `scores`."""
        return self._mapping("results/metrics.json")

    @cached_property
    def scores(self) -> Scores:
        """The scores in results/metrics.json.

        Raises:
            LandsegError: a score is missing.
        """
        try:
            return Scores.from_mapping(self.metrics)
        except KeyError as error:
            raise LandsegError(f"{self.name}: results/metrics.json has no {error.args[0]}; {RERUN}") from None

    @property
    def collapsed(self) -> bool:
        """Whether the model has learned little (see `landseg.evaluate.collapse`)."""
        majority = self.metrics.get("majority", {})
        return bool(collapse_warnings(self.scores, majority.get("class", ""), majority.get("macro_miou")))

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration of the confidences, in results/metrics.json.

        Raises:
            LandsegError: a value is missing.
        """
        try:
            return Calibration.from_mapping(self.metrics["calibration"])
        except KeyError as error:
            raise LandsegError(f"{self.name}: results/metrics.json has no {error.args[0]}; {RERUN}") from None

    @cached_property
    def reliability(self) -> dict[str, list[dict[str, float]]]:
        """results/calibration.csv: the bins of the reliability diagrams by class name; '' for all classes together.

        Keys of a bin are the columns of `landseg.evaluate.calibration.reliability_table`; NaN in bins without pixels.
        """
        found: dict[str, list[dict[str, float]]] = {}
        for row in self._rows("results/calibration.csv"):
            name = row.pop("class")
            found.setdefault(name, []).append({key: float(value or "nan") for key, value in row.items()})
        return found

    @cached_property
    def split(self) -> dict[str, Any]:
        """results/split.json."""
        return self._mapping("results/split.json")

    @cached_property
    def training(self) -> dict[str, Any]:
        """results/train/metrics.json: parameter count, best epoch, throughput."""
        return self._mapping("results/train/metrics.json")

    @cached_property
    def curves(self) -> dict[str, list[float]]:
        """Learning curves by the names in CURVES: one value per epoch."""
        return {name: self._column(f"results/train/plots/metrics/{file}") for name, file in CURVES.items()}

    @cached_property
    def classes(self) -> ClassTable:
        """The class table, in channel order."""
        rows = self._rows("results/classes.csv")
        return tuple(LandClass(id=int(row["id"]), name=row["class"], color=row["color"]) for row in rows)

    @cached_property
    def confusion(self) -> Counts:
        """(K, K) int64 confusion matrix of the scored split; rows: target, columns: prediction."""
        matrix: Counts = self._matrices("results/confusion.csv", lambda _: "")[1][0]
        return matrix

    @cached_property
    def units(self) -> tuple[list[str], Counts]:
        """Units of the intervals (locations or groups): S names, sorted, and (S, K, K) int64 confusion matrices."""
        return self._matrices("results/scenes.csv", lambda row: row["unit"])

    @cached_property
    def examples(self) -> list[ExampleTile]:
        """The example tiles, worst first."""
        path = Paths(self.metrics["dataset"]).examples.as_posix()
        return read_examples(io.BytesIO(self._file(path)))

    def score(self, key: str) -> float | None:
        """Return a score of metrics.json by its dotted key, such as macro_miou or per_class.road.iou.

        Raises:
            KeyError: the key is unknown, or its value is not a number.
        """
        found: Any = self.metrics
        for name in key.split("."):
            if not isinstance(found, dict):
                raise KeyError(key)
            found = found[name]
        if isinstance(found, bool | str | dict | list):
            raise KeyError(key)
        return None if found is None else float(found)

    def _file(self, path: str) -> bytes:
        try:
            return self.read(path)
        except FileNotFoundError:
            raise LandsegError(f"{self.name}: {path} not found; {RERUN}") from None

    def _mapping(self, path: str) -> dict[str, Any]:
        return parse_mapping(self._file(path), path, f"{self.name}: {path}")

    def _rows(self, path: str, delimiter: str = ",") -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self._file(path).decode()), delimiter=delimiter))

    def _column(self, path: str) -> list[float]:
        return [float([*row.values()][-1]) for row in self._rows(path, "\t")]

    def _matrices(self, path: str, unit: Callable[[Mapping[str, str]], str]) -> tuple[list[str], Counts]:
        rows = self._rows(path)
        channel: dict[str, int] = {each.name: k for k, each in enumerate(self.classes)}
        names = sorted({unit(row) for row in rows})
        index = {name: n for n, name in enumerate(names)}
        matrices = np.zeros((len(names), len(channel), len(channel)), np.int64)
        for row in rows:
            matrices[index[unit(row)], channel[row["actual"]], channel[row["predicted"]]] += int(row["pixels"])
        return names, matrices


def workspace_run(name: str = "this run") -> Run:
    """Return the results in the working tree."""
    return Run(name, WORKSPACE, lambda path: Path(path).read_bytes())


def parse_mapping(content: bytes | str, path: str, title: str = "") -> dict[str, Any]:
    """Parse a JSON or YAML file that holds a mapping, such as dvc.lock.

    Args:
        content: of the file.
        path: of the file; one that ends with .json is parsed as JSON.
        title: the start of the message; by default the path.

    Raises:
        LandsegError: the content is not a mapping, for example because of merge conflict markers.
    """
    try:
        parsed = json.loads(content) if path.endswith(".json") else YAML(typ="safe").load(content)
    except (ValueError, YAMLError):
        parsed = None
    if not isinstance(parsed, dict):
        raise LandsegError(
            f"{title or path}: cannot be parsed, possibly merge conflict markers; fix it or restore it from git"
        )
    return parsed
