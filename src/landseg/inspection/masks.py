"""Label rasters: how they encode classes, and which classes there are."""

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from landseg.core.errors import LandsegError
from landseg.inspection.headers import Header
from landseg.inspection.pixels import MAX_VALUES, Value, count_values

Rgb = tuple[int, int, int]

#: Colours that differ well, by Sasha Trubetskoy (https://sashamaps.net/docs/resources/20-colors/).
COLOURS: tuple[Rgb, ...] = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40), (255, 250, 200),
    (128, 0, 0), (170, 255, 195), (128, 128, 0), (255, 215, 180), (0, 0, 128), (128, 128, 128),
)  # fmt: skip
# Values that often mark pixels without a label, and the share up to which they are taken for that.
_UNLABELLED, _RARE = 255, 0.05
# Share of the pixels up to which a colour may be the blended edge between classes.
_EDGE = 1e-4


@dataclass
class Class:
    """A class that was found."""

    id: int
    name: str
    color: Rgb
    #: Pixels or objects, in words.
    note: str = ""


@dataclass
class Labels:
    """What was found out about labels: values of keys in `dataset`, what they rest on, and what only the user knows."""

    kind: str
    classes: list[Class]
    values: dict[str, object] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    questions: dict[str, list[str]] = field(default_factory=dict)
    #: What would stop the pipeline, one sentence each.
    faults: list[str] = field(default_factory=list)

    def note(self, key: str, text: str) -> None:
        """Add what a value rests on."""
        self.notes.setdefault(key, []).append(text)

    def ask(self, key: str, text: str) -> None:
        """Add a question."""
        self.questions.setdefault(key, []).append(text)


def distinct_colours(count: int) -> list[Rgb]:
    """Return different colours."""
    more = (
        colorsys.hsv_to_rgb((0.618 * number) % 1, 0.5 + number % 3 / 6, 0.4 + number % 5 / 9) for number in range(count)
    )
    colours = dict.fromkeys([*COLOURS, *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in more)])
    return list(colours)[:count]


def read_masks(folder: Path, headers: Sequence[Header]) -> Labels:
    """Find the encoding and the classes of label rasters.

    Raises:
        LandsegError: a file is damaged, or values are too many or no integers.
    """
    counts, complete = count_values(folder, headers)
    first = headers[0]
    in_colour = first.count >= 3 or first.colours[0] == "red"
    labels = _rgb(counts) if in_colour else _ids(folder, headers, counts)
    total = f"{sum(counts.values()):,} pixels of {len(headers):,} label raster{'' if len(headers) == 1 else 's'}"
    labels.note(
        "classes", f"counted in all {total}" if complete else f"counted in a sample of {total}: rare values may lack"
    )
    if first.count == 2:
        labels.faults.append(f"{first.path.name}: label rasters have 2 bands; write one, with class ids")
    if lossy := [header.path.name for header in headers if header.driver == "JPEG"]:
        labels.faults.append(
            f"{lossy[0]}: label rasters are JPEG, which changes values; write them as PNG from their source"
        )
    return labels


def _share(count: int, total: int) -> str:
    return f"{count:,} px, {100 * count / total:.2g} %"


def _rgb(counts: Counter[Value]) -> Labels:
    total = counts.total()
    if len(counts) > MAX_VALUES:
        kept = [colour for colour, count in counts.most_common(MAX_VALUES) if count > _EDGE * total]
    else:
        kept = sorted(counts, key=lambda colour: (-counts[colour], colour))
        kept = [colour for colour in kept if counts[colour] > 0]
    colours = [colour for colour in kept if isinstance(colour, tuple)]
    names = [f"class_{number}" for number in range(len(colours))]
    classes = [
        Class(number, name, colour, _share(counts[colour], total))
        for number, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]
    labels = Labels("RGB colours", classes, {"mask_values": "rgb", "unlisted": "error"})
    labels.note("mask_values", "label rasters have three bands of few colours")
    labels.ask("classes", "what do the colours mean? Name the classes")
    greys = [each.name for each in classes if len(set(each.color)) == 1]
    if greys and len(classes) > 2:
        labels.ask(
            "classes",
            f"is {' or '.join(greys)}, grey or black, unlabelled? It is a class here, so that scores and maps show it; "
            "if it is unlabelled, move its colour to ignore",
        )
    if len(counts) > len(classes):
        left = total - sum(counts[colour] for colour in colours)
        labels.values["unlisted"] = "ignore"
        labels.ask(
            "unlisted",
            f"{len(counts) - len(classes):,} rare colours, {_share(left, total)}, are ignored: are they blended edges?",
        )
    return labels


def _ids(folder: Path, headers: Sequence[Header], counts: Counter[Value]) -> Labels:
    numbers = sorted(value for value in counts if not isinstance(value, tuple))
    first = headers[0]
    if len(numbers) > MAX_VALUES or any(value != round(value) for value in numbers):
        raise LandsegError(
            f"{folder / first.path}: label rasters have fractions, or over {MAX_VALUES} values; they need few "
            "integers, so write class ids, or name another folder"
        )
    total, palettes = counts.total(), {tuple(sorted(header.palette.items())) for header in headers}
    ids = [int(value) for value in numbers]
    labels = Labels("class ids", [], {"mask_values": "ids", "unlisted": "error"})
    if len(palettes) > 1 and all(palettes):
        labels.faults.append(f"{first.path.name}: label rasters have different colour tables; write them with one")
    ignored = _ignored(headers, ids, counts, labels)
    classes = [value for value in ids if value not in ignored]
    known, source = value_names(folder, headers)
    remap = _remap(classes, labels)
    palette = [first.palette[value][:3] for value in classes if value in first.palette]
    own_colours = len(set(palette)) == len(classes) and len(palettes) == 1
    colours = palette if own_colours else distinct_colours(len(classes))
    for value, colour in zip(classes, colours, strict=True):
        class_id = remap.get(value, value)
        labels.classes.append(Class(class_id, known.get(value, f"class_{value}"), colour, _share(counts[value], total)))
    if own_colours:
        labels.note("classes", "colours are those of the colour table")
    if known:
        labels.note("classes", f"names from {source}")
    if missing := [each.name for each in labels.classes if each.name.startswith("class_")]:
        labels.ask("classes", f"what are {', '.join(missing)}? Name them")
    if 0 in classes and len(classes) > 2 and 0 not in known:
        labels.ask(
            "classes",
            "is 0 a class, or unlabelled? It is a class here, so that scores and maps show it; if it is unlabelled, "
            "move it to ignore",
        )
    return labels


def _ignored(headers: Sequence[Header], ids: Sequence[int], counts: Counter[Value], labels: Labels) -> list[int]:
    """Choose the values that are ignored."""
    declared = {int(each.nodata) for each in headers if each.nodata is not None and each.nodata == each.nodata}
    ignored = [value for value in ids if value < 0 or value in declared]
    total = counts.total()
    rare = counts[_UNLABELLED] <= _RARE * total
    if _UNLABELLED in ids and _UNLABELLED not in ignored and (rare or len(ids) > 2) and ids != [0, _UNLABELLED]:
        ignored.append(_UNLABELLED)
    if len(ids) - len(ignored) < 2:
        return []
    labels.values["ignore"] = ignored
    for value in ignored:
        why = "negative" if value < 0 else "declared as nodata" if value in declared else "a usual fill"
        labels.ask(
            "ignore",
            f"is {value} unlabelled? It is {why} ({_share(counts[value], total)}); remove it here if it is a class",
        )
    return ignored


def _remap(classes: Sequence[int], labels: Labels) -> dict[int, int]:
    """Give 255, which often marks unlabelled pixels, and values above it free ids."""
    free = [number for number in range(255) if number not in classes]
    remap = dict(zip([value for value in classes if value > 254], free, strict=False))
    if remap:
        labels.values["remap"] = remap
        listed = ", ".join(f"{value} becomes {class_id}" for value, class_id in remap.items())
        labels.ask(
            "remap",
            f"{listed}: is it a class? If not, remove it here and in classes, and list it in ignore",
        )
    return remap


def value_names(folder: Path, headers: Sequence[Header]) -> tuple[Mapping[int, str], str]:
    """Return the names of values by an attribute table or category names beside a raster, and where they are from."""
    for header in headers[:20]:
        path = folder / header.path
        for sidecar, read in ((f"{path}.vat.dbf", _table_names), (f"{path}.aux.xml", _xml_names)):
            if Path(sidecar).is_file():
                with suppress(Exception):  # a table of another kind
                    names = {value: name.strip() for value, name in read(sidecar).items() if name.strip()}
                    if names and len(set(names.values())) == len(names):
                        return names, Path(sidecar).name
    return {}, ""


def _table_names(path: str) -> dict[int, str]:
    import geopandas as gpd

    table = gpd.read_file(path)
    columns = {str(column).casefold(): column for column in table.columns}
    name = next(
        columns[each] for each in ("classname", "class_name", "class", "name", "label", "category") if each in columns
    )
    return dict(zip(table[columns["value"]].astype(int), table[name].astype(str), strict=True))


def _xml_names(path: str) -> dict[int, str]:
    root = ET.parse(path).getroot()  # noqa: S314  # a local file of the user
    categories = [each.text or "" for each in root.iter("Category")]
    if categories:
        return dict(enumerate(categories))
    usages = [each.findtext("Usage", "") for each in root.iter("FieldDefn")]
    value, name = usages.index("5"), usages.index("2")  # GFU_MinMax and GFU_Name
    rows = [[cell.text or "" for cell in row.iter("F")] for row in root.iter("Row")]
    return {round(float(row[value])): row[name] for row in rows}
