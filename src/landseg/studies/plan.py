"""A study as its file says it: which cells there are, what each sets, and what is to be drawn of them."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from landseg.errors import LandsegError
from landseg.params.base import PARAMS, Section, read, validate
from landseg.params.everything import Params

STUDIES = Path("studies")

#: What can be drawn of a study.
Drawing = Literal["curves", "classes", "panel", "differences", "leakage", "seeds"]
Changes = dict[str, Any]


class Paper(Section):
    """What a paper reports of the same cells: shown beside ours, and never mixed up with macro mIoU."""

    source: str = Field(min_length=1)
    """Which paper and table."""
    definition: str = Field(min_length=1)
    """What its number is."""
    scores: dict[str, float]
    """The number of every cell that it reports, by the cell's label."""


class Study(Section):
    """A study: `studies/<name>.yaml`."""

    title: str = Field(min_length=1)
    """Its question, in a line."""
    about: str = ""
    """What a reader has to know, in Markdown."""
    set: Changes = {}
    """Parameters that every cell sets, `section.key: value`."""
    cells: dict[str, Changes] = {}
    """Cells by their label, each with what it sets."""
    grid: dict[str, list[Any]] = {}
    """Values of parameters: every combination, of every one of `cells` where there are any."""
    seeds: list[int] = Field([], min_length=0)
    """Values of train.seed for every cell; none: the one of params.yaml."""
    only_for: dict[str, list[str]] = {}
    """Data sets outside which a cell cannot be, by its label."""
    metric: str = "macro_miou"
    """The score that is compared: a key of results/metrics.json, such as macro_miou or per_class.road.iou."""
    baseline: str | None = None
    """Label of the cell that the others are compared with; null: the first."""
    draw: list[Drawing] = ["curves", "classes", "panel", "differences"]
    """What to draw beside the table."""
    paper: Paper | None = None
    """What a paper reports."""

    @model_validator(mode="after")
    def _filled(self) -> "Study":
        if not self.cells and not self.grid and not self.seeds:
            raise ValueError("there are no cells: name some under cells, grid or seeds")
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid: {key} has no values, so there are no cells; list some")
        return self


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    #: What tells it from the others, without its seed.
    label: str
    seed: int
    #: The parameters that it sets, `section.key`: value.
    changes: Mapping[str, Any]
    #: 16 hex digits of all that its results depend on.
    fingerprint: str

    @property
    def title(self) -> str:
        """Its label and seed."""
        return f"{self.label}, seed {self.seed}"

    def experiment(self, study: str) -> str:
        """Return the name of its DVC experiment; studies that share a cell know it by the fingerprint at the end."""
        return f"{study}-{_slug(self.label)}-{self.seed}-{self.fingerprint}"


def read_study(name: str, folder: Path = STUDIES) -> tuple[Study, Path]:
    """Read `<folder>/<name>.yaml`.

    Raises:
        LandsegError: there is no such study, or it is none.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.yaml"))) or "none"
        raise LandsegError(f"{path}: not there; known studies: {known}")
    study = validate(Study, read(path), "", path)
    return study, path


def cells(study: Study, path: Path, extra: Changes, code: str, params_file: Path = PARAMS) -> list[Cell]:
    """Return the cells of a study, in its order; what each sets is checked as `landseg check` does.

    Args:
        study: the study.
        path: its file, for messages.
        extra: what all cells set besides; it goes over what the study says.
        code: digest of code and data, which fingerprints hold too.
        params_file: the parameters that cells change.

    Raises:
        LandsegError: a cell names an unknown parameter or a wrong value, two cells are the same, or none is left.
    """
    params = read(params_file)
    dataset = str(params.get("dataset", {}).get("name"))
    planned = []
    for label, changes in _settings(study):
        if dataset not in study.only_for.get(label, [dataset]):
            continue
        for seed in study.seeds or (None,):
            seeded = {} if seed is None else {"train.seed": seed}
            sets = study.set | changes | seeded | extra
            merged = _merged(params, sets)
            checked = validate(Params, merged, "", path)
            planned.append(Cell(label, checked.train.seed, sets, fingerprint(merged, code)))
    _sound(study, path, planned)
    return planned


def _sound(study: Study, path: Path, planned: list[Cell]) -> None:
    labels = list(dict.fromkeys(cell.label for cell in planned))
    if not planned:
        raise LandsegError(
            f"{path}: no cell is left for this data set; change only_for, or dataset.name in params.yaml"
        )
    named = {"only_for": list(study.only_for), "baseline": [study.baseline] if study.baseline else []}
    named["paper.scores"] = list(study.paper.scores) if study.paper else []
    every = [label for label, _ in _settings(study)]
    for key, listed in named.items():
        for label in listed:
            if label not in every:
                raise LandsegError(f"{path}: {key}: there is no cell {label!r}; the cells are {', '.join(every)}")
    if study.baseline and study.baseline not in labels:
        raise LandsegError(f"{path}: baseline {study.baseline!r} cannot be run on this data set; choose another")
    seen: dict[str, Cell] = {}
    for cell in planned:
        twin = seen.setdefault(cell.fingerprint, cell)
        if twin is not cell:
            raise LandsegError(f"{path}: cells {twin.title!r} and {cell.title!r} set the same; remove one")


def _settings(study: Study) -> Iterator[tuple[str, Changes]]:
    """Yield the label of every cell, without its seed, and what it sets."""
    named = study.cells or {"": {}}
    keys = list(study.grid)
    for (name, changes), values in itertools.product(named.items(), itertools.product(*study.grid.values())):
        point = dict(zip(keys, values, strict=True))
        if len(keys) == 1:
            parts = [name, str(values[0])]
        else:
            parts = [name, *(f"{key.rpartition('.')[2]} {value}" for key, value in point.items())]
        yield ", ".join(filter(None, parts)) or study.title, changes | point


def _merged(params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = json.loads(json.dumps(params))
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        node = merged
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return merged


def fingerprint(params: Mapping[str, Any], code: str) -> str:
    """Digest parameters, the machine's settings left out, and code: 16 hex digits."""
    counted = {name: values for name, values in params.items() if name != "compute"}
    text = json.dumps([counted, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40]
