"""Leaflet, the map library (BSD-2-Clause), to be put into a page: from a package that carries its files."""

import re
from importlib.resources import files

_FILES = files("js_lib_leaflet") / "static" / "js_lib_leaflet"


def leaflet_script() -> str:
    """Return Leaflet's code with its licence banner, without the address of its source map."""
    text = (_FILES / "leaflet.js").read_text(encoding="utf-8")
    return re.sub(r"//# sourceMappingURL=.*", "", text).strip()


def leaflet_style() -> str:
    """Return Leaflet's style sheet without what would fetch pictures: its markers and list of layers."""
    text = (_FILES / "leaflet.css").read_text(encoding="utf-8")
    return re.sub(r"[^{}]*\{[^{}]*url\([^{}]*\}", "", text).strip()
