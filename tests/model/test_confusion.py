import numpy as np
import torch

from landseg import metrics
from landseg.core.classes import IGNORE
from landseg.model.confusion import confusion_matrices


def test_equals_the_confusion_matrix_of_the_metrics() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 5, (3, 16, 16)).astype(np.uint8)
    targets[generator.random(targets.shape) < 0.2] = IGNORE
    targets[2] = IGNORE
    predictions = generator.integers(0, 5, targets.shape).astype(np.uint8)
    counted = confusion_matrices(torch.from_numpy(predictions).long(), torch.from_numpy(targets).long(), 5)
    assert counted.dtype == torch.int64
    for n in range(3):
        np.testing.assert_array_equal(counted[n], metrics.confusion(targets[n], predictions[n], 5))
