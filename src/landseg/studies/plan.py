"""Study plans: the cells of studies/<name>.yaml, with the parameters that each sets."""

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
from landseg.core.params import PARAMS, Section, read_params, validate
from landseg.schema import Params, check_params

STUDIES = Path("studies")

#: Figures in the report of a study.
FigureName = Literal["curves", "classes", "panel", "differences", "seeds"]
#: Parameter values by dotted key, such as `train.epochs`.
Overrides = dict[str, Any]


class PaperScores(Section):
    """Scores that a paper reports for the same cells, shown next to the measured ones."""

    source: str = Field(min_length=1)
    """Paper and table."""
    definition: str = Field(min_length=1)
    """Definition of the reported score."""
    scores: dict[str, float]
    """Reported scores by cell label."""


class Study(Section):
    """A study: the content of `studies/<name>.yaml`."""

    title: str = Field(min_length=1)
    """Title; usually a question."""
    about: str = ""
    """Description, in paragraphs separated by blank lines."""
    sets: Overrides = Field({}, alias="set")
    """Parameters of all cells, `section.key: value`."""
    cells: dict[str, Overrides] = Field({})
    """Parameters of single cells, by cell label."""
    grid: dict[str, list[Any]] = Field({})
    """Parameter values to combine; the grid applies to each of `cells`, if given."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field([])
    """Seeds to run each cell with; empty: the seed in params.yaml."""
    seed: Literal["train.seed", "split.seed"] = "train.seed"
    """Parameter that `seeds` sets; with split.seed, pairs are compared within each split."""
    only_for: dict[str, list[str]] = Field({})
    """Datasets that a cell is limited to, by cell label."""
    metric: str = "macro_miou"
    """Score to compare: a key in results/metrics.json, such as macro_miou or per_class.road.iou."""
    pairs: list[tuple[str, str]] | None = None
    """Pairs of cell labels to compare; null: each cell with the first."""
    draw: list[FigureName] = Field(["differences", "classes", "curves", "panel"])
    """Figures in the report."""
    paper: PaperScores | None = None
    """Scores reported in a paper."""


@dataclass(frozen=True)
class Cell:
    """One run of a study: a set of parameters and a seed."""

    #: Name of the setting, without the seed.
    label: str
    seed: int
    #: Parameters that the cell sets, `section.key`: value.
    changes: Mapping[str, Any]
    #: Digest of everything that its results depend on, 16 hex digits.
    fingerprint: str

    @property
    def title(self) -> str:
        """Label and seed."""
        return f"{self.label}, seed {self.seed}"

    def experiment(self, study: str) -> str:
        """Return the name of its DVC experiment. It ends with the fingerprint, which studies that share a cell use."""
        return f"{study}-{_slug(self.label)}-{self.seed}-{self.fingerprint}"


def read_study(name: str) -> tuple[Study, Path]:
    """Read studies/<name>.yaml, or the file at the given path.

    Raises:
        LandsegError: the file does not exist, is invalid, or defines no cells.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in STUDIES.glob("*.yaml"))) or "none"
        raise LandsegError(f"{path}: file not found; available studies: {known}")
    study = validate(Study, read_params(path), "", path)
    if not study.cells and not study.grid and not study.seeds:
        raise LandsegError(f"{path}: no cells; define cells, grid or seeds")
    for key, values in study.grid.items():
        if not values:
            raise LandsegError(f"{path}: grid.{key} is empty; list at least one value")
    return study, path


@dataclass(frozen=True)
class StudyPlan:
    """A study and its cells for the current parameters, code and data."""

    name: str
    path: Path
    study: Study
    cells: list[Cell]
    #: Name or path of the study, as given on the command line.
    argument: str
    #: Additional parameters of all cells (-S), `section.key=value`.
    settings: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """Command-line arguments of `landseg study run` and `landseg study report`."""
        return " ".join([self.argument, *(f"-S {shlex.quote(setting)}" for setting in self.settings)])

    @property
    def labels(self) -> list[str]:
        """Distinct labels of the cells, in order."""
        return list(dict.fromkeys(cell.label for cell in self.cells))


def plan_study(name: str, settings: Sequence[str], digest: str) -> StudyPlan:
    """Read a study, and check the parameters of every cell as `landseg check` does.

    Args:
        name: a study in studies/, or the path of a study file.
        settings: additional parameters of all cells, `section.key=value`; they override the study file.
        digest: digest of code and data, which enters the fingerprints.

    Raises:
        LandsegError: the study is missing or invalid, a cell sets an unknown parameter or an invalid value, two cells
            are identical, or no cell applies to the dataset.
    """
    study, path = read_study(name)
    cells = _plan_cells(study, path, _parse_settings(settings), digest)
    return StudyPlan(_slug(path.stem), path, study, cells, name, tuple(settings))


def _parse_settings(settings: Sequence[str]) -> Overrides:
    changes = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise LandsegError(f"-S {setting}: value missing; write section.key=value")
        try:
            changes[key] = YAML(typ="safe").load(value)
        except YAMLError:
            raise LandsegError(f"-S {setting}: {value!r} is not valid YAML; quote it") from None
    return changes


def _plan_cells(study: Study, path: Path, extra: Overrides, digest: str) -> list[Cell]:
    params = read_params()
    dataset = check_params().dataset.name  # checks params.yaml first, so that later errors are those of the study
    planned = []
    for label, changes in _settings(study):
        if dataset not in study.only_for.get(label, [dataset]):
            continue
        for seed in study.seeds or (None,):
            seeded = {} if seed is None else {study.seed: seed}
            overrides = study.sets | changes | seeded | extra
            merged = _merge(params, overrides, path)
            checked = validate(Params, merged, "", path)
            used = checked.split.seed if study.seed == "split.seed" else checked.train.seed
            planned.append(Cell(label, used, overrides, cell_fingerprint(merged, digest)))
    _check_cells(study, path, planned)
    return planned


def _check_cells(study: Study, path: Path, planned: list[Cell]) -> None:
    if not planned:
        raise LandsegError(f"{path}: no cell applies to this dataset; change only_for, or dataset.name in params.yaml")
    labels = [label for label, _ in _settings(study)]
    named = {
        "only_for": [*study.only_for],
        "pairs": [label for pair in study.pairs or () for label in pair],
        "paper.scores": [*study.paper.scores] if study.paper else [],
    }
    for key, listed in named.items():
        for label in listed:
            if label not in labels:
                raise LandsegError(f"{path}: {key}: unknown cell {label!r}; choose from {', '.join(labels)}")
    seen: dict[str, Cell] = {}
    for cell in planned:
        twin = seen.setdefault(cell.fingerprint, cell)
        if twin is not cell:
            raise LandsegError(f"{path}: cells {twin.title!r} and {cell.title!r} are identical; {_remedy(twin, cell)}")


def _remedy(one: Cell, other: Cell) -> str:
    """Return what to do about identical cells: some differ once params.yaml gives what the file leaves to it."""
    keys = [key for key in {**one.changes, **other.changes} if (key in one.changes) != (key in other.changes)]
    return f"set {', '.join(keys)} in {PARAMS} to another value, or remove one" if keys else "remove one"


def _settings(study: Study) -> Iterator[tuple[str, Overrides]]:
    """Yield the label of every cell, without the seed, and its parameters."""
    named = study.cells or {"": {}}
    keys = list(study.grid)
    for (name, changes), values in itertools.product(named.items(), itertools.product(*study.grid.values())):
        point = dict(zip(keys, values, strict=True))
        if len(keys) == 1:
            words = [name, str(values[0])]
        else:
            words = [name, *(f"{key.rpartition('.')[2]} {value}" for key, value in point.items())]
        yield ", ".join(filter(None, words)) or "one setting", changes | point


def _merge(params: Mapping[str, Any], changes: Mapping[str, Any], path: Path) -> dict[str, Any]:
    merged: dict[str, Any] = copy.deepcopy(dict(params))
    for key, value in changes.items():
        if isinstance(value, dict):
            raise LandsegError(f"{path}: {key} is a mapping; write each key as {key}.<key>: value")
        *sections, leaf = key.split(".")
        node = merged
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise LandsegError(f"{path}: {key}: unknown key; {section} has no keys below it")
        node[leaf] = value
    return merged


def cell_fingerprint(params: Mapping[str, Any], digest: str) -> str:
    """Return a digest of all parameters except `compute`, and of code and data: 16 hex digits."""
    counted = {name: values for name, values in params.items() if name != "compute"}
    text = json.dumps([counted, digest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("+", "p")).strip("-")[:40]
