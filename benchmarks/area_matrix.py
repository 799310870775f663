"""Areas adjusted by confusion matrices of test scenes, in simulated populations: whether they are closer than counts.

Test sets of few scenes are drawn from populations (see `benchmarks.worlds`). The areas of new scenes of the same
population are adjusted by each test set, and the errors compared with those of pixel counts. The leave-one-out test on
the test scenes decides whether landseg offers the adjustment (`landseg.maps.cluster.LeaveOneOut`). In further
populations, scenes are more alike and the model is biased, so that adjustment helps.

The same test sets show the coverage of intervals of accuracies of the average scene: landseg's, the jackknife with
Student's t of S - 1 degrees of freedom, and the percentile bootstrap over scenes. The results are in docs/maps.md.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.area_matrix
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.common import Measurement, console, report
from benchmarks.worlds import WORLDS, World, draw
from landseg import metrics
from landseg.core.arrays import Counts, Floats
from landseg.maps.cluster import LeaveOneOut, cluster_estimate, leave_one_out

SCENES = (5, 6, 8, 12, 20, 40)
_NEW_SCENES = 400
_POPULATION = 50_000
_PACKAGES = ("numpy", "scipy")


def _alike(name: str, spread: float, effects: float, recall: Sequence[float]) -> World:
    """Return a population whose scenes have more similar shares of classes, and errors, for a biased model."""
    world = WORLDS[name]
    shares = tuple(spread * each for each in world.log_share_sd)
    return replace(world, log_share_sd=shares, scene_sd=effects, class_sd=effects, recall=tuple(recall))


MATRIX_WORLDS = WORLDS | {
    "lc, biased": _alike("lc", 1.0, 0.3, (0.95, 0.5, 0.75, 0.7, 0.4)),
    "lc, biased, more alike": _alike("lc", 0.5, 0.3, (0.95, 0.5, 0.75, 0.7, 0.4)),
    "lc, biased, alike": _alike("lc", 0.25, 0.15, (0.95, 0.5, 0.75, 0.7, 0.4)),
}


def main(
    runs: Annotated[int, typer.Option(help="Simulated test sets per population and number of scenes.")] = 600,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    keep: Annotated[bool, typer.Option(help="Write benchmarks/results/area_matrix.json.")] = True,
) -> None:
    """Simulate; print the tables of docs/maps.md, and write the results."""
    rows, accuracies = [], []
    for number, (name, world) in enumerate(MATRIX_WORLDS.items()):
        rng = np.random.default_rng([seed, number])
        new = draw(world, (_NEW_SCENES,), rng)[0]
        population = draw(world, (_POPULATION,), rng)[0].sum(axis=0)
        for scenes in SCENES:
            units = np.moveaxis(draw(world, (scenes, runs), rng)[0], 0, 1)  # (R, S, K, K)
            rows.append({"world": name, "scenes": scenes, **simulate_adjustment(units, new)})
            if name in WORLDS and scenes in (5, 12, 40):
                found = simulate_accuracies(units[: runs // 2], population, rng)
                accuracies.append({"world": name, "scenes": scenes, **found})
    console.print(adjustment_table(rows), accuracy_table(accuracies), sep="\n\n", soft_wrap=True)
    measured = _measurements(rows)
    report("area_matrix", measured, _PACKAGES, keep=keep, runs=runs, seed=seed, areas=rows, accuracies=accuracies)


def simulate_adjustment(units: Counts, new: Counts) -> dict[str, Any]:
    """Compare adjusted areas of new scenes with pixel counts, over all test sets and over those that offer it.

    Args:
        units: (R, S, K, K) test sets.
        new: (N, K, K) new scenes.
    """
    pixels = new.sum(axis=(1, 2))[:, None]
    mapped, true = (new.sum(axis=axis) / pixels for axis in (1, 2))
    by_counts = np.abs(mapped - true).sum(axis=1) / 2
    tests = [leave_one_out(each) for each in units]
    adjusted = np.stack([np.abs(_adjusted(each.sum(axis=0), mapped) - true).sum(axis=1) / 2 for each in units])
    worse, mean = (adjusted > by_counts).mean(axis=1), adjusted.mean(axis=1)
    offered = np.array([test.helps for test in tests])
    rules = {"lower mean": _lower_mean, "lower mean, closer in 3 of 4": _closer}
    wrong = mean >= by_counts.mean()
    return {
        "error_counts": round(float(by_counts.mean()), 4),
        "error_adjusted": round(float(mean.mean()), 4),
        "worse": round(float(worse.mean()), 3),
        "offered": round(float(offered.mean()), 3),
        "offered_wrongly": round(float((offered & wrong).mean()), 3),
        "worse_if_offered": round(float(worse[offered].mean()), 3) if offered.any() else None,
        "other_rules": {
            name: {
                "offered": round(float(np.mean([rule(test) for test in tests])), 3),
                "offered_wrongly": round(
                    float(np.mean([rule(test) and bad for test, bad in zip(tests, wrong, strict=True)])), 3
                ),
            }
            for name, rule in rules.items()
        },
        "interval_if_offered": _area_coverage(units[offered], new),
    }


def _lower_mean(test: LeaveOneOut) -> bool:
    return bool(test.adjusted.mean() < test.mapped.mean())


def _closer(test: LeaveOneOut) -> bool:
    return _lower_mean(test) and bool((test.adjusted < test.mapped).mean() >= 0.75)


def _adjusted(whole: Counts, mapped: Floats) -> Floats:
    """Return adjusted shares of scenes, (N, K), from a test set, (K, K), and mapped shares, (N, K)."""
    filled = np.where(whole.any(axis=0), whole, np.eye(len(whole)))
    adjusted: Floats = mapped @ (filled / filled.sum(axis=0)).T
    return adjusted


def _area_coverage(units: Counts, new: Counts, sets: int = 50, scenes: int = 20) -> float | None:
    """Return the coverage of the prediction intervals of areas, over test sets, new scenes and classes."""
    hits = []
    for each in units[:sets]:
        for scene in new[:scenes]:
            mapped = scene.sum(axis=0) * (each.sum(axis=(0, 1)) > 0)
            low, high = cluster_estimate(mapped, each).areas_interval.T
            true = scene.sum(axis=1)
            hits.append(((low <= true) & (true <= high)).mean())
    return round(float(np.mean(hits)), 3) if hits else None


def simulate_accuracies(units: Counts, population: Counts, rng: np.random.Generator) -> dict[str, Any]:
    """Return the coverage of intervals of accuracies of the average scene.

    Args:
        units: (R, S, K, K) test sets; those that lack a class are left out.
        population: (K, K), all scenes.
        rng: random numbers.
    """
    mapped = population.sum(axis=0).astype(np.float64)
    truth = _accuracies(mapped, population, population)
    sums = units.sum(axis=1)
    units = units[(sums.sum(axis=1) > 0).all(axis=1) & (sums.sum(axis=2) > 0).all(axis=1)]
    hits: dict[str, list[Floats]] = {"percentile": [], "jackknife": [], "landseg": []}
    for each in units:
        found, pooled = cluster_estimate(mapped, each), each.sum(axis=0)
        overall = found.overall_interval[None]
        own = np.concatenate([found.users_interval, found.producers_interval, overall]).T
        value = _accuracies(mapped, pooled, pooled)
        _, *plain = metrics.jackknife(value, _accuracies(mapped, metrics.leave_one_out(each), pooled))
        weights = rng.multinomial(len(each), np.full(len(each), 1 / len(each)), size=300)
        draws = _accuracies(mapped, np.tensordot(weights, each, axes=1), pooled)
        for name, (low, high) in (
            ("landseg", own),
            ("jackknife", plain),
            ("percentile", np.nanquantile(draws, [0.025, 0.975], axis=0)),
        ):
            hits[name].append(np.where(np.isnan(low), np.nan, (low <= truth) & (truth <= high)))
    classes = len(mapped)
    kinds = {"users": slice(classes), "producers": slice(classes, 2 * classes), "overall": slice(2 * classes, None)}
    return {
        name: {kind: np.nanmean(found, axis=0)[part].round(3).tolist() for kind, part in kinds.items()}
        | {"with_interval": round(float(np.mean(~np.isnan(found))), 3)}
        for name, found in hits.items()
    }


def _accuracies(mapped: Floats, matrices: Counts, default: Counts) -> Floats:
    """Return user's and producer's accuracies and the overall accuracy: (..., K, K) to (..., 2K + 1)."""
    filled = np.where(matrices.any(axis=-2, keepdims=True), matrices, default)
    joint = mapped / mapped.sum() * filled / filled.sum(axis=-2, keepdims=True)
    right = np.diagonal(joint, axis1=-2, axis2=-1)
    overall = right.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a class may be absent from a resample
        return np.concatenate([right / joint.sum(axis=-2), right / joint.sum(axis=-1), overall], axis=-1)


def adjustment_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of areas in Markdown."""
    lines = [
        "| population | scenes | wrong class: counts | adjusted | worse in new scenes | offered | offered wrongly | "
        "worse if offered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        errors = [f"{100 * row[key]:.1f} %" for key in ("error_counts", "error_adjusted")]
        shares = [_percent(row[key]) for key in ("worse", "offered", "offered_wrongly", "worse_if_offered")]
        lines.append(f"| {row['world']} | {row['scenes']} | {' | '.join(errors + shares)} |")
    return "\n".join(lines)


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of accuracies in Markdown: smallest coverage over classes, and of the overall accuracy."""
    lines = [
        "| population | scenes | percentile | jackknife, S − 1 | landseg | with interval |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = []
        for name in ("percentile", "jackknife", "landseg"):
            found = row[name]
            kinds = [min(found[kind]) for kind in ("users", "producers", "overall")]
            cells.append(" / ".join(f"{100 * each:.0f}" for each in kinds) + " %")
        cells.append(_percent(row["landseg"]["with_interval"]))
        lines.append(f"| {row['world']} | {row['scenes']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _measurements(rows: Sequence[Mapping[str, Any]]) -> list[Measurement]:
    return [
        Measurement(
            f"test sets that offer an adjustment that is worse: {row['world']}, {row['scenes']} scenes",
            "",
            [row["offered_wrongly"]],
            at_most=0.05,
        )
        for row in rows
    ]


if __name__ == "__main__":
    typer.run(main)
