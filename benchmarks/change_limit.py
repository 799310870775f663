"""Change between two maps, by a model's errors and by reference points, in simulated populations.

A model maps a new scene of a population (see `benchmarks.worlds`) at two dates. The errors of unchanged land are
independent at the two dates, or a share of it has the same error at both. From the errors of test scenes,
`landseg.maps.change.limit` gives an upper limit of the changed area; the table also shows what an estimate of it would
be: always; where at least as much change is mapped as independent errors alone would show; and where the lower end of
its 95 % interval exceeds half of it. From random points, `landseg.maps.change.estimate` gives an estimate and an
interval. The results are in docs/maps.md.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.change_limit
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import typer
from scipy.special import stdtrit

from benchmarks.common import Measurement, console, report
from benchmarks.worlds import WORLDS, World, draw
from landseg.core.arrays import Counts, Floats
from landseg.core.errors import LandsegError
from landseg.maps.change.estimate import estimate_from_sample
from landseg.maps.change.limit import changed_error, estimate_transitions, spurious_change, upper_limit
from landseg.maps.change.pair import changed_area

SCENES = (5, 12, 40)
CHANGED = (0.01, 0.03, 0.1, 0.2)
#: Shares of unchanged land with the same error at both dates.
REPEATED = (0.0, 0.5, 1.0)
POINTS = (200, 500)
_PACKAGES = ("numpy", "scipy")


def main(
    runs: Annotated[
        int, typer.Option(help="Simulated pairs of maps per population, number of scenes and change.")
    ] = 300,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    keep: Annotated[bool, typer.Option(help="Write benchmarks/results/change_limit.json.")] = True,
) -> None:
    """Simulate; print the tables of docs/maps.md, and write the results."""
    limits, points = [], []
    for number, (name, world) in enumerate(WORLDS.items()):
        rng = np.random.default_rng([seed, number])
        for repeated in REPEATED:
            for changed in CHANGED:
                for scenes in SCENES:
                    found = simulate_limits(world, scenes, changed, repeated, runs, rng)
                    limits.append({"world": name, "repeated": repeated, "changed": changed, "scenes": scenes, **found})
        for changed in CHANGED:
            for count in POINTS:
                sampled = simulate_points(world, count, changed, runs, rng)
                points.append({"world": name, "changed": changed, "points": count, **sampled})
    console.print(limit_table(limits), point_table(points), sep="\n\n", soft_wrap=True)
    measured = [
        Measurement(
            f"limits that hold, least of all: {name}",
            "",
            [min(row["holds"] for row in limits if row["world"] == name)],
            at_least=0.9,
        )
        for name in WORLDS
    ]
    report("change_limit", measured, _PACKAGES, keep=keep, runs=runs, seed=seed, limits=limits, points=points)


def simulate_limits(
    world: World, scenes: int, changed: float, repeated: float, runs: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Compare limits and estimates with the true changed share; test sets that lack a class are left out."""
    found = []
    for _ in range(runs):
        units = draw(world, (scenes,), rng)[0]
        whole = units.sum(axis=0)
        if not (whole.any(axis=0).all() and whole.any(axis=1).all()):
            continue
        true, errors = new_scene(world, whole, changed, rng)
        mapped = mapped_change(true, errors, repeated)
        areas = estimate_transitions(mapped, whole)
        found.append(
            (
                upper_limit(mapped, units),
                float(changed_area(areas)),
                float(changed_area(mapped)),
                spurious_change(mapped, whole),
                changed_area(areas) - stdtrit(scenes - 1, 0.975) * changed_error(areas, units),
            )
        )
    limit, estimate, seen, spurious, low = np.array(found).T
    rules = {"always": estimate >= 0, "refuted": seen >= spurious, "clear": low > estimate / 2}
    return {
        "pairs": len(limit),
        "holds": round(float((limit >= changed).mean()), 3),
        "limit_ratio": round(float(np.median(limit) / changed), 2),
        "mapped_ratio": round(float(np.median(seen) / changed), 2),
        "estimates": {
            name: {
                "stated": round(float(rule.mean()), 3),
                "mean_ratio": round(float(estimate[rule].mean() / changed), 2) if rule.any() else None,
            }
            for name, rule in rules.items()
        },
    }


def simulate_points(world: World, points: int, changed: float, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Compare estimates from points drawn at random from the whole map with the true changed share."""
    found, held, held_seen = [], [], []
    single = ~np.eye(len(world.classes), dtype=np.bool_)
    for _ in range(runs):
        whole = draw(world, (12,), rng)[0].sum(axis=0)
        true, errors = new_scene(world, whole, changed, rng)
        # True and mapped classes, before and after each.
        joint = true[:, :, None, None] * errors[:, None, :, None] * errors[None, :, None, :]
        drawn = rng.multinomial(points, joint.ravel() / joint.sum())
        true_points, mapped_points = np.divmod(np.repeat(np.arange(joint.size), drawn), true.size)
        try:
            estimate = estimate_from_sample(joint.sum(axis=(0, 1)), mapped_points, true_points, "points")
        except LandsegError:
            continue
        found.append((estimate.changed, *estimate.changed_interval))
        ends = estimate.intervals[single]
        inside = (ends[:, 0] <= true[single]) & (true[single] <= ends[:, 1])
        held.append(inside[~np.isnan(ends).any(axis=1)])
        held_seen.append(inside[(estimate.areas[single] > 0) & ~np.isnan(ends).any(axis=1)])
    area, low, high = np.array(found).T
    return {
        "answered": round(len(found) / runs, 3),
        "mean_ratio": round(float(area.mean() / changed), 2),
        "covered": round(float(((low <= changed) & (changed <= high)).mean()), 3),
        "width": round(float(np.median(high - low) / changed), 2),
        "single_covered": round(float(np.concatenate(held).mean()), 3),
        "single_covered_if_seen": round(float(np.concatenate(held_seen).mean()), 3),
    }


def new_scene(world: World, whole: Counts, changed: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw a scene with change: true transitions as shares, (K, K), and P(mapped | true), (K, K).

    Classes that the scene lacks before are mapped as in the test set, (K, K).
    """
    scene = draw(world, (1,), rng)[0][0]
    sample = np.where(scene.any(axis=1, keepdims=True), scene, whole).astype(np.float64)
    sample = np.where(sample.any(axis=1, keepdims=True), sample, np.eye(len(sample)))
    shares = scene.sum(axis=1) / scene.sum()
    change = np.outer(shares + 0.02, shares + 0.02) * rng.gamma(1, 1, scene.shape)
    np.fill_diagonal(change, 0)
    change *= changed / change.sum()
    stays = np.maximum(shares - change.sum(axis=1), 0)
    true = change + np.diag(stays / stays.sum() * (1 - changed))
    return true, sample / sample.sum(axis=1, keepdims=True)


def mapped_change(true: Floats, errors: Floats, repeated: float) -> Floats:
    """Return the mapped transitions, (K, K); a share of unchanged land has the same error at both dates."""
    stays = np.diag(true)
    same = np.diag(errors.T @ stays) - errors.T @ np.diag(stays) @ errors
    mapped: Floats = errors.T @ true @ errors + repeated * same
    return mapped


def limit_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of limits in Markdown: one line per population, errors and change; ranges over test sets."""
    lines = [
        "| population, errors, change | limit holds | limit / truth | mapped / truth | estimate / truth | "
        "where not refuted | where clear |",
        "|---|---|---|---|---|---|---|",
    ]
    for title in dict.fromkeys(_title(row) for row in rows):
        group = [row for row in rows if _title(row) == title]
        cells = [_range([100 * row["holds"] for row in group], "{:.0f}") + " %"]
        cells += [_range([row[key] for row in group], "{:.1f}") for key in ("limit_ratio", "mapped_ratio")]
        for rule in ("always", "refuted", "clear"):
            ratios = [row["estimates"][rule]["mean_ratio"] for row in group]
            stated = _range([100 * row["estimates"][rule]["stated"] for row in group], "{:.0f}")
            known = [ratio for ratio in ratios if ratio is not None]
            cells.append((_range(known, "{:.1f}") if known else "–") + ("" if rule == "always" else f" ({stated} %)"))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def point_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of points in Markdown."""
    lines = [
        "| population, change, points | estimate / truth | interval holds | width / truth | single changes (seen) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['world']}, {row['changed']:.0%}, {row['points']} | {row['mean_ratio']:.2f} | {row['covered']:.0%} | "
        f"{row['width']:.1f} | {row['single_covered']:.0%}, {row['single_covered_if_seen']:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def _title(row: Mapping[str, Any]) -> str:
    errors = {0.0: "independent", 0.5: "half repeated", 1.0: "repeated"}[row["repeated"]]
    return f"{row['world']}, {errors}, {row['changed']:.0%}"


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low}–{high}"


if __name__ == "__main__":
    typer.run(main)
