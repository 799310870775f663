"""Names and phrases for splits, units and leakage, shared by reports, comparisons and model cards."""

from collections.abc import Mapping

from landseg.evaluate.calibration import ConfidenceScores
from landseg.evaluate.intervals import describe_interval
from landseg.results.run import Run

#: Splits by key, spelled out.
SPLIT_NAMES = {"train": "training set", "val": "validation set", "test": "test set"}

#: Below this effective number of units, an interval rests on few locations: its degrees of freedom are hardly known.
FEW_EFFECTIVE_UNITS = 5

#: Kinds of leakage: what a scored tile shares with a training tile.
LEAKAGE_TERMS = {
    "edge": "an edge",
    "edge_or_corner": "an edge or corner",
    "same_location": "a location",
    "same_group": "a group",
}

# Largest upper end of the interval of the calibration error with which confidences are called calibrated.
_SMALL_ERROR = 0.05

_STRATEGIES = {
    "random": "random tiles, so neighbours of training tiles may be scored",
    "official": "the publisher's lists",
    "scene": "whole scenes",
    "group": "whole groups of locations",
    "block": "spatial blocks",
    "label": "polygons or points, with all tiles that they share",
}


def describe_strategy(strategy: str) -> str:
    """Return a split strategy with its meaning, such as "scene: whole scenes"."""
    return f"{strategy}: {_STRATEGIES[strategy]}" if strategy in _STRATEGIES else strategy


def unit_noun(run: Run) -> str:
    """Return the noun for the units of the intervals: scenes (locations with one date each), locations or groups."""
    over = str(run.metrics["interval_over"])
    return "scenes" if over == "locations" and run.metrics["locations"] == run.metrics["scenes"] else over


def macro_interval_text(run: Run) -> str:
    """Describe the interval of the macro mIoU, or say why there is none."""
    scores = run.scores
    units = (scores.interval_units, scores.effective_units, unit_noun(run))
    return describe_interval(scores.macro_miou_low, scores.macro_miou_high, *units)


def leakage_sentence(leakage: Mapping[str, float | None], split: str) -> str:
    """Describe the leakage of a split, such as "25.0 % of test tiles share an edge with a training tile".

    What is not known is said to be unknown, so that it cannot be read as none.

    Args:
        leakage: shares of its tiles by the keys of LEAKAGE_TERMS, `duplicate` and `lower_bound`; None where unknown.
        split: train, val or test.

    Returns:
        The sentence without a full stop; empty if nothing is known.
    """
    known = {key: share for key in LEAKAGE_TERMS if (share := leakage.get(key)) is not None}
    copied = leakage.get("duplicate")
    if not known:
        return ""
    found = {LEAKAGE_TERMS[key]: share for key, share in known.items() if share}
    least = "at least " if leakage.get("lower_bound") else ""
    parts = []
    if found:
        (first, share), *others = found.items()
        rest = "".join(f", {100 * other:.1f} % {term}" for term, other in others)
        parts.append(f"{least}{100 * share:.1f} % of {split} tiles share {first} with a training tile{rest}")
    else:
        terms = [LEAKAGE_TERMS[key] for key in known if key != "edge" or "edge_or_corner" not in known]
        parts.append(f"no {split} tile shares {' or '.join(terms)} with a training tile")
    if copied is not None:
        parts.append(f"{f'{100 * copied:.1f} % have' if copied else 'none has'} a copy in the training set")
    if copied is None and "duplicate" in leakage:
        parts.append("copies were not searched")
    if "edge_or_corner" in leakage and leakage["edge_or_corner"] is None:
        parts.append("whether tiles of different locations touch is unknown")
    return "; ".join(parts)


def distance_sentence(run: Run) -> str:
    """Describe the distance of the scored tiles to the nearest training tile; empty if it is unknown."""
    found = run.metrics.get("distance")
    if not found:
        return ""
    median, near = (_length(found[key], found["unit"]) for key in ("median", "p5"))
    return f"nearest training tile: median {median} away, 5 % within {near}"


def _length(value: float, unit: str) -> str:
    return f"{value / 1000:.1f} km" if unit == "m" and value >= 10_000 else f"{value:,.0f} {unit}"


def confidence_text(run: Run) -> str:
    """Say whether confidences tell how likely the mapped class is, and the evidence.

    They do if a temperature was fitted, and on the test split the calibration error is small with its whole interval,
    overall and for the class.
    """
    found, split = run.calibration, run.metrics["split"]
    evidence = (
        f"On the {SPLIT_NAMES[split]}, confidence and share of correct pixels differ by "
        f"{calibration_error(found, unit_noun(run))} on average (expected calibration error, ECE)."
    )
    if found.temperature == 1:
        return f"Confidence is not calibrated: it ranks pixels, but is not a probability of being correct. {evidence}"
    fitted = (
        f"Confidence is the softmax of the logits divided by {found.temperature:.3g}, a temperature fitted on the "
        f"validation set. {evidence}"
    )
    if split != "test":
        return f"{fitted} Only the test set could show whether it is the probability of being correct."
    if found.ece_high is None:
        return f"{fitted} Without an interval, it should not be read as the probability of being correct."
    if found.ece_high > _SMALL_ERROR:
        return f"{fitted} The error may exceed {_SMALL_ERROR:g}, so it is not the probability of being correct."
    unsure = [
        name
        for name, of_class in found.per_class.items()
        if of_class.pixels and (of_class.ece_high is None or of_class.ece_high > _SMALL_ERROR)
    ]
    if len(unsure) == sum(of_class.pixels > 0 for of_class in found.per_class.values()):
        return f"{fitted} The error of each single class may exceed {_SMALL_ERROR:g}: it holds for no class by itself."
    likely = f"{fitted} In scenes like these, it says how likely the mapped class is"
    return (
        f"{likely}, except for {', '.join(unsure)}, whose error may exceed {_SMALL_ERROR:g}."
        if unsure
        else f"{likely}."
    )


def calibration_error(found: ConfidenceScores, units: str) -> str:
    """Return an ECE with its interval, such as "0.021 (95 % interval 0.011 to 0.032 over 6 scenes, effectively 5.3)".

    Args:
        found: of a split or a class.
        units: noun for the units of the interval.
    """
    if found.ece is None:
        return "an unknown amount"
    if found.ece_low is None:
        return f"{found.ece:.3f} (no interval: {found.units:,} {units})"
    over = f"{found.units:,} {units}, effectively {found.effective_units:.1f}"
    return f"{found.ece:.3f} (95 % interval {found.ece_low:.3f} to {found.ece_high:.3f} over {over})"
