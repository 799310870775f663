"""Memory use of conversion does not grow with the scenes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.converting import planned
from helpers.rasters import TRANSFORM, card, class_colours, random_image, random_labels, write_tif
from rasterio.windows import Window

from landseg.convert.convert import PLAN_COLUMNS
from landseg.core.data_card import DataCard


def big_scene(raw: Path, height: int, width: int) -> pd.DataFrame:
    """Write a scene in strips, like those of LandCover.ai; return its tile plan."""
    strip, ids = random_image(1, width).repeat(64, axis=1) & 0xF0, random_labels(64, width)
    common: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "dtype": "uint8", "compress": "deflate", "zlevel": 1,
        "crs": "EPSG:2180", "transform": TRANSFORM,
    }  # fmt: skip
    for name, pixels in (("i", strip), ("m", ids[None])):
        with rasterio.open(raw / f"{name}.tif", "w", count=len(pixels), interleave="pixel", **common) as raster:
            for row in range(0, height, 64):
                rows = min(64, height - row)
                raster.write(pixels[:, :rows], window=Window(0, row, width, rows))
    return planned(raw, raw / "i.tif", raw / "m.tif", size=512)


def peak_megabytes(raw: Path, tiles: pd.DataFrame, of: DataCard) -> float:
    """Convert with four threads in a new process; return its peak memory use in MiB."""
    (raw / "plan.json").write_text(tiles[PLAN_COLUMNS].to_json(orient="values"))
    (raw / "card.json").write_text(of.model_dump_json())
    # Not getrusage, which includes the peak of the parent process.
    script = f"""
import json, re, sys
from pathlib import Path
from landseg.convert.encode import ArchivePlan, PlannedTile, TileOptions, write_archive
from landseg.core.data_card import read_card
from landseg.core.rendering import Rendering
raw = Path({str(raw)!r})
tiles = [PlannedTile(*row) for row in json.loads((raw / "plan.json").read_text())]
write_archive(ArchivePlan(raw / "s.zip", tiles), raw, read_card(raw / "card.json"),
              TileOptions(Rendering(("red", "green", "blue"), "fixed", (0, 1), 1.0), 512, True), 4)
assert not {{"pandas", "pyarrow", "geopandas"}} & set(sys.modules)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (raw / "s.zip").stat().st_size > 0
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_by_windows(tmp_path: Path) -> None:
    """A scene of real width in the most demanding formats; two rows of tiles suffice, as more take no more memory."""
    tiles = big_scene(tmp_path, 1024, 9000)
    write_tif(
        tmp_path / "m.tif", class_colours(random_labels(1024, 9000)).transpose(2, 0, 1), compress="deflate", zlevel=1
    )
    write_tif(
        tmp_path / "i.tif", random_image(1, 9000).repeat(1024, axis=1).astype(np.uint16), compress="deflate", zlevel=1
    )
    assert peak_megabytes(tmp_path, tiles, card(mask={"values": "rgb"})) < 340


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_real_size_scene(tmp_path: Path) -> None:
    assert peak_megabytes(tmp_path, big_scene(tmp_path, 9500, 9000), card()) < 290
