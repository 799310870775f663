"""Filter: drop cloudy scenes and record why; write composites."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.compute import ComputeParams
from landseg.core.data_card import DataCard, read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.parallel import open_engine
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import Paths
from landseg.core.resumable import ResumableEngine, resumable
from landseg.core.tables import read_csv, write_csv
from landseg.filter.composite import write_imagery
from landseg.filter.layers import composite_layers, gap_sentence
from landseg.filter.params import FilterParams
from landseg.filter.select import coverages, print_selection, select, warnings
from landseg.raster.clouds import cloud_rule


def main() -> None:
    paths, params = Paths(dataset_name()), read_section(FilterParams, "filter")
    compute = read_section(ComputeParams, "compute")
    card, scenes = read_card(paths.table("card.json")), read_csv(paths.table("scenes.csv"))
    ingredients = [params.model_dump_json(), card, scenes]
    with (
        open_engine(compute) as engine,
        resumable(engine, compute.state, "filter", ingredients, [paths.raw]) as resuming,
    ):
        filter_scenes(paths, params, card, scenes, resuming)


def filter_scenes(
    paths: Paths, params: FilterParams, card: DataCard, scenes: pd.DataFrame, engine: ResumableEngine
) -> None:
    rule = cloud_rule(params.method, params.scl, params.cld, card.clouds, params.dilate, card.drivers)

    measured = coverages(scenes, paths.raw, rule, card, engine)
    for text in warnings(len(scenes), measured.values(), rule):
        print(f"warning: {text}")
    scenes = select(
        scenes, measured, params.max_cloud_share, params.max_nodata_share, params.keep, params.one_per_quarter
    )
    kept = scenes[scenes["kept"]]
    composites = composite_layers(kept, params.composite, params.stacked)
    gaps = write_imagery(kept, composites, paths, rule, card, engine)
    write_csv(scenes, paths.table("kept.csv"))
    print_selection(scenes, params.image, paths.table("kept.csv"))
    if params.layers:
        print(gap_sentence(gaps, "date" if params.stacked else "quarter"))


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
