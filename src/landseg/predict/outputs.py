"""Prediction outputs: class maps, confidence and probability rasters, and polygons."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from math import ceil, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from landseg.core.classes import ClassTable, class_ids, class_names, ignored_id
from landseg.core.errors import LandsegError
from landseg.core.progress import track
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA, create_class_map, map_files, open_class_map
from landseg.maps.cog import CogWriter, create_cog
from landseg.maps.style import class_legend
from landseg.model.info import ModelInfo
from landseg.predict.blending import Blender, MapStrip
from landseg.predict.model_file import ModelFile
from landseg.predict.quicklook import require_pictures, write_quicklook
from landseg.predict.scenes import InputScene, open_scene, selected_bands
from landseg.predict.signature import CONTENT_TAG, QUICK_TAG, SceneSignature, scene_signature
from landseg.raster.grid import Grid
from landseg.raster.image import MultibandImage
from landseg.raster.pixel_area import ground_sampling_distance, oblong
from landseg.raster.values import MIN_CONTRAST, ValueCheck

# Relative difference in ground sampling distance up to which a scene counts as having the model's resolution.
_GSD_TOLERANCE = 0.1
# Standard deviations from the mean of the training tiles that values of a band usually lie within.
_USUAL = 2
# Relative difference of lengths on the map and on the ground up to which a scene is resampled to whole multiples of its
# pixels: UTM distorts by up to 0.1 %.
_DISTORTION = 0.002
# Share of values at an end of the range from which the map is probably poor, and from which there is nothing to map.
_MUCH_CLIPPED, _ALL_CLIPPED = 0.5, 0.99


@dataclass(frozen=True)
class OutputOptions:
    """What to write for each scene."""

    folder: Path
    overwrite: bool = False
    #: Write a raster of the confidence: the softmax value of the mapped class.
    confidence: bool = False
    #: Write a raster of the softmax values of all classes.
    probability: bool = False
    #: Write a small picture of the scene beside its map.
    quicklook: bool = False
    #: Write polygons: gpkg or parquet.
    vector: str | None = None
    #: Smallest polygon, m²; smaller regions go to their largest neighbour. None: see landseg.maps.polygons.
    min_area: float | None = None
    #: Simplification tolerance of polygons, px; None: see landseg.maps.polygons.
    tolerance: float | None = None

    def path(self, scene: InputScene, kind: str = "", suffix: str = "tif") -> Path:
        """Return the path of an output."""
        return self.folder / f"{scene.name}{kind}.{suffix}"

    def paths(self, scene: InputScene) -> list[Path]:
        """Return the paths of all outputs of a scene, the map first."""
        return [
            *map_files(self.path(scene)),
            *([self.path(scene, "_confidence")] if self.confidence else []),
            *([self.path(scene, "_probability")] if self.probability else []),
            *([self.path(scene, "_quicklook", "png")] if self.quicklook else []),
            *([self.path(scene, suffix=self.vector)] if self.vector else []),
        ]

    def made_from_map(self, scene: InputScene) -> list[Path]:
        """Return the paths of the outputs that are made from the finished map."""
        files = {
            self.path(scene, "_quicklook", "png"): self.quicklook,
            self.path(scene, suffix="gpkg"): self.vector == "gpkg",
            self.path(scene, suffix="parquet"): self.vector == "parquet",
        }
        return [path for path, wanted in files.items() if wanted]


#: A scene and what to write for it.
MapTask = tuple[InputScene, OutputOptions]
#: Tags of maps: the settings of the prediction as JSON, and the SHA-256 of the model file.
SETTINGS_TAG, MODEL_TAG = "LANDSEG_PREDICT", "LANDSEG_MODEL"


class SceneHeader(NamedTuple):
    """What the header of a scene tells of its map."""

    grid: Grid
    #: Whether the scene is resampled to the model's ground sampling distance.
    resampled: bool
    #: Bands that the model reads (see `landseg.predict.scenes.selected_bands`).
    bands: Sequence[int | str]
    #: Date of acquisition as GDAL's metadata state it; '' if they do not.
    date: str


def check_names(tasks: Sequence[MapTask]) -> list[Path]:
    """Check, before any file is opened, that no two scenes have the same output; return all outputs.

    Raises:
        LandsegError: an output belongs to two scenes, or an option has no effect.
    """
    writers: dict[Path, InputScene] = {}
    for scene, options in tasks:
        if not options.vector and (options.min_area is not None or options.tolerance is not None):
            raise LandsegError("--min-area and --tolerance require --vector")
        for path in options.paths(scene):
            if (other := writers.setdefault(path, scene)) is not scene:
                raise LandsegError(
                    f"{path}: both {other.location} and {scene.location} would be written to this file; map one of "
                    "them into another folder"
                )
    return list(writers)


def check_scene(
    scene: InputScene, options: OutputOptions, info: ModelInfo, bands: Sequence[str], resample: bool
) -> SceneHeader:
    """Check that a scene can be mapped, by its header and a sample of its values.

    See `map_scene` for the arguments.

    Raises:
        LandsegError: the scene does not suit the model or the outputs.
    """
    with (
        open_scene(scene, info, bands) as original,
        _at_model_gsd(original, info.gsd, resample, lambda _: None) as image,
    ):
        _min_pixels(options.min_area, image)
        if options.quicklook:
            require_pictures(info.rendering)
        values = ValueCheck.of_sample(original, info.rendering)
        if values.clipped >= _ALL_CLIPPED:
            raise LandsegError(
                f"{original.name}: {values.clipping()}, to which the model scales values; bring them to the values of "
                "the training scenes"
            )
        date = original.files[0].source.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", "")
        return SceneHeader(image.grid, image is not original, selected_bands(scene, info, bands), date)


def map_scene(
    scene: InputScene,
    blender: Blender,
    model: ModelFile,
    options: OutputOptions,
    bands: Sequence[str],
    resample: bool,
    notify: Callable[[str], None],
    threads: int | None = None,
    progress: bool = True,
) -> Path:
    """Map a scene. Writes are atomic.

    Args:
        scene: the scene.
        blender: the network and its windows.
        model: the origin of the network, for the tags of the map.
        options: what to write, and where.
        bands: the bands of the file to use (see landseg.predict.scenes.open_scene).
        resample: whether to resample the scene to the model's ground sampling distance.
        notify: called with each notice to the user, one sentence.
        threads: number of threads that decode and encode blocks; None: one per core.
        progress: whether to show the progress within the scene.

    Returns:
        The path of the map.

    Raises:
        LandsegError: the scene does not suit the model, is damaged or changes meanwhile, or the disk is full.
    """
    info, path = blender.backend.info, options.path(scene)
    signature = scene_signature(scene)
    options.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".landseg.", dir=options.folder) as scratch:
        # Polygons need the confidence raster, even if it is not an output.
        temporary = replace(options, folder=Path(scratch))
        confidence = (options if options.confidence else temporary).path(scene, "_confidence")
        with (
            open_scene(scene, info, bands, threads or "ALL_CPUS") as original,
            _at_model_gsd(original, info.gsd, resample, notify) as image,
        ):
            for note in original.notes:
                notify(f"{original.name}: {note}")
            if not image.grid.crs:
                notify(f"{image.name}: no CRS, so the map has none either and areas cannot be measured")
            read, resampled = selected_bands(scene, info, bands), image is not original
            tags = provenance_tags(scene, model, blender, read, resampled, options, signature)
            tags |= {CONTENT_TAG: content} if (content := signature.content()) else {}
            min_pixels = _min_pixels(options.min_area, image)
            rasters = {
                "confidence": confidence if options.confidence or options.vector else None,
                "probability": options.path(scene, "_probability") if options.probability else None,
            }
            with _map_writer(path, image.grid, info, tags, rasters, threads) as write:
                values = ValueCheck.of(image, info.rendering)
                for strip in _strips(blender, image, scene.name, options.probability, values, progress):
                    write(strip)
                values.finish(image)
                if scene_signature(scene) != signature:
                    raise LandsegError(f"{original.name}: changed while it was mapped; map it again")
                for old in options.made_from_map(scene):  # beside a new map, they would count as made from it
                    old.unlink(missing_ok=True)
            for notice in (*_value_notices(values), *_unlike_training(values, info)):
                notify(notice)
            if options.quicklook:
                write_quicklook(options.path(scene, "_quicklook", "png"), image, path, info.rendering, info.classes)
        if options.vector:
            notify(_write_polygons(scene, options, info.classes, confidence, min_pixels))
    return path


def _value_notices(values: ValueCheck) -> Iterator[str]:
    decibels = ", ".join(values.rendering.decibels)
    if decibels and values.with_data < values.pixels / 2:
        yield (
            f"{values.name}: {1 - values.with_data / values.pixels:.0%} of the pixels have no data, as {decibels} or "
            f"another band has no valid value; give {decibels} as power, from which decibels are computed"
        )
    elif not values.with_data:
        yield f"{values.name}: no pixel has data, so the map is empty"
    if values.clipped >= _MUCH_CLIPPED:
        yield f"{values.name}: {values.clipping()}, to which the model scales values; expect a poor map"
    for fill in values.fills():
        yield (
            f"{values.name}: {fill.text} in {fill.count:,} pixels {fill.where}, and they were mapped; if they have no "
            f"data, {fill.remedy}{fill.caution}"
        )
    for band, value, share in values.band_fills():
        yield f"{values.name}: {band} is {value:g} in {share:.1%} of the pixels, in patches where other bands vary"
    if 0 < values.contrast < MIN_CONTRAST:
        yield (
            f"{values.name}: its values, {values.lowest:g} to {values.highest:g}, use {values.contrast:.0%} of the "
            f"range {values.black:g} to {values.white:g} of the model; expect a poor map"
        )
    for one, other in values.equal_band_names:
        yield f"{values.name}: {one} and {other} are equal throughout; expect a poor map"
    if constant := values.constant_bands:
        listed = ", ".join(f"{band} is {value:g}" for band, value in constant.items())
        yield f"{values.name}: {listed} in nearly all pixels; expect a poor map"


def _unlike_training(values: ValueCheck, info: ModelInfo) -> Iterator[str]:
    """Yield a sentence if the values of all bands are far from those of the training tiles, as in other units."""
    if info.rendering.format == "png" or not values.with_data:
        return
    mean, std = np.array(info.mean), np.array(info.std)
    if ((values.maxima < mean - _USUAL * std) | (values.minima > mean + _USUAL * std)).all():
        listed = ", ".join(
            f"{band} {low:g} to {high:g} (training {usual:.4g} ± {spread:.4g})"
            for band, low, high, usual, spread in zip(
                values.bands, values.minima, values.maxima, info.mean, info.std, strict=True
            )
        )
        yield f"{values.name}: all bands are far from those of the training tiles: {listed}; expect a poor map"


def _write_polygons(
    scene: InputScene, options: OutputOptions, classes: ClassTable, confidence: Path, min_pixels: int | None
) -> str:
    """Write the polygons of a map; return a sentence on how they differ from it."""
    from landseg.maps.polygons import map_polygons, polygons_sentence, write_polygons  # geopandas takes a second

    path = options.path(scene, suffix=str(options.vector))
    with open_class_map(options.path(scene)) as class_map:
        polygons = map_polygons(class_map, confidence, min_pixels, options.tolerance)
    write_polygons(polygons.frame, path, class_legend(classes))
    return f"{path.name}: {polygons_sentence(polygons, classes)}"


def provenance_tags(
    scene: InputScene,
    model: ModelFile,
    blender: Blender,
    bands: Sequence[int | str],
    resampled: bool,
    options: OutputOptions,
    signature: SceneSignature,
) -> dict[str, str]:
    """Return the tags of a map that record its model, its scene and how it was computed."""
    info = blender.backend.info
    settings = {
        "version": version("landseg"),
        "window": blender.window_size,
        "overlap": blender.overlap,
        "d4": blender.d4,
        "bands": bands,
        "resampled": resampled,
        "polygons": [options.min_area, options.tolerance] if options.vector else None,
        "computed": blender.backend.description,
    }
    return {
        SETTINGS_TAG: json.dumps(settings),
        "LANDSEG_SCENE": scene.name,
        QUICK_TAG: signature.quick,
        MODEL_TAG: model.digest,
        "LANDSEG_TEMPERATURE": f"{info.temperature:g}",
        **({"LANDSEG_SOURCE": model.source} if model.source else {}),
        **({"LANDSEG_REVISION": model.revision} if model.revision else {}),
        "LANDSEG_DATASET": info.dataset,
        "LANDSEG_LICENCE": info.licence,
        "LANDSEG_PARAMS": json.dumps(info.params, ensure_ascii=False),
    }


def describe_confidence(temperature: float) -> str:
    """Return what the confidences of a model are, for a tag."""
    if temperature == 1:
        return "softmax of the logits, not calibrated: not a probability of being correct"
    return f"softmax of the logits divided by {temperature:g}, a temperature fitted on validation tiles"


@contextmanager
def _at_model_gsd(
    image: MultibandImage, model_gsd: float | None, resample: bool, notify: Callable[[str], None]
) -> Iterator[MultibandImage]:
    """Resample a scene to the model's ground sampling distance if asked; otherwise warn if they differ."""
    if shape := oblong(image.grid):
        notify(f"{image.name}: {shape}; expect a poor map if those of the training scenes were square")
    scene_gsd = ground_sampling_distance(image.grid)
    if scene_gsd is None or model_gsd is None or isnan(scene_gsd):
        if resample:
            lacking = "the training scenes have" if model_gsd is None else f"{image.name} has"
            raise LandsegError(f"--resample: {lacking} no CRS, so no ground sampling distance; leave it out")
        yield image
        return
    if abs(scene_gsd / model_gsd - 1) <= _GSD_TOLERANCE:
        yield image
        return
    difference = f"{image.name}: pixels are {scene_gsd:.3g} m wide, but the model was trained on {model_gsd:.3g} m"
    if not resample:
        notify(f"{difference}; expect a poor map, or resample the scene with --resample")
        yield image
        return
    with image.resampled(_whole_ratio(model_gsd / scene_gsd)) as resampled:
        notify(f"{difference}; resampled to {resampled.grid.width} x {resampled.grid.height} px")
        yield resampled


def _whole_ratio(ratio: float) -> float:
    """Return a ratio of pixel sizes, or the whole number or its inverse that it is but for the distortion of a CRS."""
    larger = max(ratio, 1 / ratio)
    if abs(larger / round(larger) - 1) > _DISTORTION:
        return ratio
    return float(round(larger)) if ratio > 1 else 1 / round(larger)


@contextmanager
def _map_writer(
    path: Path,
    grid: Grid,
    info: ModelInfo,
    tags: Mapping[str, str],
    rasters: Mapping[str, Path | None],
    threads: int | None,
) -> Iterator[Callable[[MapStrip], None]]:
    """Yield a function that writes strips. When the block ends without error, all files are renamed, the map last."""
    classes = info.classes
    id_of_channel = np.full(256, ignored_id(classes), np.uint8)
    id_of_channel[: len(classes)] = class_ids(classes)
    scaled = {**tags, "LANDSEG_SCALE": f"{MAX_CONFIDENCE} means 1; {describe_confidence(info.temperature)}"}
    create = partial(
        create_cog, grid=grid, dtype="uint8", nodata=NODATA, tags=scaled, overviews="average", threads=threads
    )
    writers: dict[str, CogWriter] = {}
    with ExitStack() as stack:
        class_map = stack.enter_context(create_class_map(path, grid, classes, tags, threads))
        for kind, bands in (("confidence", ["confidence"]), ("probability", class_names(classes))):
            if file := rasters[kind]:
                writers[kind] = stack.enter_context(create(file, bands=len(bands), descriptions=bands))

        def write(strip: MapStrip) -> None:
            class_map.write(strip.row, id_of_channel[strip.channels])
            if "confidence" in writers:
                writers["confidence"].write(strip.row, strip.confidence)
            if "probability" in writers and strip.probabilities is not None:
                writers["probability"].write(strip.row, strip.probabilities)

        yield write


def _strips(
    blender: Blender, image: MultibandImage, title: str, probabilities: bool, check: ValueCheck, progress: bool
) -> Iterator[MapStrip]:
    down, across = blender.axes(image)
    with closing(blender.strips(image, probabilities, check)) as strips:
        if not progress:
            yield from strips
            return
        total = len(down.starts) * len(across.starts)
        yield from track(strips, total, title, "windows", lambda strip: strip.windows)


def _min_pixels(min_area: float | None, image: MultibandImage) -> int | None:
    """Return the size of the smallest polygon, px; None: not set."""
    if min_area is None:
        return None
    pixel_size = ground_sampling_distance(image.grid)
    if pixel_size is None or isnan(pixel_size):
        raise LandsegError(f"{image.name}: no CRS, so --min-area (in m²) cannot be applied; leave it out")
    return ceil(min(min_area / pixel_size**2, image.grid.width * image.grid.height))
