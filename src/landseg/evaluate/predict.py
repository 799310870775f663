"""Prediction of a split: confusion matrices, histograms of confidences, and predictions of example tiles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from landseg import metrics
from landseg.core.arrays import Counts, Image, Pixels
from landseg.core.classes import IGNORE, class_ids
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.progress import track
from landseg.core.tile_archive import read_image, read_mask
from landseg.evaluate.calibration import BINS
from landseg.evaluate.confidence import confidence_histograms, top_confidences
from landseg.evaluate.examples import ExampleTile
from landseg.loader.batches import Batch, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import TileSet
from landseg.model.confusion import confusion_matrices
from landseg.model.device import accelerator, keep_freed_memory, out_of_memory, use_bf16
from landseg.model.segmenter import Segmenter, load_model


@dataclass(frozen=True)
class EvaluationCounts:
    """Confusion matrices of the tiles of a split, histograms of its confidences, and its one-hot IoU."""

    #: (N, K, K) int64, one per tile.
    matrices: Counts
    #: (S, 2, K, BINS, 3) int64, one per scene, sorted by name: confidences with the model's temperature, and with
    #: temperature 1 (see `confidence_histograms`).
    histograms: Counts
    #: Mean over batches with labelled pixels of the one-hot IoU (see `metrics.one_hot_iou`); NaN without any.
    paper_iou: float


class BatchCounts(NamedTuple):
    """Counts of the tiles of a batch."""

    #: (N, K, K) int64.
    matrices: Counts
    #: (N, 2, K, BINS, 3) int64 (see `EvaluationCounts`).
    histograms: Counts
    #: One-hot IoU of the batch; 1 without labelled pixels.
    paper_iou: float


def load_trained(path: Path, card: DataCard, device: Literal["auto", "cpu", "cuda", "mps"]) -> tuple[Segmenter, bool]:
    """Load a model onto its device, in evaluation mode; return it, and whether to compute in bf16, as in training.

    Raises:
        LandsegError: the file is not a model, its classes differ from those of the data card, or the device is not
            available.
    """
    model, chosen = load_model(path), accelerator(device)
    if model.info.classes != card.classes:
        raise LandsegError(f"{path}: trained on other classes than those of the data card; re-run the train stage")
    keep_freed_memory(chosen)
    return model.to(chosen).eval(), use_bf16(model.info.params["train"]["precision"], chosen)


def evaluate_tiles(
    model: Segmenter, bf16: bool, tiles: pd.DataFrame, folder: Path, batch_size: int, workers: int
) -> EvaluationCounts:
    """Predict tiles and count their confusion matrices; show progress.

    Args:
        model: the model, in evaluation mode on its device.
        bf16: whether to compute in bf16 mixed precision.
        tiles: columns archive, tile, scene.
        folder: the folder of the tile archives.
        batch_size: tiles per batch.
        workers: processes that decode tiles.

    Raises:
        TileError: a tile cannot be read.
        LandsegError: memory does not suffice for a batch.
    """
    in_order = TileBatchSampler(len(tiles), batch_size)
    # Every tile is read once, so caching has no benefit.
    loader = batch_loader(
        TileSet(folder, tiles, model.info.classes, model.info.rendering), in_order, "stream", model.device, workers
    )
    batches = evaluate_batches(model, loader, bf16)
    scenes, scene_of_tile = np.unique(tiles["scene"], return_inverse=True)
    histograms = np.zeros((len(scenes), 2, len(model.info.classes), BINS, 3), np.int64)
    matrices, ious, done = [], [], 0
    for batch in track(batches, len(tiles), "evaluate", "tiles", lambda batch: len(batch.matrices)):
        np.add.at(histograms, scene_of_tile[done : done + len(batch.matrices)], batch.histograms)
        matrices.append(batch.matrices)
        if batch.matrices.any():
            ious.append(batch.paper_iou)
        done += len(batch.matrices)
    return EvaluationCounts(np.concatenate(matrices), histograms, float(np.mean(ious)) if ious else np.nan)


def evaluate_batches(model: Segmenter, loader: Iterable[Batch], bf16: bool) -> Iterator[BatchCounts]:
    """Predict batches, and count each.

    Args:
        model: the model, in evaluation mode on its device.
        loader: the batches, in the order of the tile table.
        bf16: whether to compute in bf16 mixed precision.

    Raises:
        TileError: a tile cannot be read.
        LandsegError: memory does not suffice for a batch.
    """
    for images, targets in loader:
        with memory_errors(images):
            counts = _evaluate_batch(model, images, targets, bf16)
        yield counts


@torch.inference_mode()
def _evaluate_batch(model: Segmenter, images: torch.Tensor, targets: torch.Tensor, bf16: bool) -> BatchCounts:
    classes, temperature = len(model.info.classes), model.info.temperature
    logits = model.logits(images, bf16).float()
    channels = targets.to(logits.device).long()
    predictions = logits.max(1).indices  # on a CPU, `max` is ten times as fast as `argmax`
    before = top_confidences(logits, 1)
    after = before if temperature == 1 else top_confidences(logits, temperature)
    histograms = [confidence_histograms(of, predictions, channels, classes) for of in (after, before)]
    return BatchCounts(
        confusion_matrices(predictions, channels, classes).cpu().numpy(),
        torch.stack(histograms, dim=1).cpu().numpy(),
        _one_hot_iou(before, predictions, channels),
    )


@contextmanager
def memory_errors(images: torch.Tensor) -> Iterator[None]:
    """Turn an error of memory that does not suffice for a batch of images, (N, 3, H, W), into a ParamsError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise _memory_error(*images.shape[::2]) from None


def _memory_error(tiles: int, size: int) -> ParamsError:
    if tiles == 1:
        return ParamsError(f"tile.size = {size}: out of memory with a single tile; choose a smaller size")
    return ParamsError(f"evaluate.batch_size: out of memory with {tiles} tiles; set it to {tiles // 2}")


def _one_hot_iou(confidences: torch.Tensor, predictions: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the IoU over all one-hot channels where softmax > 0.5, without ignored pixels."""
    labelled = targets != IGNORE
    predicted = (confidences > 0.5) & labelled  # only the largest softmax value can exceed 0.5
    hits = (predicted & (predictions == targets)).sum()
    return metrics.one_hot_iou(int(hits), int(predicted.sum() + labelled.sum() - hits))


def sum_by_group(counts: Counts, groups: Sequence[str]) -> tuple[list[str], Counts]:
    """Sum counts (N, ...) by group, such as tile matrices; return the G sorted group names, and sums (G, ...)."""
    names, positions = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), *counts.shape[1:]), np.int64)
    np.add.at(sums, positions, counts)
    return [str(name) for name in names], sums


@torch.inference_mode()
def predict_ids(model: Segmenter, images: Image, bf16: bool) -> Pixels:
    """Predict class ids of images, one image at a time: (N, H, W, bands) to (N, H, W) uint8."""
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2)
    channels = [model.logits(image[None], bf16).float()[0].argmax(0).cpu().numpy() for image in channels_first]
    predicted: Pixels = class_ids(model.info.classes)[np.stack(channels)]
    return predicted


def predict_examples(
    model: Segmenter, bf16: bool, folder: Path, tiles: pd.DataFrame, matrices: Counts, chosen: Mapping[int, str]
) -> list[ExampleTile]:
    """Read and predict the chosen example tiles.

    Args:
        model: the model, in evaluation mode on its device.
        bf16: whether to compute in bf16 mixed precision.
        folder: the folder of the tile archives.
        tiles: columns archive, tile, scene.
        matrices: (N, K, K) int64, one per tile.
        chosen: reasons by position, as `choose_examples` returns them.
    """
    examples, info = [], model.info
    for position, why in chosen.items():
        tile, archive = tiles["tile"][position], folder / tiles["archive"][position]
        image, target = read_image(archive, tile, info.rendering.format), read_mask(archive, tile)
        accuracy = metrics.pixel_accuracy(matrices[position])
        miou = float(np.nanmean(metrics.iou(matrices[position])))
        prediction = predict_ids(model, image[None, ..., : len(info.rendering.bands)], bf16)[0]
        picture, scene = info.rendering.picture(image), tiles["scene"][position]
        examples.append(ExampleTile(tile, scene, why, accuracy, miou, picture, target, prediction))
    return examples
