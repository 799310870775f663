"""The class table: ids, names and colours, and what follows from them."""

import re
from collections import Counter
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

#: The id of pixels that count for nothing: neither in the loss nor in a score.
IGNORE = 255

_HEX = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


def _colour(value: Any) -> Any:
    match = _HEX.fullmatch(value) if isinstance(value, str) else None
    return tuple(int(pair, 16) for pair in match.groups()) if match else value


_Channel = Annotated[int, Field(ge=0, le=255)]
_Channels = tuple[_Channel, _Channel, _Channel]
_Hex = Annotated[str, Field(pattern=f"^{_HEX.pattern}$")]
#: Red, green and blue, 0 to 255; "#rrggbb" is read too.
Colour = Annotated[_Channels, BeforeValidator(_colour, json_schema_input_type=_Channels | _Hex)]


class LandClass(BaseModel):
    """One class of land cover: its id in masks, its name, its colour on maps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int = Field(ge=0, lt=IGNORE, description="Pixel value in masks, 0 to 254; 255 is kept for ignored pixels.")
    name: str = Field(min_length=1, description="Name on maps, in tables and in metrics.")
    color: Colour = Field(description="Red, green, blue, 0 to 255, or '#rrggbb'.")


def _distinct(classes: tuple[LandClass, ...]) -> tuple[LandClass, ...]:
    for field in ("id", "name", "color"):
        counts = Counter(getattr(land_class, field) for land_class in classes)
        value, count = counts.most_common(1)[0]
        if count > 1:
            raise ValueError(f"{field} {value!r} occurs {count} times; every class needs its own")
    return classes


#: A class table: at least two classes, with ids, names and colours of their own.
ClassTable = Annotated[tuple[LandClass, ...], Field(min_length=2), AfterValidator(_distinct)]


def as_hex(colour: Colour) -> str:
    """Return a colour as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def class_names(classes: ClassTable) -> list[str]:
    """Return the class names, in channel order."""
    return [land_class.name for land_class in classes]


def palette(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the colour of every mask id: (256, 3) uint8, black where no class has the id."""
    table = np.zeros((256, 3), np.uint8)
    for land_class in classes:
        table[land_class.id] = land_class.color
    return table


def class_channels(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the model channel of every mask id: (256,) uint8, IGNORE where no class has the id.

    Ids may have gaps; channels are the positions in the class table.
    """
    table = np.full(256, IGNORE, np.uint8)
    table[[land_class.id for land_class in classes]] = np.arange(len(classes))
    return table


def class_ids(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the mask id of every model channel: (K,) uint8."""
    return np.array([land_class.id for land_class in classes], np.uint8)
