"""Map scenes one after another: what `landseg predict` does."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from landseg.datasets.classes import names
from landseg.errors import LandsegError
from landseg.model_info import ModelInfo
from landseg.predict.blending import Blender
from landseg.predict.mapping import Wanted, map_scene, require_safe
from landseg.predict.model_file import model_file
from landseg.predict.network import Device, Network
from landseg.predict.opening import opened_network
from landseg.predict.scenes import scenes


@dataclass(frozen=True)
class Look:
    """With which model scenes are looked at, and how."""

    model: str
    #: Which bands of a scene are the model's three; empty: found by themselves.
    bands: Sequence[str] = ()
    #: Classes that the model must have, and no other; empty: whichever it has.
    classes: Sequence[str] = ()
    resample: bool = False
    #: Height and width of a window, px; None: those of the tiles that the model was trained on.
    window: int | None = None
    overlap: float = 0.25
    #: Windows at a time; None: what suits the device.
    batch: int | None = None
    symmetries: bool = False
    device: Device = "auto"


def predict_scenes(
    given: Sequence[str], dataset: str | None, look: Look, wanted: Wanted, say: Callable[[str], None]
) -> Iterator[str]:
    """Map scenes, and yield a sentence on each.

    Args:
        given: paths or addresses, or names in the scene table of a data set.
        dataset: that data set, or None.
        look: model and manner.
        wanted: what to write.
        say: is told what a person should know beside.

    Raises:
        LandsegError: see landseg.predict.mapping.map_scene; or the model is not there, or has other classes.
    """
    found = scenes(given, dataset)
    require_safe(found, wanted)
    with model_file(look.model) as model:
        network = opened_network(model, look.device)
        _require_classes(network.info, model.name, look.classes)
        blender = _blender(network, look)
        for scene in found:
            start = time.perf_counter()
            path = map_scene(scene, blender, model, wanted, look.bands, look.resample, say)
            yield f"{path}: mapped in {time.perf_counter() - start:.1f} s on {network.where}"


def map_one(given: str, dataset: str | None, look: Look, wanted: Wanted, say: Callable[[str], None]) -> Path:
    """Map one scene, tell what `predict_scenes` yields, and return the path of the map."""
    for sentence in predict_scenes([given], dataset, look, wanted, say):
        say(sentence)
    return wanted.path(scenes([given], dataset)[0])


def _blender(network: Network, look: Look) -> Blender:
    stride, size = network.info.stride, look.window or network.info.tile
    if size % stride:
        raise LandsegError(f"--window: {size} px is no multiple of {stride}, which this model needs; choose one")
    return Blender(network, size, look.overlap, look.batch or network.batch, look.symmetries)


def _require_classes(info: ModelInfo, model: str, wanted: Sequence[str]) -> None:
    if wanted and set(wanted) != set(names(info.classes)):
        raise LandsegError(
            f"{model}: knows the classes {', '.join(names(info.classes))}, not {', '.join(wanted)}; name another model"
        )
