"""Map styles: colours of classes and changes, QGIS styles and GDAL sidecars."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from landseg.core.classes import ClassTable, Colour, as_hex

#: Value, name and colour of every category of a raster.
Legend = Sequence[tuple[int, str, Colour]]

# QGIS recognises a style file by this line.
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def class_legend(classes: ClassTable) -> Legend:
    """Return the legend of a class table."""
    return [(land_class.id, land_class.name, land_class.color) for land_class in classes]


def transition_colours(classes: ClassTable) -> dict[tuple[int, int], Colour]:
    """Return a distinct colour for every pair of channels (before, after).

    See `unchanged_colour` and `changed_colour`; duplicates are shifted in blue.
    """
    used: set[Colour] = set()
    colours = {}
    for before, start in enumerate(classes):
        for after, end in enumerate(classes):
            colour = unchanged_colour(start.color) if before == after else changed_colour(start.color, end.color)
            while colour in used:
                colour = (colour[0], colour[1], (colour[2] + 1) % 256)
            used.add(colour)
            colours[before, after] = colour
    return colours


def unchanged_colour(colour: Colour) -> Colour:
    """Return the colour of an unchanged class: a light tint of the class's colour."""
    return _mixed((255, 255, 255), colour, 0.3)


def changed_colour(start: Colour, end: Colour) -> Colour:
    """Return the colour of a change: the new class's colour, darkened to a luma of at most 150, with 15 % of the old.

    Luma is that of ITU-R BT.601; it separates changes from unchanged classes.
    """
    luma = 0.299 * end[0] + 0.587 * end[1] + 0.114 * end[2]
    return _mixed(_mixed((0, 0, 0), end, min(1, 150 / max(luma, 1))), start, 0.15)


def raster_qml(entries: Legend) -> str:
    """Return a QGIS style for the categories of band 1; all other values, such as nodata, are transparent.

    QGIS loads it automatically if it lies next to the raster, under the same name with the suffix .qml.
    """
    style = Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = SubElement(style, "pipe")
    renderer = SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    SubElement(renderer, "rasterTransparency")
    palette = SubElement(renderer, "colorPalette")
    for value, name, colour in entries:
        SubElement(palette, "paletteEntry", value=str(value), color=as_hex(colour), alpha="255", label=name)
    SubElement(style, "blendMode").text = "0"
    return _DOCTYPE + _text(style)


def polygon_qml(entries: Legend, column: str) -> str:
    """Return a QGIS style that colours polygons by the value of a column."""
    style = Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = SubElement(style, "renderer-v2", type="categorizedSymbol", attr=column)
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for value, name, colour in entries:
        SubElement(categories, "category", value=str(value), symbol=str(value), label=name, render="true")
        symbol = SubElement(symbols, "symbol", type="fill", name=str(value), alpha="1")
        fill = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        SubElement(fill, "prop", k="color", v=",".join(map(str, (*colour, 255))))
        SubElement(fill, "prop", k="outline_style", v="no")
    return _DOCTYPE + _text(style)


def aux_xml(entries: Legend) -> str:
    """Return GDAL's sidecar of a raster: category names of band 1, '' for values without an entry.

    GDAL reads it if it lies next to the raster, under the same name with .aux.xml appended.
    """
    names = {value: name for value, name, _ in entries}
    sidecar = Element("PAMDataset")
    categories = SubElement(SubElement(sidecar, "PAMRasterBand", band="1"), "CategoryNames")
    for value in range(max(names) + 1):
        SubElement(categories, "Category").text = names.get(value, "")
    return _text(sidecar)


def _text(root: Element) -> str:
    indent(root)
    return tostring(root, "unicode") + "\n"


def _mixed(base: Colour, colour: Colour, weight: float) -> Colour:
    red, green, blue = (round((1 - weight) * a + weight * b) for a, b in zip(base, colour, strict=True))
    return red, green, blue
