"""PNG encoders alone, on tiles in memory, on all cores: python -m benchmarks.encoders '<job as JSON>'.

This is the rate that convert would reach if reading, counting and writing took no time. Each core has one process,
started before the timer, with decoded and coloured tiles; the encoded bytes are discarded. A thread pool is measured as
well, and the faster of the two counts.

| encoders | image | RGB mask | palette mask |
|---|---|---|---|
| own | ISA-L | ISA-L | ISA-L |
| opencv | OpenCV, Huffman codes alone, Average | OpenCV, level 1, None | Pillow, level 1 |

`opencv` are those of convert before ISA-L, a baseline that does not change when convert's encoders do.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.png import pillow, png_options
from landseg.core.arrays import Pixels
from landseg.core.classes import palette
from landseg.core.parallel import cores
from landseg.datasets.landcoverai.card import CARD
from landseg.raster.png import colour_mask, encode_image, encode_mask, encode_rgb_mask

Triple = tuple[Pixels, Pixels, Pixels]
Encode = Callable[[Triple], int]

_SIZE = 512
_COLOURS = palette(CARD.classes)


def triples(raw: Path, kind: str, sample: int) -> list[Triple]:
    """Read tiles spread over all scenes: images (H, W, 3), class ids (H, W) and RGB masks (H, W, 3)."""
    paths = sorted((raw / kind).iterdir())
    per_scene = max(1, sample // len(paths))
    return [triple for path in paths for triple in _scene_triples(path, raw / "masks" / path.name, per_scene)]


def _scene_triples(image: Path, mask: Path, count: int) -> Iterator[Triple]:
    with rasterio.open(image) as pixels, rasterio.open(mask) as labels:
        across = labels.width // _SIZE
        cells = across * (labels.height // _SIZE)
        for cell in range(cells // (2 * count), cells, -(-cells // count)):
            row, col = divmod(cell, across)
            window = Window(col * _SIZE, row * _SIZE, _SIZE, _SIZE)
            rgb = np.ascontiguousarray(pixels.read(window=window).transpose(1, 2, 0))
            ids = labels.read(1, window=window)
            yield rgb, ids, colour_mask(ids, _COLOURS)


def own(triple: Triple) -> int:
    """Encode a tile as convert does; return the number of bytes."""
    image, ids, rgb = triple
    return len(encode_image(image)) + len(encode_mask(ids, _COLOURS)) + len(encode_rgb_mask(rgb))


def opencv(triple: Triple) -> int:
    """Encode a tile by OpenCV and Pillow; return the number of bytes."""
    image, ids, rgb = triple
    images = ((image, _HUFFMAN_AVERAGE), (rgb, _DEFAULT_NONE))
    encoded = (cv2.imencode(".png", cv2.cvtColor(each, cv2.COLOR_RGB2BGR), options)[1] for each, options in images)
    return sum(each.nbytes for each in encoded) + len(_palette_mask(ids))


_palette_mask = pillow(1, _COLOURS)
_HUFFMAN_AVERAGE, _DEFAULT_NONE = png_options(1, "Huffman only", "Average"), png_options(1, "default", "None")
ENCODERS: dict[str, Encode] = {"own": own, "opencv": opencv}


def by_threads(encode: Encode, tiles: Sequence[Triple], turns: int) -> float:
    """Return triples per second with one thread per core; each thread encodes as many as a process would."""
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(encode, tiles[: cores()]))
        start = time.perf_counter()
        list(pool.map(encode, list(tiles) * turns * cores()))
    return len(tiles) * turns * cores() / (time.perf_counter() - start)


def by_processes(encode: Encode, tiles: Sequence[Triple], turns: int) -> float:
    """Return triples per second with one process per core."""
    context = multiprocessing.get_context("fork")  # shares the tiles
    start = context.Barrier(cores() + 1)
    workers = [context.Process(target=_work, args=(encode, tiles, turns, start)) for _ in range(cores())]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return len(tiles) * turns * cores() / (time.perf_counter() - began)


def _work(encode: Encode, tiles: Sequence[Triple], turns: int, start: Barrier) -> None:
    for tile in tiles[:8]:
        encode(tile)
    start.wait()
    for _ in range(turns):
        for tile in tiles:
            encode(tile)


def main() -> None:
    """Run the job in the first argument; print the rates, tiles per second, as JSON."""
    job = json.loads(sys.argv[1])
    cv2.setNumThreads(1)
    tiles = triples(Path(job["raw"]), job["kind"], job["sample"])
    encode = ENCODERS[job["encoders"]]
    start = time.process_time()
    kib = sum(map(encode, tiles)) / len(tiles) / 1024
    cpu = (time.process_time() - start) / len(tiles)
    processes, threads = by_processes(encode, tiles, job["turns"]), by_threads(encode, tiles, job["turns"])
    rates = {"processes": processes, "threads": threads}
    print(json.dumps({"tiles": len(tiles), "kib": kib, "cpu_seconds_per_tile": cpu, **rates}))


if __name__ == "__main__":
    main()
