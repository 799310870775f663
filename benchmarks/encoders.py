"""The PNG encoders of convert alone, over tiles in memory, on all cores: python -m benchmarks.encoders '<job as JSON>'.

It is what convert could reach if reading, counting and writing cost nothing. Every core has a process of its own,
started before the clock, whose tiles are decoded, coloured and in the order of bands that OpenCV encodes; what is
encoded is thrown away. A pool of threads is tried, too, and the faster of the two counts.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.windows import Window

from landseg.core.arrays import Pixels
from landseg.core.classes import palette
from landseg.core.parallel import cores
from landseg.datasets.landcoverai.fetch import CARD
from landseg.raster.png import colour_mask, encode_image, encode_mask, encode_rgb_mask

Triple = tuple[Pixels, Pixels, Pixels]

_SIZE = 512
_COLOURS = palette(CARD.classes)


def triples(raw: Path, kind: str, sample: int) -> list[Triple]:
    """Read tiles that are spread over all scenes: pictures, ids and coloured ids."""
    paths = sorted((raw / kind).iterdir())
    each = max(1, sample // len(paths))
    return [triple for path in paths for triple in _of_scene(path, raw / "masks" / path.name, each)]


def _of_scene(image: Path, mask: Path, count: int) -> Iterator[Triple]:
    with rasterio.open(image) as pixels, rasterio.open(mask) as labels:
        across = labels.width // _SIZE
        cells = across * (labels.height // _SIZE)
        for cell in range(cells // (2 * count), cells, -(-cells // count)):
            row, col = divmod(cell, across)
            window = Window(col * _SIZE, row * _SIZE, _SIZE, _SIZE)
            picture = np.ascontiguousarray(pixels.read(window=window)[::-1].transpose(1, 2, 0))
            ids = labels.read(1, window=window)
            yield picture, ids, colour_mask(ids, _COLOURS)


def encode(triple: Triple) -> int:
    """Encode a tile as convert does; return how many bytes it takes."""
    picture, ids, shown = triple
    return len(encode_image(picture)) + len(encode_mask(ids, _COLOURS)) + len(encode_rgb_mask(shown))


def by_threads(tiles: Sequence[Triple], turns: int) -> float:
    """Return how many triples a second a thread a core encodes, each as long as by processes."""
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(encode, tiles[: cores()]))
        start = time.perf_counter()
        list(pool.map(encode, list(tiles) * turns * cores()))
    return len(tiles) * turns * cores() / (time.perf_counter() - start)


def by_processes(tiles: Sequence[Triple], turns: int) -> float:
    """Return how many triples a second a process a core encodes."""
    context = multiprocessing.get_context("fork")  # the tiles need not travel
    start = context.Barrier(cores() + 1)
    workers = [context.Process(target=_work, args=(tiles, turns, start)) for _ in range(cores())]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return len(tiles) * turns * cores() / (time.perf_counter() - began)


def _work(tiles: Sequence[Triple], turns: int, start: Barrier) -> None:
    for tile in tiles[:8]:
        encode(tile)
    start.wait()
    for _ in range(turns):
        for tile in tiles:
            encode(tile)


def main() -> None:
    """Do the job named in the first argument; print the rates, tiles a second, as JSON."""
    job = json.loads(sys.argv[1])
    cv2.setNumThreads(1)
    tiles = triples(Path(job["raw"]), job["kind"], job["sample"])
    start = time.process_time()
    kib = sum(map(encode, tiles)) / len(tiles) / 1024
    cpu = (time.process_time() - start) / len(tiles)
    processes, threads = by_processes(tiles, job["turns"]), by_threads(tiles, job["turns"])
    rates = {"processes": processes, "threads": threads}
    print(json.dumps({"tiles": len(tiles), "kib": kib, "cpu_seconds_per_tile": cpu, **rates}))


if __name__ == "__main__":
    main()
