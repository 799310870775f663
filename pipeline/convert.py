"""Convert: encode the planned tiles, one stored ZIP per scene, and count the pixels of each class."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones
# Tiles are encoded in parallel; threads of small matrix products would wait for their cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from landseg.convert.convert import converted_plan, input_rendering, read_plan, require_same_values
from landseg.convert.encode import TileOptions
from landseg.convert.findings import require_classes
from landseg.convert.notices import notices, picture_notices, print_notices
from landseg.convert.params import ConvertParams
from landseg.core.compute import ComputeParams
from landseg.core.data_card import read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.files import atomic
from landseg.core.parallel import open_engine
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import DATA, Paths
from landseg.core.resumable import resumable
from landseg.core.signatures import write_signatures
from landseg.core.tables import NOTICES, extend_parquet, read_notices


def main() -> None:
    paths, params = Paths(dataset_name()), read_section(ConvertParams, "convert")
    compute = read_section(ComputeParams, "compute")
    card = read_card(paths.imagery_card)
    plan, size = read_plan(paths.table("plan.parquet"))
    layered = params.of_layers(card.bands, card.layers)
    rendering = input_rendering(plan, DATA, card, layered.rendering)
    require_same_values(plan, card, rendering)
    options = TileOptions(rendering, size, params.masks_rgb, params.min_consensus, params.max_clipped / 100)

    with (
        open_engine(compute) as local_or_dask,
        resumable(local_or_dask, compute.state, "convert", [plan, card, options], [paths.raw, paths.imagery]) as engine,
        atomic(paths.tiles) as folder,
        converted_plan(plan, DATA, engine.folder, card, options, engine) as found,
    ):
        folder.mkdir()
        require_classes(found.totals, found.findings, plan, DATA, card, rendering, engine)
        texts = [*notices(found.findings, found.totals, card), *picture_notices(found.statistics, rendering)]
        path = paths.table("plan.parquet")
        metadata = {"rendering": rendering.to_json(), NOTICES: json.dumps(read_notices(path) + texts)}
        extend_parquet(path, paths.table("tiles.parquet"), found.pixels, metadata, found.pieces())
        write_signatures(paths.table("signatures.parquet"), found.tiles(), found.scenes())
        engine.move_files(folder)
    print(f"converted {len(plan):,} tiles into {len(plan['archive'].unique())} archives")
    print_notices(texts, found.totals, card)


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
