"""What differs between two runs in parameters, code and data: all that can make their scores differ."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from landseg.results.run import Run

#: What a parameter is that a params.yaml does not have.
NOT_SET = "not there"

_LISTED = 10  # files to name
_CODE = ("src/", "pipeline/")
# What a difference in the data is called; the first that holds. Results and models are no cause of anything.
_DATA = {
    "data/raw/": "the raw data",
    "data/imagery/": "the imagery",
    "data/tiles/": "the tiles",
    "split.parquet": "the split",
    "kept.csv": "the scenes kept",
}
_MADE = ("data/", "models/", "results/")


@dataclass(frozen=True)
class RunDiff:
    """What differs, the older first."""

    #: Parameters by dotted key, each as the one and the other has it; the machine's are left out.
    params: Mapping[str, tuple[Any, Any]]
    #: Files of code that ran, in order.
    code: tuple[str, ...]
    #: Data, as _DATA calls them, or by the path that a stage was given.
    data: tuple[str, ...]
    #: Sentences on parameters that were changed since the results were made.
    stale: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.params or self.code or self.data)

    def lines(self) -> list[str]:
        """Say it in lines: one a parameter, one for code, one for data."""
        if not self:
            return ["nothing differs in params, code or data", *self.stale]
        params = [f"params: {key} {_text(old)} -> {_text(new)}" for key, (old, new) in self.params.items()]
        code = [*self.code[:_LISTED], *([f"… and {more} more"] if (more := len(self.code) - _LISTED) > 0 else [])]
        verb = "differs" if len(self.data) == 1 and self.data[0] not in ("the tiles", "the scenes kept") else "differ"
        return [
            *(params or ["params: nothing differs"]),
            f"code: {', '.join(code) or 'nothing differs'}",
            f"data: {', '.join(self.data)} {verb}" if self.data else "data: nothing differs",
            *self.stale,
        ]


def diff_runs(a: Run, b: Run) -> RunDiff:
    """Return what differs between two runs, as their params.yaml and dvc.lock have it: code as it ran, not as it lies.

    Raises:
        LandsegError: one of them has no dvc.lock or no params.yaml.
    """
    stages = _stages(a), _stages(b)
    first, second = _hashes(a, stages[0]), _hashes(b, stages[1])
    differing = sorted(path for path in first | second if first.get(path) != second.get(path))
    return RunDiff(
        _params(a.params, b.params),
        tuple(path for path in differing if path.startswith(_CODE)),
        tuple(dict.fromkeys(filter(None, map(_data, differing)))),
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
    """Return the stages of dvc.lock that its scores come from: `evaluate` and all before it."""
    stages = run.lock["stages"]
    needed, wanted = [], {out["path"] for out in stages.get("evaluate", {}).get("outs", [])}
    left = list(stages.values())
    while found := [stage for stage in left if wanted & {out["path"] for out in stage.get("outs", [])}]:
        needed += found
        left = [stage for stage in left if stage not in found]
        wanted = {dep["path"] for stage in found for dep in stage.get("deps", [])}
    return needed


def _hashes(run: Run, stages: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the hashes of all that stages read and wrote, by path, the data set's name left out."""
    dataset = str(run.params["dataset"]["name"])
    hashes = {}
    for stage in stages:
        for each in [*stage.get("deps", []), *stage.get("outs", [])]:
            path = "/".join("<dataset>" if part == dataset else part for part in each["path"].split("/"))
            hashes[path] = str(each.get("md5"))
    return hashes


def _stale(run: Run, stages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Say which parameters say other than what the results of a run were made with."""
    says = dict(_leaves(run.params))
    for stage in stages:
        used = stage.get("params", {}).get("params.yaml", {})
        for key, old in _leaves(used):
            if key in says and says[key] != old:
                yield (
                    f"caution: {run.name}: its params.yaml says {key} {_text(says[key])}, but its results were made "
                    f"with {_text(old)}; run `dvc repro` there"
                )


def _data(path: str) -> str | None:
    """Call a file of data by its name; None: it is code, or follows from what has one."""
    for pattern, name in _DATA.items():
        if path.startswith(pattern) or path.endswith(f"/{pattern}"):
            return name
    return None if path.startswith((*_CODE, *_MADE[1:], "data/tables/", "data/examples/")) else path


def _text(value: Any) -> str:
    """Write a value as YAML does."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
