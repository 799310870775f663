"""Filter: which scenes are clear enough, and why the others fell."""

from functools import partial

from landseg.clouds import cloud_share, judge
from landseg.datasets.card import read_card
from landseg.errors import reporting
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
    clouds = [cloud for cloud in scenes["cloud"] if cloud]
    share = partial(cloud_share, clear=layers.clear, nodata=layers.nodata)
    measured = ((1, found) for found in each(share, [paths.raw / cloud for cloud in clouds], workers, "threads"))
    shares = list(track(measured, len(clouds), "filter", "scenes"))
    scenes = judge(scenes, dict(zip(clouds, shares, strict=True)), limit)
    write_csv(scenes, paths.table("kept.csv"))
    print(f"kept {scenes['kept'].sum()} of {len(scenes)} scenes")
    for scene in scenes[~scenes["kept"]].itertuples():
        print(f"  without {scene.scene}: {scene.reason}")


if __name__ == "__main__":
    with reporting():
        main()
