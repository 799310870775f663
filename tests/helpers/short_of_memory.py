"""Computes four tiles where memory is taken away: python short_of_memory.py train|evaluate <px> <MiB>. Linux only.

The limit is what the process holds once everything is set up, and so many MiB.
"""

import resource
import sys
from pathlib import Path

import torch
from helpers.training import INFO, SCHEDULE

from landseg.core.errors import reporting
from landseg.evaluate.predict import evaluate_batches
from landseg.model.segmenter import build_model
from landseg.train.losses import FocalLoss
from landseg.train.module import SegmentationModule


def main() -> None:
    what, size, mebibytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    run = SegmentationModule(build_model(INFO, None), FocalLoss(2.0, None), SCHEDULE, 0)
    batch = torch.zeros((4, 3, size, size), dtype=torch.uint8), torch.zeros((4, size, size), dtype=torch.uint8)
    run.gradients((batch[0][:1, :, :64, :64], batch[1][:1, :64, :64]))
    status = Path("/proc/self/status").read_text().splitlines()
    held = int(next(line for line in status if line.startswith("VmSize")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (held + mebibytes * 2**20,) * 2)
    if what == "train":
        print(float(run._fitting(run.gradients, batch)), run.micro_batch)
    else:
        list(evaluate_batches(run.model.eval(), [batch], bf16=False))


if __name__ == "__main__":
    with reporting():
        main()
