"""Mapping whole scenes: landseg predict against the forward pass of the network alone, and against a loop over tiles.

    uv run python -m benchmarks.mapping

| side | reads | computes | writes |
|---|---|---|---|
| forward | nothing: pixels are in memory | network and softmax | nothing |
| plain loop | each window separately | network, class of every pixel | a tiled GeoTIFF, window by window |
| landseg, no overlap | every row once, ahead | the same windows, blended | COG: overviews, colours, names; verified |
| landseg | the same | windows that overlap by a quarter | the same |

All sides use the same scene, the same loaded network, device and number of windows at a time. They alternate in one
process and are compared by windows per second, so extra windows from overlap do not count against landseg. Memory is
measured in a separate process that maps a scene of LandCover.ai's size from a model file, as `landseg predict` does.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import rasterio
import torch
import typer
from lightning_fabric import seed_everything
from rasterio.windows import Window

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.loops import network
from benchmarks.scene import REAL_SIZE, write_pair
from landseg.model.device import accelerator, use_bf16
from landseg.model.segmenter import save_model
from landseg.predict.blending import Blender
from landseg.predict.model_file import ModelFile
from landseg.predict.outputs import OutputOptions, map_scene
from landseg.predict.scenes import InputScene, open_scene
from landseg.predict.torch_backend import TorchBackend

_WINDOW = 512

# Maps one scene; prints seconds and peak memory in bytes.
_CHILD = """
import json, sys, time
from landseg.predict.command import predict_scenes
from landseg.predict.options import PredictOptions
from landseg.predict.outputs import OutputOptions
from pathlib import Path
job = json.loads(sys.argv[1])
start = time.perf_counter()
options = OutputOptions(Path(job["out"]), overwrite=True)
list(predict_scenes([job["scene"]], None, PredictOptions(job["model"], device=job["device"]), options, print))
seconds = time.perf_counter() - start
# Not ru_maxrss, which is at least the peak memory of the parent process.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak": peak * 1024}))
"""


def forward_rate(backend: TorchBackend, images: np.ndarray, windows: int, synchronize: Callable[[], None]) -> float:
    """Return windows per second of the network alone, softmax included, on pixels in memory."""
    start = time.perf_counter()
    batches = max(1, windows // len(images))
    for _ in range(batches):
        backend.probabilities(images)
    synchronize()
    return batches * len(images) / (time.perf_counter() - start)


def plain_rate(backend: TorchBackend, scene: Path, out: Path, batch: int) -> float:
    """Return windows per second of the usual loop: read, predict and write one batch of windows after another."""
    start = time.perf_counter()
    with rasterio.open(scene) as source:
        height, width = source.shape
        cells = [(row, col) for row in range(0, height, _WINDOW) for col in range(0, width, _WINDOW)]
        profile = {
            "driver": "GTiff",
            "tiled": True,
            "blockxsize": _WINDOW,
            "blockysize": _WINDOW,
            "compress": "deflate",
        }
        georeference = {"height": height, "width": width, "crs": source.crs, "transform": source.transform}
        with rasterio.open(out, "w", count=1, dtype="uint8", nodata=255, **profile, **georeference) as target:
            for first in range(0, len(cells), batch):
                batch_windows = [Window(col, row, _WINDOW, _WINDOW) for row, col in cells[first : first + batch]]
                images = np.stack([source.read(window=window).transpose(1, 2, 0) for window in batch_windows])
                ids = backend.to_uint8(backend.probabilities(images).max(1)[1])
                for window, window_ids in zip(batch_windows, ids, strict=True):
                    target.write(window_ids, 1, window=window)
    return len(cells) / (time.perf_counter() - start)


def landseg_rate(backend: TorchBackend, model: ModelFile, scene: Path, out: Path, overlap: float) -> float:
    """Return windows per second of landseg predict, from opening the scene to the finished map."""
    blender = Blender(backend, _WINDOW, overlap, backend.batch_size)
    start = time.perf_counter()
    map_scene(InputScene("map", scene), blender, model, OutputOptions(out, overwrite=True), (), False, console.print)
    seconds = time.perf_counter() - start
    with open_scene(InputScene("map", scene), backend.info) as image:
        down, across = blender.axes(image)
    return len(down.starts) * len(across.starts) / seconds


def map_in_process(model: Path, scene: Path, out: Path, device: str) -> dict[str, float]:
    """Map a scene in a separate process; return seconds and peak memory in bytes."""
    job = json.dumps({"scene": str(scene), "model": str(model), "out": str(out), "device": device})
    done = subprocess.run([sys.executable, "-c", _CHILD, job], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(backend: TorchBackend, model: ModelFile, scene: Path, folder: Path, turns: int) -> dict[str, list[float]]:
    """Run all sides alternately on a scene; return windows per second of each side, one value per turn."""
    synchronize = torch.cuda.synchronize if backend.device == "cuda" else lambda: None
    with rasterio.open(scene) as source:
        tiles = [source.read(window=Window(n * 64, 0, _WINDOW, _WINDOW)) for n in range(backend.batch_size)]
        windows = (source.width // _WINDOW) ** 2
    images = np.ascontiguousarray(np.stack(tiles).transpose(0, 2, 3, 1))
    out = folder / "maps"
    rates: dict[str, list[float]] = {"forward": [], "plain": [], "no overlap": [], "landseg": []}
    for turn in range(turns + 1):  # the first warms up
        measured = {
            "forward": forward_rate(backend, images, windows, synchronize),
            "plain": plain_rate(backend, scene, folder / "plain.tif", backend.batch_size),
            "no overlap": landseg_rate(backend, model, scene, out, 0),
            "landseg": landseg_rate(backend, model, scene, out, 0.25),
        }
        console.print(f"turn {turn}: {measured}", style="dim", highlight=False)
        for key, rate in measured.items():
            rates[key] += [rate] if turn else []
    return rates


def main(
    turns: Annotated[int, typer.Option(help="Runs of each side.")] = 5,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Device of the network.")] = "auto",
    encoder: Annotated[str, typer.Option(help="Encoder of the U-Net.")] = "resnet18",
    side: Annotated[int, typer.Option(help="Height and width of the compared scene in pixels.")] = 3072,
    whole: Annotated[bool, typer.Option(help="Also map a scene of 9600 x 9000 pixels.")] = True,
) -> None:
    """Measure, print, and, with --whole, write benchmarks/results/mapping.json."""
    used = accelerator(device, "--device")
    seed_everything(0, verbose=False)
    segmenter = network(encoder)
    backend = TorchBackend(segmenter, used, use_bf16("auto", used))
    ratio: Literal["ours / other"] = "ours / other"
    unit, baseline = "windows/s", "forward pass alone"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, scene = folder / "model.safetensors", folder / "image.tif"
        save_model(segmenter, model)
        write_pair(folder, (side, side))
        rates = compare(backend, ModelFile(model, "model", None, None, ""), scene, folder, turns)
        forward, plain, no_overlap = rates["forward"], rates["plain"], rates["no overlap"]
        at = f"U-Net {encoder}, {_WINDOW} px, {backend.batch_size} at a time, {backend.description}"
        measurements = [
            Measurement(f"scene, overlap 25 %: {at}", unit, rates["landseg"], forward, baseline, ratio, 0.9),
            Measurement("scene, no overlap", unit, no_overlap, forward, baseline, ratio, 0.9),
            Measurement("scene, no overlap", unit, no_overlap, plain, "plain loop", ratio),
        ]
        if whole:
            write_pair(folder)
            spent = map_in_process(model, scene, folder / "maps", used)
            with open_scene(InputScene("map", scene), backend.info) as image:
                down, across = Blender(backend, _WINDOW, 0.25, backend.batch_size).axes(image)
            rate = len(down.starts) * len(across.starts) / spent["seconds"]
            size = f"{REAL_SIZE[0]} x {REAL_SIZE[1]} px, overlap 25 %"
            measurements += [
                Measurement(f"orthophoto, {size}: time", "s", [spent["seconds"]]),
                Measurement("the same, including loading", unit, [rate], forward, baseline, ratio, 0.9),
                Measurement(f"orthophoto, {size}: peak memory", "GB", [spent["peak"] / 1e9], at_most=1.5),
            ]
    kind = "" if used == "cpu" else f"-{used}"
    report(f"mapping{kind}", measurements, ["torch", "segmentation-models-pytorch", "rasterio", "numpy"], keep=whole)


if __name__ == "__main__":
    typer.run(main)
