"""The landseg side of the training benchmarks, in a separate process: python -m benchmarks.loops '<job as JSON>'.

The loop of pipeline/train.py, with one of the tiers. Between its epochs, the same step runs on one resident batch. This
baseline shows the cost of the rest of the loop, whatever else the machine does.
"""

import json
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.tile_set import RGB, many_bands, tile_set
from landseg.core.parallel import cores
from landseg.core.rendering import Rendering
from landseg.datasets.landcoverai.card import CARD
from landseg.loader.batches import Tier, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.model.device import Accelerator, deterministic, seed_generators, use_bf16
from landseg.model.info import ModelInfo
from landseg.model.segmenter import Segmenter, build_model
from landseg.train import throughput
from landseg.train.augmentation import Augmentation, BandScale
from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints
from landseg.train.losses import FocalLoss
from landseg.train.micro_batch import ComputeOptions
from landseg.train.module import OptimizerConfig, SegmentationModule, fit

# Groups of operations by substrings of torch's names; the first match counts.
_OPERATIONS = {
    "convolutions": ("convolution", "conv2d", "mkldnn", "cudnn", "_conv"),
    "normalisation": ("batch_norm", "native_batch_norm"),
    "optimizer": ("adam", "optimizer"),
    "upsampling and concatenation": ("upsample", "cat", "interpolate"),
    "pooling and activation": ("max_pool", "relu", "threshold", "clamp_min"),
    "copies and layout": ("copy", "to_copy", "contiguous", "clone", "permute"),
    "loss": ("binary_cross_entropy", "exp", "pow", "mul", "sum", "sub", "rsub", "neg", "div", "eq", "ne", "where"),
}


def network(encoder: str, rendering: Rendering = RGB) -> Segmenter:
    """Build a U-Net with fixed initial weights."""
    seed_generators(0)
    count = len(rendering.bands)
    statistics: dict[str, Any] = {} if rendering is RGB else {"mean": (1500.0,) * count, "std": (500.0,) * count}
    info = ModelInfo(
        architecture="Unet",
        encoder=encoder,
        encoder_depth=5,
        classes=CARD.classes,
        rendering=rendering,
        image_bands=rendering.bands,
        dtypes=(rendering.dtype,),
        **statistics,
        gsd=0.25,
        tile=512,
        dataset="generated",
        licence="",
        params={},
    )
    return build_model(info, None)


def landseg(exact: bool, **job: Any) -> dict[str, Any]:
    """Train for some epochs, optionally with train.deterministic."""
    with deterministic(exact), tempfile.TemporaryDirectory() as state:
        return train_epochs(state=Path(state), **job)


def train_epochs(
    state: Path,
    folder: Path,
    tiles: int,
    batch: int,
    encoder: str,
    device: Accelerator,
    epochs: int,
    tier: Tier,
    augmented: bool,
    compiled: bool,
    precision: Literal["auto", "32"],
    bands: int | None = None,
) -> dict[str, Any]:
    """Train; return the speed of each epoch except the first, and the rate on one resident batch after each."""
    rendering = many_bands(bands) if bands else RGB
    model, bf16 = network(encoder, rendering), use_bf16(precision, device)
    train, val = tile_set(folder, 0, tiles, rendering), tile_set(folder, tiles, batch, rendering)
    rate = throughput.convolution_rate(device, bf16)
    options = ComputeOptions(bf16, compiled, None, throughput.flops(model, train.size), rate)
    run = SegmentationModule(model, FocalLoss(2.0, None), OptimizerConfig("adam", 1e-4, 0.0, 15, 0.1), 0, options)
    speeds = defaultdict[str, list[float]](list)
    shares: dict[str, float] = {}

    def report(scores: dict[str, float], fresh: bool) -> None:  # noqa: ARG001
        resident = rate_on_one_batch(run, train, batch, len(order), device)
        if callback.next_epoch == 1:  # warm-up of both sides
            return
        for name, value in scores.items():
            if name.startswith("speed/"):
                speeds[name.removeprefix("speed/")].append(value)
        speeds["resident"].append(resident)
        if callback.next_epoch == epochs + 1:
            shares.update(profile(run, train, batch, device))

    callback = BestCheckpoint(Checkpoints(state, {}), "val/loss", None, report)
    order = TileBatchSampler(tiles, batch, 0, lambda: callback.next_epoch)
    scale = BandScale(model.info.mean, model.info.std) if bands else None
    augmentation = Augmentation(augmented, 0.1 * augmented, 0.1 * augmented, 0, scale)
    start = time.perf_counter()
    train_loader = batch_loader(train, order, tier, device, cores(), augmentation)
    decoding = time.perf_counter() - start
    val_loader = batch_loader(val, TileBatchSampler(batch, batch), tier, device, cores())
    fit(run, train_loader, val_loader, callback, epochs + 1, device)
    setup = {"bf16": bf16, "decode_seconds": decoding, "tile_gflop": options.tile_flops / 1e9, "tflops": rate / 1e12}
    return {**speeds, "setup": setup, "profile": shares}


def rate_on_one_batch(run: SegmentationModule, tiles: Any, batch: int, steps: int, device: Accelerator) -> float:
    """Train on a batch that is already on the device; return images/s."""
    one = next(iter(batch_loader(tiles, TileBatchSampler(batch, batch), "stream", "cpu", 1)))
    resident = one[0].to(device), one[1].to(device)
    optimizer: Any = run.optimizer
    run.train()
    with torch.enable_grad():
        for step in range(-1, steps):  # the first warms up
            if step == 0:
                start = synchronised(device)
            run.runner.backward(resident)
            optimizer.step()
        return steps * batch / (synchronised(device) - start)


def synchronised(device: str) -> float:
    """Wait until the device has finished; return the time, s."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def profile(run: SegmentationModule, tiles: Any, batch: int, device: Accelerator) -> dict[str, float]:
    """Return the share of a step's time on the device by group of operations."""
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CPU, *([activity.CUDA] if device == "cuda" else [])]
    with torch.profiler.profile(activities=kinds) as profiled:
        rate_on_one_batch(run, tiles, batch, 2, device)
    spent = defaultdict[str, float](float)
    for event in profiled.key_averages():
        if event.device_type.name != "CPU":
            continue  # a kernel: its time counts for the operation that started it
        seconds = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        name = event.key.lower()
        matches = (group for group, words in _OPERATIONS.items() if any(word in name for word in words))
        spent[next(matches, "other")] += seconds
    total = sum(spent.values())
    return {group: value / total for group, value in sorted(spent.items(), key=lambda item: -item[1])}


def main() -> None:
    """Run the job in the first argument; print its result as JSON."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    result = landseg(folder=Path(job.pop("folder")), **job)
    print(json.dumps({**result, "peak_gb": throughput.peak_memory(job["device"]) / 1e9}))


if __name__ == "__main__":
    main()
