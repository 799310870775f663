"""Scene mapping: the work behind `landseg predict`, and behind `landseg change` with a model."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.files import is_temporary, locked
from landseg.maps.sources import require_inputs_kept
from landseg.maps.task_runner import EngineChoice, TaskRunner, chosen_engine, require_one_choice, tracked
from landseg.model.info import ModelInfo
from landseg.predict.collection import CollectionOptions, plan_collection, write_collection
from landseg.predict.finished import listed
from landseg.predict.model_file import ModelFile, find_model
from landseg.predict.options import PredictOptions
from landseg.predict.outputs import MapTask, OutputOptions, check_names
from landseg.predict.scenes import InputScene, find_scenes
from landseg.predict.tasks import PredictJob, SceneCheck, check_task, map_task, prepare
from landseg.raster.grid import Grid

_IN_PROCESS = EngineChoice(workers=1)
_NOTHING_TOGETHER = CollectionOptions()

# Scratch folders in a folder of maps.
_SCRATCH = re.compile(r"^\.landseg[.-](?!lock$)")


def predict_scenes(
    locations: Sequence[str],
    dataset: str | None,
    options: PredictOptions,
    outputs: OutputOptions,
    notify: Callable[[str], None],
    choice: EngineChoice = _IN_PROCESS,
    dates: dict[str, str] | None = None,
    together: CollectionOptions = _NOTHING_TOGETHER,
) -> Iterator[str]:
    """Map scenes, and yield a sentence for each.

    Finished maps are kept (see `landseg.predict.finished`). If a scene fails, the others are still mapped.

    Args:
        locations: paths or addresses, or names in the scene table of a dataset.
        dataset: that dataset, or None.
        options: the model and how to run it.
        outputs: what to write.
        notify: called with each notice to the user, one sentence.
        choice: where to map; one after another in this process by default.
        dates: dates of acquisition, by location.
        together: what to write for all scenes together, after all are mapped.

    Raises:
        LandsegError: see landseg.predict.outputs.map_scene; or the model does not exist, or has other classes.
    """
    require_one_choice(choice)
    tasks = [(scene, outputs) for scene in _find_scenes(locations, dataset, options, dates)]
    with _opened(outputs.folder, [outputs.folder], options, choice, len(tasks), notify) as (run, job):
        info, checks, written = _checked(tasks, run, job, notify)
        plan = plan_collection(outputs.folder, tasks, checks, together, written)
        yield from _mapped(_unfinished(tasks, checks, notify), run, job, notify)
        yield from write_collection(outputs.folder, plan, info, run)


def map_pair(
    locations: tuple[str, str],
    dataset: str | None,
    options: PredictOptions,
    folder: Path,
    overwrite: bool,
    other_outputs: Sequence[Path],
    check: Callable[[ClassTable, Sequence[Grid]], None],
    notify: Callable[[str], None],
    choice: EngineChoice = _IN_PROCESS,
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
        choice: where to map (see `predict_scenes`).

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
    with _opened(folder, folders, options, choice, len(tasks), notify) as (run, job):
        info, checks, _ = _checked(tasks, run, job, notify, other_outputs)
        check(info.classes, [found.grid for found in checks if found.grid])
        for sentence in _mapped(_unfinished(tasks, checks, notify), run, job, notify):
            notify(sentence)
    return [outputs.path(scene) for scene, outputs in tasks]


def _find_scenes(
    locations: Sequence[str], dataset: str | None, options: PredictOptions, dates: dict[str, str] | None = None
) -> list[InputScene]:
    if dataset and options.bands:
        raise LandsegError("--bands: cannot be combined with --dataset, which defines the bands; leave it out")
    return find_scenes(locations, dataset, dates)


@contextmanager
def _opened(
    folder: Path,
    outputs: Sequence[Path],
    options: PredictOptions,
    choice: EngineChoice,
    tasks: int,
    notify: Callable[[str], None],
) -> Iterator[tuple[TaskRunner, PredictJob]]:
    """Lock a folder of maps, open the engine, and find the model.

    Args:
        folder: the folder to lock; all outputs lie in it or below it.
        outputs: the folders of the maps.
        options: the model and how to run it.
        choice: where to map.
        tasks: number of scenes.
        notify: called with each notice to the user.
    """
    busy = f"{folder}: another process is writing maps there; wait for it, or choose another --out"
    with locked(folder / ".landseg.lock", busy), ExitStack() as stack:
        _sweep(outputs)
        run = stack.enter_context(chosen_engine(choice, [folder], notify)).limited(tasks)
        stack.callback(_sweep, outputs if run.is_local else ())
        model = stack.enter_context(find_model(options.model))
        if not run.is_local:
            model = stack.enter_context(_shared(model, folder))
        yield run, PredictJob(model, options, run.threads)
        _sweep(outputs)


@contextmanager
def _shared(model: ModelFile, folder: Path) -> Iterator[ModelFile]:
    """Put a model where all workers see it: into the folder of the maps, for the duration of the run."""
    with TemporaryDirectory(prefix=".landseg.model.", dir=folder) as temporary:
        path = Path(temporary, model.path.name)
        shutil.copyfile(model.path, path)
        yield ModelFile(path, model.name, model.revision, model.run, model.digest, model.source)


def _sweep(folders: Sequence[Path]) -> None:
    """Remove what killed processes left half-written in folders of maps, which are locked."""
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if _SCRATCH.match(path.name) or is_temporary(path):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _checked(
    tasks: Sequence[MapTask],
    run: TaskRunner,
    job: PredictJob,
    notify: Callable[[str], None],
    other_outputs: Sequence[Path] = (),
) -> tuple[ModelInfo, list[SceneCheck], list[Path]]:
    """Check the model, all scenes and all outputs; what cannot be mapped fails here, not after hours of mapping others.

    Returns:
        Metadata of the model, what is known of each scene, and the outputs of all scenes.

    Raises:
        LandsegError: the model, a scene or an option is unsuitable, or an output is a scene, belongs to two scenes or
            must not be replaced.
    """
    written = check_names(tasks)
    info = _prepared(run, job)
    checks = list(tracked(run.map(partial(check_task, job), tasks, _location), len(tasks), "check", "scenes"))
    faults = [found.fault for found in checks if found.fault is not None]
    if len(faults) > 1:
        for fault in faults:
            notify(fault)
        raise LandsegError(f"{len(faults):,} of {len(tasks):,} scenes cannot be mapped; correct or leave them out")
    if faults:
        raise LandsegError(faults[0])
    require_inputs_kept((file for found in checks for file in found.files), [*written, *other_outputs])
    for (scene, outputs), found in zip(tasks, checks, strict=True):
        _require_replaceable(scene, outputs, found)
    return info, checks, written


def _prepared(run: TaskRunner, job: PredictJob) -> ModelInfo:
    """Load the model where scenes are mapped, before there are many faults of one reason."""
    [info] = run.map(prepare, [job], lambda _: job.model.name)
    return info


def _require_replaceable(scene: InputScene, outputs: OutputOptions, found: SceneCheck) -> None:
    for path in outputs.paths(scene):
        if path.is_dir():
            raise LandsegError(f"{path}: expected a file, found a folder; remove or rename it")
    if found.unfinished not in (None, "missing") and not outputs.overwrite:
        raise LandsegError(f"{found.unfinished}; choose another --out, or add --overwrite")


def _unfinished(tasks: Sequence[MapTask], checks: Sequence[SceneCheck], notify: Callable[[str], None]) -> list[MapTask]:
    """Return the tasks that are left to do."""
    left = [task for task, found in zip(tasks, checks, strict=True) if found.unfinished is not None]
    if kept := len(tasks) - len(left):
        maps = "map is" if len(tasks) == 1 else "maps are"
        notify(f"{kept:,} of {len(tasks):,} {maps} finished and kept; remove a map to make it again")
    return left


def _mapped(tasks: Sequence[MapTask], run: TaskRunner, job: PredictJob, notify: Callable[[str], None]) -> Iterator[str]:
    """Map scenes, and yield a sentence for each.

    Raises:
        LandsegError: scenes failed, after all others are mapped.
    """
    failed: list[tuple[MapTask, str]] = []
    results = run.map(partial(map_task, job, notify=notify if run.in_process else None), tasks, _location)
    if not run.in_process:  # which shows the progress within each scene
        results = tracked(results, len(tasks), "map", "scenes")
    for task, result in zip(tasks, results, strict=True):
        for notice in result.notices:
            notify(notice)
        if result.fault is None:
            yield f"{result.path}: mapped in {result.seconds:.1f} s on {result.description}"
            continue
        failed.append((task, result.fault))
        if len(tasks) > 1:
            notify(result.fault)
    if not failed:
        return
    if len(tasks) == 1:
        raise LandsegError(failed[0][1])
    names = listed([scene.location for (scene, _), _ in failed])
    raise LandsegError(
        f"{len(failed):,} of {len(tasks):,} scenes have no map: {names}, for the reasons above; correct or leave them "
        "out and run again, which keeps the finished maps"
    )


def _location(task: MapTask) -> str:
    return str(task[0].location)
