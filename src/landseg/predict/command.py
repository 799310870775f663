"""Scene mapping: the work behind `landseg predict`, and behind `landseg change` with a model."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landseg.core.classes import ClassTable, class_names
from landseg.core.errors import LandsegError
from landseg.core.files import locked
from landseg.model.info import ModelInfo, is_timm
from landseg.predict.backend import Backend, DeviceName
from landseg.predict.blending import Blender
from landseg.predict.load import load_backend
from landseg.predict.model_file import ModelFile, find_model
from landseg.predict.outputs import MapTask, OutputOptions, check_outputs, check_scene, map_scene
from landseg.predict.scenes import InputScene, find_scenes
from landseg.predict.windows import MIN_SIZE
from landseg.raster.grid import Grid


@dataclass(frozen=True)
class PredictOptions:
    """The model and how to run it."""

    #: A path, a git revision, a DVC experiment or 'workspace'.
    model: str
    #: The bands of a scene for those that the model reads, in its order; empty: found automatically.
    bands: Sequence[str] = ()
    #: The classes that the model must have, and no others; empty: any.
    classes: Sequence[str] = ()
    #: Resample scenes to the model's ground sampling distance.
    resample: bool = False
    #: Height and width of a window, px; None: the tile size that the model was trained on.
    window: int | None = None
    #: Minimum fraction of a window that the next one overlaps; None: 0.25.
    overlap: float | None = None
    #: Windows per batch; None: the default of the device.
    batch: int | None = None
    #: Test-time augmentation: average over the eight rotations and flips of each window.
    d4: bool = False
    #: Where to compute; None: auto.
    device: DeviceName | None = None


def predict_scenes(
    locations: Sequence[str],
    dataset: str | None,
    options: PredictOptions,
    outputs: OutputOptions,
    notify: Callable[[str], None],
) -> Iterator[str]:
    """Map scenes, and yield a sentence for each.

    Args:
        locations: paths or addresses, or names in the scene table of a dataset.
        dataset: that dataset, or None.
        options: the model and how to run it.
        outputs: what to write.
        notify: called with each notice to the user, one sentence.

    Raises:
        LandsegError: see landseg.predict.outputs.map_scene; or the model does not exist, or has other classes.
    """
    tasks = [(scene, outputs) for scene in _find_scenes(locations, dataset, options)]
    with _locked(outputs.folder), _loaded(options) as (model, blender):
        check_outputs(tasks)
        _check_scenes(tasks, options, blender)
        yield from _map_scenes(tasks, options, model, blender, notify)


def map_pair(
    locations: tuple[str, str],
    dataset: str | None,
    options: PredictOptions,
    folder: Path,
    overwrite: bool,
    other_outputs: Sequence[Path],
    check: Callable[[ClassTable, Sequence[Grid]], None],
    notify: Callable[[str], None],
) -> list[Path]:
    """Map two dates of a location into before/ and after/, because their files often share a name.

    Args:
        locations: the two scenes (see `predict_scenes`).
        dataset: a dataset, or None.
        options: the model and how to run it.
        folder: the parent of both folders.
        overwrite: whether to replace existing maps.
        other_outputs: further files that the caller will write; none of them may be a scene.
        check: called with the model's classes and the grids of both maps before the first scene is mapped.
        notify: called with each notice to the user, one sentence.

    Returns:
        The paths of the two maps.

    Raises:
        LandsegError: see `predict_scenes`; or `check` raises it.
    """
    folders = [folder / "before", folder / "after"]
    tasks = [
        (scene, OutputOptions(into, overwrite))
        for location, into in zip(locations, folders, strict=True)
        for scene in _find_scenes([location], dataset, options)
    ]
    with _locked(folder), _loaded(options) as (model, blender):
        check_outputs(tasks, other_outputs)
        check(blender.backend.info.classes, _check_scenes(tasks, options, blender))
        for sentence in _map_scenes(tasks, options, model, blender, notify):
            notify(sentence)
    return [outputs.path(scene) for scene, outputs in tasks]


def _find_scenes(locations: Sequence[str], dataset: str | None, options: PredictOptions) -> list[InputScene]:
    if dataset and options.bands:
        raise LandsegError("--bands: cannot be combined with --dataset, which defines the bands; leave it out")
    return find_scenes(locations, dataset)


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Return a context in which no other process may write maps into a folder."""
    return locked(
        folder / ".landseg.lock",
        f"{folder}: another process is writing maps there; wait for it, or choose another --out",
    )


@contextmanager
def _loaded(options: PredictOptions) -> Iterator[tuple[ModelFile, Blender]]:
    with find_model(options.model) as model:
        backend = load_backend(model, options.device or "auto")
        _check_classes(backend.info, model.name, options.classes)
        yield model, _blender(backend, options)


def _check_scenes(tasks: Sequence[MapTask], options: PredictOptions, blender: Blender) -> list[Grid]:
    """Return the grids of all maps; a scene that cannot be mapped fails here, not after hours of mapping others."""
    info = blender.backend.info
    return [check_scene(scene, outputs, info, options.bands, options.resample) for scene, outputs in tasks]


def _map_scenes(
    tasks: Sequence[MapTask],
    options: PredictOptions,
    model: ModelFile,
    blender: Blender,
    notify: Callable[[str], None],
) -> Iterator[str]:
    for scene, outputs in tasks:
        start = time.perf_counter()
        path = map_scene(scene, blender, model, outputs, options.bands, options.resample, notify)
        yield f"{path}: mapped in {time.perf_counter() - start:.1f} s on {blender.backend.description}"


def _blender(backend: Backend, options: PredictOptions) -> Blender:
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


def _check_classes(info: ModelInfo, model: str, required: Sequence[str]) -> None:
    if required and set(required) != set(class_names(info.classes)):
        raise LandsegError(
            f"{model}: has the classes {', '.join(class_names(info.classes))}, not {', '.join(required)}; "
            "choose another model"
        )
