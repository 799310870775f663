"""Filter: which scenes are clear enough, and why the others fell."""

from functools import partial

import pandas as pd

from landseg.clouds import cloud_share, verdict
from landseg.datasets.card import read_card
from landseg.errors import LandsegError, reporting
from landseg.parallel import cores, each
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.filter import FilterParams
from landseg.paths import Paths
from landseg.progress import track
from landseg.tables import read_csv, write_csv


def main() -> None:
    paths = Paths(dataset_name())
    limit = section(FilterParams, "filter").max_cloud_share
    workers = section(ComputeParams, "compute").workers or cores()

    layers = read_card(paths.table("card.json")).clouds
    scenes = read_csv(paths.table("scenes.csv"))
    files = [paths.raw / cloud for cloud in scenes["cloud"] if cloud]
    measured = each(partial(cloud_share, clear=layers.clear, nodata=layers.nodata), files, workers)
    shares = track(((1, share) for share in measured), len(files), "filter", "scenes")
    share = [next(shares) if cloud else None for cloud in scenes["cloud"]]
    kept, reason = zip(*(verdict(s, bool(c), limit) for s, c in zip(share, scenes["cloud"], strict=True)), strict=True)
    scenes = scenes.assign(cloud_share=pd.array(share, dtype="Float64"), kept=kept, reason=reason)
    if not scenes["kept"].any():
        least = scenes["cloud_share"].min()
        raise LandsegError(
            f"params.yaml: filter.max_cloud_share = {limit} keeps none of {len(scenes)} scenes, the clearest of which "
            f"has a cloud share of {least:.3f}; raise the limit or get clearer scenes"
        )
    write_csv(scenes, paths.table("kept.csv"))
    print(f"kept {scenes['kept'].sum()} of {len(scenes)} scenes")
    for scene in scenes[~scenes["kept"]].itertuples():
        print(f"  without {scene.scene}: {scene.reason}")


if __name__ == "__main__":
    with reporting():
        main()
