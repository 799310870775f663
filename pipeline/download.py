"""Download: raw scenes with labels and cloud layers, and the scene table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.compute import ComputeParams
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.files import atomic
from landseg.core.parallel import open_engine
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import Paths
from landseg.core.tables import write_csv
from landseg.download.dataset_module import dataset_module
from landseg.download.params import DownloadParams


def main() -> None:
    paths = Paths(dataset_name())
    module = dataset_module(paths.dataset, "fetch")
    dataset = read_section(module.Params, "dataset")
    download = read_section(DownloadParams, "download")
    compute = read_section(ComputeParams, "compute")

    with open_engine(compute) as engine, atomic(paths.raw) as folder:
        raw = module.fetch(dataset, download, folder, compute.state, engine)
    write_csv(raw.scenes, paths.table("scenes.csv"))
    write_csv(raw.official, paths.table("official.csv"))
    write_csv(raw.files, paths.table("manifest.csv"))
    print(f"{paths.dataset}: {len(raw.scenes)} scenes")


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
