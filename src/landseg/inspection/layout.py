"""Tile size and split that suit the size of the images and the number of labels."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landseg.inspection.headers import Header
from landseg.inspection.vectors import LabelLayer, pixel_boxes

_SIZES = (256, 128, 64, 32)
# Numbers of scenes and of groups from which they are what is split, tiles from which a size is large enough, and units
# from which a tenth is enough for val and for test.
_MIN_SCENES, _MIN_GROUPS, _MIN_TILES, _MANY = 8, 5, 100, 30
_MIN_BLOCKS = 16
# Objects by which tile sizes are compared.
_MAX_OBJECTS = 20_000
_GROUP = re.compile(r"(.*?[^\d_\-. ].*?)[_\-. ]+[0-9]+(?:[_\-x][0-9]+)*")


@dataclass
class Layout:
    """Tiles and their split."""

    size: int
    strategy: str
    ratios: tuple[float, float, float]
    block: int = 4
    #: Regular expression of dataset.groups.
    groups: str | None = None
    #: What each is chosen by.
    why: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)


def ratios(units: int) -> tuple[float, float, float]:
    """Return shares of train, val and test that give val and test several units each."""
    return (0.8, 0.1, 0.1) if units >= _MANY else (0.6, 0.2, 0.2)


def encoder_depth(size: int) -> int:
    """Return the number of downsampling stages after which some pixels are left of a tile."""
    return 5 if size >= 256 else 4 if size >= 128 else 3


def label_layout(headers: Sequence[Header], layer: LabelLayer) -> Layout:
    """Choose the largest tiles with which every class has objects in several groups of tiles, which the split needs.

    Each class needs three groups, and half of those that the smallest tiles give; so do all classes together.
    """
    found = [
        (size, *_label_groups(headers, layer, size))
        for size in _SIZES
        if size <= max(32, min(map(min, _sides(headers))))
    ]
    most = {value: max(each[2].get(value, 0) for each in found) for value in found[-1][2]}
    wanted = {value: min(count, max(3, -(-count // 2))) for value, count in most.items()}
    least = max(3, max(groups for _, groups, _ in found) // 2)
    enough = [
        each
        for each in found
        if each[1] >= least and all(each[2].get(value, 0) >= count for value, count in wanted.items())
    ]
    size, groups, by_class = (enough or found[-1:])[0]
    layout = Layout(size, "label", ratios(min(by_class.values(), default=0)))
    fewest = min(by_class.values(), default=0)
    layout.why["size"] = f"with this size, {groups:,} groups of tiles share no object, at least {fewest} of each class"
    layout.why["strategy"] = (
        f"the labels are {len(layer.table):,} {layer.kind} in {len(headers):,} image{'' if len(headers) == 1 else 's'}"
    )
    if fewest < 3:
        layout.questions["strategy"] = (
            "a class lies in fewer than three groups of tiles, so a split lacks it: can you add labels?"
        )
    return layout


def _sides(headers: Sequence[Header]) -> list[tuple[int, int]]:
    return [header.size for header in headers]


def _label_groups(headers: Sequence[Header], layer: LabelLayer, size: int) -> tuple[int, dict[Any, int]]:
    """Return the number of groups of tiles that share no object, in all and for each class."""
    classes = layer.table[layer.column].to_numpy()[:_MAX_OBJECTS]
    groups, by_class = 0, Counter[Any]()
    for header in headers:
        boxes = pixel_boxes(layer, header)[:_MAX_OBJECTS]
        height, width = header.size
        held = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < width) & (boxes[:, 1] < height)
        if not held.any():
            continue
        limit = np.array([width, height, width, height]) - 1
        cells = np.clip(boxes[held], 0, limit).astype(int) // size
        columns = width // size + 1
        pairs = [
            (number, row * columns + col)
            for number, (left, top, right, bottom) in enumerate(cells.tolist())
            for row in range(top, bottom + 1)
            for col in range(left, right + 1)
        ]
        objects, tiles = np.array(pairs).T
        count = len(cells)
        shape = (count + int(tiles.max()) + 1,) * 2
        _, part = connected_components(
            coo_array((np.ones(len(pairs)), (objects, count + tiles)), shape), directed=False
        )
        groups += len(np.unique(part[:count]))
        for value in dict.fromkeys(classes[held].tolist()):
            by_class[value] += len(np.unique(part[:count][classes[held] == value]))
    return groups, dict(by_class)


def mask_layout(headers: Sequence[Header], names: Sequence[str], places: int) -> Layout:
    """Choose tiles and a split for images with label rasters.

    Args:
        headers: headers of the images.
        names: their names.
        places: number of places that they show.
    """
    prefixes = groups_of(names)
    if places >= _MIN_SCENES:
        size, why = _size_of_many(headers)
        layout = Layout(size, "scene", ratios(places), why={"size": why})
        layout.why["strategy"] = f"{len(headers):,} images show {places:,} places, enough to split them whole"
        if prefixes and len(prefixes) >= _MIN_GROUPS:
            layout.strategy, layout.ratios, layout.groups = "group", ratios(len(prefixes)), _GROUP.pattern
            layout.why["strategy"] = f"names have {len(prefixes):,} beginnings, so images that share one stay together"
            layout.questions["groups"] = (
                f"are images that share a beginning, such as {next(iter(prefixes))}, close together? If not, set this "
                "to null and split.strategy to scene"
            )
        elif prefixes:
            layout.groups = _GROUP.pattern
            layout.questions["groups"] = (
                f"are images that share a beginning ({', '.join(list(prefixes)[:4])}) close together? If so, scores of "
                f"the split by scene are too high, but {len(prefixes)} groups are too few to split"
            )
        return layout
    size, block, blocks = _blocks(headers)
    layout = Layout(size, "block", ratios(blocks), block)
    layout.why["size"] = f"gives {_tiles(headers, size):,} tiles"
    layout.why["strategy"] = (
        f"{places} place{' is' if places == 1 else 's are'} too few to split whole; there are {blocks} blocks"
    )
    return layout


def groups_of(names: Sequence[str]) -> Counter[str]:
    """Count the names with the same beginning before a number; empty if these are no groups."""
    matches = [_GROUP.fullmatch(name) for name in names]
    found = Counter(match[1] for match in matches if match)
    return found if all(matches) and 2 <= len(found) <= len(names) / 2 else Counter()


def _size_of_many(headers: Sequence[Header]) -> tuple[int, str]:
    sides = sorted(min(header.size) for header in headers)
    side, sizes = sides[len(sides) // 10], {header.size for header in headers}
    if len(sizes) == 1 and headers[0].grid.height == headers[0].grid.width <= 512 and side % 32 == 0:
        return side, f"the size of all images, {side} px"
    size = max(32, min(256, side // 32 * 32))
    return size, f"images measure {sides[0]:,} to {max(max(header.size) for header in headers):,} px"


def _tiles(headers: Sequence[Header], size: int) -> int:
    return sum(-(-height // size) * -(-width // size) for height, width in _sides(headers))


def _blocks(headers: Sequence[Header]) -> tuple[int, int, int]:
    """Return the largest tile size with enough tiles, the largest blocks with enough of them, and their number."""
    size = next((size for size in _SIZES if _tiles(headers, size) >= _MIN_TILES), 32)
    counts = {block: _tiles(headers, size * block) for block in (8, 4, 3, 2, 1)}
    block = next((block for block, count in counts.items() if count >= _MIN_BLOCKS), 1)
    return size, block, counts[block]
