"""Work of several processes together: python -m helpers.several <work> <arguments as JSON>, one process per device.

Processes are started here, not by landseg.train.launch, so that there may be more than cores, and on one GPU, too.
"""

import copy
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.root import ROOT
from helpers.tiles import tile_set
from helpers.training import new_module, state, train_module
from safetensors.torch import save_file
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from landseg.core.classes import IGNORE
from landseg.core.errors import ParamsError
from landseg.loader.batches import decode_tiles
from landseg.model.group import ALONE, Group
from landseg.train.batch_norm import SynchronisedNorm, synchronise
from landseg.train.devices import Devices, open_devices, whole
from landseg.train.losses import loss_function
from landseg.train.micro_batch import ComputeOptions
from landseg.train.module import OptimizerConfig


def run_several(size: int, work: str, **arguments: Any) -> None:
    """Run work in a number of processes; assert that all succeed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    group = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    strict = ["-W", "error::UserWarning"] if arguments.get("device", "cpu") == "cpu" else []
    command = [sys.executable, *strict, "-m", "helpers.several", work, json.dumps(arguments)]
    processes = []
    for rank in range(size):
        environment = group | {"RANK": rank, "LOCAL_RANK": rank, "GLOO_SOCKET_IFNAME": "lo"}
        processes.append(
            subprocess.Popen(
                command,
                cwd=ROOT / "tests",
                env=os.environ | {name: str(value) for name, value in environment.items()},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, "\n".join(errors)


def check_norms(group: Group) -> None:
    """Synchronised normalisation of shares, also uneven and empty ones, is that of the whole batch by torch."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    for tiles in (2 * group.size - 1, 2 * group.size, 2):
        for kind in (nn.BatchNorm2d, BatchNormAct2d):
            for momentum in (0.1, None):
                torch.manual_seed(1)
                plain = kind(4)
                plain.momentum = momentum  # timm's layers do not take None
                nn.init.uniform_(plain.weight, 0.5, 2)
                shared = copy.deepcopy(plain)
                (layer,) = synchronise(nn.Sequential(shared), group)
                assert isinstance(layer, SynchronisedNorm)
                layer.copies = group.copies(tiles)
                images = 100 + 3 * torch.randn((tiles, 4, 5, 5), generator=generator)  # far from 0: squares cancel
                weights = torch.randn(images.shape, generator=generator)
                share, results = group.share(tiles), []
                for of, part in ((plain, slice(None)), (shared, share)):
                    values = images[part].clone().requires_grad_()
                    output = of(values)
                    (output * weights[part]).sum().div(1 if of is plain else layer.copies).backward()
                    gradients = [each.grad for each in (values, of.weight, of.bias) if each.grad is not None]
                    if of is shared:
                        gradients = [gradients[0] * layer.copies, *map(group.sum, gradients[1:])]
                    else:
                        output, gradients[0] = output[share], gradients[0][share]
                    results.append([output, *gradients, *of.state_dict().values()])
                for one, other in zip(*results, strict=True):
                    torch.testing.assert_close(one.float(), other.float(), rtol=1e-4, atol=1e-4)


def check_losses(group: Group) -> None:
    """Parts of losses, weighted, add up to the loss of the batch, and so do their gradients."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    names = ["focal", "dice", "jaccard", "tversky", "lovasz", "cross_entropy", "dice+cross_entropy", "lovasz+focal"]
    for tiles in (2 * group.size - 1, 2):
        logits = torch.randn((tiles, 3, 8, 8), generator=generator)
        targets = torch.randint(0, 3, (tiles, 8, 8), generator=generator)
        targets[0] = IGNORE  # a share without a labelled pixel
        targets[1, :3] = IGNORE
        for name in names:
            for weights in (None, [0.2, 1, 3]):
                share, results = group.share(tiles), []
                for of, part in ((ALONE, slice(None)), (group, share)):
                    loss = loss_function(name, 2.0, weights)
                    loss.share(of)
                    values = logits[part].clone().requires_grad_()
                    total = of.sum(loss.weight(targets[part]))
                    value = (loss(values, targets[part]) * (loss.weight(targets[part]) / total)).sum()
                    value.backward()
                    gradient = values.grad
                    assert gradient is not None
                    if of is ALONE:
                        gradient = gradient[share]
                    elif group.copies(tiles) > 1:  # the gradient of a tile is shared by its copies
                        gradient = group.sum(gradient)
                    results.append((of.sum(value.detach()), gradient))
                for one, other in zip(*results, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=partial(_named, name))


def _named(name: str, text: str) -> str:
    return f"{name}: {text}"


def train(devices: Devices, project: str, folder: str, epochs: int = 1, **options: Any) -> None:
    """Train a tiny project; the first process writes its weights and its history."""
    torch.set_num_threads(1)
    config = OptimizerConfig("sgd", 0.01, 0.0, step=2, factor=0.5, clip=options.pop("clip", None))
    compute = ComputeOptions(micro_batch=options.pop("micro_batch", None))
    module = new_module(config=config, options=compute, ema=options.pop("ema", None), encoder="resnet18")
    if "interrupt_at" in options:
        options["interrupt_at"] = tuple(options["interrupt_at"])
    state_of = Path(folder) / "state"
    module, best = train_module(Path(project), state_of, epochs, module=module, devices=devices, **options)
    weights = {name: value.contiguous() for name, value in whole(state(module)).items()}
    if devices.group.is_first:
        Path(folder).mkdir(exist_ok=True)
        save_file(weights, Path(folder) / "weights.safetensors")
        (Path(folder) / "history.json").write_text(json.dumps(best.history))


def write_memory_files(devices: Devices, project: str, folder: str) -> None:
    """Decode tiles into RAM; write which memory files this process has mapped."""
    tiles = tile_set(Path(project), "train")
    decoded = decode_tiles(tiles, "cpu", 1, "decode", devices.group, shared=True)
    image, target = tiles.read(len(tiles) - 1)
    assert torch.equal(decoded.images[-1], torch.from_numpy(image.copy()))
    assert torch.equal(decoded.targets[-1], torch.from_numpy(target.copy()))
    lines = Path("/proc/self/maps").read_text().splitlines()
    inodes = sorted(line.split()[4] for line in lines if "landseg-tiles" in line)
    (Path(folder) / f"{devices.group.rank}.json").write_text(json.dumps(inodes))


class Reaching(nn.Module):
    """A layer that uses the weights of another one, which are not gathered while it computes."""

    def __init__(self, layer: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.other: list[Any] = [other]  # a list, so that it is no part of this one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layer(x) * self.other[0].weight.mean())


def refuse_networks(devices: Devices, project: str, folder: str) -> None:
    """Networks that cannot be divided are refused before they train."""
    scalar, reaching = new_module(encoder="resnet18"), new_module(encoder="resnet18")
    encoder: Any = scalar.model.network.encoder
    encoder.scale = nn.Parameter(torch.tensor(1.0))
    encoder = reaching.model.network.encoder
    encoder.bn1 = Reaching(encoder.bn1, encoder.conv1)
    for module, message in (
        (scalar, r"the weight network\.encoder\.scale of this network, a single number; set it to ddp"),
        (reaching, r"this network \(.*\); set it to ddp"),
    ):
        with pytest.raises(ParamsError, match=rf"^compute\.strategy: fsdp cannot divide {message}"):
            train_module(Path(project), Path(folder), 1, module=module, devices=devices)


def main() -> None:
    work, arguments = sys.argv[1], json.loads(sys.argv[2])
    kind, strategy = arguments.pop("device", "cpu"), arguments.pop("strategy", "ddp")
    size = int(os.environ["WORLD_SIZE"])
    devices = open_devices(kind, size, 1, strategy, arguments.pop("batch_norm", "synchronised"))
    checks: dict[str, Callable[[Group], None]] = {"norms": check_norms, "losses": check_losses}
    if work in checks:
        torch.set_default_device(devices.device)
        checks[work](devices.group)
    else:
        {"train": train, "memory": write_memory_files, "refuse": refuse_networks}[work](devices, **arguments)


if __name__ == "__main__":
    main()
