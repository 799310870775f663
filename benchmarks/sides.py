"""The two sides of the tiling benchmark, each run in a separate process: python -m benchmarks.sides '<job as JSON>'.

The landseg side imports what the convert stage imports, the official side only OpenCV, so peak memory is that of the
work, not of the benchmark. Imports are not timed.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def clock() -> tuple[float, float]:
    """Return wall time and CPU time of this process, s."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    """Return wall time and CPU time since `start`, s."""
    return {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}


def official(pair: Path, out: Path, image: str, mask_bands: int) -> dict[str, float]:
    """Tile a scene by the official method of LandCover.ai v1; return the time.

    Reads the whole image and the whole mask, iterates over a grid of 512 px row by row, and writes every full tile with
    imwrite and its defaults.

    Args:
        pair: folder with image.tif and mask.tif.
        out: folder for the tiles.
        image: jpg (quality 95, as published) or png.
        mask_bands: 3 as published, the default of imread; 1 is less work.
    """
    import cv2

    start = clock()
    out.mkdir()
    flag = cv2.IMREAD_COLOR if mask_bands == 3 else cv2.IMREAD_UNCHANGED
    pixels, labels = cv2.imread(str(pair / "image.tif")), cv2.imread(str(pair / "mask.tif"), flag)
    assert pixels is not None and labels is not None  # noqa: PT018, S101  # imread returns None on failure
    k = 0
    for row in range(0, pixels.shape[0], 512):
        for col in range(0, pixels.shape[1], 512):
            tile, mask = pixels[row : row + 512, col : col + 512], labels[row : row + 512, col : col + 512]
            if tile.shape[:2] == (512, 512):
                cv2.imwrite(str(out / f"scene_{k}.{image}"), tile)
                cv2.imwrite(str(out / f"scene_{k}_m.png"), mask)
            k += 1
    return since(start)


def landseg(pair: Path, out: Path, masks_rgb: bool) -> dict[str, float]:
    """Tile a scene as pipeline/convert.py does, from a plan written by `prepare`; return the time.

    Writes one stored ZIP of PNG images, palette PNG masks and, optionally, RGB PNG masks. It also counts the pixels of
    every class, checks that every id has a class, and waits until the archive is on disk; the official method does none
    of this. A single scene is converted in this process, without workers.
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
    out.mkdir()
    rendering = Rendering(("red", "green", "blue"), "fixed", (0, 3000), 1.0)
    with converted_plan(plan, pair, out, card, TileOptions(rendering, 512, masks_rgb), LocalEngine(cores())):
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
    tiles = plan_tiles(scenes, pair, CARD, 512, "drop")
    write_plan(tiles, 512, CARD.bands, pair / "plan.parquet")
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


def measured(side: Callable[..., dict[str, float]], job: dict[str, Any]) -> dict[str, float]:
    """Run a side; return its time, its peak memory and the size of its output."""
    out = Path(job.pop("out"))
    spent = side(Path(job.pop("pair")), out, **job)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    written = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    return {**spent, "peak_mib": peak, "written_mb": written}


def main() -> None:
    """Run the job in the first argument; print its result as JSON."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    do, cores = job.pop("do"), job.pop("cores")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if do == "prepare":
        result = prepare(Path(job["pair"]), job["size"], job["seed"])
    elif do == "check":
        result = check(Path(job["official"]), Path(job["landseg"]), job["sample"])
    else:
        sides: dict[str, Callable[..., dict[str, float]]] = {"official": official, "landseg": landseg}
        result = measured(sides[do], job)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
