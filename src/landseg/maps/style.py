"""What lies beside a map, so that it opens with legend and colours: a QGIS style, and GDAL's sidecar with names."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from landseg.datasets.classes import ClassTable, Colour, as_hex

#: What the values of a raster mean: value, name, colour.
Legend = Sequence[tuple[int, str, Colour]]

# QGIS looks for the first line before it takes a file for a style.
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def legend(classes: ClassTable) -> Legend:
    """Return the legend of a class table."""
    return [(land_class.id, land_class.name, land_class.color) for land_class in classes]


def qml(entries: Legend) -> str:
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
