"""Summary of a split: class shares, leakage, digests and warnings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from landseg.core.arrays import Strings
from landseg.core.classes import ClassTable
from landseg.core.data_card import DataCard
from landseg.core.files import atomic
from landseg.core.tables import SPLITS, pixel_column
from landseg.split.duplicates import Copies
from landseg.split.evidence import Evidence
from landseg.split.ground import Ground
from landseg.split.leakage import (
    Distance,
    Leakage,
    contact_is_known,
    measure_distance,
    measure_leakage,
)
from landseg.split.seams import Seams
from landseg.split.strategies import BUFFER, SPARE, UNLABELLED, UNLISTED
from landseg.split.subsample import ClassSkew

_LEAKAGE = {
    "edge": "share an edge with train",
    "edge_or_corner": "share an edge or a corner",
    "same_location": "share a location with train",
    "same_group": "share a group with train",
    "duplicate": "have a copy in train",
}
# Number of labels of a class below which its score rests on single ones.
_FEW_UNITS = 10


@dataclass(frozen=True)
class ClassShares:
    """Tiles, labelled pixels and class shares of a split."""

    tiles: int
    #: Number of labelled pixels.
    pixels: int
    #: Share of each class among the labelled pixels, by class name; None if there are none.
    share: dict[str, float | None]


@dataclass(frozen=True)
class SplitSummary:
    """Content of split.json: class shares, leakage, digests and warnings."""

    #: Digest of train, val and test (see `split_digests`).
    digest: dict[str, str]
    #: Class shares of train, val and test, then of tiles outside of them.
    splits: dict[str, ClassShares]
    #: Leakage from train into test and val.
    leakage: dict[str, Leakage]
    #: Distance of test and val tiles to the nearest training tile; None if unknown.
    distance: dict[str, Distance | None]
    warnings: list[str]
    #: Units of the labels (polygons, points or their groups) by split and class; None if labels have none.
    label_units: dict[str, dict[str, int]] | None = None


def summarise(
    pixels: pd.DataFrame, splits: Strings, location: Strings, card: DataCard, evidence: Evidence
) -> SplitSummary:
    """Summarise a split.

    Args:
        pixels: columns pixels_<id>.
        splits: split of each row.
        location: location of each row, where those that are one have the same name (see `units.merged_locations`).
        card: the data card.
        evidence: the tiles, and what is known of the ground that they show.
    """
    tiles, ground, copies = evidence.tiles, evidence.ground, evidence.copies
    shares = class_shares(pixels, splits, card.classes)
    known = contact_is_known(tiles["location"], ground)
    units = tiles[["scene", "group"]].assign(location=location)
    label_units = None if evidence.labels is None else evidence.labels.by_class(splits, card.classes)
    leakage = {
        split: measure_leakage(units, splits, split, adjacency=evidence.adjacency, complete=known, copies=copies)
        for split in ("test", "val")
    }
    return SplitSummary(
        splits=shares,
        leakage=leakage,
        distance={split: measure_distance(tiles, ground, splits, split) for split in leakage},
        digest=split_digests(tiles, splits),
        warnings=[
            *check_split(tiles, splits, shares, card.jitter),
            *_position_warnings(tiles, ground, card.jitter),
            *_seam_warnings(evidence.seams),
            *_copy_warnings(copies, leakage),
            *_merge_warnings(tiles["location"], location),
            *_label_warnings(label_units, leakage),
        ],
        label_units=label_units,
    )


def write_summary(
    summary: SplitSummary,
    strategy: str,
    seed: int,
    train_tiles: float | None,
    skew: ClassSkew,
    found: float | None,
    notices: Sequence[str],
    path: Path,
) -> None:
    """Write split.json: the parameters and the summary of a split.

    Args:
        summary: the summary.
        strategy: split.strategy.
        seed: split.seed.
        train_tiles: split.train_tiles.
        skew: split.skew.
        found: share of training tiles that the class of the skew dominates; None without a skew.
        notices: what earlier stages printed of images and labels, as further warnings.
        path: the file to write.
    """
    content = {
        "strategy": strategy,
        "seed": seed,
        "train_tiles": train_tiles,
        "skew": None if found is None else asdict(skew) | {"found": found},
        **asdict(replace(summary, warnings=[*summary.warnings, *notices])),
    }
    if summary.label_units is None:
        del content["label_units"]
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_summary(summary: SplitSummary) -> None:
    """Print a table of class shares and leakage, then the warnings."""
    table = Table("", *(Column(split, justify="right") for split in summary.splits))
    table.add_row("tiles", *(f"{each.tiles:,}" for each in summary.splits.values()))
    table.add_row("labelled pixels", *(f"{each.pixels:,}" for each in summary.splits.values()), end_section=True)
    for name in summary.splits["train"].share:
        table.add_row(name, *(_percent(each.share[name]) for each in summary.splits.values()))
    table.add_section()
    units = summary.label_units or {}
    for name in units.get("train", ()):
        table.add_row(f"polygons or points: {name}", *(f"{units[split][name]:,}" for split in SPLITS))
    table.add_section()
    for key, title in _LEAKAGE.items():
        shares = (_share(summary.leakage[split], key) if split in summary.leakage else "" for split in summary.splits)
        table.add_row(title, *shares)
    table.add_row(
        "distance to train (median, 5 %)",
        *(_distance(summary.distance[split]) if split in summary.distance else "" for split in summary.splits),
    )
    Console().print(table)
    for warning in summary.warnings:
        print(f"warning: {warning}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _share(leakage: Leakage, key: str) -> str:
    share = getattr(leakage, key)
    if share is None:
        return "unknown" if key in ("edge", "edge_or_corner") and leakage.same_location is not None else "-"
    return f"≥ {share:.2%}" if leakage.lower_bound and key in ("edge", "edge_or_corner") else _percent(share)


def _distance(distance: Distance | None) -> str:
    return "unknown" if distance is None else f"{distance.median:,.0f}, {distance.p5:,.0f} {distance.unit}"


def split_digests(tiles: pd.DataFrame, splits: Strings) -> dict[str, str]:
    """Return a digest of 16 hex digits for train, val and test, which does not depend on the order of rows.

    Args:
        tiles: columns tile, row, col, height, width.
        splits: split of each row.
    """
    # The sum of row hashes: independent of order, and half a second for a million rows.
    rows = pd.util.hash_pandas_object(tiles[["tile", "row", "col", "height", "width"]], index=False).to_numpy()
    return {split: f"{int(rows[splits == split].sum(dtype=np.uint64)):016x}" for split in SPLITS}


def class_shares(tiles: pd.DataFrame, splits: Strings, classes: ClassTable) -> dict[str, ClassShares]:
    """Count tiles, labelled pixels and class shares of every split, and of tiles outside train, val and test.

    Args:
        tiles: columns pixels_<id>.
        splits: split of each row.
        classes: the class table.
    """
    pixels = tiles[[pixel_column(each.id) for each in classes]].to_numpy(np.int64)
    shares = {}
    for split in (*SPLITS, *(name for name in (BUFFER, UNLISTED, UNLABELLED, SPARE) if name in splits)):
        inside = splits == split
        counts = pixels[inside].sum(axis=0)
        total = int(counts.sum())
        share = {each.name: int(n) / total if total else None for each, n in zip(classes, counts, strict=True)}
        shares[split] = ClassShares(int(inside.sum()), total, share)
    return shares


def check_split(
    tiles: pd.DataFrame, splits: Strings, shares: Mapping[str, ClassShares], jitter: float = 0
) -> list[str]:
    """Return warnings: empty splits, missing classes, leakage that is not measured.

    Args:
        tiles: column location.
        splits: split of each row.
        shares: class shares by split.
        jitter: distance by which the publisher shifted scenes at random, m.
    """
    messages = []
    absent = [name for name in shares["train"].share if not any(each.share[name] for each in shares.values())]
    if absent:
        listed = ", ".join(absent)
        messages.append(f"no tile has a labelled pixel of {listed}; correct dataset.classes, the labels or tile.edge")
    for split in SPLITS:
        missing = [name for name, share in shares[split].share.items() if share == 0 and name not in absent]
        if not shares[split].tiles:
            messages.append(f"{split} has no tiles; change split.ratios, split.block or split.strategy")
        elif not shares[split].pixels:
            messages.append(f"{split} has no labelled pixels; change split.seed or split.strategy")
        elif missing:
            messages.append(f"{split} has no pixels of {', '.join(missing)}; try another split.seed")
    if UNLISTED in shares:
        locations = tiles["location"][splits == UNLISTED].nunique()
        messages.append(f"{locations} locations are on no published list and are left out")
    if jitter:
        messages.append(
            f"the publisher moved every scene at random by up to {jitter:,.0f} m: neighbours and overlaps are unknown, "
            "so leakage between locations is not measured"
        )
    return messages


def _position_warnings(tiles: pd.DataFrame, ground: Ground, jitter: float) -> list[str]:
    """Warn of scenes without a position, and of names that suggest that they were cut from larger images."""
    if jitter or contact_is_known(tiles["location"], ground):
        return []
    nowhere = tiles[["scene", "location", "group"]][~ground.known].drop_duplicates()
    messages = [
        f"{len(nowhere)} scenes have no position: whether tiles of different locations touch is unknown, not excluded"
    ]
    # Locations and groups that the user has named are known to differ.
    unnamed = (nowhere["scene"] == nowhere["location"]) & (nowhere["group"] == "")
    prefix, members = _shared_prefix(nowhere["scene"][unnamed])
    if members:
        messages.append(
            f"{members} scenes are named {prefix}…, as if they were cut from one image, but are different locations; "
            "if they are, set dataset.groups, and split.strategy to group"
        )
    return messages


def _shared_prefix(scenes: "pd.Series[str]") -> tuple[str, int]:
    """Return the most common name before a final number, and how many scenes share it, if other names differ.

    Names that are nothing but a number after one common word, such as image0001, do not tell.
    """
    stems = scenes.str.extract(r"^(.*[^0-9])[0-9]+$")[0].dropna()
    counts = stems.value_counts()
    if len(counts) < 2 or counts.iloc[0] < 2 or counts.sum() < 2 * len(counts):
        return "", 0
    return str(counts.index[0]), int(counts.iloc[0])


def _seam_warnings(seams: Seams | None) -> list[str]:
    """Warn of scenes that were cut side by side from one image."""
    if seams is None or not len(seams.scenes):
        return []
    one, other = (seams.scene_names[scene] for scene in seams.scenes[0])
    return [
        f"{len(seams.scenes)} borders of scenes continue those of others, for example of {one} and {other}: they were "
        "cut from one image, and count as one location"
    ]


def _copy_warnings(copies: Copies | None, leakage: Mapping[str, Leakage]) -> list[str]:
    """Warn of copies: which there are, and which leak."""
    if copies is None:
        return ["copies of scenes and tiles were not searched (split.duplicates = off)"]
    messages = []
    if len(copies.scenes):
        one, other = (copies.scene_names[scene] for scene in copies.scenes[0])
        messages.append(
            f"{len(np.unique(copies.scenes))} scenes are copies of others (also mirrored, turned or resized), for "
            f"example {one} and {other}"
        )
    if copies.relabelled:
        messages.append(
            f"the labels of {copies.relabelled} of {len(copies.scenes)} pairs of copied scenes differ; correct or "
            "remove one of each pair"
        )
    for split, each in leakage.items():
        if each.duplicate:
            messages.append(
                f"{each.duplicate:.1%} of {split} tiles have a copy in train; set split.duplicates = together, or "
                "remove the copies"
            )
    return messages


def _label_warnings(units: Mapping[str, Mapping[str, int]] | None, leakage: Mapping[str, Leakage]) -> list[str]:
    """Warn of test labels that are few, or lie in scenes of training labels."""
    if units is None:
        return []
    messages = []
    if few := [f"{name} {count}" for name, count in units["test"].items() if 0 < count < _FEW_UNITS]:
        messages.append(
            f"test has few independent labels (polygons, points or groups of them): {', '.join(few)}; scores of these "
            "classes rest on single places"
        )
    if shared := leakage["test"].same_location:
        messages.append(
            f"{shared:.0%} of test tiles lie in scenes that also have training tiles: scores say how well gaps in "
            "these scenes are mapped, not how well other scenes are"
        )
    return messages


def _merge_warnings(location: "pd.Series[str]", merged: Strings) -> list[str]:
    """Say how many locations there are on the ground, if fewer than by name."""
    names, places = location.nunique(), len(np.unique(merged))
    return [f"{names} locations count as {places}: some overlap, continue or copy others"] if places < names else []
