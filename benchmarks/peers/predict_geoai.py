"""geoai's side of peer_prediction: `geoai.semantic_segmentation`, from a file of weights to a GeoTIFF."""

import json
import sys
import time
from typing import Any

import torch
from geoai.train import semantic_segmentation


def predict(scene: str, weights: str, out: str, encoder: str, window: int, overlap: int, batch: int) -> float:
    """Map a scene; return seconds."""
    start = time.perf_counter()
    semantic_segmentation(
        scene,
        out,
        weights,
        architecture="unet",
        encoder_name=encoder,
        num_classes=5,
        window_size=window,
        overlap=overlap,
        batch_size=batch,
        device=torch.device("cpu"),
        quiet=True,
    )
    return time.perf_counter() - start


def first_pixels(length: int, window: int, overlap: int) -> list[int]:
    """Return where geoai's windows start: `semantic_inference_on_geotiff` does not report it."""
    step, last = window - overlap, length - window
    return sorted({min(number * step, last) for number in range(-(-(length - overlap) // step) + 1)})


if __name__ == "__main__":
    job: dict[str, Any] = json.loads(sys.argv[1])
    starts = first_pixels(job.pop("side"), job["window"], job["overlap"])
    print(json.dumps({"seconds": predict(**job), "starts": [starts, starts]}))
