"""Class tables and palettes."""

from collections.abc import Iterable

import numpy as np
import pytest
from helpers.rasters import CLASSES
from pydantic import TypeAdapter, ValidationError

from landseg.core.classes import (
    IGNORE,
    ClassTable,
    Colour,
    LandClass,
    class_channels,
    class_ids,
    class_names,
    ignored_id,
    palette,
)
from landseg.datasets.ghana import card as ghana
from landseg.datasets.landcovernet import card as landcovernet


def test_palette() -> None:
    colours = palette(CLASSES)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    assert [tuple(colours[each.id]) for each in CLASSES] == [each.color for each in CLASSES]
    assert not colours[IGNORE].any()


def test_channels_and_ids_are_inverse() -> None:
    assert class_channels(CLASSES)[class_ids(CLASSES)].tolist() == [0, 1, 2, 3]
    assert (class_channels(CLASSES) == IGNORE).sum() == 256 - len(CLASSES)
    assert class_channels(CLASSES)[IGNORE] == IGNORE
    assert class_names(CLASSES) == ["background", "building", "woodland", "water"]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([(0, "a", "#000000")], "at least 2"),
        ([(0, "a", "#000000"), (0, "b", "#ffffff")], "id 0 occurs 2 times"),
        ([(0, "a", "#000000"), (1, "a", "#ffffff")], "name 'a' occurs 2 times"),
        ([(0, "a", "#000000"), (1, "b", (0, 0, 0))], "color .* occurs 2 times"),
        ([(0, "a", "#000000"), (1, "", "#ffffff")], "at least 1 character"),
        ([(0, "a", "#000000"), (-1, "b", "#ffffff")], "greater than or equal to 0"),
        ([(0, "a", "#000000"), (256, "b", "#ffffff")], "less than or equal to 255"),
    ],
)
def test_invalid_tables(rows: list[tuple[int, str, object]], fault: str) -> None:
    table = [{"id": number, "name": name, "color": colour} for number, name, colour in rows]
    with pytest.raises(ValidationError, match=fault):
        TypeAdapter(ClassTable).validate_python(table)


@pytest.mark.parametrize(
    ("ids", "ignored"), [([0, 1], 255), ([0, 254], 255), ([0, 255], 254), ([1, 253, 254, 255], 252)]
)
def test_id_of_ignored_pixels(ids: list[int], ignored: int) -> None:
    table = _table(ids)
    assert ignored_id(table) == ignored
    assert class_channels(table)[ignored] == IGNORE
    assert class_channels(table)[ids].tolist() == list(range(len(ids)))


def test_most_classes() -> None:
    table = TypeAdapter(ClassTable).validate_python(_table([*range(7), *range(8, 256)]))
    assert (len(table), ignored_id(table)) == (255, 7)
    assert class_channels(table)[7] == IGNORE
    assert class_channels(table)[255] == 254


@pytest.mark.faults
def test_no_id_is_left_for_ignored_pixels() -> None:
    with pytest.raises(ValidationError, match="256 classes, but one of the 256 ids marks ignored pixels; give at most"):
        TypeAdapter(ClassTable).validate_python(_table(range(256)))


def _table(ids: Iterable[int]) -> tuple[LandClass, ...]:
    return tuple(LandClass(id=value, name=f"class {value}", color=(value, 0, 1)) for value in ids)


@pytest.mark.parametrize(
    ("table", "some"),
    [
        (
            landcovernet.CLASSES,
            {
                1: ("water", (0, 0, 255)),
                6: ("cultivated vegetation", (24, 104, 24)),  # 7 in one paper's table: a misprint
                7: ("(semi) natural vegetation", (0, 255, 0)),
            },
        ),
        (
            ghana.CLASSES,
            {1: ("ground nut", (80, 0, 165)), 24: ("pepper", (204, 255, 153))},
        ),
    ],
)
def test_published_class_tables(table: ClassTable, some: dict[int, tuple[str, Colour]]) -> None:
    assert [each.id for each in table] == list(range(1, len(table) + 1))
    assert {each.id: (each.name, each.color) for each in table if each.id in some} == some
    TypeAdapter(ClassTable).validate_python(table)
