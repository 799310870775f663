"""Convert: tile plan and rasters → PNG tiles in one stored ZIP an archive, and the tile table with class counts."""

from landseg.convert import PLAN_COLUMNS, convert_plan
from landseg.datasets.card import read_card
from landseg.errors import reporting
from landseg.files import atomic
from landseg.parallel import cores
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.tile import TileParams
from landseg.paths import DATA, Paths
from landseg.pictures import Picture
from landseg.tables import extend_parquet, read_arrow


def main() -> None:
    paths = Paths(dataset_name())
    params = section(ConvertParams, "convert")

    plan = read_arrow(paths.table("plan.parquet"), ["archive", *PLAN_COLUMNS])
    with atomic(paths.tiles) as folder:
        folder.mkdir()
        pixels = convert_plan(
            plan,
            root=DATA,
            folder=folder,
            card=read_card(paths.table("card.json")),
            picture=Picture(params.bands, params.stretch, params.range, params.gamma),
            size=section(TileParams, "tile").size,
            masks_rgb=params.masks_rgb,
            min_consensus=params.min_consensus,
            workers=section(ComputeParams, "compute").workers or cores(),
        )
        extend_parquet(paths.table("plan.parquet"), paths.table("tiles.parquet"), pixels)
    print(f"converted {len(plan):,} tiles into {len(plan['archive'].unique())} archives")


if __name__ == "__main__":
    with reporting():
        main()
