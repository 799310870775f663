"""The sides of the tiling benchmark, each run in a separate process: python -m benchmarks.sides '<job as JSON>'.

The landseg side imports what the convert stage imports, the others only what they need, so peak memory is that of the
work, not of the benchmark. Times that a side returns are without imports.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

# As pipeline/convert.py does; NumPy reads it when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_SIZE = 512
Spent = dict[str, float]


def clock() -> tuple[float, float]:
    """Return wall time and CPU time of this process and of its children that have ended, s."""
    return time.perf_counter(), sum(os.times()[:4])


def since(start: tuple[float, float], scenes: int = 1) -> Spent:
    """Return wall time and CPU time per scene since `start`, s."""
    wall, busy = clock()
    return {"seconds": (wall - start[0]) / scenes, "cpu_seconds": (busy - start[1]) / scenes}


def _cut(pixels: Any, labels: Any, rows: range, out: Path, name: str, image: str) -> None:
    """Write the full tiles of some rows of a grid of 512 px by OpenCV, with its defaults."""
    import cv2

    across = -(-pixels.shape[1] // _SIZE)
    for row in rows:
        for k, col in enumerate(range(0, pixels.shape[1], _SIZE), row // _SIZE * across):
            tile, mask = (each[row : row + _SIZE, col : col + _SIZE] for each in (pixels, labels))
            if tile.shape[:2] == (_SIZE, _SIZE):
                cv2.imwrite(str(out / f"{name}_{k}.{image}"), tile)
                cv2.imwrite(str(out / f"{name}_{k}_m.png"), mask)


def _read(pair: Path, mask_bands: int) -> tuple[Any, Any]:
    import cv2

    cv2.setNumThreads(1)
    flag = cv2.IMREAD_COLOR if mask_bands == 3 else cv2.IMREAD_UNCHANGED
    pixels, labels = cv2.imread(str(pair / "image.tif")), cv2.imread(str(pair / "mask.tif"), flag)
    assert pixels is not None and labels is not None  # noqa: PT018, S101  # imread returns None on failure
    return pixels, labels


def _cut_scene(pair: Path, out: Path, name: str, image: str, mask_bands: int) -> None:
    pixels, labels = _read(pair, mask_bands)
    _cut(pixels, labels, range(0, pixels.shape[0], _SIZE), out, name, image)


def _two_processes() -> Pool:
    """Start two processes that have imported OpenCV."""
    import cv2  # noqa: F401

    pool = get_context("fork").Pool(2)
    pool.map(abs, range(2), chunksize=1)
    return pool


def official(pair: Path, out: Path, image: str, mask_bands: int) -> Spent:
    """Tile a scene by the official method of LandCover.ai v1; return the time.

    Reads the whole image and the whole mask, iterates over a grid of 512 px row by row, and writes every full tile with
    imwrite and its defaults.

    Args:
        pair: folder with image.tif and mask.tif.
        out: folder for the tiles.
        image: jpg (quality 95, as published) or png.
        mask_bands: 3 as published, the default of imread; 1 is less work.
    """
    import cv2  # noqa: F401

    start = clock()
    _cut_scene(pair, out, "scene", image, mask_bands)
    return since(start)


def two_scenes(pair: Path, out: Path, image: str, mask_bands: int) -> Spent:
    """Tile two scenes by the official method, each in a process of its own; return the time of one."""
    with _two_processes() as pool:
        start = clock()
        pool.starmap(_cut_scene, [(pair, out, name, image, mask_bands) for name in ("a", "b")], chunksize=1)
        pool.close()
        pool.join()
        return since(start, scenes=2)


def two_halves(pair: Path, out: Path, image: str, mask_bands: int) -> Spent:
    """Tile a scene by the official method, read by one process and cut by two that share memory; return the time."""
    import cv2  # noqa: F401

    start = clock()
    pixels, labels = _read(pair, mask_bands)
    rows = range(0, pixels.shape[0], _SIZE)
    halves = (rows[::2], rows[1::2])
    workers = [
        get_context("fork").Process(target=_cut, args=(pixels, labels, half, out, "scene", image)) for half in halves
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return since(start)


def gdal_retile(pair: Path, out: Path) -> Spent:
    """Tile a scene by two gdal_retile.py at a time, one for the image and one for the mask; return the time."""
    start = clock()
    running = []
    for name in ("image", "mask"):
        (out / name).mkdir()
        command = ["gdal_retile.py", "-q", "-of", "PNG", "-ps", str(_SIZE), str(_SIZE), "-targetDir", str(out / name)]
        running.append(subprocess.Popen([*command, str(pair / f"{name}.tif")], stdout=subprocess.DEVNULL))
    if any([each.wait() for each in running]):  # noqa: C419  # waits for both
        raise SystemExit("gdal_retile.py failed")
    return since(start)


def landseg(pair: Path, out: Path, masks_rgb: bool) -> Spent:
    """Tile a scene as pipeline/convert.py does, from a plan written by `prepare`; return the time.

    Writes one stored ZIP of PNG images, palette PNG masks and, optionally, RGB PNG masks. It also counts the pixels of
    every class, checks that every id has a class, and waits until the archive is on disk; the other sides do none of
    this. A single scene is converted in this process, without workers.
    """
    from landseg.convert.convert import PLAN_COLUMNS, converted_plan
    from landseg.convert.encode import TileOptions
    from landseg.core.data_card import read_card
    from landseg.core.parallel import LocalEngine, cores
    from landseg.core.rendering import Rendering
    from landseg.core.tables import read_arrow

    start = clock()
    card = read_card(pair / "card.json")
    plan = read_arrow(pair / "plan.parquet", ["archive", *PLAN_COLUMNS])
    rendering = Rendering(("red", "green", "blue"), "fixed", (0, 3000), 1.0)
    with converted_plan(plan, pair, out, card, TileOptions(rendering, _SIZE, masks_rgb), LocalEngine(cores())):
        return since(start)


def prepare(pair: Path, size: list[int] | None, seed: int) -> dict[str, Any]:
    """Write image, mask, data card and tile plan; return facts about them and the planning time."""
    from benchmarks.scene import write_pair
    from landseg.core.data_card import write_card
    from landseg.core.tables import scene_table
    from landseg.datasets.landcoverai.card import CARD
    from landseg.tile.plan import plan_tiles, write_plan

    origin = write_pair(pair, (size[0], size[1]) if size else None, seed)
    write_card(CARD, pair / "card.json")
    scenes = scene_table([{"scene": "scene", "image": "image.tif", "mask": "mask.tif"}])
    start = clock()
    tiles = plan_tiles(scenes, pair, CARD, _SIZE, "drop")
    write_plan(tiles, _SIZE, CARD.bands, pair / "plan.parquet")
    seconds = since(start)["seconds"]
    megabytes = (pair / "image.tif").stat().st_size / 1e6
    return {"mask": origin, "tiles": len(tiles), "plan_seconds": seconds, "image_mb": megabytes}


def check(official: Path, landseg: Path, sample: int) -> dict[str, int]:
    """Compare the PNG tiles of both sides; return the numbers of tiles and of compared tiles.

    Raises:
        SystemExit: a tile is missing on one side, or pixels differ.
    """
    import io
    import zipfile

    import numpy as np
    from PIL import Image

    with zipfile.ZipFile(landseg / "scene.zip") as archive:
        names = sorted(Path(name).stem for name in archive.namelist() if name.startswith("images/"))
        if names != sorted(path.stem for path in official.glob("*.png") if not path.stem.endswith("_m")):
            raise SystemExit("the two sides wrote different tiles")
        chosen = names[:: max(1, len(names) // sample)]
        for name in chosen:
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(f"images/{name}.png"))))
            ids = np.asarray(Image.open(io.BytesIO(archive.read(f"masks/{name}.png"))))
            theirs = [np.asarray(Image.open(official / f"{name}{kind}.png")) for kind in ("", "_m")]
            if not all(map(np.array_equal, (pixels, ids), theirs)):
                raise SystemExit(f"tile {name}: the two sides differ")
    return {"tiles": len(names), "compared": len(chosen)}


_SIDES: dict[str, Callable[..., Spent]] = {
    "official": official,
    "two scenes": two_scenes,
    "two halves": two_halves,
    "gdal_retile": gdal_retile,
    "landseg": landseg,
}


def main() -> None:
    """Run the job in the first argument; print its result as JSON."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    do, cores = job.pop("do"), job.pop("cores")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    result: Mapping[str, Any]
    if do == "prepare":
        result = prepare(Path(job["pair"]), job["size"], job["seed"])
    elif do == "check":
        result = check(Path(job["official"]), Path(job["landseg"]), job["sample"])
    else:
        out = Path(job.pop("out"))
        out.mkdir()
        result = _SIDES[do](Path(job.pop("pair")), out, **job)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
