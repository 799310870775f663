"""Split: assign tiles to train, val and test; measure class shares and leakage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.data_card import read_card
from landseg.core.errors import reporting
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import RESULTS, Paths
from landseg.core.tables import extend_parquet
from landseg.split.duplicates import find_copies
from landseg.split.ground import read_ground
from landseg.split.params import SplitParams
from landseg.split.strategies import BlockOptions, assign_splits, read_official, read_pixel_counts, read_tile_layout
from landseg.split.subsample import ClassSkew, subsample
from landseg.split.summary import print_summary, summarise, write_summary
from landseg.split.units import find_ties, merged_locations


def main() -> None:
    paths, params = Paths(dataset_name()), read_section(SplitParams, "split")
    card, table = read_card(paths.table("card.json")), paths.table("tiles.parquet")
    skew = ClassSkew(params.skew.towards, params.skew.share, params.skew.over, params.skew.control)

    tiles, official = read_tile_layout(table), read_official(paths.table("official.csv"), params.strategy)
    ground, block = read_ground(table, card.jitter), BlockOptions(params.block, params.buffer, params.neighbours)
    copies = None if params.duplicates == "off" else find_copies(paths.table("signatures.parquet"), tiles)
    ties = find_ties(tiles, params.strategy, ground, copies if params.duplicates == "together" else None)
    splits = assign_splits(tiles, params.strategy, params.ratios, params.seed, block, official, ground, ties)
    pixels = read_pixel_counts(table, card.classes)
    splits, found = subsample(splits, tiles, pixels, card.classes, skew, params.train_tiles, params.seed)
    location = merged_locations(tiles, ground, copies)
    extend_parquet(table, paths.table("split.parquet"), {"location": location, "split": splits})

    summary = summarise(tiles, pixels, splits, card, ground, copies)
    write_summary(summary, params.strategy, params.seed, params.train_tiles, skew, found, RESULTS / "split.json")
    print_summary(summary)


if __name__ == "__main__":
    with reporting("params.yaml"):
        main()
