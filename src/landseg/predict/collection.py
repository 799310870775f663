"""Outputs of all scenes together: a mosaic of their maps, and a catalogue."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.maps.catalog import (
    CatalogEntry,
    Period,
    map_item,
    parse_period,
    require_own_catalogue,
    write_catalogue,
)
from landseg.maps.mosaic import Mosaic, MosaicKind, plan_mosaics, require_own, write_mosaic
from landseg.maps.task_runner import TaskRunner, tracked
from landseg.model.info import ModelInfo
from landseg.predict.outputs import MapTask
from landseg.predict.tasks import SceneCheck


@dataclass(frozen=True)
class CollectionOptions:
    """What to write for all scenes together."""

    #: Write a mosaic of the maps; None: none.
    mosaic: MosaicKind | None = None
    #: Write a STAC collection of the maps, with their footprints.
    stac: bool = False
    #: Date of the scenes that have none, or a period; None: such scenes are refused.
    date: str | None = None


@dataclass(frozen=True)
class CollectionPlan:
    """What will be written for all scenes together, checked before the first is mapped."""

    mosaics: Sequence[Mosaic]
    #: An entry for each map; empty: no catalogue.
    entries: Sequence[CatalogEntry]


def plan_collection(
    folder: Path,
    tasks: Sequence[MapTask],
    checks: Sequence[SceneCheck],
    options: CollectionOptions,
    written: Sequence[Path],
) -> CollectionPlan:
    """Plan what to write for all scenes together.

    Args:
        folder: the folder of the maps.
        tasks: the scenes.
        checks: what is known of each.
        options: what to write.
        written: the outputs of single scenes.

    Raises:
        LandsegError: the maps form no mosaic, a scene has no date or no CRS, or a file is in the way.
    """
    paths = [outputs.path(scene) for scene, outputs in tasks]
    grids = [found.grid for found in checks if found.grid]
    mosaics: Sequence[Mosaic] = ()
    if options.mosaic:
        mosaics = plan_mosaics(folder, options.mosaic, list(zip(paths, grids, strict=True)))
        taken = set(written)
        for file in (file for mosaic in mosaics for file in mosaic.files):
            if file in taken:
                raise LandsegError(f"{file}: is the mosaic and an output of a scene; rename the scene")
        for mosaic in mosaics:
            require_own(mosaic.path)
    entries: Sequence[CatalogEntry] = ()
    if options.stac:
        require_own_catalogue(folder)
        for (scene, _), grid in zip(tasks, grids, strict=True):
            if not grid.crs:
                raise LandsegError(f"{scene.location}: has no CRS, so its map has no footprint; leave out --stac")
        entries = [_entry(task, found, options.date) for task, found in zip(tasks, checks, strict=True)]
    elif options.date:
        raise LandsegError("--date requires --stac")
    return CollectionPlan(mosaics, entries)


def _entry(task: MapTask, found: SceneCheck, default: str | None) -> CatalogEntry:
    scene, outputs = task
    others = {
        "confidence": outputs.path(scene, "_confidence") if outputs.confidence else None,
        "probability": outputs.path(scene, "_probability") if outputs.probability else None,
        "quicklook": outputs.path(scene, "_quicklook", "png") if outputs.quicklook else None,
        "polygons": outputs.path(scene, suffix=outputs.vector) if outputs.vector else None,
    }
    date = _date(str(scene.location), scene.date or found.date, default)
    return CatalogEntry(outputs.path(scene), date, {name: path for name, path in others.items() if path})


def _date(name: str, own: str, default: str | None) -> Period:
    text = own or default
    if not text:
        raise LandsegError(
            f"{name}: its date is unknown, which a catalogue needs; give --date, or a column date in the CSV file of "
            "--scenes"
        )
    try:
        return parse_period(text)
    except ValueError as error:
        source = name if own else "--date"
        raise LandsegError(
            f"{source}: {text!r} is no date ({error}); write it as 2024-06-01, 2024-06, or 2024-06-01/2024-08-31"
        ) from None


def write_collection(
    folder: Path,
    plan: CollectionPlan,
    info: ModelInfo,
    run: TaskRunner,
) -> Iterator[str]:
    """Write what was planned, and yield a sentence for each file.

    Raises:
        LandsegError: a map is missing or damaged, or the disk is full.
    """
    for mosaic in plan.mosaics:
        write_mosaic(mosaic, info.classes)
        grid = mosaic.grid
        yield f"{mosaic.path}: {len(mosaic.maps):,} maps, {grid.width:,} x {grid.height:,} px"
    if not plan.entries:
        return
    items = list(tracked(run.map(map_item, plan.entries, _name), len(plan.entries), "catalogue", "maps"))
    assets = {mosaic.path.stem: mosaic.path for mosaic in plan.mosaics}
    path = write_catalogue(folder, items, info.licence, assets, f"landseg {version('landseg')}")
    yield f"{path}: {len(items):,} maps"


def _name(entry: CatalogEntry) -> str:
    return str(entry.path)
