"""Convert: tile plan and rasters → PNG tiles in one stored ZIP a scene, and the tile table with class counts."""

from functools import partial

import numpy as np
import pandas as pd

from landseg.convert import Picture, convert_archive, positions
from landseg.datasets.card import read_card
from landseg.datasets.classes import IGNORE
from landseg.errors import reporting
from landseg.files import atomic
from landseg.parallel import cores, each
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.tile import TileParams
from landseg.paths import Paths
from landseg.progress import track
from landseg.tables import extend_parquet, pixel_column, read_parquet


def main() -> None:
    paths = Paths(dataset_name())
    params = section(ConvertParams, "convert")
    size = section(TileParams, "tile").size
    workers = section(ComputeParams, "compute").workers or cores()

    card = read_card(paths.table("card.json"))
    picture = Picture(positions(params.bands, card.bands), params.stretch, params.range, params.gamma)
    columns = ["tile", "archive", "image", "mask", "row", "col", "height", "width"]
    plan = read_parquet(paths.table("plan.parquet"), columns)
    archives = [tiles for _, tiles in plan.groupby("archive", sort=False)]
    processes = min(workers, len(archives))
    with atomic(paths.tiles) as folder:
        folder.mkdir()
        convert = partial(
            convert_archive,
            raw=paths.raw,
            folder=folder,
            card=card,
            picture=picture,
            size=size,
            masks_rgb=params.masks_rgb,
            threads=-(-workers // processes),
        )
        counted = ((len(counts), counts) for counts in each(convert, archives, processes))
        counts = np.concatenate(list(track(counted, len(plan), "convert", "tiles")))
    # The rows of an archive stand together in the plan, but let the index say so, not the order.
    table = pd.DataFrame(counts, index=pd.concat(archives).index).sort_index()
    pixels = {pixel_column(land_class.id): table[land_class.id].to_numpy() for land_class in card.classes}
    pixels["pixels_ignored"] = table[IGNORE].to_numpy()
    extend_parquet(paths.table("plan.parquet"), paths.table("tiles.parquet"), pixels)
    print(f"converted {len(plan):,} tiles into {len(archives)} archives")


if __name__ == "__main__":
    with reporting():
        main()
