"""torchgeo's side of peer_prediction: RasterDataset, GridGeoSampler, a DataLoader and SemanticSegmentationTask.

torchgeo 0.8 predicts windows, but neither joins them nor writes a map. This is the plainest way, without blending: a
window overwrites those before it, and rasterio writes the classes as GeoTIFF.
"""

import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import rasterio
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler
from torchgeo.trainers import SemanticSegmentationTask


def predict(
    scene: str, weights: str, out: str, encoder: str, window: int, overlap: int, batch: int, workers: int
) -> tuple[set[int], set[int]]:
    """Map a scene; return the first rows and first columns of the windows."""
    task = SemanticSegmentationTask("unet", encoder, weights=None, num_classes=5)
    task.model.load_state_dict(torch.load(weights, weights_only=True))
    task.eval()
    dataset = RasterDataset(paths=scene)
    sampler = GridGeoSampler(dataset, size=window, stride=window - overlap)
    loader = DataLoader(dataset, batch, sampler=sampler, collate_fn=stack_samples, num_workers=workers)
    rows, cols = set(), set()
    with rasterio.open(scene) as source:
        profile = {**source.profile, "count": 1, "dtype": "uint8"}
        left, top, resolution, shape = source.bounds.left, source.bounds.top, source.res[0], source.shape
    classes = np.zeros(shape, np.uint8)
    with torch.inference_mode():
        for sample in loader:
            found = task.predict_step({"image": sample["image"] / 255}, 0).argmax(1).numpy()
            for ids, (x, y, _) in zip(found, sample["bounds"], strict=True):
                row, col = round((top - y.stop) / resolution), round((x.start - left) / resolution)
                inside = ids[max(0, -row) :, : shape[1] - col]  # the last windows reach beyond the scene
                classes[max(0, row) : row + window, col : col + window] = inside
                rows.add(row)
                cols.add(col)
    with rasterio.open(out, "w", **profile) as target:
        target.write(classes, 1)
    return rows, cols


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    job: dict[str, Any] = json.loads(sys.argv[1])
    del job["side"]
    start = time.perf_counter()
    windows = predict(**job)
    print(json.dumps({"seconds": time.perf_counter() - start, "starts": [sorted(each) for each in windows]}))
