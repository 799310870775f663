"""Class table: ids, names and colours of land-cover classes, and lookup tables between ids, channels and colours."""

import re
import unicodedata
from collections import Counter
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

#: Channel of ignored pixels in targets: they count neither in the loss nor in the scores. Masks and maps store ids, in
#: which ignored pixels have the value `ignored_id`.
IGNORE = 255

_HEX = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


def _colour(value: Any) -> Any:
    match = _HEX.fullmatch(value) if isinstance(value, str) else None
    return tuple(int(pair, 16) for pair in match.groups()) if match else value


_Channel = Annotated[int, Field(ge=0, le=255)]
_Channels = tuple[_Channel, _Channel, _Channel]
_Hex = Annotated[str, Field(pattern=f"^{_HEX.pattern}$")]
#: Red, green and blue, 0 to 255; "#rrggbb" is accepted as well.
Colour = Annotated[_Channels, BeforeValidator(_colour, json_schema_input_type=_Channels | _Hex)]


def _printable(name: str) -> str:
    """Refuse control characters and the like, which break the files that contain the name."""
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in "\ufffe\uffff":
            raise ValueError(f"name {name!r} contains the control character {character!r}; remove it")
    return name


class LandClass(BaseModel):
    """A land-cover class: id in masks, name, and colour on maps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int = Field(
        ge=0, le=255, description="Pixel value in masks, 0 to 255. Ignored pixels get the highest id without a class."
    )
    name: Annotated[str, AfterValidator(_printable)] = Field(
        min_length=1, max_length=200, description="Name on maps, in tables and in metrics."
    )
    color: Colour = Field(description="Red, green, blue, 0 to 255, or '#rrggbb'.")


def _distinct(classes: tuple[LandClass, ...]) -> tuple[LandClass, ...]:
    if len(classes) > IGNORE:
        raise ValueError(
            f"{len(classes)} classes, but one of the 256 ids marks ignored pixels; give at most {IGNORE} classes"
        )
    for field in ("id", "name", "color"):
        counts = Counter(getattr(land_class, field) for land_class in classes)
        value, count = counts.most_common(1)[0]
        if count > 1:
            raise ValueError(f"{field} {value!r} occurs {count} times; each class needs a unique {field}")
    return classes


#: A class table: 2 to 255 classes with unique ids, names and colours.
ClassTable = Annotated[tuple[LandClass, ...], Field(min_length=2), AfterValidator(_distinct)]


def as_hex(colour: Colour) -> str:
    """Format a colour as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def class_names(classes: ClassTable) -> list[str]:
    """Return the class names, in channel order."""
    return [land_class.name for land_class in classes]


def ignored_id(classes: ClassTable) -> int:
    """Return the id of ignored pixels in stored masks and maps: the highest without a class, so 255 if it is none."""
    return max(set(range(256)) - {land_class.id for land_class in classes})


def palette(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the colour of each mask id: (256, 3) uint8, black for ids without a class."""
    table = np.zeros((256, 3), np.uint8)
    for land_class in classes:
        table[land_class.id] = land_class.color
    return table


def class_channels(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the model channel of each mask id: (256,) uint8, IGNORE for ids without a class.

    A channel is the position of a class in the table; ids may have gaps.
    """
    table = np.full(256, IGNORE, np.uint8)
    table[[land_class.id for land_class in classes]] = np.arange(len(classes))
    return table


def class_ids(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the mask id of each model channel: (K,) uint8."""
    return np.array([land_class.id for land_class in classes], np.uint8)
