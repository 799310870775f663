"""Mapping many scenes: two workers of landseg predict against one, and this code against an earlier revision.

    uv run python -m benchmarks.predict_workers
    uv run python -m benchmarks.predict_workers --against REVISION

Workers are processes of Dask on the loopback with one thread each, and have loaded the model before the time begins:
one scheduler has one worker, the other has two. A worker has one core (taskset), as it also reads and compresses while
it predicts. Sides alternate in one run, and are compared by the time of a whole call of `predict_scenes`: connecting,
checking all scenes, mapping them. Both write the same bytes, which is checked.

With --against, the default of landseg predict (one scene after another, with all cores) is timed in a process of its
own for each turn, from the call to the last map, with the code of this folder and with that of the revision.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.loops import network
from benchmarks.scene import write_pair
from benchmarks.scheduler import scheduler
from landseg.maps.task_runner import EngineChoice
from landseg.model.segmenter import save_model
from landseg.predict.command import predict_scenes
from landseg.predict.options import PredictOptions
from landseg.predict.outputs import OutputOptions

# Maps scenes one after another; prints seconds. Revisions have the options in either module.
_CHILD = """
import json, sys, time
from pathlib import Path
from landseg.predict.command import predict_scenes
from landseg.predict.outputs import OutputOptions
try:
    from landseg.predict.options import PredictOptions
except ImportError:
    from landseg.predict.command import PredictOptions
job = json.loads(sys.argv[1])
start = time.perf_counter()
options = PredictOptions(job["model"], device="cpu")
list(predict_scenes(job["scenes"], None, options, OutputOptions(Path(job["out"])), lambda _: None))
print(json.dumps(time.perf_counter() - start))
"""


def map_by(address: str, scenes: Sequence[str], model: Path, out: Path) -> float:
    """Map scenes by the workers of a scheduler; return seconds."""
    start = time.perf_counter()
    outputs, choice = OutputOptions(out), EngineChoice(address=address)
    options = PredictOptions(str(model), device="cpu")
    for _ in predict_scenes(scenes, None, options, outputs, lambda _: None, choice):
        pass
    return time.perf_counter() - start


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def compare_workers(scenes: Sequence[str], model: Path, folder: Path, turns: int) -> dict[int, list[float]]:
    """Map the scenes by one and by two workers in turns; return seconds, one value per turn."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        addresses = {workers: stack.enter_context(scheduler(workers, folder)) for workers in seconds}
        for turn in range(turns + 1):  # the first loads the model
            order = (1, 2) if turn % 2 else (2, 1)
            for workers in order:
                spent = map_by(addresses[workers], scenes, model, folder / f"{turn}-{workers}")
                seconds[workers] += [spent] if turn else []
            one, two = (content(folder / f"{turn}-{workers}") for workers in (1, 2))
            if one != two:
                raise SystemExit("one worker and two workers wrote different files")
            console.print(f"turn {turn}: {seconds}", style="dim", highlight=False)
    return seconds


def map_in_process(source: Path, scenes: Sequence[str], model: Path, out: Path) -> float:
    """Map the scenes in a process with the code of a folder; return seconds."""
    job = json.dumps({"scenes": scenes, "model": str(model), "out": str(out)})
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", _CHILD, job]
    done = subprocess.run(
        command, env=environment | {"PYTHONPATH": str(source / "src")}, cwd=out.parent, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def compare_revisions(
    revision: str, scenes: Sequence[str], model: Path, folder: Path, turns: int
) -> dict[str, list[float]]:
    """Map the scenes with this code and with that of a revision in turns; return seconds, one value per turn."""
    seconds: dict[str, list[float]] = {"now": [], "then": []}
    other = folder / "revision"
    other.mkdir()
    archive = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x"], cwd=other, input=archive, check=True)
    for turn in range(turns + 1):  # the first fills caches
        for side in ("now", "then") if turn % 2 else ("then", "now"):
            source = ROOT if side == "now" else other
            spent = map_in_process(source, scenes, model, folder / f"{turn}-{side}")
            seconds[side] += [spent] if turn else []
        console.print(f"turn {turn}: {seconds}", style="dim", highlight=False)
    return seconds


def main(
    turns: Annotated[int, typer.Option(help="Runs of each side.")] = 5,
    count: Annotated[int, typer.Option("--scenes", help="Number of scenes.")] = 16,
    side: Annotated[int, typer.Option(help="Height and width of a scene in pixels.")] = 1024,
    against: Annotated[str | None, typer.Option(help="Compare with a git revision, on one machine.")] = None,
) -> None:
    """Measure, print, and, without --against, write benchmarks/results/predict_workers.json."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.safetensors"
        save_model(network("resnet18"), model)
        scenes = []
        for number in range(count):
            write_pair(folder, (side, side), seed=number)
            scenes.append(str((folder / "image.tif").rename(folder / f"scene-{number}.tif")))
        what = f"{count} scenes of {side} x {side} px, U-Net resnet18"
        if against:
            spent = compare_revisions(against, scenes, model, folder, turns)
            text = f"{what}, one after another, all cores"
            measurements = [Measurement(text, "s", spent["now"], spent["then"], against[:12], at_least=0.97)]
        else:
            times = compare_workers(scenes, model, folder, turns)
            text = f"{what}: two workers on a core each"
            measurements = [Measurement(text, "s", times[2], times[1], "one worker on one core", at_least=1.8)]
    report("predict_workers", measurements, ["torch", "distributed", "rasterio", "numpy"], keep=not against)


if __name__ == "__main__":
    typer.run(main)
