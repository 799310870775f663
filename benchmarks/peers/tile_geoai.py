"""geoai's side of the tiling benchmark: `geoai.export_geotiff_tiles`, from an image and a mask to GeoTIFF tiles."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from geoai import export_geotiff_tiles


def tile(pair: Path, out: Path) -> dict[str, float]:
    """Tile a scene; return wall time and CPU time, s."""
    wall, busy = time.perf_counter(), time.process_time()
    export_geotiff_tiles(str(pair / "image.tif"), str(out), str(pair / "mask.tif"), 512, 512, quiet=True)
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - busy}


if __name__ == "__main__":
    job: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
    print(json.dumps(tile(Path(job["pair"]), Path(job["out"]))))
