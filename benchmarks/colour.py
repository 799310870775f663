"""What a pixel's colour alone tells: the score that a network, which sees context, must beat.

A histogram Bayes classifier: for every colour, in 32 bins a channel, the commonest class among the
training part's pixels. It is fitted and scored on the very parts that the network was trained and
scored on, so run it after `dvc repro`. Colours never seen in training get the commonest class.

    uv run python benchmarks/colour.py
"""

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from landseg import metrics
from landseg.core.classes import IGNORE, ClassTable, class_channels
from landseg.core.data_card import read_card
from landseg.core.params import dataset_name
from landseg.core.paths import RESULTS, Paths
from landseg.core.tile_archive import read_image, read_mask
from landseg.loader.tile_set import split_tiles

BITS = 5
Channels = npt.NDArray[np.uint8]


def pixels(paths: Paths, classes: ClassTable, name: str) -> Iterator[tuple[npt.NDArray[np.int64], Channels]]:
    """Yield, of every tile of a part, the colour bins (n,) and the channels (n,) of its labelled pixels."""
    to_channel = class_channels(classes)
    for row in split_tiles(paths.table("split.parquet"), name, classes).itertuples():
        member = paths.tiles / str(row.archive), str(row.tile)
        red, green, blue = (read_image(*member) >> (8 - BITS)).astype(np.int64).transpose(2, 0, 1)
        target = to_channel[read_mask(*member)]
        labelled = target != IGNORE
        yield (red << 2 * BITS | green << BITS | blue)[labelled], target[labelled]


def main() -> None:
    """Fit, score, print."""
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
    print(f"majority:     macro mIoU {model['majority']['macro_miou']:.4f}")
    print(f"colour alone: macro mIoU {np.nanmean(metrics.iou(matrix)):.4f}")
    print(f"the model:    macro mIoU {model['macro_miou']:.4f}")


if __name__ == "__main__":
    main()
