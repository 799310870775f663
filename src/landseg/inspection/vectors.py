"""Vector files: which one holds labels, in which column, and where its objects lie."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from landseg.inspection.headers import Header
from landseg.inspection.masks import Class, Labels, distinct_colours
from landseg.inspection.pixels import MAX_VALUES

# Names of columns with classes, best first; then parts of such names.
_COLUMNS = (
    "class",
    "class_name",
    "classname",
    "label",
    "labels",
    "landcover",
    "land_cover",
    "lulc",
    "lc",
    "type",
    "category",
    "name",
    "code",
)
_PARTS = ("class", "label", "cover", "type", "categ", "name", "code", "ref")
# Features that are read of a layer, and combinations of values that are listed.
_MAX_FEATURES, _MAX_PAIRS = 200_000, 10


@dataclass(frozen=True)
class LabelLayer:
    """A layer of polygons or points with a column of classes."""

    path: PurePosixPath
    #: Name of the layer, where the file has several.
    layer: str | None
    column: str
    table: gpd.GeoDataFrame

    @property
    def kind(self) -> str:
        """What the objects are: polygons or points."""
        return "points" if shapely.get_dimensions(self.table.geometry.iloc[0]) == 0 else "polygons"

    @property
    def text(self) -> str:
        """The layer in words."""
        layer = f", layer {self.layer}" if self.layer else ""
        first = "the first " if len(self.table) == _MAX_FEATURES else ""
        return f"{self.path}{layer}: {first}{len(self.table):,} {self.kind}, column {self.column}"


def label_layers(folder: Path, paths: Sequence[PurePosixPath]) -> tuple[list[LabelLayer], list[str]]:
    """Return the layers of polygons or points that have a column of classes, and why other files have none.

    Files of other kinds with the extensions of vector files, such as metadata as JSON, are left out.
    """
    found: list[LabelLayer] = []
    others = []
    for path in paths:
        try:
            layers = _layers(folder, path)
        except Exception as error:  # those of GDAL, pyogrio, pyarrow and geopandas
            if path.suffix.casefold() not in (".json", ".parquet"):
                others.append(f"{path} cannot be read ({(str(error) or 'damaged').splitlines()[0].rstrip('.')})")
            continue
        found += layers
        if not layers:
            others.append(f"{path} has no layer of polygons or points with a column of 2 to {MAX_VALUES} values")
    return found, others


def _layers(folder: Path, path: PurePosixPath) -> list[LabelLayer]:
    if path.suffix.casefold() in (".parquet", ".geoparquet"):
        tables: dict[str | None, gpd.GeoDataFrame] = {None: gpd.read_parquet(folder / path)}
    else:
        listed = gpd.list_layers(folder / path)
        names = [str(name) for name in listed["name"][listed["geometry_type"].notna()]]
        tables = {
            name if len(names) > 1 else None: gpd.read_file(folder / path, layer=name, rows=_MAX_FEATURES)
            for name in names
        }
    layers = []
    for name, table in tables.items():
        kinds = set(shapely.get_dimensions(table.geometry.dropna().to_numpy()).tolist())
        column = _class_column(table)
        if len(kinds) == 1 and kinds <= {0, 2} and column:
            layers.append(LabelLayer(path, name, column, table))
    return layers


def _class_column(table: gpd.GeoDataFrame) -> str | None:
    """Return the column with classes: by its name, texts before numbers; it has few values, some of them repeated."""
    columns = []
    for name in table.columns.drop(table.geometry.name):
        values = table[name].dropna()
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if not is_number and not pd.api.types.is_string_dtype(values):
            continue
        count = values.nunique()
        whole = not is_number or bool((values == values.round()).all())
        if whole and 2 <= count <= MAX_VALUES and (count < len(values) or name.casefold() in _COLUMNS):
            columns.append((_rank(str(name)), is_number, count, str(name)))
    return min(columns)[-1] if columns else None


def _rank(name: str) -> int:
    plain = name.casefold()
    if plain in _COLUMNS:
        return 0
    return 1 if any(part in plain for part in _PARTS) and not plain.startswith(("map", "pred")) else 2


def read_layer(layer: LabelLayer) -> Labels:
    """Find the classes of a layer, and the values of `dataset.labels`."""
    column = layer.table[layer.column]
    counts = {_python(value): int(count) for value, count in column.value_counts().sort_index().items()}
    ids = _ids(layer, list(counts))
    names = {value: str(value) if isinstance(value, str) else f"class_{value:g}" for value in counts}
    companion = _companion(layer)
    names |= {value: name for value, name in companion.items() if value in names and isinstance(name, str)}
    colours = distinct_colours(len(counts))
    area = _areas(layer)
    labels = Labels(layer.kind, [])
    for (value, count), colour in sorted(zip(counts.items(), colours, strict=True), key=lambda pair: ids[pair[0][0]]):
        labels.classes.append(
            Class(ids[value], names[value].strip() or "class", colour, f"{count:,} {layer.kind}{area.get(value, '')}")
        )
    order = list(ids.values()) if layer.kind == "polygons" and _classes_overlap(layer) else []
    whole = {value: int(value) if isinstance(value, float) else value for value in counts}
    labels.values |= {"labels": {
        "files": str(layer.path), "layer": layer.layer, "column": layer.column,
        "values": {whole[value]: ids[value] for value in counts},
        "radius": 0, "buffer": 0, "all_touched": False, "order": order, "area": None, "elsewhere": None, "unit": None,
        "outside": "error",
    }}  # fmt: skip
    if order:
        labels.ask("labels", "polygons of different classes overlap: is order right? The last class is drawn on top")
    if layer.kind == "points":
        labels.ask("labels", "how far around a point does its class hold? radius is 0: only the pixel of the point")
    for name in _contradicting(layer):
        labels.ask("labels", f"are the classes right? {layer.column} and {name} disagree: {_pairs(layer, name)}")
    if column.isna().any():
        labels.faults.append(
            f"{layer.path}: {int(column.isna().sum())} features have no {layer.column}; give them one, or delete them"
        )
    if any(each.name.startswith("class_") for each in labels.classes):
        labels.ask("classes", f"what do the values of {layer.column} mean? Name the classes")
    if few := [each.name for each in labels.classes if int(each.note.split()[0].replace(",", "")) < 3]:
        labels.ask(
            "classes", f"can you add {layer.kind} of {', '.join(few)}? With fewer than three, a split lacks the class"
        )
    return labels


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _ids(layer: LabelLayer, values: Sequence[Any]) -> dict[Any, int]:
    """Return the class id of each value: itself, that of a column beside it, or a number from 1."""
    own = {value: value for value in values}
    for ids in (own, _companion(layer)):
        numbers = [ids.get(value) for value in values]
        if all(isinstance(number, int | float) and number == int(number) and 0 <= number <= 255 for number in numbers):
            return {value: int(number) for value, number in zip(values, numbers, strict=True) if number is not None}
    return {value: number for number, value in enumerate(values, 1)}


def _companion(layer: LabelLayer) -> Mapping[Any, Any]:
    """Return the values of another column with one value for each class, such as names for ids."""
    table, column = layer.table, layer.column
    stem = re.split(r"[_\W]", column)[0].casefold()
    for name in table.columns.drop([table.geometry.name, column]):
        pairs = table[[column, name]].dropna().drop_duplicates()
        other = pairs[name]
        kinds_differ = pd.api.types.is_numeric_dtype(other) != pd.api.types.is_numeric_dtype(pairs[column])
        related = stem in str(name).casefold() or _rank(str(name)) < 2 or str(name).casefold() in ("id", "value")
        if related and kinds_differ and len(pairs) == pairs[column].nunique() == other.nunique():
            return {_python(one): _python(value) for one, value in zip(pairs[column], other, strict=True)}
    return {}


def _contradicting(layer: LabelLayer) -> list[str]:
    """Return the columns with as many values as that of the classes, but not one for each class."""
    table = layer.table.drop(columns=layer.table.geometry.name)
    count = table[layer.column].nunique()
    return [
        str(name)
        for name in table.columns.drop(layer.column)
        if table[name].nunique() == count < len(table) / 2
        and len(table[[layer.column, name]].drop_duplicates()) > count
    ]


def _pairs(layer: LabelLayer, name: str) -> str:
    pairs = layer.table[[layer.column, name]].value_counts().sort_index()
    texts = [f"{value} with {other} ({count:,})" for (value, other), count in pairs.items()]
    return ", ".join(texts[:_MAX_PAIRS]) + (", ..." if len(texts) > _MAX_PAIRS else "")


def _areas(layer: LabelLayer) -> dict[Any, str]:
    """Return the area of the polygons of each value, in words; {} for points or without a CRS."""
    table = layer.table
    if layer.kind == "points" or table.crs is None:
        return {}
    equal = table.geometry.to_crs("EPSG:6933").area / 10_000  # the cylindrical equal-area projection of EASE-Grid 2.0
    return {_python(value): f", {_number(area)} ha" for value, area in equal.groupby(table[layer.column]).sum().items()}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _classes_overlap(layer: LabelLayer) -> bool:
    """Return whether polygons of different classes overlap."""
    shapes, classes = layer.table.geometry.to_numpy(), layer.table[layer.column].to_numpy()
    if not shapely.is_valid(shapes).all():
        return False
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    differ = (one < other) & (classes[one] != classes[other])
    return bool((shapely.area(shapely.intersection(shapes[one[differ]], shapes[other[differ]])) > 0).any())


def inside(layer: LabelLayer, headers: Sequence[Header]) -> int:
    """Return how many objects of a layer touch an image."""
    touched = np.zeros(len(layer.table), np.bool_)
    for boxes, header in ((pixel_boxes(layer, header), header) for header in headers):
        height, width = header.size
        touched |= (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < width) & (boxes[:, 1] < height)
    return int(touched.sum())


def pixel_boxes(layer: LabelLayer, header: Header) -> Any:
    """Return the bounding boxes of the objects in an image, (N, 4): first column, first row, last column, last row, px.

    Infinite for objects that cannot be placed.
    """
    if header.grid.crs is None or layer.table.crs is None:
        return np.full((len(layer.table), 4), np.inf)
    bounds = layer.table.geometry.to_crs(header.grid.crs.to_wkt()).bounds.to_numpy()
    to_pixels = np.linalg.inv(np.reshape(header.grid.transform, (3, 3)))
    corners = [to_pixels @ np.stack([bounds[:, x], bounds[:, y], np.ones(len(bounds))]) for x in (0, 2) for y in (1, 3)]
    cols, rows = np.stack([corner[0] for corner in corners]), np.stack([corner[1] for corner in corners])
    return np.stack([cols.min(axis=0), rows.min(axis=0), cols.max(axis=0), rows.max(axis=0)], axis=1)
