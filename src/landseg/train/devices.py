"""The devices of a run, and how networks are prepared for them.

Lightning Fabric joins processes and reduces their gradients. A run on one device needs neither, and does not import it,
which takes a second.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from landseg.core.errors import ParamsError
from landseg.model.device import Accelerator
from landseg.model.encoder_weights import first_line
from landseg.model.group import ALONE, Group
from landseg.model.segmenter import Segmenter
from landseg.train.launch import is_process_of_several

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.strategy import Strategy as FabricStrategy

Strategy = Literal["ddp", "fsdp"]
BatchNorm = Literal["synchronised", "local"]

# How long a process waits for the others, such as one that decodes its tiles from a slower disk.
_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True)
class Devices:
    """The devices of a run, as seen by the process of one of them."""

    #: The kind of device, and the device of this process.
    kind: Accelerator
    device: torch.device
    group: Group = ALONE
    strategy: Strategy = "ddp"
    #: Batch normalisation of a batch that several devices share.
    batch_norm: BatchNorm = "synchronised"
    #: What has joined the processes, if there is a process group; the group may have a single process.
    fabric: "Fabric | None" = None

    @property
    def shards(self) -> bool:
        """Whether each device has a part of the network only."""
        return self.fabric is not None and self.strategy == "fsdp"


def open_devices(
    kind: Accelerator,
    devices: int = 1,
    nodes: int = 1,
    strategy: Strategy = "ddp",
    batch_norm: BatchNorm = "synchronised",
) -> Devices:
    """Open the devices of a run, and join its other processes if this one was started as one of several.

    A process of several has the environment of torchrun: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.

    Args:
        kind: where to compute.
        devices: devices per node.
        nodes: number of nodes.
        strategy: how several devices share a network.
        batch_norm: how several devices normalise a batch.

    Raises:
        ParamsError: this is one of several processes, and their number is another one.
    """
    if not is_process_of_several():
        if devices * nodes > 1:
            raise ParamsError(
                f"compute.devices = {devices}, compute.nodes = {nodes}: this process was started alone; run "
                "`python pipeline/train.py`, which starts the others"
            )
        return Devices(kind, _open_device(kind))
    size = int(os.environ["WORLD_SIZE"])
    if size != devices * nodes:
        raise ParamsError(
            f"compute.devices = {devices}, compute.nodes = {nodes}: {size} processes were started, which WORLD_SIZE "
            f"tells; start {devices * nodes}, or change the keys"
        )
    fabric = _join(kind, devices, nodes, strategy)
    group = Group(fabric.global_rank, size, fabric.local_rank, devices)
    return Devices(kind, fabric.device, group, strategy, batch_norm, fabric)


def _open_device(kind: Accelerator) -> torch.device:
    """Return the only device of a run; of several GPUs the first one, which becomes the current one."""
    if kind == "cpu":
        return torch.device(kind)
    device = torch.device(kind, 0)
    if kind == "cuda":
        torch.cuda.set_device(device)
    return device


def _join(kind: Accelerator, devices: int, nodes: int, strategy: Strategy) -> "Fabric":
    """Join the processes of a run."""
    from lightning_fabric import Fabric  # takes a second, which a run on one device saves
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=nodes,
        strategy=_fabric_strategy(kind, devices * nodes, strategy),
        plugins=[TorchElasticEnvironment()],
    )
    fabric.launch()
    return fabric


def _fabric_strategy(kind: Accelerator, size: int, strategy: Strategy) -> "FabricStrategy":
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    backend = "nccl" if kind == "cuda" else "gloo"
    if strategy == "fsdp":
        return ModelParallelStrategy(
            _shard_forward, size, 1, save_distributed_checkpoint=False, process_group_backend=backend, timeout=_TIMEOUT
        )
    # Encoders have layers that a shallower network does not use, and frozen ones. Running statistics are those of the
    # batch (see landseg.train.batch_norm), so they are not copied from the first process.
    _ignore_streams()
    known = signature(nn.parallel.DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False}
    return DDPStrategy(process_group_backend=backend, timeout=_TIMEOUT, find_unused_parameters=True, **options)


def _ignore_streams() -> None:
    """Silence a warning of torch on a GPU: DDP keeps gradients on another stream than the one of the computation."""
    warn = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)  # since torch 2.11
    if warn is not None:
        warn(False)


def _shard_forward(forward: nn.Module, mesh: DeviceMesh) -> nn.Module:
    shard_network(cast(Segmenter, forward.model), mesh)  # itself: it is also called directly, to validate
    return forward


def shard_network(network: Segmenter, mesh: DeviceMesh) -> None:
    """Divide the weights of a segmenter among devices, block by block, by FSDP2; a block is gathered while it computes.

    Blocks are the children of the encoder and of the decoder, and those of the lists among them.

    Raises:
        ParamsError: the network has weights that cannot be divided.
    """
    if scalars := [name for name, weight in network.named_parameters() if weight.dim() == 0]:
        raise ParamsError(
            f"compute.strategy: fsdp cannot divide the weight {scalars[0]} of this network, a single number; set it to "
            "ddp, or choose another model.encoder"
        )
    mesh = mesh["data_parallel"] if "data_parallel" in (mesh.mesh_dim_names or ()) else mesh
    network.to(memory_format=torch.contiguous_format)  # FSDP divides rows of memory
    try:
        for block in _blocks(network):
            fully_shard(block, mesh=mesh)
        fully_shard(
            network, mesh=mesh, reshard_after_forward=True
        )  # not only after a backward pass, which may not follow
    except (NotImplementedError, ValueError, RuntimeError) as error:
        raise ParamsError(_not_divided(error)) from None


def _blocks(network: Segmenter) -> Iterator[nn.Module]:
    """Yield the blocks of a segmenter that have weights."""
    for part in (getattr(network.network, name, None) for name in ("encoder", "decoder")):
        if part is None:
            continue
        for child in part.children():
            inner = list(child.children()) if isinstance(child, nn.ModuleList | nn.Sequential | nn.ModuleDict) else []
            yield from (each for each in inner or [child] if next(each.parameters(), None) is not None)


def check_shards(model: Segmenter) -> None:
    """Check that a divided model computes: that all its weights are gathered before they are used.

    Raises:
        ParamsError: it does not.
    """
    size, bands = model.info.tile, len(model.info.rendering.bands)
    try:
        with torch.no_grad():
            model.eval().logits(torch.zeros((1, bands, size, size), dtype=torch.uint8), bf16=False)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ParamsError(_not_divided(error)) from None
    finally:
        model.train()


def _not_divided(error: Exception) -> str:
    return (
        f"compute.strategy: fsdp cannot divide this network ({first_line(error)}); set it to ddp, or choose another "
        "model.encoder"
    )


def own_part(value: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this process holds, which shares its memory: all of it unless it is divided."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Any) -> Any:
    """Return the tensors of a state with all their parts; all processes must call this.

    Args:
        value: a tensor, or a dict or list that may have tensors, such as the state of an optimizer.
    """
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else value


def like(value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor on the device of another one, divided as that is, and in its layout in memory."""
    if not isinstance(other, DTensor):
        # In its layout, too: fused optimizers go through the memory of weights and their state side by side.
        return torch.empty_like(other).copy_(value)
    return cast(torch.Tensor, distribute_tensor(value.to(other.device), other.device_mesh, other.placements))


def load_network(network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load whole weights into a network, which may be divided."""
    current = network.state_dict()
    network.load_state_dict({name: like(value, current[name]) for name, value in weights.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the whole state of an optimizer, whose weights may be divided."""
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]

    def divide(value: Any, weight: torch.Tensor) -> Any:
        return like(value, weight) if isinstance(value, torch.Tensor) and value.shape == weight.shape else value

    divided = {
        number: {name: divide(value, parameters[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    # The kernels of this run, because divided weights need others.
    kernels = [{name: group.get(name) for name in ("fused", "foreach")} for group in optimizer.param_groups]
    groups = [group | own for group, own in zip(state["param_groups"], kernels, strict=True)]
    optimizer.load_state_dict({"state": divided, "param_groups": groups})
