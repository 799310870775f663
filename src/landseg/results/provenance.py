"""Provenance: the parameters, code and data in which two runs differ."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from landseg.results.revisions import changed_files
from landseg.results.run import Run

#: Stands for the value of a parameter that params.yaml does not set.
NOT_SET = "not set"

_MAX_LISTED = 10  # files of code
_CODE = ("src/", "pipeline/")
# Names for differences in the data; the first match counts. Results and models follow from the rest.
_DATA = {
    "data/raw/": "the raw data",
    "data/imagery/": "the imagery",
    "data/tiles/": "the tiles",
    "split.parquet": "the split",
    "kept.csv": "the scenes kept",
}
_DERIVED = ("models/", "results/", "data/tables/", "data/examples/")


@dataclass(frozen=True)
class RunDiff:
    """The differences between two runs."""

    #: Parameters by dotted key: both values, first run first. The section `compute` (the machine) is left out.
    params: Mapping[str, tuple[Any, Any]]
    #: Differing code as paths, sorted: files where git lists them, otherwise the folders of dvc.lock.
    code: tuple[str, ...]
    #: Differing data: names in _DATA, or paths.
    data: tuple[str, ...]
    #: Cautions: parameters that changed after the results were made.
    stale: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.params or self.code or self.data)

    def lines(self) -> list[str]:
        """Return the differences as lines: one per parameter, one for code, one for data."""
        if not self:
            return ["no difference in params, code or data", *self.stale]
        params = [f"params: {key} {_as_yaml(old)} -> {_as_yaml(new)}" for key, (old, new) in self.params.items()]
        more = len(self.code) - _MAX_LISTED
        code = [*self.code[:_MAX_LISTED], *([f"… and {more} more"] if more > 0 else [])]
        return [
            *(params or ["params: no difference"]),
            f"code: {', '.join(code) or 'no difference'}",
            f"data: {', '.join(self.data) or 'no difference'}",
            *self.stale,
        ]


def diff_runs(a: Run, b: Run) -> RunDiff:
    """Return the differences between two runs, by their params.yaml and dvc.lock.

    dvc.lock has one hash per folder of code, taken when its stage ran. Git lists the files that differ in such a
    folder, if the runs are different revisions of this repository.

    Raises:
        LandsegError: a run has no dvc.lock or no params.yaml.
    """
    stages = _stages(a), _stages(b)
    first, second = _hashes(a, stages[0]), _hashes(b, stages[1])
    differing = sorted(path for path in first | second if first.get(path) != second.get(path))
    return RunDiff(
        _params(a.params, b.params),
        _code(a, b, [path for path in differing if path.startswith(_CODE)]),
        tuple(dict.fromkeys(name for path in differing if (name := _data_name(path)))),
        tuple(dict.fromkeys([*_stale(a, stages[0]), *_stale(b, stages[1])])),
    )


def _params(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    first, second = (dict(_leaves({k: v for k, v in each.items() if k != "compute"})) for each in (a, b))
    keys = dict.fromkeys([*first, *second])
    pairs = {key: (first.get(key, NOT_SET), second.get(key, NOT_SET)) for key in keys}
    return {key: (old, new) for key, (old, new) in pairs.items() if old != new}


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _stages(run: Run) -> list[Mapping[str, Any]]:
    """Return the stages of dvc.lock that the scores depend on: `evaluate` and all before it."""
    stages = run.lock["stages"]
    needed, wanted = [], {out["path"] for out in stages.get("evaluate", {}).get("outs", [])}
    left = list(stages.values())
    while found := [stage for stage in left if wanted & {out["path"] for out in stage.get("outs", [])}]:
        needed += found
        left = [stage for stage in left if stage not in found]
        wanted = {dep["path"] for stage in found for dep in stage.get("deps", [])}
    return needed


def _hashes(run: Run, stages: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return hashes of the dependencies and outputs of stages by path, data paths without the name of the dataset."""
    dataset = str(run.params["dataset"]["name"])
    hashes = {}
    for stage in stages:
        for each in [*stage.get("deps", []), *stage.get("outs", [])]:
            path = str(each["path"])
            if not path.startswith(_CODE):
                path = "/".join("<dataset>" if part == dataset else part for part in path.split("/"))
            hashes[path] = str(each.get("md5"))
    return hashes


def _code(a: Run, b: Run, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the files that differ below paths of dvc.lock; a path below which git lists none is returned itself."""
    found: list[str] = []
    for path in paths:
        found += changed_files(a.revision, b.revision, path) or [path]
    return tuple(found)


def _stale(run: Run, stages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a caution for each parameter of params.yaml that differs from the value the results were made with."""
    current = dict(_leaves(run.params))
    for stage in stages:
        used = stage.get("params", {}).get("params.yaml", {})
        for key, old in _leaves(used):
            if key in current and current[key] != old:
                yield (
                    f"caution: {run.name}: params.yaml sets {key} to {_as_yaml(current[key])}, but the results were "
                    f"made with {_as_yaml(old)}; run `dvc repro` there"
                )


def _data_name(path: str) -> str | None:
    """Return the name of differing data; None for code and for what follows from other data."""
    for pattern, name in _DATA.items():
        if path.startswith(pattern) or path.endswith(f"/{pattern}"):
            return name
    return None if path.startswith((*_CODE, *_DERIVED)) else path


def _as_yaml(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
