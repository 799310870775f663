"""Summary of a split: class shares, leakage, digests and warnings."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from landseg.core.arrays import Floats, Strings
from landseg.core.classes import ClassTable
from landseg.core.data_card import DataCard
from landseg.core.files import atomic
from landseg.core.tables import SPLITS, pixel_column
from landseg.split.leakage import Leakage, footprint_bounds, measure_leakage, overlapping_scenes
from landseg.split.strategies import BUFFER, SPARE, UNLISTED
from landseg.split.subsample import ClassSkew

_LEAKAGE = {
    "edge": "share an edge with train",
    "edge_or_corner": "share an edge or a corner",
    "same_location": "share a location with train",
    "same_group": "share a group with train",
}


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
    warnings: list[str]


def summarise(tiles: pd.DataFrame, pixels: pd.DataFrame, splits: Strings, card: DataCard, table: Path) -> SplitSummary:
    """Summarise a split.

    Args:
        tiles: columns tile, scene, location, group, row, col, height, width (px).
        pixels: columns pixels_<id>.
        splits: split of each row.
        card: the data card.
        table: the tile table, to read footprints from.
    """
    shares = class_shares(pixels, splits, card.classes)
    return SplitSummary(
        splits=shares,
        leakage={split: measure_leakage(tiles, splits, split, jitter=card.jitter) for split in ("test", "val")},
        digest=split_digests(tiles, splits),
        warnings=check_split(tiles, footprint_bounds(table), splits, shares, card.jitter),
    )


def write_summary(
    summary: SplitSummary,
    strategy: str,
    seed: int,
    train_tiles: int | None,
    skew: ClassSkew,
    found: float | None,
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
        path: the file to write.
    """
    content = {
        "strategy": strategy,
        "seed": seed,
        "train_tiles": train_tiles,
        "skew": None if found is None else asdict(skew) | {"found": found},
        **asdict(summary),
    }
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
    for key, title in _LEAKAGE.items():
        shares = (
            _percent(getattr(summary.leakage[split], key)) if split in summary.leakage else ""
            for split in summary.splits
        )
        table.add_row(title, *shares)
    Console().print(table)
    for warning in summary.warnings:
        print(f"warning: {warning}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


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
    for split in (*SPLITS, *(name for name in (BUFFER, UNLISTED, SPARE) if name in splits)):
        inside = splits == split
        counts = pixels[inside].sum(axis=0)
        total = int(counts.sum())
        share = {each.name: int(n) / total if total else None for each, n in zip(classes, counts, strict=True)}
        shares[split] = ClassShares(int(inside.sum()), total, share)
    return shares


def check_split(
    tiles: pd.DataFrame, bounds: Floats, splits: Strings, shares: Mapping[str, ClassShares], jitter: float = 0
) -> list[str]:
    """Return warnings: empty splits, missing classes, leakage that is not measured.

    Args:
        tiles: columns scene, location.
        bounds: bounding box of each row's footprint, (N, 4), as `landseg.split.leakage.footprint_bounds` reads them.
        splits: split of each row.
        shares: class shares by split.
        jitter: distance by which the publisher shifted scenes at random, m.
    """
    messages = []
    for split in SPLITS:
        missing = [name for name, share in shares[split].share.items() if share == 0]
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
    count, first, other = overlapping_scenes(tiles["scene"], bounds, splits)
    if count:
        messages.append(
            f"{count} scenes overlap scenes of another split on the ground, for example {first} and {other}; "
            "leakage is measured within locations and does not include this"
        )
    return messages
