"""Mapping a scene against peers: the same network, weights, scene, windows of 512 px and overlap of 128 px.

    uv run python -m benchmarks.peer_prediction               # 4000 x 4000 px; 9 minutes on two cores
    uv run python -m benchmarks.peer_prediction --side 2048   # a trial

| side | windows that overlap | from a file of weights to |
|---|---|---|
| landseg | blended by a Hann window | COG with overviews, colours, class names and provenance |
| geoai | blended by the distance to the edge | GeoTIFF |
| Raster Vision | probabilities averaged | GeoTIFF |
| torchgeo | the later one overwrites; it has no way of its own (see peers/predict_torchgeo.py) | GeoTIFF |

rslearn is left out: it maps only datasets in its own layout, by models of its own components, so neither the scene nor
the weights can be given to it as they are.

At equal settings, all compute in 32 bit, four windows at a time. landseg at its defaults computes in bf16 where the CPU
has it, one window at a time; the peers have no other default than 32 bit. geoai's own default, an overlap of 256 px,
would cost it about twice the windows, and is not used.

Each run is a process of its own; the sides alternate. A map is timed from reading the weights to the finished file,
without imports; a process with them. Memory is the peak of all processes together, shared pages counted once. The
weights are trained for some steps first, by fixed seeds, on classes of local brightness, as a map of a single class
would show no seams. Seams compare changes of class across the edges of a side's own windows with those elsewhere.
"""

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any, cast

import cv2
import numpy as np
import rasterio
import torch
import torch.nn.functional as F  # noqa: N812
import typer

from benchmarks.common import Measurement, console, report
from benchmarks.loops import network
from benchmarks.peers import Isa, packages, run_landseg, run_side
from benchmarks.scene import write_pair
from benchmarks.seams import check_seams, seams
from benchmarks.tile_set import generate_tiles
from landseg.core.arrays import Pixels
from landseg.model.device import seed_generators
from landseg.model.segmenter import Segmenter, save_model
from landseg.predict.windows import place_windows

ENCODER, WINDOW, OVERLAP, BATCH = "resnet18", 512, 128, 4
PEERS = ("geoai", "torchgeo", "rastervision")
#: Options of a side besides those that all have in common.
OPTIONS: dict[str, dict[str, Any]] = {"torchgeo": {"workers": 2}}
_EPOCHS, _TILES, _SIZE = 4, 64, 256
Results = dict[str, list[dict[str, Any]]]


def train_model() -> Segmenter:
    """Train a network for a few steps to tell five classes of local brightness, so that its maps have several."""
    seed_generators(0)
    images = np.stack([image for image, _ in islice(generate_tiles(_TILES, _SIZE), _TILES)])
    light = np.stack([cv2.blur(image[:, :, 1], (33, 33)) for image in images])
    targets = torch.from_numpy(np.digitize(light, np.quantile(light, (0.3, 0.5, 0.7, 0.85))))
    built = network(ENCODER)
    # The peers divide by 255; a model file has the same normalisation.
    model = Segmenter(built.network, built.info.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3}))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(_EPOCHS):
        for numbers in torch.randperm(_TILES).view(-1, 8):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(torch.from_numpy(images[numbers.numpy()]).permute(0, 3, 1, 2))
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), targets[numbers]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def write_models(model: Segmenter, folder: Path, isa: Isa) -> None:
    """Write the weights for the peers, and model files of landseg that compute in 32 bit and by its default."""
    torch.save(model.network.state_dict(), folder / "weights.pt")
    # landseg asks the CPU whether it has bf16, which the environment does not hide.
    for name, precision in (("equal", "32"), ("landseg", "auto" if isa == "native" else "32")):
        info = model.info.model_copy(update={"params": {"train": {"precision": precision}}})
        save_model(Segmenter(model.network, info), folder / f"{name}.safetensors")


def run(name: str, folder: Path, side: int, isa: Isa) -> dict[str, Any]:
    """Map the scene by one side; return seconds, where its windows start, the process, and the map."""
    scene = str(folder / "image.tif")
    if name not in PEERS:
        out, batch = folder / name, BATCH if name == "equal" else None
        shutil.rmtree(out, ignore_errors=True)  # a finished map would be kept
        job: dict[str, Any] = {
            "do": "predict",
            "model": str(folder / f"{name}.safetensors"),
            "scene": scene,
            "out": str(out),
        }
        job |= {"batch": batch, "device": "cpu"}
        found = run_landseg(job, isa)
        starts = place_windows(side, WINDOW, OVERLAP / WINDOW, 32).starts
        return {**found, "starts": (starts, starts), "map": read(out / "image.tif")}
    path = folder / f"{name}.tif"
    job = {"scene": scene, "weights": str(folder / "weights.pt"), "out": str(path), "side": side}
    job |= {"encoder": ENCODER, "window": WINDOW, "overlap": OVERLAP, "batch": BATCH, **OPTIONS.get(name, {})}
    return {**run_side(name, f"predict_{name}", job, isa), "map": read(path)}


def read(path: Path) -> Pixels:
    """Return the classes of a map."""
    with rasterio.open(path) as source:
        return cast(Pixels, source.read(1))


def measure(folder: Path, side: int, isa: Isa, turns: int) -> tuple[Results, dict[str, dict[str, float]]]:
    """Map the scene by all sides in turns; return the results of each, one per turn, and facts about the last maps."""
    results: Results = {}
    maps: dict[str, Pixels] = {}
    for turn in range(turns):
        for name in ("equal", *PEERS, "landseg"):
            found = run(name, folder, side, isa)
            maps[name] = found.pop("map")
            results.setdefault(name, []).append(found)
            text = f"turn {turn + 1}: {name}: {found['seconds']:.1f} s, {found['process']['seconds']:.1f} s in all"
            console.print(text, style="dim", highlight=False)
    facts = {}
    for name, classes in maps.items():
        counts = np.bincount(classes.ravel(), minlength=5) / classes.size
        console.print(f"{name}: share of classes {np.round(counts, 3)}", style="dim", highlight=False)
        agreement = 100 * float(np.mean(classes == maps["equal"]))
        facts[name] = {"agreement": agreement, **seams(classes, results[name][-1]["starts"], WINDOW)}
    return results, facts


def measurements(results: Results, facts: dict[str, dict[str, float]]) -> list[Measurement]:
    """Return the measurements with their targets."""

    def seconds(name: str) -> list[float]:
        return [turn["seconds"] for turn in results[name]]

    def process(name: str, what: str) -> list[float]:
        return [turn["process"][what] for turn in results[name]]

    best = min(PEERS, key=lambda name: median(seconds(name)))
    rows = []
    for peer in PEERS:
        target = 1.8 if peer == best else None
        rows += [
            Measurement("map, 32 bit", "s", seconds("equal"), seconds(peer), peer, at_least=target),
            Measurement("map, landseg at its defaults", "s", seconds("landseg"), seconds(peer), peer, at_least=target),
        ]
        titles = {"seconds": "whole process", "cpu_seconds": "whole process, CPU", "pss_mib": "whole process, memory"}
        for what, title in titles.items():
            unit = "MiB" if what == "pss_mib" else "s"
            theirs = process(peer, what)
            rows += [
                Measurement(f"{title}, 32 bit", unit, process("equal", what), theirs, peer),
                Measurement(f"{title}, landseg at its defaults", unit, process("landseg", what), theirs, peer),
            ]
    for name in (*PEERS, "landseg"):
        what = "landseg at its defaults" if name == "landseg" else name
        rows.append(Measurement(f"{what}: pixels as in landseg's map in 32 bit", "%", [facts[name]["agreement"]]))
    for peer in PEERS:
        for which in ("rows", "columns", "worst"):
            title = f"seams, {which}: changes at edges of windows / elsewhere"
            rows.append(Measurement(title, "", [facts["equal"][which]], [facts[peer][which]], peer))
    return rows


def main(
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 2,
    side: Annotated[int, typer.Option(help="Height and width of the scene in pixels.")] = 4000,
    isa: Annotated[str, typer.Option(help="native, or avx2: no AVX-512 and no bf16.")] = "native",
) -> None:
    """Measure, print, and, at full size, write benchmarks/results/peer_prediction.json."""
    check_seams()
    instructions = cast(Isa, isa)
    with tempfile.TemporaryDirectory(prefix="landseg-peers-") as name:
        folder = Path(name)
        write_models(train_model(), folder, instructions)
        write_pair(folder, (side, side))
        results, facts = measure(folder, side, instructions, turns)
    setting = f"{side} x {side} px, U-Net {ENCODER}, {WINDOW} px, overlap {OVERLAP} px, {BATCH} at a time, {isa}"
    console.print(setting)
    details = {"setting": setting, "peers": {peer: packages(peer) for peer in PEERS}, "facts": facts, "turns": results}
    record = "peer_prediction" + ("" if isa == "native" else f"-{isa}")
    used = ("torch", "segmentation-models-pytorch", "rasterio", "numpy")
    report(record, measurements(results, facts), used, side == 4000 and turns > 1, **details)


if __name__ == "__main__":
    typer.run(main)
