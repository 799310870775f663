"""Download: raw scenes with labels and cloud layers, a table of them, and the data card."""

import importlib

from landseg.datasets.base import Fetched
from landseg.datasets.card import write_card
from landseg.errors import reporting
from landseg.files import atomic
from landseg.parallel import cores
from landseg.params.base import section
from landseg.params.compute import ComputeParams
from landseg.params.dataset import DatasetParams, DownloadParams
from landseg.paths import Paths
from landseg.tables import write_csv


def main() -> None:
    dataset = section(DatasetParams, "dataset")
    download = section(DownloadParams, "download")
    compute = section(ComputeParams, "compute")
    paths = Paths(dataset.name)

    # Only the module of the data set in use is imported, so only that one is a dependency in dvc.yaml.
    module = importlib.import_module(f"landseg.datasets.{dataset.name}")
    with atomic(paths.raw) as raw:
        fetched: Fetched = module.fetch(dataset, download, raw, compute.state, compute.workers or cores())
    write_csv(fetched.scenes, paths.table("scenes.csv"))
    write_csv(fetched.official, paths.table("official.csv"))
    write_csv(fetched.files, paths.table("manifest.csv"))
    write_card(fetched.card, paths.table("card.json"))
    print(f"{fetched.card.title}: {len(fetched.scenes)} scenes")


if __name__ == "__main__":
    with reporting():
        main()
