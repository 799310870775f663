"""Finished maps: which outputs of a scene exist already, and whether they are what would be written again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.maps.class_map import map_files
from landseg.maps.style import aux_xml, class_legend, raster_qml
from landseg.predict.outputs import MODEL_TAG, SETTINGS_TAG, OutputOptions
from landseg.predict.scenes import InputScene
from landseg.predict.signature import CONTENT_TAG, QUICK_TAG, SceneSignature
from landseg.raster.io import open_raster

# Settings that do not change the map, or are compared for polygons only.
_NOT_COMPARED = ("version", "computed", "polygons")


def unfinished(
    scene: InputScene,
    options: OutputOptions,
    tags: Mapping[str, str],
    signature: SceneSignature,
    classes: ClassTable,
) -> str | None:
    """Return why the outputs of a scene are not finished; None: they are.

    Finished outputs all exist, and the map was made by the same model from the same content with the same settings. The
    version of landseg, the device and the name of the scene are not compared.

    Args:
        scene: the scene.
        options: what to write.
        tags: the tags that its map would get (see `landseg.predict.outputs.provenance_tags`), without its content.
        signature: the signature of the scene.
        classes: the classes of the model.

    Returns:
        None, 'missing' (outputs can be written without replacing anything else), or a sentence that names an output
        which must not be replaced and says how it differs.
    """
    existing = [path for path in options.paths(scene) if path.exists()]
    rasters = [path for path in existing if path.suffix == ".tif"]
    for path in rasters:
        difference = "" if path.is_dir() else _difference(path, tags, signature)
        if difference is not None:
            return f"{path}: file exists{difference}"
    has_map = options.path(scene) in rasters
    for path in existing:
        if path not in rasters and not (has_map or _is_own_style(path, options.path(scene), classes)):
            return f"{path}: file exists"
        if has_map and path.suffix == f".{options.vector}" and not _same_polygons(options.path(scene), tags):
            return f"{path}: file exists, made with another --min-area or --tolerance"
    return None if len(existing) == len(options.paths(scene)) else "missing"


def _difference(path: Path, tags: Mapping[str, str], signature: SceneSignature) -> str | None:
    """Return how a raster differs from the one that would be written, '' if it is none of predict; None: not at all."""
    try:
        with open_raster(path) as source:
            found = source.tags()
        own = json.loads(found[SETTINGS_TAG])
    except (LandsegError, KeyError, ValueError):
        return ""
    if found.get(MODEL_TAG) != tags[MODEL_TAG]:
        return f", made by another model ({found.get(MODEL_TAG, '')[:12]}, not {tags[MODEL_TAG][:12]})"
    for key, value in json.loads(tags[SETTINGS_TAG]).items():
        if key not in _NOT_COMPARED and own.get(key) != value:
            return f", made with {key} {json.dumps(own.get(key))}, not {json.dumps(value)}"
    if found.get(QUICK_TAG) == signature.quick:
        return None
    if found.get(CONTENT_TAG) and found[CONTENT_TAG] == signature.content():
        return None
    return ", made from another content of the scene"


def _same_polygons(path: Path, tags: Mapping[str, str]) -> bool:
    """Return whether the polygons of a map were made with the settings that tags have."""
    with open_raster(path) as source:
        found = source.tags()
    same: bool = json.loads(found[SETTINGS_TAG]).get("polygons") == json.loads(tags[SETTINGS_TAG])["polygons"]
    return same


def _is_own_style(path: Path, map_path: Path, classes: ClassTable) -> bool:
    """Return whether a file is the style or sidecar that a killed process wrote before the map itself."""
    _, style, names = map_files(map_path)
    expected = {style: raster_qml(class_legend(classes)), names: aux_xml(class_legend(classes))}.get(path)
    return expected is not None and path.is_file() and path.read_text(encoding="utf-8", errors="replace") == expected


def listed(names: Sequence[object], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
