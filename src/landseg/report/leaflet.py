"""Leaflet, the map library (BSD-2-Clause), embedded in the report page from an installed package."""

import re
from importlib.resources import files

_FILES = files("js_lib_leaflet") / "static" / "js_lib_leaflet"


def leaflet_script() -> str:
    """Return the code with its licence banner and without the source map URL."""
    text = (_FILES / "leaflet.js").read_text(encoding="utf-8")
    return re.sub(r"//# sourceMappingURL=.*", "", text).strip()


def leaflet_style() -> str:
    """Return the style sheet without rules that load images (markers and the layer control)."""
    text = (_FILES / "leaflet.css").read_text(encoding="utf-8")
    return re.sub(r"[^{}]*\{[^{}]*url\([^{}]*\}", "", text).strip()
