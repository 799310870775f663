"""Coverage of 95 % intervals, and power of comparisons, in simulated populations of scenes with known true scores.

Test sets of few scenes are drawn from three populations (see `benchmarks.worlds`), and intervals are computed from
each: the percentile bootstrap over scenes, with resampled macro means over the classes of each resample; the
delete-one jackknife with Student's t of S - 1 degrees of freedom; and landseg's, the jackknife on the logit scale with
degrees of freedom from the effective number of scenes. The true macro mIoU is that of the whole population over the
classes in the test set. The results are in docs/scores.md.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.coverage
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import t as student

from benchmarks.common import Measurement, console, report
from benchmarks.worlds import WORLDS, World, draw, true_scores
from landseg import metrics
from landseg.core.arrays import Counts, Floats

SCENES = (3, 5, 6, 12, 20, 40)
_PACKAGES = ("numpy", "scipy")
# Runs per matrix product: their resamples fit into memory.
_BLOCK = 50
# Fewest intervals whose coverage is given.
_FEWEST = 100
# Improvement of the logits of all recalls, by population: 2 to 3 points of macro mIoU.
_GAINS = {"multi": 0.137, "rare": 0.125, "lc": 0.14}

Ends = tuple[Floats, Floats]


def main(
    runs: Annotated[int, typer.Option(help="Simulated test sets per population and number of scenes.")] = 2000,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples, and permutations.")] = 500,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    keep: Annotated[bool, typer.Option(help="Write benchmarks/results/coverage.json.")] = True,
) -> None:
    """Simulate; print the tables of docs/scores.md, and write the results."""
    intervals, differences = [], []
    for number, (name, world) in enumerate(WORLDS.items()):
        truth, gained = true_scores(world, seed), true_scores(world, seed, _GAINS[name])
        for scenes in SCENES:
            rng = np.random.default_rng([seed, number, scenes])
            intervals.append({"world": name, **simulate_intervals(world, truth, scenes, runs, resamples, rng)})
            if scenes >= metrics.MIN_UNITS:
                found = simulate_differences(world, gained, _GAINS[name], scenes, runs, resamples, rng)
                differences.append({"world": name, **found})
        console.print(f"{name}: done")
    console.print(interval_table(intervals), difference_table(differences), sep="\n\n", soft_wrap=True)
    report(
        "coverage",
        _measurements(intervals, differences),
        _PACKAGES,
        keep=keep,
        runs=runs,
        resamples=resamples,
        seed=seed,
        intervals=intervals,
        differences=differences,
    )


def simulate_intervals(
    world: World, truth: tuple[Floats, Floats], scenes: int, runs: int, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return coverage and median width of intervals of scores.

    Args:
        world: the population.
        truth: its scores (see `true_scores`).
        scenes: scenes of a test set.
        runs: number of test sets.
        resamples: bootstrap resamples of a test set.
        rng: random numbers.
    """
    units = draw(world, (scenes, runs), rng)[0]
    total = units.sum(axis=0)
    ious = metrics.iou(total)
    macro, replicates = metrics.known_mean(ious), metrics.known_mean(metrics.jackknife_iou(units))
    classes, scene_truth = truth[0][0], truth[1][0]
    wanted = metrics.known_mean(np.where(np.isnan(ious), np.nan, classes))
    resampled = bootstrap(units, resamples, rng)
    error = np.sqrt((scenes - 1) * replicates.var(axis=0))
    margin = student.ppf(0.975, scenes - 1) * error
    methods: dict[str, Ends] = {
        "percentile": _quantiles(metrics.known_mean(resampled)),
        "plain": (np.clip(macro - margin, 0, 1), np.clip(macro + margin, 0, 1)),
        "landseg": metrics.macro_interval(units),
    }
    _, *scene = metrics.scene_miou(units)
    effective = metrics.effective_units(units.sum(axis=(-2, -1)))
    alone = metrics.score_interval(macro, replicates, effective)
    single = ((units.sum(axis=-1) > 0).sum(axis=0) == 1).any(axis=-1)
    low, high = metrics.class_intervals(units)
    percentile = _quantiles(resampled)
    per_class = {
        name: {
            "effective": float(np.median(metrics.effective_units(units[..., k, :].sum(axis=-1)))),
            "percentile": _coverage((percentile[0][:, k], percentile[1][:, k]), classes[k]),
            "landseg": _coverage((low[:, k], high[:, k]), classes[k]),
        }
        for k, name in enumerate(world.classes)
    }
    return {
        "scenes": scenes,
        "effective": float(np.median(effective)),
        "bias": round(float(np.mean(macro - wanted)), 4),
        **{name: _coverage(ends, wanted) for name, ends in methods.items()},
        "scene_miou": _coverage((scene[0], scene[1]), np.full(runs, scene_truth)),
        # Test sets in which a class lies in one scene, with the variance that landseg adds and without.
        "single": {
            "share": round(float(single.mean()), 3),
            "landseg": _coverage((methods["landseg"][0][single], methods["landseg"][1][single]), wanted[single]),
            "jackknife": _coverage((alone[0][single], alone[1][single]), wanted[single]),
        },
        "per_class": per_class,
    }


def simulate_differences(
    world: World,
    truth: tuple[Floats, Floats],
    gain: float,
    scenes: int,
    runs: int,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return how often comparisons of two models find a difference: without one (type I error), and with one (power).

    Args:
        world: the population.
        truth: scores of two models, of which the second is better (see `true_scores`).
        gain: added to the logits of the better one.
        scenes: scenes of a test set.
        runs: number of test sets.
        resamples: bootstrap resamples, and permutations.
        rng: random numbers.
    """
    found: dict[str, Any] = {
        "scenes": scenes,
        "points_pooled": round(float(100 * (truth[0][1] - truth[0][0]).mean()), 2),
        "points_scene": round(float(100 * (truth[1][1] - truth[1][0])), 2),
    }
    for title, added in (("type_1", 0.0), ("power", gain)):
        units = np.moveaxis(draw(world, (scenes, runs), rng, models=2, gain=added), 0, 2)  # (S, R, 2, K, K)
        both = units.sum(axis=0)
        value = _difference(metrics.known_mean(metrics.iou(both)))
        replicates = _difference(metrics.known_mean(metrics.jackknife_iou(units)))
        effective = np.maximum(metrics.effective_units(units[:, :, 0].sum(axis=(-2, -1))), 2)
        own, without = (_difference(scores) for scores in metrics.scene_scores(units))
        draws = _difference(metrics.known_mean(bootstrap(units, resamples, rng)))
        found[title] = {
            "percentile": _rejects(_quantiles(draws)),
            "jackknife": _rejects(metrics.jackknife(value, replicates)[1:]),
            "jackknife_effective": _rejects(metrics.jackknife(value, replicates, effective - 1)[1:]),
            "sign_flip": round(float((sign_flip(units, resamples, rng) <= 0.05).mean()), 3),
            "scene_t": _rejects(metrics.jackknife(own, without)[1:]),
        }
    return found


def bootstrap(units: Counts, resamples: int, rng: np.random.Generator) -> Floats:
    """Return the IoU of bootstrap sums over units: (S, R, ..., K, K) to (B, R, ..., K); NaN for absent classes."""
    weights = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=resamples)
    return _weighted_iou(weights.astype(np.float64), units)


def sign_flip(units: Counts, permutations: int, rng: np.random.Generator) -> Floats:
    """Return p-values of the pooled difference of two models, whose matrices are swapped in random scenes.

    Args:
        units: (S, R, 2, K, K) int64.
        permutations: number of random swaps; all possible ones are used if there are fewer than 2,000.
        rng: random numbers.

    Returns:
        (R,).
    """
    scenes = len(units)
    exact = 2**scenes < 2000
    if exact:
        swapped = (np.arange(2**scenes)[:, None] >> np.arange(scenes)) % 2 == 1
    else:
        swapped = rng.random((permutations, scenes)) < 0.5
    first, second = units[:, :, 0], units[:, :, 1]
    weights = np.concatenate([~swapped, swapped], axis=1).astype(np.float64)
    drawn = metrics.known_mean(_weighted_iou(weights, np.concatenate([second, first])))
    drawn -= metrics.known_mean(_weighted_iou(weights, np.concatenate([first, second])))
    value = _difference(metrics.known_mean(metrics.iou(units.sum(axis=0))))
    extreme = (np.abs(drawn) >= np.abs(value) - 1e-12).sum(axis=0)
    # The swaps that happened count among the possible ones: add them to random ones.
    p_values: Floats = extreme / len(swapped) if exact else (extreme + 1) / (len(swapped) + 1)
    return p_values


def _weighted_iou(weights: Floats, units: Counts) -> Floats:
    """Return the IoU of weighted sums: (B, S) and (S, R, ..., K, K) to (B, R, ..., K)."""
    hits = np.diagonal(units, axis1=-2, axis2=-1)
    margins = np.stack([hits, units.sum(axis=-1), units.sum(axis=-2)], axis=-1).astype(np.float64)
    blocks = []
    for start in range(0, units.shape[1], _BLOCK):
        block = np.moveaxis(np.tensordot(weights, margins[:, start : start + _BLOCK], axes=1), -1, 0)
        correct, target, predicted = block
        union = target + predicted - correct
        blocks.append(np.divide(correct, union, out=np.full(union.shape, np.nan), where=target > 0))
    return np.concatenate(blocks, axis=1)


def _difference(scores: Floats) -> Floats:
    """Return the second model's score minus the first's: (..., 2) to (...)."""
    difference: Floats = scores[..., 1] - scores[..., 0]
    return difference


def _quantiles(draws: Floats) -> Ends:
    """Return the percentile interval over the first axis, without NaN; NaN where all are."""
    known = (~np.isnan(draws)).sum(axis=0)
    # NaN sort last, so quantiles of the others are positions among them.
    ordered = np.sort(draws, axis=0)
    ends = []
    for level in (0.025, 0.975):
        position = np.maximum(known - 1, 0) * level
        below = np.floor(position).astype(int)
        above = np.minimum(below + 1, np.maximum(known - 1, 0))
        low, high = (np.take_along_axis(ordered, each[None], axis=0)[0] for each in (below, above))
        ends.append(low + (high - low) * (position - below))
    return ends[0], ends[1]


def _coverage(ends: Ends, truth: Floats) -> dict[str, float | None]:
    """Return coverage and median width of intervals, and the share of test sets that have one."""
    low, high = ends
    known = ~np.isnan(low)
    truth = np.broadcast_to(truth, low.shape)[known]
    if known.sum() < _FEWEST:
        return {
            "coverage": None,
            "above": None,
            "width": None,
            "share": round(float(known.sum() / max(known.size, 1)), 3),
        }
    return {
        "coverage": round(float(((low[known] <= truth) & (truth <= high[known])).mean()), 3),
        # The true score lies above the interval.
        "above": round(float((truth > high[known]).mean()), 3),
        "width": round(float(np.median(high[known] - low[known])), 3),
        "share": round(float(known.mean()), 3),
    }


def _rejects(ends: Sequence[Floats]) -> float:
    """Return the share of intervals of a difference without zero."""
    low, high = ends
    return round(float(((low > 0) | (high < 0)).mean()), 3)


def interval_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of intervals in Markdown: coverage, median width, and share of test sets that have one."""
    lines = [
        "| population | scenes (effective) | percentile | jackknife, S − 1 | landseg | given | mean of scenes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [_cell(row[key]) for key in ("percentile", "plain", "landseg", "scene_miou")]
        cells.insert(3, f"{100 * row['landseg']['share']:.0f} %")
        lines.append(f"| {row['world']} | {row['scenes']} ({row['effective']:.1f}) | {' | '.join(cells)} |")
    lines += ["", "| population | scenes | class (effective) | percentile bootstrap | landseg | given |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        for name, values in row["per_class"].items():
            cells = [_cell(values[key]) for key in ("percentile", "landseg")]
            share = f"{100 * values['landseg']['share']:.0f} %"
            title = f"{name} ({values['effective']:.1f})"
            lines.append(f"| {row['world']} | {row['scenes']} | {title} | {' | '.join(cells)} | {share} |")
    return "\n".join(lines)


def difference_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of differences in Markdown: type I errors and power."""
    methods = ("percentile", "jackknife", "jackknife_effective", "sign_flip", "scene_t")
    lines = [
        "| population | scenes | percentile | jackknife, S − 1 | effective − 1 | sign flips | mean of scenes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['type_1'][key]:.2f} / {row['power'][key]:.2f}" for key in methods]
        lines.append(f"| {row['world']} | {row['scenes']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: Mapping[str, float | None]) -> str:
    return "–" if found["coverage"] is None else f"{100 * found['coverage']:.0f} % ({found['width']:.2f})"


def _measurements(
    intervals: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]]
) -> list[Measurement]:
    measured = []
    for row in intervals:
        found = row["landseg"]
        if row["scenes"] >= metrics.MIN_UNITS and found["coverage"] is not None:
            what = f"coverage of the interval of macro mIoU: {row['world']}, {row['scenes']} scenes"
            measured.append(Measurement(what, "", [found["coverage"]], at_least=0.91, at_most=0.98))
    for row in differences:
        what = f"type I error of paired differences by sign flips: {row['world']}, {row['scenes']} scenes"
        measured.append(Measurement(what, "", [row["type_1"]["sign_flip"]], at_most=0.07))
    return measured


if __name__ == "__main__":
    typer.run(main)
