"""The two sides of the tiling benchmark, each to be run in a process of its own: python sides.py '<job as JSON>'.

The landseg side imports what its convert stage imports, the official one OpenCV alone; so peak memory is that of
the work, not of the benchmark. Imports are not timed.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def official(pair: Path, out: Path, image: str) -> float:
    """Tile a scene in the official way of LandCover.ai v1; return the seconds it took.

    Read the whole image and the whole mask, walk a grid of 512 px row by row, write every full tile with imwrite
    and its defaults: the image as JPEG (quality 95) or, for the comparison of equal formats, as PNG; the mask as PNG.
    The mask is read and written as the single band it is. (Read with OpenCV's default it would become three equal
    bands, three times the memory and the encoding; that is left out, in favour of this side.)
    """
    import cv2  # noqa: PLC0415

    start = time.perf_counter()
    out.mkdir()
    pixels, labels = cv2.imread(str(pair / "image.tif")), cv2.imread(str(pair / "mask.tif"), cv2.IMREAD_UNCHANGED)
    k = 0
    for row in range(0, pixels.shape[0], 512):
        for col in range(0, pixels.shape[1], 512):
            tile, mask = pixels[row : row + 512, col : col + 512], labels[row : row + 512, col : col + 512]
            if tile.shape[:2] == (512, 512):
                cv2.imwrite(str(out / f"scene_{k}.{image}"), tile)
                cv2.imwrite(str(out / f"scene_{k}_m.png"), mask)
            k += 1
    return time.perf_counter() - start


def landseg(pair: Path, out: Path, masks_rgb: bool, threads: int) -> float:
    """Tile a scene as pipeline/convert.py does, from a plan written by `prepare`; return the seconds it took.

    Writes one stored ZIP of PNG images and palette PNG masks and, if asked for, RGB PNG masks. It also counts the
    pixels of every class, checks that every id has a class, and waits until the archive is on the disk, none of
    which the official way does.
    """
    from landseg.convert import Picture, convert_archive  # noqa: PLC0415
    from landseg.datasets.landcoverai import CARD  # noqa: PLC0415
    from landseg.tables import read_parquet  # noqa: PLC0415

    start = time.perf_counter()
    plan = read_parquet(pair / "plan.parquet", ["tile", "archive", "image", "mask", "row", "col", "height", "width"])
    out.mkdir()
    picture = Picture((1, 2, 3), "fixed", (0, 3000), 1.0)
    convert_archive(plan, pair, out, CARD, picture, 512, masks_rgb, threads)
    return time.perf_counter() - start


def prepare(pair: Path, size: list[int] | None, seed: int) -> dict[str, Any]:
    """Write the scene pair and its tile plan; return where the mask is from, and the seconds that planning took."""
    import pandas as pd  # noqa: PLC0415
    from scene import write_pair  # noqa: PLC0415

    from landseg.tiling import plan, write_plan  # noqa: PLC0415

    origin = write_pair(pair, (size[0], size[1]) if size else None, seed)
    scenes = pd.DataFrame([("scene", "image.tif", "mask.tif")], columns=["scene", "image", "mask"])
    start = time.perf_counter()
    tiles = plan(scenes, pair, 512, "drop")
    write_plan(tiles, pair / "plan.parquet")
    seconds = time.perf_counter() - start
    return {"mask": origin, "tiles": len(tiles), "plan_seconds": seconds}


def check(official: Path, landseg: Path, sample: int) -> dict[str, int]:
    """Compare what both sides wrote, PNG both; return how many tiles there are, and how many were decoded.

    Raises:
        SystemExit: a tile is missing on one side, or its pixels differ.
    """
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    with zipfile.ZipFile(landseg / "scene.zip") as archive:
        names = sorted(Path(name).stem for name in archive.namelist() if name.startswith("images/"))
        if names != sorted(path.stem for path in official.glob("*.png") if not path.stem.endswith("_m")):
            raise SystemExit("the two sides wrote other tiles")
        chosen = names[:: max(1, len(names) // sample)]
        for name in chosen:
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(f"images/{name}.png"))))
            ids = np.asarray(Image.open(io.BytesIO(archive.read(f"masks/{name}.png"))))
            same = np.array_equal(pixels[..., ::-1], cv2.imread(str(official / f"{name}.png")))
            if not same or not np.array_equal(ids, cv2.imread(str(official / f"{name}_m.png"), cv2.IMREAD_UNCHANGED)):
                raise SystemExit(f"tile {name}: the two sides differ")
    return {"tiles": len(names), "compared": len(chosen)}


def _timed(seconds: float) -> dict[str, float]:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": seconds, "peak_mib": peak / 2**20}


def main() -> None:
    """Do the job named in the first argument; print its result as JSON."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    if job["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
    pair, out = Path(job.get("pair", "")), Path(job.get("out", ""))
    result: dict[str, Any]
    if job["do"] == "official":
        result = _timed(official(pair, out, job["image"]))
    elif job["do"] == "landseg":
        result = _timed(landseg(pair, out, job["masks_rgb"], job["threads"]))
    elif job["do"] == "prepare":
        result = prepare(pair, job["size"], job["seed"])
    else:
        result = check(Path(job["official"]), Path(job["landseg"]), job["sample"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
