"""Temperature scaling: one number that divides all logits, fitted to validation pixels.

It changes confidences, but not the class with the largest logit (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, https://proceedings.mlr.press/v70/guo17a.html).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from landseg.core.arrays import Floats, Floats32, Ints
from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.core.progress import track
from landseg.evaluate.params import EvaluateParams
from landseg.evaluate.predict import memory_errors
from landseg.loader.batches import Batch, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import TileSet, split_tiles
from landseg.model.segmenter import Segmenter, save_model

# The sample: a single number needs no more, and evaluation stays fast.
_TILES, _PIXELS_PER_TILE, _SEED = 256, 1024, 0
# With fewer labelled pixels the temperature is not fitted.
_MIN_PIXELS = 1000
# Range of the search. Networks trained by cross-entropy or focal loss are far inside.
_LOWEST, _HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature and the sample that it was fitted to."""

    #: 1 if it was not fitted.
    temperature: float
    #: Labelled validation pixels; 0 if it was not fitted.
    pixels: int
    #: Why it was not fitted, or what limits its use; one sentence each.
    warnings: tuple[str, ...] = ()


def calibrate(model: Segmenter, bf16: bool, paths: Paths, params: EvaluateParams, workers: int) -> FittedTemperature:
    """Fit the temperature if the parameters ask for it, set it in the model's info, and write the model file.

    Args:
        model: the model, in evaluation mode on its device.
        bf16: whether to compute in bf16 mixed precision.
        paths: paths of the split table, the tile archives and the model file.
        params: the section `evaluate`.
        workers: processes that decode tiles.

    Raises:
        TileError: a tile cannot be read.
        LandsegError: memory does not suffice for a batch.
    """
    fitted = FittedTemperature(1.0, 0)
    if params.calibrate == "temperature":
        fitted = fit_temperature(*_validation_sample(model, bf16, paths, params.batch_size, workers))
        if fitted.pixels and params.split == "val":
            fitted = replace(
                fitted,
                warnings=("the temperature was fitted on the scored split, val, so its calibration error is too low",),
            )
    model.info = model.info.model_copy(update={"temperature": fitted.temperature})
    save_model(model, paths.scored_model)
    return fitted


def _validation_sample(
    model: Segmenter, bf16: bool, paths: Paths, batch_size: int, workers: int
) -> tuple[Floats32, Ints]:
    """Return logits (P, K) and targets (P,) of labelled pixels of the validation split; none if it has no such tile."""
    try:
        tiles = split_tiles(paths.table("split.parquet"), "val", model.info.classes)
    except LandsegError:
        return np.empty((0, len(model.info.classes)), np.float32), np.empty(0, np.int64)
    # The rows are in order of scenes, so even steps draw from every scene by its size.
    used = tiles.iloc[np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), _TILES)).round().astype(int))]
    in_order = TileBatchSampler(len(used), batch_size)
    loader = batch_loader(
        TileSet(paths.tiles, used, model.info.classes, model.info.rendering), in_order, "stream", model.device, workers
    )
    tracked = track(loader, len(used), "calibrate", "tiles", lambda batch: len(batch[0]))
    return sample_logits(model, tracked, bf16, _PIXELS_PER_TILE, _SEED)


@torch.inference_mode()
def sample_logits(
    model: Segmenter, loader: Iterable[Batch], bf16: bool, pixels_per_tile: int, seed: int
) -> tuple[Floats32, Ints]:
    """Predict tiles, and draw the logits of as many labelled pixels from each.

    Args:
        model: the model, in evaluation mode on its device.
        loader: batches of tiles.
        bf16: whether to compute in bf16 mixed precision.
        pixels_per_tile: labelled pixels to draw from a tile without replacement; all if it has fewer.
        seed: random seed of the draw.

    Returns:
        Logits (P, K) float32, and target channels (P,) int64.

    Raises:
        TileError: a tile cannot be read.
        LandsegError: memory does not suffice for a batch.
    """
    generator = np.random.default_rng(seed)
    drawn = [(np.empty((0, len(model.info.classes)), np.float32), np.empty(0, np.int64))]
    for images, targets in loader:
        tile, pixel = _draw_labelled(targets.flatten(1), pixels_per_tile, generator)
        with memory_errors(images):
            logits = model.logits(images, bf16).float().flatten(2)
        chosen = logits[tile.to(logits.device), :, pixel.to(logits.device)].cpu().numpy()
        drawn.append(
            (chosen, targets.flatten(1)[tile.to(targets.device), pixel.to(targets.device)].cpu().long().numpy())
        )
    logits_drawn, targets_drawn = zip(*drawn, strict=True)
    return np.concatenate(logits_drawn), np.concatenate(targets_drawn)


def _draw_labelled(
    targets: torch.Tensor, count: int, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw up to `count` labelled pixels of each tile: (N, H * W) to tile numbers (P,) and pixel numbers (P,)."""
    tiles, pixels = [], []
    for number, labelled in enumerate((targets != IGNORE).cpu().numpy()):
        positions = np.flatnonzero(labelled)
        chosen = generator.choice(positions, min(count, len(positions)), replace=False, shuffle=False)
        tiles.append(np.full(len(chosen), number))
        pixels.append(chosen)
    return torch.from_numpy(np.concatenate(tiles)), torch.from_numpy(np.concatenate(pixels))


def fit_temperature(logits: Floats32, targets: Ints) -> FittedTemperature:
    """Fit the temperature that minimises the negative log-likelihood, by a bounded search over its logarithm.

    Args:
        logits: (P, K) float32.
        targets: (P,) int64 channels.
    """
    pixels = len(targets)
    if pixels < _MIN_PIXELS:
        reason = f"the validation split has {pixels:,} labelled pixels, fewer than {_MIN_PIXELS:,}"
        return FittedTemperature(1.0, 0, (f"confidence is not calibrated: {reason}",))
    scores = logits.astype(np.float64)
    # The NLL is convex in 1 / temperature, so it has one minimum in its logarithm, too.
    bounds = (np.log(_LOWEST), np.log(_HIGHEST))
    found = minimize_scalar(
        lambda log: mean_nll(scores, targets, np.exp(log)), bounds=bounds, method="bounded", options={"xatol": 1e-4}
    )
    temperature = float(np.exp(found.x))
    if not _LOWEST * 1.01 < temperature < _HIGHEST / 1.01:
        reason = f"no temperature from {_LOWEST:g} to {_HIGHEST:g} fits the validation split"
        return FittedTemperature(1.0, 0, (f"confidence is not calibrated: {reason}",))
    return FittedTemperature(round(temperature, 4), pixels)


def mean_nll(logits: Floats, targets: Ints, temperature: float) -> float:
    """Return the mean negative log-likelihood of softmax(logits / temperature): (P, K) and (P,) channels."""
    shifted = (logits - logits.max(axis=1, keepdims=True)) / temperature
    right = shifted[np.arange(len(targets)), targets]
    return float((np.log(np.exp(shifted).sum(axis=1)) - right).mean())
