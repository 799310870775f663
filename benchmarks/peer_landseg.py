"""landseg's side of the benchmarks against peers, in a process of its own: python -m benchmarks.peer_landseg '<job>'.

- train: the loop of pipeline/train.py, with the tier that auto picks.
- predict: a scene to a map, as `landseg predict` does, from a model file to a finished COG. Its imports are not timed.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def train(
    folder: Path, tiles: int, weights: str, encoder: str, batch: int, epochs: int, augmented: bool, **options: Any
) -> list[tuple[float, float]]:
    """Train for a number of epochs, after one that warms up; return wall and CPU seconds of each.

    Args:
        folder: archives of tiles, as `write_tiles` writes them; the last batch is for validation.
        tiles: number of training tiles.
        weights: file of the initial weights, as torch writes it.
        encoder: encoder of the U-Net.
        batch: tiles per step.
        epochs: number of epochs.
        augmented: whether to augment by landseg's defaults.
        options: `device`, `tier`, and `precision`: auto or 32.
    """
    import tempfile

    import torch

    from benchmarks.loops import network, synchronised
    from benchmarks.processes import cpu_seconds
    from benchmarks.tile_set import tile_set
    from landseg.core.parallel import cores
    from landseg.loader.batches import batch_loader
    from landseg.loader.sampler import TileBatchSampler
    from landseg.model.device import use_bf16
    from landseg.train.augmentation import Augmentation
    from landseg.train.callback import BestCheckpoint
    from landseg.train.checkpoints import Checkpoints
    from landseg.train.losses import CrossEntropyLoss
    from landseg.train.micro_batch import ComputeOptions
    from landseg.train.module import OptimizerConfig, SegmentationModule, fit

    device, tier = options["device"], options["tier"]

    class TimedModule(SegmentationModule):
        """A run that notes wall and CPU seconds of the training part of each epoch."""

        spent: list[tuple[float, float]]

        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            self.began = synchronised(device), cpu_seconds()

        def on_validation_epoch_start(self) -> None:
            super().on_validation_epoch_start()
            self.spent.append((synchronised(device) - self.began[0], cpu_seconds() - self.began[1]))

    model, bf16 = network(encoder), use_bf16(options["precision"], device)
    model.network.load_state_dict(torch.load(weights, weights_only=True))
    compute = ComputeOptions(bf16, False, None)
    module = TimedModule(model, CrossEntropyLoss(None), OptimizerConfig("adamw", 1e-3, 0.01, 15, 0.1), 0, compute)
    module.spent = []
    augmentation = Augmentation(augmented, 0.1 * augmented, 0.1 * augmented, 0)
    with tempfile.TemporaryDirectory() as state:
        callback = BestCheckpoint(Checkpoints(Path(state), {}), "val/loss", None, lambda *_: None)
        order = TileBatchSampler(tiles, batch, 0, lambda: callback.next_epoch)
        loader = batch_loader(tile_set(folder, 0, tiles), order, tier, device, cores(), augmentation)
        val = batch_loader(tile_set(folder, tiles, batch), TileBatchSampler(batch, batch), tier, device, cores())
        fit(module, loader, val, callback, epochs + 1, device)
    return module.spent[1:]


def predict(model: str, scene: str, out: str, batch: int | None, device: Any) -> dict[str, Any]:
    """Map a scene; return seconds.

    Args:
        model: the model file.
        scene: the scene.
        out: folder for the map.
        batch: windows at a time; None: the default.
        device: where to compute.
    """
    from landseg.predict.command import predict_scenes
    from landseg.predict.load import load_backend
    from landseg.predict.model_file import ModelFile
    from landseg.predict.options import PredictOptions
    from landseg.predict.outputs import OutputOptions

    load_backend(ModelFile(Path(model), "model", None, None, ""), device)  # imports torch
    start = time.perf_counter()
    options = PredictOptions(model, batch=batch, device=device)
    list(predict_scenes([scene], None, options, OutputOptions(Path(out), overwrite=True), print))
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    """Run the job in the first argument; print its result as JSON."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    if job.pop("do") == "predict":
        print(json.dumps(predict(**job)))
        return
    folders, tiles = job.pop("folders"), job.pop("tiles")
    print(json.dumps({"epochs": {size: train(Path(folders[size]), tiles[size], **job) for size in folders}}))


if __name__ == "__main__":
    main()
