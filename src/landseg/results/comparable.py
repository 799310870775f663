"""Whether two runs may be compared: a difference between runs that were tested on different ground means nothing."""

from typing import Any

from landseg.core.errors import LandsegError
from landseg.results.run import Run

#: A part, as it is called when it is scored.
SPLIT_NAMES = {"train": "training set", "val": "validation set", "test": "test set"}


def unit_noun(run: Run) -> str:
    """Return what a run's intervals are drawn over: scenes (places of one date each), places or groups."""
    over = str(run.metrics["interval_over"])
    return "scenes" if over == "locations" and run.metrics["locations"] == run.metrics["scenes"] else over


def check_comparable(a: Run, b: Run) -> None:
    """Check that two runs were scored on the same ground, and trained on the same split.

    The training part may differ in what split.train_tiles and split.skew make of it: that can be what is compared.

    Raises:
        LandsegError: they were not; the sentence names both.
    """
    for run in (a, b):
        _whole(run)
    both = f"{a.name} and {b.name}"
    if a.metrics["dataset"] != b.metrics["dataset"]:
        sets = f"{a.metrics['dataset']} and {b.metrics['dataset']}"
        raise LandsegError(f"{both} are of different data sets, {sets}; compare runs on one")
    tables = [[(each.id, each.name) for each in run.classes] for run in (a, b)]
    if tables[0] != tables[1]:
        listed = [", ".join(f"{number} {name}" for number, name in table) for table in tables]
        raise LandsegError(f"{both} have different class tables, {listed[0]} and {listed[1]}; run both with one")
    if a.metrics["split"] != b.metrics["split"]:
        parts = f"{a.metrics['split']} and {b.metrics['split']}"
        raise LandsegError(f"{both} were scored on different parts, {parts}; set evaluate.split alike for both")
    _same_split(a, b)
    _same_units(a, b)


def _whole(run: Run) -> None:
    """Check that the results of a run are its own, and tell what is asked of them."""
    for key in ("dataset", "split", "locations", "scenes", "interval_over", "strategy", "leakage"):
        if key not in run.metrics:
            raise LandsegError(
                f"{run.name}: its results/metrics.json holds no {key}; run `dvc repro` there, and commit what it writes"
            )
    says = run.params.get("dataset", {}).get("name")
    if run.metrics["dataset"] != says:
        raise LandsegError(
            f"{run.name}: its results are of {run.metrics['dataset']}, but its params.yaml says {says}; "
            "run `dvc repro` there, and commit what it writes"
        )
    if "digest" not in run.split:
        raise LandsegError(
            f"{run.name}: was made before results/split.json held digests, so nobody can tell whether its split is the "
            "other's; run `dvc repro` there, and commit what it writes"
        )
    try:
        run.units  # noqa: B018  # it is read here, where its failure can be told
    except KeyError as error:
        raise LandsegError(
            f"{run.name}: its results/scenes.csv and results/classes.csv do not know {error}; "
            "run `dvc repro` there, and commit what it writes"
        ) from None


def _same_split(a: Run, b: Run) -> None:
    first, second = a.split["digest"], b.split["digest"]
    if first == second:
        return
    scored = a.metrics["split"]
    differing = [part for part in dict.fromkeys((scored, "test", "val")) if first[part] != second[part]]
    if not differing and _settings(a) == _settings(b):
        return
    what = SPLIT_NAMES[differing[0]].replace(" set", " tiles") if differing else "settings of the split"
    raise LandsegError(
        f"{a.name} was trained on {_named(a)}, {b.name} on {_named(b)}: their {what} differ, so a difference would "
        "mean nothing; run both on one split"
    )


def _settings(run: Run) -> list[Any]:
    split = run.params["split"]
    return [split.get(key) for key in ("strategy", "seed", "ratios")] + [split.get("block")] * (
        split["strategy"] == "block"
    )


def _named(run: Run) -> str:
    return f"split {run.split['strategy']} (seed {run.split['seed']})"


def _same_units(a: Run, b: Run) -> None:
    (first, counted), (second, also) = a.units, b.units
    if first != second:
        lone = min({*first} ^ {*second})
        raise LandsegError(
            f"{a.name} and {b.name} were scored on different {unit_noun(a)}: {lone} is in one of them alone; "
            "run both on one split"
        )
    if (counted.sum(axis=-1) != also.sum(axis=-1)).any():
        raise LandsegError(
            f"{a.name} and {b.name}: their labels differ, for the target pixels of the same {unit_noun(a)} do; "
            "run both on the same data"
        )
