"""Scaling: training by several processes, one per device, against one.

    uv run python -m benchmarks.devices                 # the GPUs of this machine, otherwise two processes on its CPU
    uv run python -m benchmarks.devices --device cpu

Both sides run pipeline/train.py as DVC does, on the same generated tiles with the same batch size, so processes share
every batch (strong scaling). On a CPU, a process has one thread, so two have twice the cores of one; U-Net ResNet18,
256 px, batches of 8. On GPUs: U-Net ResNet34, 512 px, batches of 32 per GPU of the larger side. Sides alternate; the
first epoch of each run warms up and does not count. Rates are those of the curves: tiles per second of training steps,
on all devices.

Efficiency is rate(n) / (n · rate(1)).
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from ruamel.yaml import YAML

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.tile_set import RGB, write_tiles
from landseg.core.data_card import write_card
from landseg.core.paths import Paths
from landseg.core.scaling import UNSCALED
from landseg.core.tables import extend_parquet, pixel_column
from landseg.datasets.landcoverai.card import CARD
from landseg.loader.tile_set import TileSet
from landseg.model.device import Accelerator, accelerator

#: Settings by kind of device: encoder, tile size in px, batch size per device, number of tiles, epochs per turn.
SETTINGS = {"cuda": ("resnet34", 512, 32, 1024, 4), "cpu": ("resnet18", 256, 4, 48, 3)}
PATHS = Paths(CARD.name)


def write_project(folder: Path, device: Accelerator, devices: int, tiles: int, settings: tuple[str, int, int]) -> None:
    """Write what the train stage reads: tiles, split table, data card, and params.yaml.

    Args:
        folder: root of the project.
        device: kind of device.
        devices: devices of the larger side.
        tiles: number of training tiles; as many as a batch has are for validation.
        settings: encoder, tile size in px, and batch size per device.
    """
    encoder, size, batch = settings
    write_tiles(folder / PATHS.tiles, tiles + batch, size)
    write_card(CARD, folder / PATHS.table("card.json"))
    _write_split(folder, tiles, batch)
    params = YAML(typ="safe").load(ROOT / "presets/landcoverai.yaml")
    params["model"] |= {"encoder": encoder, "encoder_weights": None}
    params["train"] |= {"batch_size": batch * devices, "epochs": SETTINGS[_key(device)][4], "cache": "auto"}
    params["scheduler"] |= {"step": 1}
    params["compute"] |= {"device": device, "devices": devices, "micro_batch": None}
    YAML(typ="safe").dump(params, folder / "params.yaml")


def _key(device: Accelerator) -> str:
    return "cuda" if device == "cuda" else "cpu"


def _write_split(folder: Path, tiles: int, val: int) -> None:
    """Write the split table, as the split stage does, with the columns that training reads."""
    numbers = range(tiles + val)
    table = pd.DataFrame({"archive": [f"{n // 64}.zip" for n in numbers], "tile": [f"t_{n}" for n in numbers]})
    found = TileSet(folder / PATHS.tiles, table, CARD.classes, RGB)
    pixels = np.array([np.bincount(found.read(n)[1].ravel(), minlength=len(CARD.classes)) for n in numbers])
    for channel, land_class in enumerate(CARD.classes):
        table[pixel_column(land_class.id)] = pixels[:, channel]
    scaling = "; ".join([UNSCALED] * len(CARD.bands))
    for name, value in (("scene", "s"), ("location", "s"), ("group", ""), ("dtype", "uint8"), ("scaling", scaling)):
        table[name] = value
    table["gsd"], table["split"] = 0.25, ["train"] * tiles + ["val"] * val
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    path = folder / PATHS.table("split.parquet")
    metadata = {"rendering": RGB.to_json(), "bands": json.dumps(CARD.bands)}
    extend_parquet(io.BytesIO(content.getvalue()), path, {}, metadata)


def train(project: Path, devices: int) -> dict[str, list[float]]:
    """Run the train stage on a number of devices; return the speeds of all epochs but the first.

    Raises:
        SystemExit: the stage failed.
    """
    yaml = YAML(typ="safe")
    params = yaml.load(project / "params.yaml")
    params["compute"]["devices"] = devices
    yaml.dump(params, project / "params.yaml")
    shutil.rmtree(project / "results", ignore_errors=True)
    threads = {} if params["compute"]["device"] == "cuda" else {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "pipeline/train.py")]
    done = subprocess.run(command, cwd=project, env=os.environ | threads, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{devices} devices failed:\n{done.stderr}")
    curves = project / "results/train/plots/metrics/speed"
    return {name: _curve(curves / f"{name}.tsv")[1:] for name in ("images_per_second", "data_wait")}


def _curve(path: Path) -> list[float]:
    return [float(line.split("\t")[1]) for line in path.read_text().splitlines()[1:]]


def measurements(rates: dict[int, list[float]]) -> list[Measurement]:
    """Return the rates and the efficiency of the larger number of devices."""
    few, many = sorted(rates)
    ours, ideal = rates[many], [many * rate for rate in rates[few]]
    return [
        Measurement(f"training by {many} processes", "images/s", ours, rates[few], "one process", "ours / other"),
        Measurement("scaling efficiency", "images/s", ours, ideal, f"{many} × the rate of one", "ours / other"),
    ]


def main(
    device: Annotated[str, typer.Option(help="cuda, cpu or auto.")] = "auto",
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 3,
    tiles: Annotated[int | None, typer.Option(help="Number of tiles, for a trial.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files.")] = None,
) -> None:
    """Measure, print, and, in full, write benchmarks/results/devices.json (devices_cuda.json on GPUs)."""
    used = accelerator(device)  # type: ignore[arg-type]
    devices = torch.cuda.device_count() if used == "cuda" else 2
    if devices < 2:
        raise SystemExit("this machine has one GPU; run with --device cpu")
    encoder, size, batch, count, _ = SETTINGS[_key(used)]
    rates: dict[int, list[float]] = {1: [], devices: []}
    waits: dict[int, list[float]] = {1: [], devices: []}
    with tempfile.TemporaryDirectory(prefix="landseg-devices-", dir=folder) as temporary:
        project = Path(temporary)
        write_project(project, used, devices, tiles or count, (encoder, size, batch))
        for turn in range(turns):
            for number in rates:
                speeds = train(project, number)
                rates[number] += speeds["images_per_second"]
                waits[number] += speeds["data_wait"]
                rate = median(speeds["images_per_second"])
                console.print(f"turn {turn + 1}: {number}: {rate:.2f} images/s", style="dim", highlight=False)
    efficiency = median(rates[devices]) / devices / median(rates[1])
    console.print(f"scaling efficiency of {devices} processes: {efficiency:.1%}")
    details: dict[str, Any] = {"efficiency": efficiency, "data_wait": waits}
    setting = f"U-Net {encoder}, generated tiles of {size} px, batches of {batch * devices}, {used}"
    name = "devices" if used == "cpu" else f"devices_{used}"
    keep = tiles is None and turns > 1
    report(name, measurements(rates), ("torch", "lightning-fabric"), keep, setting=setting, **details)


if __name__ == "__main__":
    typer.run(main)
