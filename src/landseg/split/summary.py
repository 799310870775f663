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
from landseg.core.data_card import Card
from landseg.core.files import atomic
from landseg.core.tables import SPLITS, pixel_column
from landseg.split.leakage import Leakage, footprint_bounds, leakage, overlapping_scenes
from landseg.split.strategies import BUFFER, SPARE, UNLISTED
from landseg.split.subsample import ClassSkew

_LEAKAGE = {
    "edge": "share an edge with train",
    "edge_or_corner": "share an edge or a corner",
    "same_location": "share a location with train",
    "same_group": "share a group with train",
}


@dataclass(frozen=True)
class SplitSummary:
    """What a part holds."""

    tiles: int
    #: Labelled pixels.
    pixels: int
    #: Share of each class among them, by class name; None where there are none.
    share: dict[str, float | None]


@dataclass(frozen=True)
class Summary:
    """What a split holds, and how its test and validation tiles lie to training tiles."""

    #: Of train, val and test: see `digests`.
    digest: dict[str, str]
    #: By split, then of tiles outside all splits.
    splits: dict[str, SplitSummary]
    #: Of test and val.
    leakage: dict[str, Leakage]
    warnings: list[str]


def summarise(tiles: pd.DataFrame, pixels: pd.DataFrame, splits: Strings, card: Card, table: Path) -> Summary:
    """Summarise a split.

    Args:
        tiles: columns tile, scene, location, group, row, col, height, width (px).
        pixels: columns pixels_<id>.
        splits: split of each row.
        card: the data card.
        table: the tile table, from which footprints are read.
    """
    shares = class_shares(pixels, splits, card.classes)
    return Summary(
        splits=shares,
        leakage={split: leakage(tiles, splits, split, jitter=card.jitter) for split in ("test", "val")},
        digest=digests(tiles, splits),
        warnings=warnings(tiles, footprint_bounds(table), splits, shares, card.jitter),
    )


def write_summary(
    summary: Summary,
    strategy: str,
    seed: int,
    train_tiles: int | None,
    skew: ClassSkew,
    found: float | None,
    path: Path,
) -> None:
    """Write split.json: how the split was made, and its summary.

    Args:
        summary: what the split holds.
        strategy: split.strategy.
        seed: split.seed.
        train_tiles: split.train_tiles.
        skew: split.skew.
        found: share of training tiles that its class dominates; None without a skew.
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


def print_summary(summary: Summary) -> None:
    """Print class shares and leakage as a table, then the warnings."""
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


def digests(tiles: pd.DataFrame, parts: Strings) -> dict[str, str]:
    """Return, for every part, 16 hex digits that change with any of its tiles: of equal splits they are equal.

    Args:
        tiles: columns tile, row, col, height, width.
        parts: part of each row.
    """
    # Of every row by itself, and added up: whatever their order, and in half a second for a million of them.
    rows = pd.util.hash_pandas_object(tiles[["tile", "row", "col", "height", "width"]], index=False).to_numpy()
    return {part: f"{int(rows[parts == part].sum(dtype=np.uint64)):016x}" for part in SPLITS}


def class_shares(tiles: pd.DataFrame, parts: Strings, classes: ClassTable) -> dict[str, SplitSummary]:
    """Count tiles, labelled pixels and the share of each class in every part and outside them.

    Args:
        tiles: columns pixels_<id>.
        parts: part of each row.
        classes: the class table.
    """
    pixels = tiles[[pixel_column(each.id) for each in classes]].to_numpy(np.int64)
    summaries = {}
    for part in (*SPLITS, *(out for out in (BUFFER, UNLISTED, SPARE) if out in parts)):
        inside = parts == part
        counts = pixels[inside].sum(axis=0)
        total = int(counts.sum())
        share = {each.name: int(n) / total if total else None for each, n in zip(classes, counts, strict=True)}
        summaries[part] = SplitSummary(int(inside.sum()), total, share)
    return summaries


def warnings(
    tiles: pd.DataFrame, bounds: Floats, parts: Strings, summaries: Mapping[str, SplitSummary], jitter: float = 0
) -> list[str]:
    """Say in sentences what will spoil training or scores: empty parts, missing classes, uncounted leakage.

    Args:
        tiles: columns scene, place.
        bounds: bounding box of each row's footprint, (N, 4), as `landseg.split.leakage.footprint_bounds` reads them.
        parts: part of each row.
        summaries: what each part holds.
        jitter: metres by which the publisher moved scenes.
    """
    sentences = []
    for part in SPLITS:
        summary = summaries[part]
        missing = [name for name, share in summary.share.items() if share == 0]
        if not summary.tiles:
            sentences.append(f"part {part} has no tiles; change split.ratios, split.block or split.strategy")
        elif not summary.pixels:
            sentences.append(f"part {part} has no labelled pixels; change split.seed or split.strategy")
        elif missing:
            sentences.append(f"part {part} has no pixels of {', '.join(missing)}; try another split.seed")
    if UNLISTED in summaries:
        places = tiles["location"][parts == UNLISTED].nunique()
        sentences.append(f"{places} of the places are on none of the publisher's lists and left out")
    if jitter:
        sentences.append(
            f"the publisher moved every scene at random, by up to {jitter:,.0f} m: which of them are neighbours or "
            "overlap is unknown, so leakage between places cannot be measured"
        )
        return sentences
    count, one, other = overlapping_scenes(tiles["scene"], bounds, parts)
    if count:
        sentences.append(
            f"{count} scenes overlap scenes of other parts on the ground, {one} and {other} for one; "
            "the leakage figures look within scenes and do not count this"
        )
    return sentences
