"""Raster Vision's side of peer_prediction: sliding windows, SemanticSegmentationLearner and smooth labels.

As its documentation maps a scene: probabilities of overlapping windows are averaged, without weights, and saved as a
GeoTIFF of classes; the raster of probabilities is left out.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from rastervision.core.data import ClassConfig, SemanticSegmentationLabels
from rastervision.pytorch_learner import (
    SemanticSegmentationGeoDataConfig,
    SemanticSegmentationLearner,
    SemanticSegmentationLearnerConfig,
    SemanticSegmentationSlidingWindowGeoDataset,
    SolverConfig,
)


def predict(
    scene: str, weights: str, out: str, encoder: str, window: int, overlap: int, batch: int
) -> tuple[set[int], set[int]]:
    """Map a scene; return the first rows and first columns of the windows."""
    model = smp.Unet(encoder, encoder_weights=None, classes=5)
    model.load_state_dict(torch.load(weights, weights_only=True))
    classes = ClassConfig(names=["other", "building", "woodland", "water", "road"], null_class="other")
    data = SemanticSegmentationGeoDataConfig(class_config=classes, num_workers=0)
    config = SemanticSegmentationLearnerConfig(data=data, solver=SolverConfig(batch_sz=batch))
    learner = SemanticSegmentationLearner(config, model=model, training=False)
    dataset = SemanticSegmentationSlidingWindowGeoDataset.from_uris(
        image_uri=scene, class_config=classes, size=window, stride=window - overlap
    )
    predictions = learner.predict_dataset(dataset, raw_out=True, numpy_out=True, progress_bar=False)
    extent = dataset.scene.extent
    labels = SemanticSegmentationLabels.from_predictions(dataset.windows, predictions, extent, 5, smooth=True)
    labels.save(
        str(Path(out).parent / "rastervision"),
        dataset.scene.raster_source.crs_transformer,
        classes,
        smooth_output=False,
    )
    (Path(out).parent / "rastervision/labels.tif").rename(out)
    return {box.ymin for box in dataset.windows}, {box.xmin for box in dataset.windows}


if __name__ == "__main__":
    job: dict[str, Any] = json.loads(sys.argv[1])
    del job["side"]
    start = time.perf_counter()
    windows = predict(**job)
    print(json.dumps({"seconds": time.perf_counter() - start, "starts": [sorted(each) for each in windows]}))
