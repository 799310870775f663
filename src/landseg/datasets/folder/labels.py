"""Label rasters of your own polygons and points."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from landseg.core.arrays import Mask
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.parallel import Engine
from landseg.core.progress import track
from landseg.datasets.folder.files import label_path
from landseg.datasets.folder.params import LabelParams
from landseg.download.align import image_grid
from landseg.download.label_objects import LabelObjects, find_vector_files, read_area, read_label_objects
from landseg.download.rasterize import BurnedLabels, BurnOptions, LabelRasterizer, inside_any, is_ballpark
from landseg.raster.grid import crs_name


def read_labels(labels: LabelParams, folder: Path) -> LabelRasterizer:
    """Read polygons or points, and the area of interest.

    Raises:
        LandsegError: a file is missing or cannot be read, or its features are not labels (see
            `download.label_objects`); or an object has a class that the drawing order lacks.
    """
    files = find_vector_files(folder, labels.files, "dataset.labels.files")
    objects = read_label_objects(files, labels.layer, labels.column, labels.values, labels.unit)
    if objects.kind == "points" and labels.buffer:
        raise ParamsError("dataset.labels.buffer is for polygons, but the labels are points; set radius instead")
    if objects.kind == "polygons" and labels.radius:
        raise ParamsError("dataset.labels.radius is for points, but the labels are polygons; set buffer instead")
    if missing := sorted(set(objects.class_id.tolist()) - set(labels.order)) if labels.order else []:
        raise ParamsError(f"dataset.labels.order lacks the class id {missing[0]}; name the ids of all classes")
    area = None
    if labels.area is not None:
        first, *others = find_vector_files(folder, labels.area, "dataset.labels.area")
        if others:
            raise ParamsError(
                f"dataset.labels.area = {labels.area!r}: matches {first.name} and {others[0].name}; name one file"
            )
        area = read_area(first)
    distance = labels.radius or labels.buffer
    return LabelRasterizer(objects, area, BurnOptions(labels.all_touched, distance, labels.order, labels.elsewhere))


def write_label_rasters(
    labels: LabelParams, images: Mapping[str, str], folder: Path, raw: Path, card: DataCard, engine: Engine
) -> dict[str, str]:
    """Write a label raster for each image with a label; print what became of the labels.

    Args:
        labels: the labels.
        images: path of each image below the folder, by its name (see `raster.image.open_image`).
        folder: folder of the images and the labels.
        raw: folder to write to.
        card: the data card.
        engine: where rasters are written.

    Returns:
        Path of the label raster of each image that has one, below `raw`, by name.

    Raises:
        LandsegError: see `read_labels`; objects lie outside every image, no image has a label, or objects of different
            classes overlap without an order.
    """
    rasterizer = read_labels(labels, folder)
    paths = {scene: label_path(scene) for scene in images}
    write = partial(_write, rasterizer, folder=folder, card=card)
    scenes = list(images)
    jobs = [(images[scene], raw / paths[scene]) for scene in scenes]
    results = track(engine.map(write, jobs, prefer="threads", name=_job_name), len(jobs), "rasterize", "scenes")
    burned = dict(zip(scenes, results, strict=True))
    require_inside(rasterizer.objects, burned.values(), labels)
    kept = {scene: path for scene, path in paths.items() if has_label(burned[scene], rasterizer)}
    for scene in burned.keys() - kept.keys():
        (raw / paths[scene]).unlink()
    if not kept:
        raise LandsegError(
            f"{folder}: no image has a labelled pixel, as the {rasterizer.objects.kind} cover no pixel centre or lie "
            "outside the area of interest; correct dataset.labels (area, buffer, all_touched)"
        )
    _print_labels(rasterizer.objects, list(burned.values()), [burned[scene] for scene in kept])
    return kept


def _write(rasterizer: LabelRasterizer, job: tuple[str, Path], folder: Path, card: DataCard) -> BurnedLabels:
    image, path = job
    return rasterizer.write(image_grid(folder, image, card), path)


def _job_name(job: tuple[str, Path]) -> str:
    return job[0]


def has_label(burned: BurnedLabels, rasterizer: LabelRasterizer) -> bool:
    """Return whether an image has labels: pixels of an object or, in an area of interest, of `elsewhere`."""
    return burned.labelled > 0 and (rasterizer.area is not None or len(burned.burned) > 0)


def require_inside(objects: LabelObjects, burned: Iterable[BurnedLabels], labels: LabelParams) -> None:
    """Require that objects lie in an image.

    Raises:
        LandsegError: all lie outside; or one does, and `dataset.labels.outside` is error.
    """
    inside = np.zeros(len(objects), np.bool_)
    for each in burned:
        inside[each.burned] = inside[each.without_pixels] = True
    refuse_outside(objects, inside, labels)


def refuse_outside(objects: LabelObjects, inside: Mask, labels: LabelParams) -> None:
    """Raise an error if objects lie outside all images, see `require_inside`."""
    if not inside.any():
        west, south, east, north = objects.geometry.to_crs("EPSG:4326").total_bounds
        raise LandsegError(
            f"{objects.names[0]}: all {len(objects):,} {objects.kind} (longitude {west:,.2f} to {east:,.2f}, latitude "
            f"{south:,.2f} to {north:,.2f}) lie outside the images; correct the CRS of the labels or of the images"
        )
    if labels.outside == "error" and not inside.all():
        outside = np.flatnonzero(~inside)
        more = f" ({len(outside):,} of {len(objects):,} {objects.kind} do)" if len(outside) > 1 else ""
        raise LandsegError(
            f"{objects.names[int(outside[0])]}: lies outside every image{more}; correct its position, or set "
            "dataset.labels.outside to skip"
        )


def labels_faults(labels: LabelParams, images: Mapping[str, str], folder: Path, card: DataCard) -> None:
    """Raise what `write_label_rasters` would refuse, as far as headers and attributes tell.

    Raises:
        LandsegError: see `write_label_rasters`.
    """
    rasterizer = read_labels(labels, folder)
    grids = [image_grid(folder, image, card) for image in images.values()]
    refuse_outside(rasterizer.objects, inside_any(rasterizer, grids), labels)


def _print_labels(objects: LabelObjects, burned: Sequence[BurnedLabels], kept: Sequence[BurnedLabels]) -> None:
    pixels = sum(each.labelled for each in kept)
    drawn = np.unique(np.concatenate([each.burned for each in burned]))
    without = np.setdiff1d(np.concatenate([each.without_pixels for each in burned]), drawn)
    print(f"labels: {len(drawn):,} of {len(objects):,} {objects.kind} in {len(kept):,} scenes, {pixels:,} pixels")
    if len(burned) > len(kept):
        print(f"warning: {len(burned) - len(kept):,} of {len(burned):,} scenes have no label and are left out")
    if len(without):
        print(
            f"warning: {len(without):,} {objects.kind} have no pixel, first {objects.names[int(without[0])]}: no pixel "
            "centre lies in them, or others or the area of interest hide them"
        )
    if contested := sum(each.contested for each in burned):
        print(f"warning: {contested:,} pixels touch objects of several classes and are ignored (all_touched)")
    if (skipped := len(objects) - len(drawn) - len(without)) > 0:
        print(f"warning: {skipped:,} {objects.kind} lie outside every image and are left out")
    crs = objects.geometry.crs
    for grid in {each.grid.crs.to_wkt(): each.grid for each in kept}.values():
        if is_ballpark(crs, grid):
            print(
                f"warning: PROJ knows no transformation from {crs.name}, the CRS of the labels, to "
                f"{crs_name(grid.crs)} of {grid.name} and takes their datums for equal, so labels may be shifted by up "
                "to some 100 m; compare them with the image, or reproject them with a program that has the grids of "
                "the datums"
            )
