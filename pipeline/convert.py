"""Convert: tile plan and rasters → PNG tiles in one stored ZIP an archive, and the tile table with class counts."""

from functools import partial

import pandas as pd

from landseg.convert import Picture, convert_archive
from landseg.datasets.card import read_card
from landseg.errors import reporting
from landseg.files import atomic
from landseg.parallel import cores, each
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.tile import TileParams
from landseg.paths import DATA, Paths
from landseg.progress import track
from landseg.tables import extend_parquet, read_parquet

PIXELS_PER_PROCESS = 1 << 27


def main() -> None:
    paths = Paths(dataset_name())
    params = section(ConvertParams, "convert")
    size = section(TileParams, "tile").size
    workers = section(ComputeParams, "compute").workers or cores()

    card = read_card(paths.table("card.json"))
    picture = Picture(params.bands, params.stretch, params.range, params.gamma)
    columns = ["tile", "archive", "image", "mask", "row", "col", "height", "width"]
    plan = read_parquet(paths.table("plan.parquet"), columns)
    archives = [tiles for _, tiles in plan.groupby("archive", sort=False)]
    # A process takes seconds to start, in which a thread encodes a good part of this many pixels.
    processes = min(workers, len(archives), 1 + int((plan["height"] * plan["width"]).sum()) // PIXELS_PER_PROCESS)
    with atomic(paths.tiles) as folder:
        folder.mkdir()
        convert = partial(
            convert_archive,
            root=DATA,
            folder=folder,
            card=card,
            picture=picture,
            size=size,
            masks_rgb=params.masks_rgb,
            min_consensus=params.min_consensus,
            threads=-(-workers // processes),
        )
        counted = ((len(counts), counts) for counts in each(convert, archives, processes))
        # The rows of an archive stand together in the plan, but let the index say so, not the order.
        pixels = pd.concat(track(counted, len(plan), "convert", "tiles")).sort_index()
        added = {str(name): column.to_numpy() for name, column in pixels.items()}
        extend_parquet(paths.table("plan.parquet"), paths.table("tiles.parquet"), added)
    print(f"converted {len(plan):,} tiles into {len(archives)} archives")


if __name__ == "__main__":
    with reporting():
        main()
