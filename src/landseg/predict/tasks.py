"""Tasks of a prediction, which an engine runs: loading the model, checking a scene, and mapping a scene.

The functions are at the top level of this module, and all that they receive and return can be pickled. A process loads
the model once.
"""

import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from landseg.core.classes import class_names
from landseg.core.errors import LandsegError
from landseg.model.info import ModelInfo, is_timm
from landseg.predict.backend import Backend
from landseg.predict.blending import Blender
from landseg.predict.finished import unfinished
from landseg.predict.load import load_backend
from landseg.predict.model_file import ModelFile
from landseg.predict.options import PredictOptions
from landseg.predict.outputs import MapTask, check_scene, map_scene, provenance_tags
from landseg.predict.signature import scene_signature
from landseg.predict.windows import MIN_SIZE
from landseg.raster.grid import Grid


@dataclass(frozen=True)
class PredictJob:
    """What all tasks of a run have in common."""

    #: The model, on a path that all workers see.
    model: ModelFile
    options: PredictOptions
    #: Number of threads of a task; None: as many as its libraries choose.
    threads: int | None = None


@dataclass(frozen=True)
class SceneCheck:
    """What a check found of a scene and its outputs."""

    #: Why the scene cannot be mapped; None: it can.
    fault: str | None
    #: The grid of the map; None if the scene cannot be mapped.
    grid: Grid | None = None
    #: Files that the scene is read from.
    files: Sequence[Path] = ()
    #: See `landseg.predict.finished.unfinished`.
    unfinished: str | None = "missing"
    #: Date of acquisition, as the file states it; '' if it does not.
    date: str = ""


@dataclass(frozen=True)
class SceneResult:
    """What came of mapping a scene."""

    #: The path of the map.
    path: Path
    #: Notices to the user, one sentence each, that are not printed yet.
    notices: Sequence[str]
    seconds: float
    #: Device and precision.
    description: str
    #: Why there is no map; None: there is one.
    fault: str | None = None


def prepare(job: PredictJob) -> ModelInfo:
    """Load the model as tasks do, and return its metadata.

    Raises:
        LandsegError: the model cannot be loaded, or has other classes than required; or an option does not suit it.
    """
    info = _blender(job).backend.info
    required = job.options.classes
    if required and set(required) != set(class_names(info.classes)):
        raise LandsegError(
            f"{job.model.name}: has the classes {', '.join(class_names(info.classes))}, not {', '.join(required)}; "
            "choose another model"
        )
    return info


def check_task(job: PredictJob, task: MapTask) -> SceneCheck:
    """Check that a scene can be mapped, and whether its map exists."""
    scene, outputs = task
    blender = _blender(job)
    if isinstance(scene.location, Path) and not scene.card and not scene.location.is_file():
        return SceneCheck(
            f"{scene.location}: {platform.node()} does not see it; put it on a file system that all machines mount at "
            "the same path"
        )
    try:
        header = check_scene(scene, outputs, blender.backend.info, job.options.bands, job.options.resample)
        files = scene.files
        if not any(path.exists() for path in outputs.paths(scene)):
            return SceneCheck(None, header.grid, files, "missing", header.date)
        signature = scene_signature(scene)
        tags = provenance_tags(scene, job.model, blender, header.bands, header.resampled, outputs, signature)
        reason = unfinished(scene, outputs, tags, signature, blender.backend.info.classes)
        return SceneCheck(None, header.grid, files, reason, header.date)
    except LandsegError as error:
        return SceneCheck(str(error))


def map_task(job: PredictJob, task: MapTask, notify: Callable[[str], None] | None = None) -> SceneResult:
    """Map a scene.

    Args:
        job: what all tasks have in common.
        task: the scene and its outputs.
        notify: called with each notice at once, in the process of the user, who also sees the progress within the
            scene; None: notices are part of the result.

    Raises:
        LandsegError: an output cannot be written. Faults of the scene are part of the result.
    """
    scene, outputs = task
    blender, options = _blender(job), job.options
    notices: list[str] = []
    start, fault = time.perf_counter(), None
    try:
        map_scene(
            scene,
            blender,
            job.model,
            outputs,
            options.bands,
            options.resample,
            notify or notices.append,
            job.threads,
            progress=notify is not None,
        )
    except LandsegError as error:
        if any(str(error).startswith(f"{path}:") for path in outputs.paths(scene)):
            raise
        fault = str(error)
    seconds = time.perf_counter() - start
    return SceneResult(outputs.path(scene), notices, seconds, blender.backend.description, fault)


_LOADING = threading.Lock()


def _blender(job: PredictJob) -> Blender:
    with _LOADING:  # threads of one worker share the model
        return _loaded(job)


@lru_cache(maxsize=1)
def _loaded(job: PredictJob) -> Blender:
    """Load the model, and check the options of the windows.

    Raises:
        LandsegError: the model cannot be loaded, or an option does not suit it.
    """
    options = job.options
    backend = load_backend(job.model, options.device or "auto", job.threads)
    stride, size = backend.info.stride, options.window or backend.info.tile
    if size % stride:
        raise LandsegError(f"--window: {size} px is not a multiple of {stride}, as this model requires; change it")
    overlap = 0.25 if options.overlap is None else options.overlap
    one_size = _takes_one_size(backend)
    if one_size and size != backend.info.tile:
        raise LandsegError(
            f"--window: the encoder {backend.info.encoder} accepts windows of {backend.info.tile} px only, those of "
            "its training tiles; leave it out"
        )
    return Blender(backend, size, overlap, options.batch or backend.batch_size, options.d4, one_size)


def _takes_one_size(backend: Backend) -> bool:
    """Return whether a network accepts windows of the size of its training tiles only, as some transformers do."""
    info = backend.info
    if not is_timm(info.encoder):  # all others accept any multiple of the stride
        return False
    size = max(MIN_SIZE, info.tile // 2 // info.stride * info.stride)
    try:
        found = backend.probabilities(np.zeros((1, size, size, len(info.rendering.bands)), info.rendering.dtype))
    except Exception as error:  # each library raises its own kind
        if backend.is_out_of_memory(error):
            raise
        return True
    return tuple(found.shape[2:]) != (size, size)
