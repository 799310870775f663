"""Tile: a plan of windows over the kept scenes, from their headers alone."""

from landseg.errors import reporting
from landseg.params.base import dataset_name, section
from landseg.params.tile import TileParams
from landseg.paths import Paths
from landseg.tables import read_csv
from landseg.tiling import plan, write_plan


def main() -> None:
    paths = Paths(dataset_name())
    params = section(TileParams, "tile")

    scenes = read_csv(paths.table("kept.csv"))
    tiles = plan(scenes[scenes["kept"]], paths.raw, params.size, params.edge)
    write_plan(tiles, paths.table("plan.parquet"))
    print(f"planned {len(tiles):,} tiles of {params.size} px in {tiles['scene'].nunique()} scenes")


if __name__ == "__main__":
    with reporting():
        main()
