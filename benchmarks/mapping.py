"""Mapping whole scenes: landseg predict against the network's own forward rate, and against a plain loop over tiles.

    uv run python -m benchmarks.mapping

| side | reads | computes | writes |
|---|---|---|---|
| forward | nothing: pixels lie in memory | the network, softmax | nothing |
| plain loop | each window by itself | the network, class of every pixel | a tiled GeoTIFF, window by window |
| landseg, no overlap | every row once, ahead | the same windows, blended | COG: overviews, colours, names; read back |
| landseg | the same | windows that overlap by a quarter | the same |

All are given the same scene and the same loaded network, on the same device, as many windows at a time. They take turns
in one process, and what is compared is windows a second, so that overlap is no excuse. Memory is measured in a process
of its own that maps a scene of LandCover.ai's size from a model file, as `landseg predict` does.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import lightning
import numpy as np
import rasterio
import torch
import typer
from rasterio.windows import Window

from benchmarks.common import ROOT, Figure, console, report
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

# Maps one scene, and says how much memory that took at most, bytes.
_CHILD = """
import json, sys, time
from landseg.predict.command import PredictOptions, predict_scenes
from landseg.predict.outputs import OutputOptions
from pathlib import Path
job = json.loads(sys.argv[1])
start = time.perf_counter()
wanted = OutputOptions(Path(job["out"]), overwrite=True)
list(predict_scenes([job["scene"]], None, PredictOptions(job["model"], device=job["device"]), wanted, print))
seconds = time.perf_counter() - start
# Not ru_maxrss, which is never less than what the process that started this one held.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak": peak * 1024}))
"""


def forward_rate(net: TorchBackend, images: np.ndarray, windows: int, synchronize: Callable[[], None]) -> float:
    """Return windows a second of the network alone, softmax included, on pixels in memory."""
    start = time.perf_counter()
    batches = max(1, windows // len(images))
    for _ in range(batches):
        net.probabilities(images)
    synchronize()
    return batches * len(images) / (time.perf_counter() - start)


def plain_rate(net: TorchBackend, scene: Path, out: Path, batch: int) -> float:
    """Return windows a second of the loop that every tutorial has: read, predict, write, next to one another."""
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
        place = {"height": height, "width": width, "crs": source.crs, "transform": source.transform}
        with rasterio.open(out, "w", count=1, dtype="uint8", nodata=255, **profile, **place) as target:
            for first in range(0, len(cells), batch):
                some = [Window(col, row, _WINDOW, _WINDOW) for row, col in cells[first : first + batch]]
                images = np.stack([source.read(window=window).transpose(1, 2, 0) for window in some])
                ids = net.to_uint8(net.probabilities(images).max(1)[1])
                for window, found in zip(some, ids, strict=True):
                    target.write(found, 1, window=window)
    return len(cells) / (time.perf_counter() - start)


def our_rate(net: TorchBackend, model: ModelFile, scene: Path, out: Path, overlap: float) -> float:
    """Return windows a second of landseg predict, from opening the scene until its map stands there, whole."""
    blender = Blender(net, _WINDOW, overlap, net.batch_size)
    start = time.perf_counter()
    map_scene(InputScene("map", scene), blender, model, OutputOptions(out, overwrite=True), (), False, console.print)
    seconds = time.perf_counter() - start
    with open_scene(InputScene("map", scene), net.info) as image:
        down, across = blender.axes(image)
    return len(down.starts) * len(across.starts) / seconds


def whole_scene(model: Path, scene: Path, out: Path, device: str) -> dict[str, float]:
    """Map a scene in a process of its own; return seconds and peak memory, bytes."""
    job = json.dumps({"scene": str(scene), "model": str(model), "out": str(out), "device": device})
    done = subprocess.run([sys.executable, "-c", _CHILD, job], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(
    turns: Annotated[int, typer.Option(help="Turns of every side.")] = 5,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")] = "auto",
    encoder: Annotated[str, typer.Option(help="Of the U-Net.")] = "resnet18",
    side: Annotated[int, typer.Option(help="Height and width of the scene that sides take turns on, px.")] = 3072,
    whole: Annotated[bool, typer.Option(help="Map a scene of 9600 x 9000 px, too.")] = True,
) -> None:
    """Measure, and keep what was found if it ran in full."""
    used = accelerator(device, "--device")
    lightning.seed_everything(0, verbose=False)
    segmenter = network(encoder)
    net = TorchBackend(segmenter, used, use_bf16("auto", used))
    synchronize = torch.cuda.synchronize if used == "cuda" else lambda: None
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name, "maps")
        model, scene = folder / "model.safetensors", folder / "image.tif"
        save_model(segmenter, model)
        file = ModelFile(model, "model", None, None, "")
        write_pair(folder, (side, side))
        with rasterio.open(scene) as source:
            images = np.stack([source.read(window=Window(n * 64, 0, _WINDOW, _WINDOW)) for n in range(net.batch_size)])
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        windows = (side // _WINDOW) ** 2
        rates: dict[str, list[float]] = {"forward": [], "plain": [], "no overlap": [], "landseg": []}
        for turn in range(turns + 1):  # the first warms up
            found = {
                "forward": forward_rate(net, images, windows, synchronize),
                "plain": plain_rate(net, scene, folder / "plain.tif", net.batch_size),
                "no overlap": our_rate(net, file, scene, out, 0),
                "landseg": our_rate(net, file, scene, out, 0.25),
            }
            console.print(f"turn {turn}: {found}", style="dim", highlight=False)
            for key, rate in found.items():
                rates[key] += [rate] if turn else []
        at = f"U-Net {encoder}, {_WINDOW} px, {net.batch_size} at a time, {net.description}"
        same: Literal["ours / other"] = "ours / other"
        unit = "windows/s"
        figures += [
            Figure(
                f"whole scene, overlap 25 %: {at}", unit, rates["landseg"], rates["forward"], "forward alone", same, 0.9
            ),
            Figure("whole scene, no overlap", unit, rates["no overlap"], rates["forward"], "forward alone", same, 0.9),
            Figure("whole scene, no overlap", unit, rates["no overlap"], rates["plain"], "plain loop", same),
        ]
        if whole:
            write_pair(folder)
            found = whole_scene(model, scene, out, used)
            with open_scene(InputScene("map", scene), net.info) as image:
                down, across = Blender(net, _WINDOW, 0.25, net.batch_size).axes(image)
            rate = len(down.starts) * len(across.starts) / found["seconds"]
            size = f"{REAL_SIZE[0]} x {REAL_SIZE[1]} px, overlap 25 %"
            figures += [
                Figure(f"a whole orthophoto, {size}: time", "s", [found["seconds"]]),
                Figure("the same, loading included", unit, [rate], rates["forward"], "forward alone", same, 0.9),
                Figure(f"a whole orthophoto, {size}: peak memory", "GB", [found["peak"] / 1e9], at_most=1.5),
            ]
    kind = "" if used == "cpu" else f"-{used}"
    report(f"mapping{kind}", figures, ["torch", "segmentation-models-pytorch", "rasterio", "numpy"], keep=whole)


if __name__ == "__main__":
    typer.run(main)
