"""Tile: plan windows over the imagery from raster headers; no pixel is read."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.data_card import read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.params import dataset_name, pixel_size, read_section
from landseg.core.paths import DATA, Paths
from landseg.core.tables import read_csv
from landseg.tile.params import TileParams
from landseg.tile.plan import plan_tiles, write_plan


def main() -> None:
    paths, params = Paths(dataset_name()), read_section(TileParams, "tile")
    card, imagery = read_card(paths.imagery_card), read_csv(paths.imagery / "imagery.csv")

    notices: list[str] = []
    tiles = plan_tiles(
        imagery,
        DATA,
        card,
        params.size,
        params.edge,
        params.min_share,
        notices.append,
        pixel_size(),
        params.scenes_per_archive,
    )
    write_plan(tiles, params.size, card.bands, paths.table("plan.parquet"), notices)
    for text in notices:
        print(f"warning: {text}")
    print(f"planned {len(tiles):,} tiles of {params.size} px in {tiles['scene'].nunique()} scenes")


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
