"""Mapping whole scenes: landseg predict against the forward pass of the network alone.

    uv run python -m benchmarks.mapping               # minutes; writes mapping.json
    uv run python -m benchmarks.mapping --isa avx2    # as on a CPU without AVX-512 and bf16; writes mapping-avx2.json

| side | reads | computes | writes |
|---|---|---|---|
| forward | nothing: pixels are in memory | network and softmax of as many windows as landseg needs | nothing |
| landseg, no overlap | every row once, ahead | the same windows, blended | COG: overviews, colours, names; verified |
| landseg | the same | windows that overlap by a quarter | the same |

All sides compute by the same backend, as many windows at a time, and map the same scene; seconds and CPU seconds are of
a whole scene. The sides alternate. Those of the small scene share a process. The large scene, of the size of one of
LandCover.ai, is mapped by landseg in a process of its own, which loads a model file first, so that its peak memory is
measured too; loading is a row of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import rasterio
import torch
import typer
from rasterio.windows import Window

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.loops import network
from benchmarks.peers import ISA, Isa
from benchmarks.scene import REAL_SIZE, write_pair
from landseg.core.arrays import Image
from landseg.model.device import Accelerator, accelerator, seed_generators, use_bf16
from landseg.model.segmenter import Segmenter, save_model
from landseg.predict.blending import Blender
from landseg.predict.load import load_backend
from landseg.predict.model_file import ModelFile
from landseg.predict.outputs import OutputOptions, map_scene
from landseg.predict.scenes import InputScene, open_scene
from landseg.predict.torch_backend import TorchBackend

_WINDOW, _OVERLAP = 512, 0.25
Spent = dict[str, float]
#: What each side spent in each turn, by side and quantity.
Turns = Mapping[str, Mapping[str, list[float]]]


def spent(work: Callable[[], object]) -> Spent:
    """Do something; return its wall time and CPU time, s."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return {"s": time.perf_counter() - start, "CPU s": time.process_time() - cpu}


def forward(backend: TorchBackend, images: Image, windows: int) -> None:
    """Compute a number of windows by the network alone, softmax included, on pixels in memory."""
    batch = backend.batch_size
    for first in range(0, windows, batch):
        at = first % (len(images) - batch + 1)
        backend.probabilities(images[at : at + min(batch, windows - first)])


def landseg(backend: TorchBackend, model: Path, scene: Path, out: Path, overlap: float) -> None:
    """Map a scene as landseg predict does, from opening it to the finished map."""
    blender = Blender(backend, _WINDOW, overlap, backend.batch_size)
    origin, options = ModelFile(model, "model", None, None, ""), OutputOptions(out, overwrite=True)
    map_scene(InputScene("map", scene), blender, origin, options, (), False, console.print)


def windows_of(backend: TorchBackend, scene: Path, overlap: float) -> int:
    """Return the number of windows that landseg computes for a scene."""
    with open_scene(InputScene("map", scene), backend.info) as image:
        down, across = Blender(backend, _WINDOW, overlap, backend.batch_size).axes(image)
    return len(down.starts) * len(across.starts)


def child(model: Path, scene: Path, out: Path, device: Accelerator) -> None:
    """Load a model and map a scene; print times and peak memory in bytes as JSON."""
    loaded: list[TorchBackend] = []

    def load() -> None:
        backend = load_backend(ModelFile(model, "model", None, None, ""), device)
        assert isinstance(backend, TorchBackend)  # noqa: S101
        loaded.append(backend)

    loading = spent(load)
    mapping = spent(lambda: landseg(loaded[0], model, scene, out, _OVERLAP))
    # Not ru_maxrss, which is at least the peak memory of the parent process.
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({**mapping, "loading": loading["s"], "GB": peak * 1024 / 1e9}))


def map_in_process(model: Path, scene: Path, out: Path, device: str) -> Spent:
    """Map a scene in a separate process; return what `child` prints."""
    call = f"from benchmarks.mapping import child, Path; child(Path({str(model)!r}), Path({str(scene)!r}), "
    call += f"Path({str(out)!r}), {device!r})"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: Spent = json.loads(done.stdout.splitlines()[-1])
    return result


def alternate(sides: Mapping[str, Callable[[], Spent]], turns: int) -> Turns:
    """Run all sides one after another, several times."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for turn in range(turns):
        for side, run in sides.items():
            values = run()
            for key, value in values.items():
                found[side][key].append(value)
            console.print(f"turn {turn}, {side}: {values}", style="dim", highlight=False)
    return found


def rows(turns: Turns, title: str, other: str, against: str, at_least: float | None, side: str) -> list[Measurement]:
    """Return the rows that compare a side of landseg with another side: wall time, then CPU time."""
    return [
        Measurement(title, "s", turns[side]["s"], turns[other]["s"], against, at_least=at_least),
        Measurement(f"{title}, CPU time", "CPU s", turns[side]["CPU s"], turns[other]["CPU s"], against),
    ]


def small_scene(backend: TorchBackend, model: Path, folder: Path, side: int, turns: int) -> list[Measurement]:
    """Compare all sides on a scene of some height and width, in this process."""
    scene, out = folder / "image.tif", folder / "maps"
    write_pair(folder, (side, side))
    images, counts = some_windows(scene), [windows_of(backend, scene, overlap) for overlap in (_OVERLAP, 0)]
    landseg(backend, model, scene, out, _OVERLAP)  # warms up
    works: dict[str, Callable[[], object]] = {
        "forward": partial(forward, backend, images, counts[0]),
        "landseg": partial(landseg, backend, model, scene, out, _OVERLAP),
        "forward, no overlap": partial(forward, backend, images, counts[1]),
        "no overlap": partial(landseg, backend, model, scene, out, 0),
    }
    found = alternate({name: partial(spent, work) for name, work in works.items()}, turns)
    alone = "forward pass alone, {} windows"
    title = f"scene of {side} px"
    return [
        *rows(found, f"{title}, overlap 25 %", "forward", alone.format(counts[0]), 0.95, "landseg"),
        *rows(found, f"{title}, no overlap", "forward, no overlap", alone.format(counts[1]), 0.9, "no overlap"),
    ]


def large_scene(backend: TorchBackend, model: Path, folder: Path, turns: int) -> list[Measurement]:
    """Compare landseg in a process of its own with the network alone on a scene of LandCover.ai's size."""
    scene = folder / "image.tif"
    write_pair(folder)
    images, windows = some_windows(scene), windows_of(backend, scene, _OVERLAP)
    sides = {
        "forward": partial(spent, partial(forward, backend, images, windows)),
        "landseg": partial(map_in_process, model, scene, folder / "maps", backend.device),
    }
    found = alternate(sides, turns)
    title = f"scene of {REAL_SIZE[0]} x {REAL_SIZE[1]} px, overlap 25 %"
    return [
        *rows(found, title, "forward", f"forward pass alone, {windows} windows", 0.95, "landseg"),
        Measurement("the same: imports and loading the model", "s", found["landseg"]["loading"]),
        Measurement("the same: peak memory", "GB", found["landseg"]["GB"], at_most=1.5),
    ]


def some_windows(scene: Path) -> Image:
    """Return windows across the top of a scene, (N, H, W, bands)."""
    with rasterio.open(scene) as source:
        top = source.read(window=Window(0, 0, source.width, _WINDOW)).transpose(1, 2, 0)
    starts = np.linspace(0, top.shape[1] - _WINDOW, 32).astype(int)
    return np.stack([top[:, start : start + _WINDOW] for start in starts])


def model_of(encoder: str, isa: Isa) -> Segmenter:
    """Return an untrained U-Net; without AVX-512, bf16 would be emulated, so it is one that computes in 32 bit."""
    built = network(encoder)
    precision = {"train": {"precision": "32" if isa == "avx2" else "auto"}}
    return Segmenter(built.network, built.info.model_copy(update={"params": precision})).eval()


def main(
    turns: Annotated[int, typer.Option(help="Runs of each side on the small scene.")] = 5,
    large_turns: Annotated[int, typer.Option(help="Runs of each side on a scene of 9600 x 9000 px; 0: none.")] = 3,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Device of the network.")] = "auto",
    encoder: Annotated[str, typer.Option(help="Encoder of the U-Net.")] = "resnet18",
    side: Annotated[int, typer.Option(help="Height and width of the small scene in pixels.")] = 3072,
    isa: Annotated[Isa, typer.Option(help="Instructions of the CPU to use.")] = "native",
) -> None:
    """Measure, print, and, if both scenes are measured, write benchmarks/results/mapping.json."""
    if any(os.environ.get(key) != value for key, value in ISA[isa].items()):  # read when torch is imported
        command = [sys.executable, "-m", "benchmarks.mapping", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, cwd=ROOT, env=os.environ | ISA[isa], check=False).returncode)
    used = accelerator(device, "--device")
    seed_generators(0)
    segmenter = model_of(encoder, isa)
    backend = TorchBackend(segmenter, used, isa == "native" and use_bf16("auto", used))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.safetensors"
        save_model(segmenter, model)
        measurements = small_scene(backend, model, folder, side, turns)
        if large_turns:
            measurements += large_scene(backend, model, folder, large_turns)
    setup = f"U-Net {encoder}, {_WINDOW} px, {backend.batch_size} at a time, {backend.description}, {isa}"
    kind = ("" if used == "cpu" else f"-{used}") + ("" if isa == "native" else f"-{isa}")
    packages = ["torch", "segmentation-models-pytorch", "rasterio", "numpy"]
    report(f"mapping{kind}", measurements, packages, keep=large_turns > 0, setup=setup)


if __name__ == "__main__":
    typer.run(main)
