"""Tiling one scene of real size: landseg's convert against OpenCV in one and two processes, GDAL and geoai.

    uv run python -m benchmarks.tiling

All sides start from the same image.tif and mask.tif, and end with every tile of 512 px on the same disk. Each run is a
new process; the sides alternate; files are in the page cache. Wall time and CPU time, that of child processes
included, are without imports, except those of gdal_retile.py; peak memory is the sum of the peaks of all processes of a
side, with what they share counted in each.

| side | images | masks | method |
|---|---|---|---|
| official | JPEG 95 | PNG, three equal bands | whole files read and cut by OpenCV with its defaults, one thread |
| ..., one-band masks | JPEG 95 | PNG, one band | the same, with a third of the work for masks |
| ..., PNG | PNG | PNG, one band | the same |
| ..., two scenes | PNG or JPEG 95 | PNG, one band | two processes, each with a scene; time of one scene |
| ..., two halves | PNG | PNG, one band | read by one process, cut and written by two |
| landseg | PNG | palette PNG, one band | the convert stage, including class counts and checks |
| landseg, with RGB masks | PNG | both kinds | the same, with convert.masks_rgb |
| gdal_retile.py | PNG | PNG, one band | one process for the image and one for the mask; incomplete tiles, too |
| geoai | GeoTIFF | GeoTIFF | export_geotiff_tiles, one process; incomplete tiles, too |

Equal formats: `official, PNG` against `landseg`; a sample of decoded tiles is compared. The published method reads
masks as three bands; targets apply to one band, which is harder to beat. gdal_retile.py and geoai take much longer, so
they run in the first turns only, and are left out where they are not installed.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.common import ROOT, Measurement, console, report, spread
from benchmarks.peers import LANDSEG_PATH, environment
from benchmarks.processes import run_measured

Results = dict[str, list[dict[str, float]]]

PNG = {"image": "png", "mask_bands": 1}
JPEG = {"image": "jpg", "mask_bands": 1}
SIDES: dict[str, dict[str, Any]] = {
    "official": {"do": "official", "image": "jpg", "mask_bands": 3},
    "landseg": {"do": "landseg", "masks_rgb": False},
    "official, one-band masks": {"do": "official", **JPEG},
    "official, PNG, two scenes": {"do": "two scenes", **PNG},
    "landseg, with RGB masks": {"do": "landseg", "masks_rgb": True},
    "official, JPEG, two scenes": {"do": "two scenes", **JPEG},
    "official, PNG": {"do": "official", **PNG},
    "official, PNG, two halves": {"do": "two halves", **PNG},
    "gdal_retile.py": {"do": "gdal_retile"},
    "geoai": {"do": "geoai"},
}
#: Sides that take long, and the number of turns in which they run.
SLOW, SLOW_TURNS = ("gdal_retile.py", "geoai"), 2
#: Comparisons: title, key of the results, unit, landseg's side, baseline, minimum ratio.
RATIOS = (
    ("equal formats, two processes: time", "seconds", "s", "landseg", "official, PNG, two scenes", 1.5),
    ("equal formats, two processes: CPU time", "cpu_seconds", "s", "landseg", "official, PNG, two scenes", None),
    ("equal formats, two halves: time", "seconds", "s", "landseg", "official, PNG, two halves", None),
    ("equal formats, one process: time", "seconds", "s", "landseg", "official, PNG", 1.8),
    ("equal formats, one process: CPU time", "cpu_seconds", "s", "landseg", "official, PNG", None),
    ("lossless against JPEG, two processes: time", "seconds", "s", "landseg", "official, JPEG, two scenes", None),
    ("lossless against JPEG: time", "seconds", "s", "landseg", "official, one-band masks", 1.0),
    ("lossless against JPEG, masks as published: time", "seconds", "s", "landseg", "official", None),
    ("with RGB masks, against JPEG as published: time", "seconds", "s", "landseg, with RGB masks", "official", None),
    ("against gdal_retile.py: time", "seconds", "s", "landseg", "gdal_retile.py", None),
    ("against geoai: time", "seconds", "s", "landseg", "geoai", None),
    ("peak memory", "peak_mib", "MiB", "landseg", "official, one-band masks", 2.5),
    ("peak memory, masks as published", "peak_mib", "MiB", "landseg", "official", None),
)


def run_job(cores: int, **job: Any) -> dict[str, Any]:
    """Run a job of sides.py, or of a peer, in a separate process; return its result and the peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.sides", json.dumps({"cores": cores, **job})]
        if job["do"] == "geoai":
            job.pop("do")
            script = ROOT / "benchmarks/peers/tile_geoai.py"
            command = [str(environment("geoai")), str(script), json.dumps({"cores": cores, **job})]
        measured = run_measured(command, Path(folder), os.environ | {"PYTHONPATH": LANDSEG_PATH})
        result: dict[str, Any] = json.loads((Path(folder) / "log").read_text().splitlines()[-1])
    return {"peak_mib": measured["peak_mib"], "processes": measured["processes"], **result}


def sides() -> list[str]:
    """Return the sides that can run here."""
    missing = []
    if shutil.which("gdal_retile.py") is None:
        missing.append("gdal_retile.py")
    if shutil.which("uv") is None:
        missing.append("geoai")
    for side in missing:
        console.print(f"{side} is left out: it is not installed", style="dim")
    return [side for side in SIDES if side not in missing]


def measure(pair: Path, turns: int, cores: int) -> Results:
    """Run all sides alternately, `turns` times each, slow ones less often."""
    results: Results = {side: [] for side in sides()}
    for turn in range(turns):
        for side, measured in results.items():
            if side in SLOW and turn >= SLOW_TURNS:
                continue
            os.sync()  # pending writes of the other side
            out = pair / "out"
            found = run_job(cores, **SIDES[side], pair=str(pair), out=str(out))
            files = [path for path in out.rglob("*") if path.is_file()]
            count = 2 if SIDES[side]["do"] == "two scenes" else 1
            found["written_mb"] = sum(path.stat().st_size for path in files) / 1e6 / count
            found["tiles"] = _tiles(files) // count
            measured.append(found)
            shutil.rmtree(out)
            console.print(f"turn {turn + 1}: {side}: {found['seconds']:.2f} s", style="dim", highlight=False)
    return results


def _tiles(files: list[Path]) -> int:
    """Count the images among the files that a side wrote: half of its tiles and masks, or those in an archive."""
    if [path.suffix for path in files] == [".zip"]:
        with zipfile.ZipFile(files[0]) as archive:
            return sum(name.startswith("images/") for name in archive.namelist())
    return sum(path.suffix in (".png", ".jpg", ".tif") for path in files) // 2


def compare_pixels(pair: Path, cores: int) -> dict[str, Any]:
    """Write PNG tiles with both sides, decode a sample and compare the pixels."""
    ours, theirs = pair / "landseg", pair / "official"
    run_job(cores, **SIDES["landseg"], pair=str(pair), out=str(ours))
    run_job(cores, **SIDES["official, PNG"], pair=str(pair), out=str(theirs))
    return run_job(cores, do="check", official=str(theirs), landseg=str(ours), sample=30)


def print_sides(results: Results) -> None:
    """Print time, memory and output size of each side."""
    table = Table("side", title="median (minimum–maximum)")
    for column in ("wall, s", "CPU, s", "peak memory, MiB", "tiles", "written, MB"):
        table.add_column(column, justify="right")
    for side in sorted(results, reverse=True):
        values = {key: [turn[key] for turn in results[side]] for key in results[side][0]}
        wall, busy = spread(values["seconds"]), spread(values["cpu_seconds"])
        written = (f"{median(values[key]):.0f}" for key in ("tiles", "written_mb"))
        table.add_row(side, wall, busy, spread(values["peak_mib"], 0), *written)
    console.print(table)


def measurements(results: Results) -> list[Measurement]:
    """Return the ratios with their targets."""

    def values(side: str, key: str) -> list[float]:
        return [turn[key] for turn in results[side]]

    return [
        Measurement(title, unit, values(ours, key), values(other, key), other, at_least=at_least)
        for title, key, unit, ours, other, at_least in RATIOS
        if other in results
    ]


def main(
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 5,
    cores: Annotated[int, typer.Option(help="Number of cores for both sides.", min=1)] = 2,
    size: Annotated[
        int | None, typer.Option(help="Crop the scene to this height and width in pixels, for a trial.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files, 3 GB.")] = None,
) -> None:
    """Measure, print, and, with the whole scene, write benchmarks/results/tiling.json."""
    with tempfile.TemporaryDirectory(prefix="landseg-tiling-", dir=folder) as temporary:
        pair = Path(temporary)
        scene = run_job(cores, do="prepare", pair=str(pair), size=[size, size] if size else None, seed=0)
        console.print(f"{scene['tiles']} tiles; mask: {scene['mask']}; image: generated, {scene['image_mb']:.0f} MB")
        pixels = compare_pixels(pair, cores)
        console.print(f"pixels of both sides are equal ({pixels['compared']} of {pixels['tiles']} tiles decoded)")
        results = measure(pair, turns, cores)
    for side in (side for side in results if side.startswith("landseg")):
        for turn in results[side]:
            turn["seconds"] += scene["plan_seconds"]  # the official method plans while it cuts
    print_sides(results)
    details: dict[str, Any] = {"scene": scene, "cores used": cores, "turns": results}
    packages = ("opencv-python-headless", "isal", "rasterio", "pillow", "numpy")
    report("tiling", measurements(results), packages, keep=size is None, **details)


if __name__ == "__main__":
    typer.run(main)
