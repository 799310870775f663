"""Train: fit the model to the training tiles; write the best and the last weights and the learning curves.

On several devices, the stage starts this script once per device (landseg.train.launch).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.compute import ComputeParams
from landseg.core.data_card import read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import RESULTS, Paths
from landseg.train.launch import reporting_to_parent, start_processes, starts_others


def main() -> None:
    compute = read_section(ComputeParams, "compute")
    if starts_others(compute):
        start_processes(compute, [sys.executable, __file__])
        return
    from landseg.model.device import deterministic  # torch, which takes seconds, is only for those that compute
    from landseg.train.setup import build_run, read_training_params, read_training_tiles, train, write_models

    paths, params = Paths(dataset_name()), read_training_params()
    card = read_card(paths.table("card.json"))

    with deterministic(params.train.deterministic):
        tiles = read_training_tiles(paths, card)
        run = build_run(params, tiles, card)
        with run.locked():
            best = train(run, RESULTS / "train")
            write_models(best, run, paths)


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED), reporting_to_parent():
        main()
