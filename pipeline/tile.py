"""Tile: a plan of windows over the imagery, from headers alone."""

from landseg.datasets.card import read_card
from landseg.errors import reporting
from landseg.params.base import dataset_name, section
from landseg.params.tile import TileParams
from landseg.paths import DATA, Paths
from landseg.tables import read_csv
from landseg.tiling import plan, write_plan


def main() -> None:
    paths = Paths(dataset_name())
    params = section(TileParams, "tile")

    card = read_card(paths.table("card.json"))
    imagery = read_csv(paths.imagery / "imagery.csv")
    tiles = plan(imagery, DATA, card, params.size, params.edge)
    write_plan(tiles, paths.table("plan.parquet"))
    print(f"planned {len(tiles):,} tiles of {params.size} px in {tiles['scene'].nunique()} scenes")


if __name__ == "__main__":
    with reporting():
        main()
