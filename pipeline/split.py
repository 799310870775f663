"""Split: assign tiles to train, val and test; measure class shares and leakage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.data_card import read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import RESULTS, Paths
from landseg.core.tables import extend_parquet, read_notices
from landseg.split.evidence import gather_evidence
from landseg.split.params import SplitParams
from landseg.split.strategies import assign_splits, read_official, read_pixel_counts, read_tile_layout
from landseg.split.subsample import ClassSkew, subsample
from landseg.split.summary import print_summary, summarise, write_summary
from landseg.split.units import label_locations, merged_locations


def main() -> None:
    paths, params = Paths(dataset_name()), read_section(SplitParams, "split")
    card, table = read_card(paths.table("card.json")), paths.table("tiles.parquet")
    skew = ClassSkew(params.skew.towards, params.skew.share, params.skew.over, params.skew.control)

    tiles, official = read_tile_layout(table), read_official(paths.table("official.csv"), params.strategy)
    evidence = gather_evidence(table, paths.table("signatures.parquet"), tiles, card.jitter, params.duplicates)
    splits = assign_splits(params, official, evidence)
    pixels = read_pixel_counts(table, card.classes)
    splits, found = subsample(splits, tiles, pixels, card.classes, skew, params.train_tiles, params.seed)
    location = merged_locations(evidence)
    units = label_locations(evidence) if params.strategy == "label" else location
    extend_parquet(table, paths.table("split.parquet"), {"location": units, "split": splits})

    summary = summarise(pixels, splits, location, card, evidence)
    write_summary(
        summary,
        params.strategy,
        params.seed,
        params.train_tiles,
        skew,
        found,
        read_notices(table),
        RESULTS / "split.json",
    )
    print_summary(summary)


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
