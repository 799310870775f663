"""Maps of scenes: what a network sees, written as rasters and polygons that GIS programs open."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from math import ceil, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from landseg.core.classes import ClassTable, ids, names
from landseg.core.errors import LandsegError
from landseg.core.files import require_new
from landseg.core.progress import track
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA, create_class_map, map_files, open_class_map
from landseg.maps.cog import CogWriter, create_cog
from landseg.maps.sources import require_inputs_kept
from landseg.maps.style import class_legend
from landseg.model.info import ModelInfo
from landseg.predict.blending import Band, Blender
from landseg.predict.model_file import ModelFile
from landseg.predict.scenes import Scene, bands_seen, opened_scene
from landseg.raster.grid import Grid
from landseg.raster.image import Imagery
from landseg.raster.pixel_area import gsd

# Scenes whose pixels differ by less, as a share, are as sharp as those that the model knows.
_AS_SHARP = 0.1
# Patches of fewer pixels are not worth an outline, where nobody says what is.
_PATCH = 10


@dataclass(frozen=True)
class OutputOptions:
    """What is to be written of every scene."""

    folder: Path
    overwrite: bool = False
    #: A raster of how likely the class of every pixel is, and one of how likely every class is.
    confidence: bool = False
    probability: bool = False
    #: Polygons: gpkg or parquet.
    vector: str | None = None
    #: Smaller patches go to their largest neighbour, m²; None: those of fewer than ten pixels.
    min_area: float | None = None
    #: The root of the largest area that outlines may cut off at a corner, px; None: one.
    tolerance: float | None = None

    def path(self, scene: Scene, kind: str = "", suffix: str = "tif") -> Path:
        """Return where something of a scene goes."""
        return self.folder / f"{scene.name}{kind}.{suffix}"

    def paths(self, scene: Scene) -> list[Path]:
        """Return all that is written of a scene, the map first."""
        return [
            *map_files(self.path(scene)),
            *([self.path(scene, "_confidence")] if self.confidence else []),
            *([self.path(scene, "_probability")] if self.probability else []),
            *([self.path(scene, suffix=self.vector)] if self.vector else []),
        ]


#: A scene, and what is to be written of it.
Job = tuple[Scene, OutputOptions]


def require_safe(jobs: Sequence[Job], beside: Sequence[Path] = ()) -> None:
    """Refuse to write over scenes, over maps unless that is wanted, and twice, before the first scene is mapped.

    Args:
        jobs: what is to be mapped.
        beside: what else will be written.

    Raises:
        LandsegError: an output is there, and is not to be replaced, is read, or is that of two scenes; or nothing would
            be done by an option.
    """
    writers: dict[Path, Scene] = {}
    for scene, wanted in jobs:
        if not wanted.vector and (wanted.min_area is not None or wanted.tolerance is not None):
            raise LandsegError("--min-area and --tolerance: are of polygons; say --vector, too")
        for path in wanted.paths(scene):
            if (other := writers.setdefault(path, scene)) is not scene:
                raise LandsegError(
                    f"{path}: would be written of {other.location} and of {scene.location}; map one of them into "
                    "another folder"
                )
    require_inputs_kept((file for scene, _ in jobs for file in scene.files), [*writers, *beside])
    for scene, wanted in jobs:
        require_new(wanted.paths(scene), wanted.overwrite)


def require_fit(scene: Scene, wanted: OutputOptions, info: ModelInfo, bands: Sequence[str], resample: bool) -> Grid:
    """Return the grid of a scene's map; no pixel is read (see `map_scene` for the arguments).

    Raises:
        LandsegError: the scene does not suit the model, or what is wanted.
    """
    with opened_scene(scene, info, bands) as given, _sharpened(given, info.gsd, resample, lambda _: None) as image:
        _least(wanted.min_area, image)
        return image.grid


def map_scene(
    scene: Scene,
    blender: Blender,
    model: ModelFile,
    wanted: OutputOptions,
    bands: Sequence[str],
    resample: bool,
    say: Callable[[str], None],
) -> Path:
    """Map a scene; every file is written whole or not at all.

    Args:
        scene: the scene.
        blender: how it is looked at.
        model: what the map says of where it comes from.
        wanted: what is to be written, and where.
        bands: which of its bands the model takes (see landseg.predict.scenes.opened_scene).
        resample: whether to bring it to the model's ground sampling distance.
        say: is told, a sentence at a time, what a person should know.

    Returns:
        The path of the map.

    Raises:
        LandsegError: the scene does not suit the model, is damaged, or the disk is full.
    """
    info, path = blender.network.info, wanted.path(scene)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".landseg.", dir=wanted.folder) as scratch:
        aside = replace(wanted, folder=Path(scratch))
        confidence = (wanted if wanted.confidence else aside).path(scene, "_confidence")
        with opened_scene(scene, info, bands) as given, _sharpened(given, info.gsd, resample, say) as image:
            if not image.grid.crs:
                say(f"{image.name}: has no CRS; its map has none either, and no areas in hectares")
            how = {"bands": bands_seen(scene, info, bands), "resampled": image is not given}
            about = tags(scene, model, blender, how)
            least = _least(wanted.min_area, image)
            files = {
                "confidence": confidence if wanted.confidence or wanted.vector else None,
                "probability": wanted.path(scene, "_probability") if wanted.probability else None,
            }
            with _written(path, image.grid, info.classes, about, files) as write:
                for band in _tracked(blender, image, scene.name, wanted.probability):
                    write(band)
        if wanted.vector:
            from landseg.maps.polygons import map_polygons, write_polygons  # geopandas takes a second

            with open_class_map(path) as made:
                found = map_polygons(made, confidence, least, 1 if wanted.tolerance is None else wanted.tolerance)
            write_polygons(found, wanted.path(scene, suffix=wanted.vector), class_legend(info.classes))
    return path


def tags(scene: Scene, model: ModelFile, blender: Blender, how: Mapping[str, Any]) -> dict[str, str]:
    """Return what a map says of where it comes from, and how it was made."""
    info = blender.network.info
    how = {
        "version": version("landseg"),
        "window": blender.size,
        "overlap": blender.overlap,
        "d4": blender.symmetries,
        **how,
        "computed": blender.network.where,
    }
    return {
        "LANDSEG_PREDICT": json.dumps(how),
        "LANDSEG_SCENE": scene.name,
        "LANDSEG_MODEL": model.digest,
        **({"LANDSEG_SOURCE": model.source} if model.source else {}),
        **({"LANDSEG_REVISION": model.revision} if model.revision else {}),
        "LANDSEG_DATASET": info.dataset,
        "LANDSEG_LICENCE": info.licence,
        "LANDSEG_PARAMS": json.dumps(info.params, ensure_ascii=False),
    }


@contextmanager
def _sharpened(image: Imagery, wanted: float | None, resample: bool, say: Callable[[str], None]) -> Iterator[Imagery]:
    """Bring a scene to the model's ground sampling distance where that is asked for; else say where they differ."""
    has = gsd(image.grid)
    if has is None or wanted is None or isnan(has):
        if resample:
            who = "the model's scenes have" if wanted is None else f"{image.name} has"
            raise LandsegError(f"--resample: {who} no ground sampling distance, for want of a CRS; leave it out")
        yield image
        return
    if abs(has / wanted - 1) <= _AS_SHARP:
        yield image
        return
    differ = f"{image.name}: its pixels are {has:.3g} m wide, and those that the model was trained on {wanted:.3g} m"
    if not resample:
        say(f"{differ}; it may see little in them: --resample brings them to the model's")
        yield image
        return
    with image.resampled(wanted / has) as sharpened:
        say(f"{differ}; resampled, so the map has {sharpened.grid.width} x {sharpened.grid.height} px")
        yield sharpened


@contextmanager
def _written(
    path: Path, grid: Grid, classes: ClassTable, tags: Mapping[str, str], files: Mapping[str, Path | None]
) -> Iterator[Callable[[Band], None]]:
    """Yield what writes bands of rows; when the block ends well, all files have their names, the map last."""
    lookup = np.full(256, NODATA, np.uint8)
    lookup[: len(classes)] = ids(classes)
    about = {**tags, "LANDSEG_SCALE": f"{MAX_CONFIDENCE} means certain"}
    bytes_to = partial(create_cog, grid=grid, dtype="uint8", nodata=NODATA, tags=about, overviews="average")
    outs: dict[str, CogWriter] = {}
    with ExitStack() as stack:
        ids_to = stack.enter_context(create_class_map(path, grid, classes, tags))
        for kind, bands in (("confidence", ["confidence"]), ("probability", names(classes))):
            if file := files[kind]:
                outs[kind] = stack.enter_context(bytes_to(file, bands=len(bands), descriptions=bands))

        def write(band: Band) -> None:
            ids_to.write(band.row, lookup[band.channels])
            if "confidence" in outs:
                outs["confidence"].write(band.row, band.confidence)
            if "probability" in outs and band.probabilities is not None:
                outs["probability"].write(band.row, band.probabilities)

        yield write


def _tracked(blender: Blender, image: Imagery, title: str, probabilities: bool) -> Iterator[Band]:
    """Yield the map of a scene, showing progress."""
    down, across = blender.grid(image)
    with closing(blender.bands(image, probabilities)) as bands:
        yield from track(bands, len(down.starts) * len(across.starts), title, "windows", lambda band: band.windows)


def _least(min_area: float | None, image: Imagery) -> int:
    """Return of how many pixels a patch must be to be kept."""
    if min_area is None:
        return _PATCH
    wide = gsd(image.grid)
    if wide is None or isnan(wide):
        raise LandsegError(f"{image.name}: has no CRS, so --min-area, in m², means nothing to it; leave it out")
    return ceil(min(min_area / wide**2, image.grid.width * image.grid.height))
