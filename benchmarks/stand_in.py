"""Stand-in for a stage: writes its outputs and logs its time. See orchestration.py.

    python stand_in.py <log> <layout> <tiles> <bytes> <stage> <output>...

Only data/tiles of the convert stage gets a realistic number of files. Other outputs are one small file, or a folder
with one. They contain the current params.yaml, so that outputs change with parameters.
"""

import random
import sys
import time
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

_SCENES = 41  # of LandCover.ai v1
_KINDS = ("images", "masks", "masks_rgb")


def members(tiles: int, size: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield scene, path and content of every file of a tile set: three per tile, the same bytes in every call."""
    rng = random.Random(0)  # noqa: S311
    for number in range(tiles):
        scene = f"scene_{number * _SCENES // tiles:02d}"
        for kind in _KINDS:
            yield scene, f"{kind}/{scene}_{number}.png", rng.randbytes(size)


def write_tiles(folder: Path, layout: str, tiles: int, size: int) -> None:
    """Write the tile set as loose files, or as one stored ZIP per scene."""
    if layout == "loose":
        for kind in _KINDS:
            (folder / kind).mkdir()
        for _, path, content in members(tiles, size):
            (folder / path).write_bytes(content)
        return
    for scene, files in groupby(members(tiles, size), lambda member: member[0]):
        with zipfile.ZipFile(folder / f"{scene}.zip", "w") as archive:
            for _, path, content in files:
                archive.writestr(zipfile.ZipInfo(path), content)


def main() -> None:
    """Write the outputs of a stage, and the line `stage seconds` to the log."""
    start = time.perf_counter()
    log, layout, tiles, size, stage, *outputs = sys.argv[1:]
    for output in map(Path, outputs):
        (output.parent if output.suffix else output).mkdir(parents=True, exist_ok=True)
        if stage == "convert" and output.parts[:2] == ("data", "tiles"):
            write_tiles(output, layout, int(tiles), int(size))
        else:
            file = output if output.suffix else output / "content"
            file.write_bytes(Path("params.yaml").read_bytes())
    with Path(log).open("a") as lines:
        lines.write(f"{stage} {time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
