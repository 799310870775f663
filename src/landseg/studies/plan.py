"""A study as its file says it: which cells there are, what each sets, and what is to be drawn of them."""

import copy
import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from landseg.core.errors import LandsegError
from landseg.core.params import Section, read, validate
from landseg.schema import Params, check_params

STUDIES = Path("studies")

#: What can be drawn of a study.
Drawing = Literal["curves", "classes", "panel", "differences", "leakage", "seeds"]
Overrides = dict[str, Any]


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
    """What a reader has to know; blank lines part paragraphs."""
    sets: Overrides = Field({}, alias="set")
    """Parameters that every cell sets, `section.key: value`."""
    cells: dict[str, Overrides] = Field({})
    """Cells by their label, each with what it sets."""
    grid: dict[str, list[Any]] = Field({})
    """Values of parameters: every combination, of every one of `cells` where there are any."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field([])
    """Values of a seed for every cell; none: the one of params.yaml."""
    seed: Literal["train.seed", "split.seed"] = "train.seed"
    """Which seed they are of: that of training, or that of the split, where several splits are to be averaged over."""
    only_for: dict[str, list[str]] = Field({})
    """Data sets outside which a cell cannot be, by its label."""
    metric: str = "macro_miou"
    """The score that is compared: a key of results/metrics.json, such as macro_miou or per_class.road.iou."""
    pairs: list[tuple[str, str]] | None = None
    """Labels of cells to compare, each with another; null: every one with the first."""
    draw: list[Drawing] = Field(["differences", "classes", "curves", "panel"])
    """What to draw beside the table."""
    paper: Paper | None = None
    """What a paper reports."""


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


def read_study(name: str) -> tuple[Study, Path]:
    """Read studies/<name>.yaml, or the file of that path.

    Raises:
        LandsegError: there is no such study, or the file holds none.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in STUDIES.glob("*.yaml"))) or "none"
        raise LandsegError(f"{path}: not there; the studies in {STUDIES}/ are: {known}")
    study = validate(Study, read(path), "", path)
    if not study.cells and not study.grid and not study.seeds:
        raise LandsegError(f"{path}: there are no cells; name some under cells, grid or seeds")
    for key, values in study.grid.items():
        if not values:
            raise LandsegError(f"{path}: grid: {key} has no values, so there are no cells; list some")
    return study, path


@dataclass(frozen=True)
class Plan:
    """A study and its cells with the present parameters, code and data."""

    name: str
    path: Path
    study: Study
    cells: list[Cell]
    #: The study as it was named, and what all cells set besides.
    named: str
    settings: tuple[str, ...]

    @property
    def asked(self) -> str:
        """What `landseg study run` and `report` are given."""
        return " ".join([self.named, *(f"-S {shlex.quote(setting)}" for setting in self.settings)])

    @property
    def labels(self) -> list[str]:
        """The labels of its cells, in order, once each."""
        return list(dict.fromkeys(cell.label for cell in self.cells))


def plan(name: str, settings: Sequence[str], code: str) -> Plan:
    """Read a study and lay out its cells; what each sets is checked as `landseg check` does.

    Args:
        name: a study in studies/, or the path of a study's file.
        settings: what all cells set besides, `section.key=value`; it goes over what the study says.
        code: digest of code and data, which fingerprints hold too.

    Raises:
        LandsegError: there is no such study, a cell names an unknown parameter or a wrong value, two cells are the
            same, or none is left.
    """
    study, path = read_study(name)
    return Plan(_slug(path.stem), path, study, _cells(study, path, _parsed(settings), code), name, tuple(settings))


def _parsed(settings: Sequence[str]) -> Overrides:
    changes = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise LandsegError(f"-S {setting}: says no value; write section.key=value")
        try:
            changes[key] = YAML(typ="safe").load(value)
        except YAMLError:
            raise LandsegError(f"-S {setting}: {value!r} is not valid YAML; quote it") from None
    return changes


def _cells(study: Study, path: Path, extra: Overrides, code: str) -> list[Cell]:
    params = read()
    dataset = check_params().dataset.name  # first params.yaml itself, so that a fault below is the study's
    planned = []
    for label, changes in _settings(study):
        if dataset not in study.only_for.get(label, [dataset]):
            continue
        for seed in study.seeds or (None,):
            seeded = {} if seed is None else {study.seed: seed}
            sets = study.sets | changes | seeded | extra
            merged = _merged(params, sets, path)
            checked = validate(Params, merged, "", path)
            drawn = checked.split.seed if study.seed == "split.seed" else checked.train.seed
            planned.append(Cell(label, drawn, sets, fingerprint(merged, code)))
    _sound(study, path, planned)
    return planned


def _sound(study: Study, path: Path, planned: list[Cell]) -> None:
    if not planned:
        raise LandsegError(f"{path}: no cell is for this data set; change only_for, or dataset.name in params.yaml")
    labels = [label for label, _ in _settings(study)]
    named = {
        "only_for": [*study.only_for],
        "pairs": [label for pair in study.pairs or () for label in pair],
        "paper.scores": [*study.paper.scores] if study.paper else [],
    }
    for key, listed in named.items():
        for label in listed:
            if label not in labels:
                raise LandsegError(f"{path}: {key}: there is no cell {label!r}; the cells are {', '.join(labels)}")
    seen: dict[str, Cell] = {}
    for cell in planned:
        twin = seen.setdefault(cell.fingerprint, cell)
        if twin is not cell:
            raise LandsegError(f"{path}: cells {twin.title!r} and {cell.title!r} set the same; remove one")


def _settings(study: Study) -> Iterator[tuple[str, Overrides]]:
    """Yield the label of every cell, without its seed, and what it sets."""
    named = study.cells or {"": {}}
    keys = list(study.grid)
    for (name, changes), values in itertools.product(named.items(), itertools.product(*study.grid.values())):
        point = dict(zip(keys, values, strict=True))
        if len(keys) == 1:
            parts = [name, str(values[0])]
        else:
            parts = [name, *(f"{key.rpartition('.')[2]} {value}" for key, value in point.items())]
        yield ", ".join(filter(None, parts)) or "one setting", changes | point


def _merged(params: Mapping[str, Any], changes: Mapping[str, Any], path: Path) -> dict[str, Any]:
    merged: dict[str, Any] = copy.deepcopy(dict(params))
    for key, value in changes.items():
        if isinstance(value, dict):
            raise LandsegError(f"{path}: {key} is given keys of its own; write each as {key}.<key>: value")
        *sections, leaf = key.split(".")
        node = merged
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise LandsegError(f"{path}: {key} is not a known key; {section} has no keys of its own")
        node[leaf] = value
    return merged


def fingerprint(params: Mapping[str, Any], code: str) -> str:
    """Digest parameters, the machine's settings left out, and code: 16 hex digits."""
    counted = {name: values for name, values in params.items() if name != "compute"}
    text = json.dumps([counted, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("+", "p")).strip("-")[:40]
