"""Split: which tiles train, which validate, which test."""

import json
from dataclasses import asdict

import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from landseg.datasets.card import read_card
from landseg.errors import reporting
from landseg.files import atomic
from landseg.leakage import Leakage, footprint_bounds, leakage
from landseg.params.base import dataset_name, section
from landseg.params.split import SplitParams
from landseg.paths import RESULTS, Paths
from landseg.skew import Skew, dominated, skewed, thinned
from landseg.splits import PartSummary, assign, class_shares, digests, warnings
from landseg.tables import extend_parquet, pixel_column, read_csv, read_parquet

LEAKS = {
    "edge": "share an edge with train",
    "edge_or_corner": "an edge or a corner",
    "same_scene": "share a place with train",
    "same_group": "share a group with train",
}


def main() -> None:
    paths = Paths(dataset_name())
    params = section(SplitParams, "split")

    card, table = read_card(paths.table("card.json")), paths.table("tiles.parquet")
    # Pixel counts and footprints are read by themselves, and dropped: of a million tiles they are most of the memory.
    tiles = read_parquet(table, ["tile", "scene", "place", "group", "row", "col", "height", "width"])
    official = read_csv(paths.table("official.csv")) if params.strategy == "official" else pd.DataFrame()
    parts = assign(tiles, params.strategy, params.ratios, params.seed, params.block, official)
    pixels = read_parquet(table, [pixel_column(each.id) for each in card.classes])
    skew = Skew(params.skew.towards, params.skew.share, params.skew.over, params.skew.control)
    if skew.towards is None:
        parts, dominates = thinned(parts, tiles["tile"], params.train_tiles, params.seed), None
    else:
        dominates = dominated(pixels, card.classes, skew)
        parts = skewed(parts, tiles["tile"], dominates, skew, params.train_tiles, params.seed)
    extend_parquet(table, paths.table("split.parquet"), {"part": parts})

    summaries = class_shares(pixels, parts, card.classes)
    leaks = {part: leakage(tiles, parts, part, jitter=card.jitter) for part in ("test", "val")}
    cautions = warnings(tiles, footprint_bounds(table), parts, summaries, card.jitter)
    results = {
        "strategy": params.strategy,
        "seed": params.seed,
        "train_tiles": params.train_tiles,
        "skew": None if dominates is None else asdict(skew) | {"found": float(dominates[parts == "train"].mean())},
        "digest": digests(tiles, parts),
        "parts": {part: asdict(summary) for part, summary in summaries.items()},
        "leakage": {part: asdict(leak) for part, leak in leaks.items()},
        "warnings": cautions,
    }
    with atomic(RESULTS / "split.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    show(summaries, leaks)
    for caution in cautions:
        print(f"warning: {caution}")


def show(summaries: dict[str, PartSummary], leaks: dict[str, Leakage]) -> None:
    """Print what each part holds, and the shares of its tiles that lie beside training tiles."""
    table = Table("", *(Column(part, justify="right") for part in summaries))
    table.add_row("tiles", *(f"{summary.tiles:,}" for summary in summaries.values()))
    table.add_row("labelled pixels", *(f"{summary.pixels:,}" for summary in summaries.values()), end_section=True)
    for name in summaries["train"].share:
        table.add_row(name, *(percent(summary.share[name]) for summary in summaries.values()))
    table.add_section()
    for key, title in LEAKS.items():
        found = (percent(getattr(leaks[part], key)) if part in leaks else "" for part in summaries)
        table.add_row(title, *found)
    Console().print(table)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


if __name__ == "__main__":
    with reporting():
        main()
