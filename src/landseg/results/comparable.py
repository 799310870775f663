"""Check that two runs can be compared: same dataset, classes, split, scored units and labels."""

from typing import Any

from landseg.core.errors import LandsegError
from landseg.results.run import RERUN, Run
from landseg.results.wording import SPLIT_NAMES, unit_noun

_REQUIRED = ("dataset", "split", "locations", "scenes", "interval_over", "strategy", "leakage")


def check_comparable(a: Run, b: Run) -> None:
    """Check that two runs were scored on the same units, and trained on the same split.

    Their training sets may differ by split.train_tiles, split.skew and split.neighbours, which such runs compare.

    Raises:
        LandsegError: the runs cannot be compared, or results of one are incomplete.
    """
    for run in (a, b):
        _check_complete(run)
    both = f"{a.name} and {b.name}"
    if a.metrics["dataset"] != b.metrics["dataset"]:
        datasets = f"{a.metrics['dataset']} and {b.metrics['dataset']}"
        raise LandsegError(f"{both} use different datasets, {datasets}; compare runs of one dataset")
    tables = [[(each.id, each.name) for each in run.classes] for run in (a, b)]
    if tables[0] != tables[1]:
        listed = [", ".join(f"{number} {name}" for number, name in table) for table in tables]
        raise LandsegError(f"{both} have different classes, {listed[0]} and {listed[1]}; run both with the same")
    if a.metrics["split"] != b.metrics["split"]:
        splits = f"{a.metrics['split']} and {b.metrics['split']}"
        raise LandsegError(f"{both} were scored on different splits, {splits}; set evaluate.split to the same value")
    _check_split(a, b)
    _check_units(a, b)


def _check_complete(run: Run) -> None:
    """Check that the results of a run are complete and match its params.yaml."""
    for key in _REQUIRED:
        if key not in run.metrics:
            raise LandsegError(f"{run.name}: results/metrics.json has no {key}; {RERUN}")
    dataset = run.params.get("dataset", {}).get("name")
    if run.metrics["dataset"] != dataset:
        raise LandsegError(
            f"{run.name}: its results are for dataset {run.metrics['dataset']}, but params.yaml sets dataset.name to "
            f"{dataset}; {RERUN}"
        )
    if "digest" not in run.split:
        raise LandsegError(f"{run.name}: results/split.json has no digest to compare splits by; {RERUN}")
    try:
        run.units  # noqa: B018  # read here, so that a missing column or class can be reported
    except KeyError as error:
        raise LandsegError(
            f"{run.name}: results/scenes.csv does not match results/classes.csv, or lacks a column ({error}); {RERUN}"
        ) from None


def _check_split(a: Run, b: Run) -> None:
    first, second = a.split["digest"], b.split["digest"]
    if first == second:
        return
    scored = a.metrics["split"]
    differing = [split for split in dict.fromkeys((scored, "test", "val")) if first[split] != second[split]]
    if not differing and _split_settings(a) == _split_settings(b):
        return
    difference = f"{SPLIT_NAMES[differing[0]]}s" if differing else "split settings"
    raise LandsegError(
        f"{a.name} was trained on {_split_name(a)}, {b.name} on {_split_name(b)}: their {difference} differ, so their "
        "scores cannot be compared; run both on the same split"
    )


def _split_settings(run: Run) -> dict[str, Any]:
    split = run.params["split"]
    keys = ["strategy", "seed", "ratios", "duplicates"]
    if split["strategy"] == "block":
        keys += ["block", "buffer"]
    return {key: split.get(key) for key in keys}


def _split_name(run: Run) -> str:
    return f"split {run.split['strategy']} (seed {run.split['seed']})"


def _check_units(a: Run, b: Run) -> None:
    (first, first_matrices), (second, second_matrices) = a.units, b.units
    noun = unit_noun(a)
    if first != second:
        unmatched = min({*first} ^ {*second})
        raise LandsegError(
            f"{a.name} and {b.name} were scored on different {noun}: only one of them has {unmatched}; "
            "run both on the same split"
        )
    if (first_matrices.sum(axis=-1) != second_matrices.sum(axis=-1)).any():
        raise LandsegError(
            f"{a.name} and {b.name} have different labels: the target pixels of the same {noun} differ; "
            "run both on the same data"
        )
