"""Computes a batch of four tiles with little memory: python -m helpers.short_of_memory train|evaluate <px> <MiB>.

The limit is the address space of the process after setup plus this many MiB. Linux only.
"""

import resource
import sys
from pathlib import Path

import torch
from helpers.tiles import model_info

from landseg.core.errors import reporting
from landseg.evaluate.predict import evaluate_batches
from landseg.model.segmenter import build_model
from landseg.train.losses import FocalLoss
from landseg.train.micro_batch import ComputeOptions, MicroBatchRunner


def main() -> None:
    stage, size, mebibytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    runner = MicroBatchRunner(build_model(model_info(), None), FocalLoss(2.0, None), ComputeOptions(), print)
    batch = torch.zeros((4, 3, size, size), dtype=torch.uint8), torch.zeros((4, size, size), dtype=torch.uint8)
    runner.backward((batch[0][:1, :, :64, :64], batch[1][:1, :64, :64]))
    status = Path("/proc/self/status").read_text().splitlines()
    used = int(next(line for line in status if line.startswith("VmSize")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20,) * 2)
    if stage == "train":
        print(float(runner.backward(batch)), runner.size)
    else:
        list(evaluate_batches(runner.model.eval(), [batch], bf16=False))


if __name__ == "__main__":
    with reporting():
        main()
