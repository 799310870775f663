"""Map scenes one after another: what `landseg predict` does."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from landseg.core.classes import ClassTable, names
from landseg.core.errors import LandsegError
from landseg.model.info import ModelInfo
from landseg.predict.backend import Backend, Device
from landseg.predict.blending import Blender
from landseg.predict.load import opened_network
from landseg.predict.model_file import ModelFile, model_file
from landseg.predict.outputs import Job, OutputOptions, map_scene, require_fit, require_safe
from landseg.predict.scenes import Scene, scenes
from landseg.raster.grid import Grid


@dataclass(frozen=True)
class PredictOptions:
    """With which model scenes are looked at, and how."""

    model: str
    #: Which bands of a scene are the model's three; empty: found by themselves.
    bands: Sequence[str] = ()
    #: Classes that the model must have, and no other; empty: whichever it has.
    classes: Sequence[str] = ()
    resample: bool = False
    #: Height and width of a window, px; None: those of the tiles that the model was trained on.
    window: int | None = None
    #: Share of a window that the next sees, too; None: a quarter.
    overlap: float | None = None
    #: Windows at a time; None: what suits the device.
    batch: int | None = None
    symmetries: bool = False
    #: Where to compute; None: on a GPU where there is one.
    device: Device | None = None


def predict_scenes(
    given: Sequence[str], dataset: str | None, look: PredictOptions, wanted: OutputOptions, say: Callable[[str], None]
) -> Iterator[str]:
    """Map scenes, and yield a sentence on each.

    Args:
        given: paths or addresses, or names in the scene table of a data set.
        dataset: that data set, or None.
        look: model and manner.
        wanted: what to write.
        say: is told what a person should know beside.

    Raises:
        LandsegError: see landseg.predict.outputs.map_scene; or the model is not there, or has other classes.
    """
    jobs = [(scene, wanted) for scene in _scenes(given, dataset, look)]
    require_safe(jobs)
    with _opened(look) as (model, blender):
        _grids(jobs, look, blender)
        yield from _maps(jobs, look, model, blender, say)


def map_pair(
    given: tuple[str, str],
    dataset: str | None,
    look: PredictOptions,
    folder: Path,
    overwrite: bool,
    beside: Sequence[Path],
    require: Callable[[ClassTable, Sequence[Grid]], None],
    say: Callable[[str], None],
) -> list[Path]:
    """Map two dates of a place, often called alike, into before/ and after/, and return the paths of the maps.

    Args:
        given: the two (see `predict_scenes`).
        dataset: a data set, or None.
        look: model and manner.
        folder: where both folders go.
        overwrite: whether maps that are there are to be replaced.
        beside: what else will be written, none of which is to be a scene.
        require: refuses the model's classes or the grids of the maps, before the first is made.
        say: is told what a person should know.

    Raises:
        LandsegError: as `predict_scenes`, and what `require` raises.
    """
    folders = [folder / "before", folder / "after"]
    jobs = [
        (scene, OutputOptions(into, overwrite))
        for one, into in zip(given, folders, strict=True)
        for scene in _scenes([one], dataset, look)
    ]
    require_safe(jobs, beside)
    with _opened(look) as (model, blender):
        require(blender.network.info.classes, _grids(jobs, look, blender))
        for sentence in _maps(jobs, look, model, blender, say):
            say(sentence)
    return [wanted.path(scene) for scene, wanted in jobs]


def _scenes(given: Sequence[str], dataset: str | None, look: PredictOptions) -> list[Scene]:
    if dataset and look.bands:
        raise LandsegError("--bands: is of files, and the bands of scenes of a data set are known; leave it out")
    return scenes(given, dataset)


@contextmanager
def _opened(look: PredictOptions) -> Iterator[tuple[ModelFile, Blender]]:
    with model_file(look.model) as model:
        network = opened_network(model, look.device or "auto")
        _require_classes(network.info, model.name, look.classes)
        yield model, _blender(network, look)


def _grids(jobs: Sequence[Job], look: PredictOptions, blender: Blender) -> list[Grid]:
    """Return the grids of all maps, before hours go into the first."""
    info = blender.network.info
    return [require_fit(scene, wanted, info, look.bands, look.resample) for scene, wanted in jobs]


def _maps(
    jobs: Sequence[Job], look: PredictOptions, model: ModelFile, blender: Blender, say: Callable[[str], None]
) -> Iterator[str]:
    for scene, wanted in jobs:
        start = time.perf_counter()
        path = map_scene(scene, blender, model, wanted, look.bands, look.resample, say)
        yield f"{path}: mapped in {time.perf_counter() - start:.1f} s on {blender.network.where}"


def _blender(network: Backend, look: PredictOptions) -> Blender:
    stride, size = network.info.stride, look.window or network.info.tile
    if size % stride:
        raise LandsegError(f"--window: {size} px is no multiple of {stride}, which this model needs; choose one")
    overlap = 0.25 if look.overlap is None else look.overlap
    return Blender(network, size, overlap, look.batch or network.batch, look.symmetries)


def _require_classes(info: ModelInfo, model: str, wanted: Sequence[str]) -> None:
    if wanted and set(wanted) != set(names(info.classes)):
        raise LandsegError(
            f"{model}: knows the classes {', '.join(names(info.classes))}, not {', '.join(wanted)}; name another model"
        )
