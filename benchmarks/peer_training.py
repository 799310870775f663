"""Training speed against torchgeo: the same network, weights, tiles, loss, optimizer and batch size.

    uv run python -m benchmarks.peer_training              # 32 bit and each side's defaults; 9 minutes on two cores
    uv run python -m benchmarks.peer_training --isa avx2   # as on a CPU without AVX-512 and bf16
    uv run python -m benchmarks.peer_training --device cuda

| setting | landseg | torchgeo |
|---|---|---|
| equal | 32 bit, no augmentation | the same |
| 32 bit | 32 bit, its augmentation: symmetries, brightness, contrast | its own: also sharpness and colour jitter |
| defaults | bf16 if the CPU has it, the same augmentation | the same as in 32 bit |

Both train a U-Net with cross entropy and AdamW on generated tiles, landseg by its own loop with the tier that auto
picks, torchgeo by LandCoverAIDataModule, SemanticSegmentationTask and Lightning's Trainer, with two worker processes.
landseg reads PNG, torchgeo JPEG, as LandCover.ai is published for it; both keep decoded tiles in memory. torchgeo
updates two metrics in every step, landseg's scores come from validation alone, so torchgeo is also timed without them.

A side is a process of its own, which trains on all sizes of tiles; the sides alternate. The first epoch warms up. Speed
is images by the wall time of an epoch, without validation; CPU time is that of all processes of a side in the same
epochs; memory is the peak of all processes together, shared pages counted once.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal, cast

import torch
import typer

from benchmarks.common import Measurement, console, report
from benchmarks.loops import network
from benchmarks.peers import Isa, packages, run_landseg, run_side
from benchmarks.tile_set import write_chips, write_tiles
from landseg.model.device import accelerator, use_bf16

#: By kind of device: encoder, batch size, epochs per turn, tier that auto picks, and the number of tiles by size, px.
SETTINGS: Mapping[str, tuple[str, int, int, str, dict[int, int]]] = {
    "cpu": ("resnet18", 8, 2, "memory", {128: 64, 256: 40}),
    "cuda": ("resnet34", 32, 4, "device", {512: 512}),
}
#: Title of each setting, its landseg side, its torchgeo side, and the least ratio.
COMPARED = (
    ("equal: 32 bit, no augmentation", "landseg, equal", "torchgeo, equal", 1.2),
    ("32 bit, each with its augmentation", "landseg, 32 bit", "torchgeo", 1.2),
    ("each with its defaults", "landseg", "torchgeo", 2.0),
)
NO_METRICS = "torchgeo, equal, no metrics"
Results = dict[str, list[dict[str, Any]]]


def sides(isa: Isa) -> dict[str, dict[str, Any]]:
    """Return the jobs by side, in the order in which they alternate."""
    # landseg asks the CPU whether it has bf16, which the environment does not hide.
    auto = "auto" if isa == "native" else "32"
    return {
        "landseg, equal": {"precision": "32", "augmented": False},
        "torchgeo, equal": {"metrics": True, "augmented": False},
        "landseg, 32 bit": {"precision": "32", "augmented": True},
        "torchgeo": {"metrics": True, "augmented": True},
        "landseg": {"precision": auto, "augmented": True},
        NO_METRICS: {"metrics": False, "augmented": False},
    }


def run(side: str, job: dict[str, Any], folder: Path, tiles: Mapping[int, int], tier: str, isa: Isa) -> dict[str, Any]:
    """Run a side; return images/s and CPU seconds per image of its epochs by size, and its peak memory, MiB."""
    folders = {size: str(folder / str(size)) for size in tiles}
    if side.startswith("landseg"):
        job = {**job, "do": "train", "folders": folders, "tiles": tiles, "tier": tier}
        result = run_landseg(job, isa)
    else:
        folders = {size: f"{name}/chips" for size, name in folders.items()}
        result = run_side("torchgeo", "train_torchgeo", {**job, "folders": folders}, isa)
    speeds = {size: [tiles[int(size)] / wall for wall, _ in epochs] for size, epochs in result["epochs"].items()}
    cpu = {size: [busy / tiles[int(size)] for _, busy in epochs] for size, epochs in result["epochs"].items()}
    return {"images_per_second": speeds, "cpu_per_image": cpu, "process": result["process"]}


def measure(tiles: Mapping[int, int], device: str, isa: Isa, turns: int, folder: Path) -> Results:
    """Run all sides in turns; return the results of each, one per turn.

    Args:
        tiles: number of tiles by size, px.
        device: where to compute.
        isa: instructions that torch may use.
        turns: runs of each side; the side without metrics runs once.
        folder: folder for the tiles.
    """
    encoder, batch, epochs, tier, _ = SETTINGS[device]
    weights = folder / "weights.pt"
    torch.save(network(encoder).network.state_dict(), weights)
    for size, count in tiles.items():
        write_tiles(folder / str(size), count + batch, size)
        write_chips(folder / str(size) / "chips", count, size)
    common = {"weights": str(weights), "encoder": encoder, "batch": batch, "epochs": epochs, "device": device}
    results: Results = {}
    for turn in range(turns):
        for side, job in sides(isa).items():
            if turn and side == NO_METRICS:
                continue
            found = run(side, {**common, **job}, folder, tiles, tier, isa)
            results.setdefault(side, []).append(found)
            rates = ", ".join(f"{median(each):.2f} at {size} px" for size, each in found["images_per_second"].items())
            text = f"turn {turn + 1}: {side}: images/s {rates}; {found['process']['seconds']:.0f} s in all"
            console.print(text, style="dim", highlight=False)
    return results


def measurements(results: Results, size: int, bf16: bool) -> list[Measurement]:
    """Return the measurements of tiles of one size, with targets."""

    def values(side: str, name: str) -> list[float]:
        return [value for turn in results[side] for value in turn[name][str(size)]]

    rows = []
    for title, ours, other, least in COMPARED:
        speeds, cpu = ((values(ours, each), values(other, each)) for each in ("images_per_second", "cpu_per_image"))
        target = least if bf16 else 1.2
        rows += [
            Measurement(f"{size} px, {title}: training", "images/s", *speeds, "torchgeo", "ours / other", target),
            Measurement("the same: CPU time of an image", "s", *cpu, "torchgeo"),
        ]
    speeds = values("landseg, equal", "images_per_second"), values(NO_METRICS, "images_per_second")
    against = "torchgeo without its metrics"
    return [*rows, Measurement(f"{size} px, {COMPARED[0][0]}: training", "images/s", *speeds, against, "ours / other")]


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cpu",
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 3,
    isa: Annotated[str, typer.Option(help="native, or avx2: no AVX-512 and no bf16.")] = "native",
    size: Annotated[int | None, typer.Option(help="One size of tiles only, px, for a trial.")] = None,
) -> None:
    """Measure, print, and, in full, write benchmarks/results/peer_training.json (-avx2, or _cuda on a GPU)."""
    used, instructions = accelerator(cast(Literal["auto"], device)), cast(Isa, isa)
    encoder, batch, _, tier, sizes = SETTINGS[used]
    tiles = {pixels: count for pixels, count in sizes.items() if size in (None, pixels)}
    with tempfile.TemporaryDirectory(prefix="landseg-peers-") as folder:
        results = measure(tiles, used, instructions, turns, Path(folder))
    bf16 = isa == "native" and use_bf16("auto", used)
    rows = [row for pixels in tiles for row in measurements(results, pixels, bf16)]
    memory = [[turn["process"]["pss_mib"] for turn in results[side]] for side in ("landseg", "torchgeo")]
    rows.append(Measurement("defaults: peak memory", "MiB", memory[0], memory[1], "torchgeo"))
    setting = f"U-Net {encoder}, generated tiles, batches of {batch}, {used}, tier {tier}, bf16 {bf16}, {isa}"
    console.print(setting)
    name = "peer_training" + ("" if used == "cpu" else f"_{used}") + ("" if isa == "native" else f"-{isa}")
    details = {"setting": setting, "peer": packages("torchgeo"), "turns": results}
    keep = size is None and turns > 1
    report(name, rows, ("torch", "segmentation-models-pytorch", "albumentations"), keep, **details)


if __name__ == "__main__":
    typer.run(main)
