"""Coverage and width of 95 % intervals of areas and accuracies from reference points, in simulated maps.

Points are drawn from maps whose true areas are known, by several designs, and intervals are computed from each draw:

- normal: 1.96 standard errors (Olofsson et al. 2014);
- bootstrap: percentiles of points resampled within mapped classes;
- Wilson, Clopper-Pearson, Jeffreys: intervals of the share of each mapped class, combined by the method of variance
  estimates recovery (Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
  27, 2008, doi:10.1002/sim.3095);
- landseg: `landseg.maps.estimator`, with fewer draws.

The results are in docs/maps.md.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.area_coverage
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from scipy.special import betaincinv

from benchmarks.common import Measurement, console, report
from benchmarks.worlds import WORLDS
from landseg.core.arrays import Counts, Floats
from landseg.maps import estimator

#: Class shares: background, building, woodland, water and road, as in LandCover.ai's masks but for the shares of water
#: and road.
_SHARES = np.array([0.58, 0.01, 0.33, 0.05, 0.03])
_DRAWS = 1000
_PACKAGES = ("numpy", "scipy")

Ends = tuple[Floats, Floats]


@dataclass(frozen=True)
class PointWorld:
    """A map: shares of its area, (K, K) float64; rows: true class, columns: mapped class."""

    joint: Floats

    @property
    def truth(self) -> Floats:
        """(K,) true areas, then (K,) user's and (K,) producer's accuracies, then the overall accuracy."""
        right, true, mapped = np.diagonal(self.joint), self.joint.sum(axis=1), self.joint.sum(axis=0)
        return np.concatenate([true, right / mapped, right / true, [right.sum()]])


def _world(errors: float) -> PointWorld:
    """Return a map by a model with the recalls of `benchmarks.worlds`, with errors multiplied by a factor."""
    lc = WORLDS["lc"]
    recall = 1 - errors * (1 - np.array(lc.recall))
    wrong = np.array(lc.errors) / np.sum(lc.errors, axis=1, keepdims=True)
    return PointWorld(_SHARES[:, None] * (np.diag(recall) + (1 - recall)[:, None] * wrong))


POINT_WORLDS = {"lc": _world(1.0), "lc, a third of the errors": _world(1 / 3)}
DESIGNS = ("20 a class", "50 a class", "100 a class", "proportional, 50 or more a class", "500 at random")
_METHODS = ("normal", "bootstrap", "Wilson", "Clopper-Pearson", "Jeffreys", "landseg")


def main(
    runs: Annotated[int, typer.Option(help="Simulated samples per map and design.")] = 2000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    keep: Annotated[bool, typer.Option(help="Write benchmarks/results/area_coverage.json.")] = True,
) -> None:
    """Simulate; print the tables of docs/maps.md, and write the results."""
    estimator.DRAWS = _DRAWS
    rows = []
    for number, (name, world) in enumerate(POINT_WORLDS.items()):
        for place, design in enumerate(DESIGNS):
            rng = np.random.default_rng([seed, number, place])
            rows.append({"world": name, "design": design, **simulate(world, design, runs, rng)})
    rng = np.random.default_rng([seed, len(POINT_WORLDS)])
    allocations = simulate_allocations(POINT_WORLDS["lc"], runs, rng)
    console.print(area_table(rows), accuracy_table(rows), sep="\n\n", soft_wrap=True)
    console.print(allocations)
    many = simulate_many_classes(runs // 4, rng)
    console.print(many)
    report(
        "area_coverage",
        _measurements(rows),
        _PACKAGES,
        keep=keep,
        runs=runs,
        seed=seed,
        draws=_DRAWS,
        classes=WORLDS["lc"].classes,
        intervals=rows,
        allocations=allocations,
        many_classes=many,
    )


def simulate(world: PointWorld, design: str, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return coverage and median width of intervals.

    Args:
        world: the map.
        design: one of DESIGNS.
        runs: number of samples; those with fewer than two points on a mapped class are left out.
        rng: random numbers.
    """
    samples = draw_points(world, design, runs, rng)
    mapped, truth, classes = world.joint.sum(axis=0), world.truth, len(world.joint)
    found = [estimator.stratified_estimate(mapped, sample) for sample in samples]
    ends = np.array([_ends(each) for each in found])  # (R, 3K + 1, 2)
    areas = {name: _METHOD_OF[name](mapped, samples, rng) for name in _METHODS[:-1]}
    areas["landseg"] = (ends[:, :classes, 0], ends[:, :classes, 1])
    errors = np.array([[*each.users_se, *each.producers_se, each.overall_se] for each in found])
    values = np.array([[*each.users, *each.producers, each.overall] for each in found])
    normal = values - 1.96 * errors, values + 1.96 * errors
    accuracies = {"normal": normal, "landseg": (ends[:, classes:, 0], ends[:, classes:, 1])}
    return {
        "points": int(np.median(samples.sum(axis=(1, 2)))),
        "areas": {name: _coverage(each, truth[:classes]) for name, each in areas.items()},
        "accuracies": {name: _coverage(each, truth[classes:]) for name, each in accuracies.items()},
    }


def draw_points(world: PointWorld, design: str, runs: int, rng: np.random.Generator) -> Counts:
    """Draw samples: (R, K, K) points; rows: true class, columns: mapped class."""
    joint, classes = world.joint, len(world.joint)
    if design == "500 at random":
        samples: Counts = rng.multinomial(500, joint.ravel(), size=runs).reshape(runs, classes, classes)
        kept: Counts = samples[(samples.sum(axis=1) > 1).all(axis=1)]
        return kept
    shares = joint.sum(axis=0)
    if design.startswith("proportional"):
        each = np.maximum(50, np.round(500 * shares).astype(int))
    else:
        each = np.full(classes, int(design.split()[0]))
    drawn = [rng.multinomial(each[k], joint[:, k] / shares[k], size=runs) for k in range(classes)]
    return np.stack(drawn, axis=2)


def simulate_allocations(world: PointWorld, runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return coverage and width of the area of the rarest class for 500 points, allocated in different ways.

    A stratum of likely omissions covers 5 % of the map, all of it mapped as the largest class, and holds 90 % of the
    rarest class there: for instance, the surroundings of its mapped area.
    """
    joint = world.joint
    rare, large = int(joint.sum(axis=1).argmin()), int(joint.sum(axis=0).argmax())
    near = np.where(np.arange(len(joint)) == rare, 0, joint[:, large])
    near *= (0.05 - 0.9 * joint[rare, large]) / near.sum()
    near[rare] = 0.9 * joint[rare, large]
    classes = [joint[:, k] for k in range(len(joint))]
    split = [*classes, near]
    split[large] = joint[:, large] - near
    rows = []
    for title, parts, most in (
        ("the same number on every mapped class", classes, 100),
        ("50 on every mapped class, the rest on the largest", classes, 300),
        ("50 on every mapped class and on likely omissions, the rest on the largest", split, 250),
    ):
        each = np.full(len(parts), 100 if most == 100 else 50)
        each[large] = most
        sizes, ends = np.array([part.sum() for part in parts]), []
        for _ in range(runs):
            counts = np.zeros((len(parts), *joint.shape), np.int64)
            for stratum, part in enumerate(parts):
                mapped = stratum if stratum < len(joint) else large
                counts[stratum, :, mapped] = rng.multinomial(each[stratum], part / part.sum())
            ends.append(estimator.strata_estimate(joint.sum(axis=0), sizes, counts).areas_interval[rare])
        low, high = np.transpose(ends)
        found = _coverage((low[:, None], high[:, None]), joint.sum(axis=1)[rare : rare + 1])
        rows.append({"points": title, "number": int(each.sum()), **{key: value[0] for key, value in found.items()}})
    return rows


def simulate_many_classes(runs: int, rng: np.random.Generator, classes: int = 24) -> list[dict[str, Any]]:
    """Return smallest and largest coverage of the areas of many classes, from 0.2 to 28 % of the map.

    The errors of a class are spread over the others in proportion to their areas.
    """
    shares = np.maximum(0.5 * 0.72 ** np.arange(classes), 0.004)
    shares /= shares.sum()
    rows: list[dict[str, Any]] = []
    for errors in (0.3, 0.1):
        wrong = np.tile(shares, (classes, 1))
        np.fill_diagonal(wrong, 0)
        joint = shares[:, None] * (np.eye(classes) * (1 - errors) + errors * wrong / wrong.sum(axis=1, keepdims=True))
        world = PointWorld(joint)
        for design in DESIGNS[:4]:
            found = [estimator.stratified_estimate(joint.sum(axis=0), s) for s in draw_points(world, design, runs, rng)]
            low, high = np.transpose([each.areas_interval for each in found], (2, 0, 1))
            covered = _coverage((low, high), joint.sum(axis=1))["coverage"]
            rows.append({"errors": errors, "design": design, "least": min(covered), "most": max(covered)})
    return rows


def _ends(found: estimator.AreaEstimate) -> Floats:
    overall = found.overall_interval[None]
    return np.concatenate([found.areas_interval, found.users_interval, found.producers_interval, overall])


def _normal(mapped: Floats, samples: Counts, _: np.random.Generator) -> Ends:
    points = samples.sum(axis=1, keepdims=True)
    within = samples / points
    margin = 1.96 * np.sqrt((mapped**2 * within * (1 - within) / (points - 1)).sum(axis=2))
    return within @ mapped - margin, within @ mapped + margin


def _bootstrap(mapped: Floats, samples: Counts, rng: np.random.Generator) -> Ends:
    points = np.broadcast_to(samples.sum(axis=1, keepdims=True), samples.shape)
    low, high = np.empty(samples.shape[:2]), np.empty(samples.shape[:2])
    for start in range(0, len(samples), 100):
        block = slice(start, start + 100)
        drawn = rng.binomial(points[block], samples[block] / points[block], size=(500, *samples[block].shape))
        low[block], high[block] = np.quantile(drawn / points[block] @ mapped, [0.025, 0.975], axis=0)
    return low, high


def _recovered(mapped: Floats, samples: Counts, low: Floats, high: Floats) -> Ends:
    """Combine intervals of shares, (R, K, K), to intervals of areas."""
    within = samples / samples.sum(axis=1, keepdims=True)
    reach = [np.sqrt((mapped**2 * (within - end) ** 2).sum(axis=2)) for end in (low, high)]
    return within @ mapped - reach[0], within @ mapped + reach[1]


def _wilson(mapped: Floats, samples: Counts, _: np.random.Generator) -> Ends:
    points, z = samples.sum(axis=1, keepdims=True), 1.96
    within = samples / points
    centre = (samples + z * z / 2) / (points + z * z)
    reach = z / (points + z * z) * np.sqrt(points * within * (1 - within) + z * z / 4)
    return _recovered(mapped, samples, centre - reach, centre + reach)


def _beta(mapped: Floats, samples: Counts, low: float, high: float) -> Ends:
    """Combine intervals from beta distributions, with `low` and `high` added to the points in favour."""
    points = samples.sum(axis=1, keepdims=True)
    against = points - samples
    lower = betaincinv(np.maximum(samples + low, 1e-9), against + 1 - low, 0.025)
    upper = betaincinv(samples + high, np.maximum(against + 1 - high, 1e-9), 0.975)
    return _recovered(mapped, samples, np.where(samples == 0, 0, lower), np.where(against == 0, 1, upper))


def _clopper_pearson(mapped: Floats, samples: Counts, _: np.random.Generator) -> Ends:
    return _beta(mapped, samples, 0, 1)


def _jeffreys(mapped: Floats, samples: Counts, _: np.random.Generator) -> Ends:
    return _beta(mapped, samples, 0.5, 0.5)


_METHOD_OF: dict[str, Callable[[Floats, Counts, np.random.Generator], Ends]] = {
    "normal": _normal,
    "bootstrap": _bootstrap,
    "Wilson": _wilson,
    "Clopper-Pearson": _clopper_pearson,
    "Jeffreys": _jeffreys,
}


def _coverage(ends: Ends, truth: Floats) -> dict[str, list[float]]:
    """Return coverage and median width as a share of the truth, one number per figure."""
    low, high = ends
    with np.errstate(invalid="ignore"):
        covered = ((low <= truth) & (truth <= high)).mean(axis=0)
    width = np.nanmedian(np.minimum(high, 1) - np.maximum(low, 0), axis=0) / truth
    return {"coverage": covered.round(3).tolist(), "width": width.round(3).tolist()}


def area_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of areas in Markdown: coverage of classes of 1, 3 and 5 %, the smallest of all, and width."""
    columns = "".join(f" {name} |" for name in _METHODS)
    lines = [f"| map | points |{columns}", "|---" * (2 + len(_METHODS)) + "|"]
    rare = [1, 4, 3]  # building, road, water
    for row in rows:
        cells = []
        for name in _METHODS:
            found = row["areas"][name]
            shares = " / ".join(f"{100 * found['coverage'][k]:.0f}" for k in rare)
            cells.append(f"{shares} % ({100 * min(found['coverage']):.0f}), ×{found['width'][1]:.1f}")
        lines.append(f"| {row['world']} | {row['design']} ({row['points']}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of accuracies in Markdown: smallest and mean coverage over classes."""
    kinds = {"user's": slice(0, 5), "producer's": slice(5, 10), "overall": slice(10, 11)}
    lines = ["| map | points | accuracy | normal | landseg |", "|---|---|---|---|---|"]
    for row in rows:
        for kind, part in kinds.items():
            cells = []
            for name in ("normal", "landseg"):
                covered = row["accuracies"][name]["coverage"][part]
                cells.append(f"{100 * min(covered):.0f} % (mean {100 * np.mean(covered):.0f} %)")
            lines.append(f"| {row['world']} | {row['design']} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measurements(rows: Sequence[Mapping[str, Any]]) -> list[Measurement]:
    measured = []
    for row in rows:
        covered = row["areas"]["landseg"]["coverage"]
        what = f"smallest coverage of the area of a class: {row['world']}, {row['design']}"
        measured.append(Measurement(what, "", [min(covered)], at_least=0.88))
    return measured


if __name__ == "__main__":
    typer.run(main)
