"""Colour-only baseline: the score of a classifier that sees the colour of single pixels.

A histogram Bayes classifier with 32 bins per channel: each colour gets its most common class among the pixels of the
training split; colours that do not occur there get the most common class overall. It works for any dataset, and needs
the tiles, the splits and the scores of the current run, so run it after `dvc repro`.

    uv run python benchmarks/colour.py
"""

import json
from collections.abc import Iterator

import numpy as np

from landseg import metrics
from landseg.core.arrays import Ints, Pixels
from landseg.core.classes import IGNORE, ClassTable, class_channels
from landseg.core.data_card import read_card
from landseg.core.errors import reporting
from landseg.core.params import dataset_name
from landseg.core.paths import RESULTS, Paths
from landseg.core.tile_archive import read_image, read_mask
from landseg.loader.tile_set import split_tiles

BITS = 5


def pixels(paths: Paths, classes: ClassTable, name: str) -> Iterator[tuple[Ints, Pixels]]:
    """Yield the colour bins (n,) and the channels (n,) of the labelled pixels of every tile of a split."""
    to_channel = class_channels(classes)
    for row in split_tiles(paths.table("split.parquet"), name, classes).itertuples():
        member = paths.tiles / str(row.archive), str(row.tile)
        red, green, blue = (read_image(*member) >> (8 - BITS)).astype(np.int64).transpose(2, 0, 1)
        target = to_channel[read_mask(*member)]
        labelled = target != IGNORE
        yield (red << 2 * BITS | green << BITS | blue)[labelled], target[labelled]


def main() -> None:
    """Fit and score the classifier; print its score beside those of the model and of the majority class."""
    paths = Paths(dataset_name())
    classes = read_card(paths.table("card.json")).classes
    histogram = np.zeros((1 << 3 * BITS, len(classes)), np.int64)
    for colour, target in pixels(paths, classes, "train"):
        np.add.at(histogram, (colour, target), 1)
    seen = histogram.any(axis=1, keepdims=True)
    commonest = np.where(seen, histogram, histogram.sum(axis=0)).argmax(axis=1).astype(np.uint8)
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for colour, target in pixels(paths, classes, "test"):
        matrix += metrics.confusion(target, commonest[colour], len(classes))
    model = json.loads((RESULTS / "metrics.json").read_text())
    print(f"majority class: macro mIoU {model['majority']['macro_miou']:.4f}")
    print(f"colour only:    macro mIoU {np.nanmean(metrics.iou(matrix)):.4f}")
    print(f"model:          macro mIoU {model['macro_miou']:.4f}")


if __name__ == "__main__":
    with reporting("params.yaml"):
        main()
