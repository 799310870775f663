"""How a map looks: colours, and what lies beside it so that it opens with them, a QGIS style and GDAL's sidecar."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from landseg.core.classes import ClassTable, Colour, as_hex

#: What the values of a raster mean: value, name, colour.
Legend = Sequence[tuple[int, str, Colour]]

# QGIS looks for the first line before it takes a file for a style.
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def class_legend(classes: ClassTable) -> Legend:
    """Return the legend of a class table."""
    return [(land_class.id, land_class.name, land_class.color) for land_class in classes]


def transition_colours(classes: ClassTable) -> dict[tuple[int, int], Colour]:
    """Return a colour for every pair of positions in a class table, before and after, no two of them the same.

    Where nothing changes it is a washed-out tone of the class. A change has that of the class it leads to, as dark as
    stands out from those, with a tint of the one it comes from.
    """
    taken: set[Colour] = set()
    found = {}
    for before, start in enumerate(classes):
        for after, end in enumerate(classes):
            colour = pale(start.color) if before == after else strong(start.color, end.color)
            while colour in taken:
                colour = (colour[0], colour[1], (colour[2] + 1) % 256)
            taken.add(colour)
            found[before, after] = colour
    return found


def pale(colour: Colour) -> Colour:
    """Return the washed-out tone of a colour."""
    return _mixed((255, 255, 255), colour, 0.3)


def strong(start: Colour, end: Colour) -> Colour:
    """Return the colour of a change: that of its end, dark enough to stand out from pale ones, tinted by its start.

    Luma is that of ITU-R BT.601.
    """
    luma = 0.299 * end[0] + 0.587 * end[1] + 0.114 * end[2]
    return _mixed(_mixed((0, 0, 0), end, min(1, 150 / max(luma, 1))), start, 0.15)


def raster_qml(entries: Legend) -> str:
    """Return a QGIS style that paints the values of band 1, and leaves all others, such as nodata, transparent.

    QGIS takes it by itself where it stands beside the raster, under its name with the suffix .qml.
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
    """Return a QGIS style that fills polygons by the value of a column."""
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
    """Return GDAL's sidecar of a raster: the names of the values of band 1, '' where no entry has the value.

    GDAL, and what is built on it, reads it where it stands beside the raster, under its name with .aux.xml appended.
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


def _mixed(ground: Colour, colour: Colour, share: float) -> Colour:
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(ground, colour, strict=True))
    return red, green, blue
