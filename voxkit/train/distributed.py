"""Several processes as one: set up by torchrun's environment, gloo on CPU and nccl on CUDA. Everything is a no-op in one process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class World:
    """This process among all: rank of size, and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def main(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0


def choose_device(device: str = "auto") -> str:
    """auto → cuda where there is one, else cpu; anything else as it is.

    Raises:
        ValueError: cuda is asked for and not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("device cuda: this torch sees no GPU (`voxkit doctor` says why); use --device cpu")
    return device


def setup(device: str = "auto") -> World:
    """Join the process group that torchrun's environment describes (none: one process).

    Args:
        device: cpu, cuda, or auto (cuda where there is one).

    Raises:
        ValueError: cuda is asked for and not there, or fewer GPUs than local processes.
    """
    device = choose_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=torch.device(device))
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise ValueError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}; lower --ngpu")
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return World(dist.get_rank(), dist.get_world_size(), torch.device(device))


def main_process() -> bool:
    """Whether this is the one process that writes and prints, as torchrun's environment says."""
    return os.environ.get("RANK", "0") == "0"


def processes_here() -> int:
    """How many of the processes run on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cleanup() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def current(device: torch.device | str = "cpu") -> World:
    """The world as it is set up already."""
    device = torch.device(device)
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size(), device)
    return World(device=device)


class LossModule(nn.Module):
    """`forward(batch)` is `model.loss(batch)`: what DistributedDataParallel wraps, because only a forward is hooked."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Any:
        return self.model.loss(batch)


def wrap(model: nn.Module, world: World, find_unused_parameters: bool = True) -> nn.Module:
    """A module whose call is `model.loss`, with gradients averaged over the processes where there are several."""
    module = LossModule(model)
    if world.size == 1:
        return module
    return nn.parallel.DistributedDataParallel(module, find_unused_parameters=find_unused_parameters)


def reduce(world: World, values: list[float], how: str = "sum") -> list[float]:
    """Sum or max of each value over the processes, in float64."""
    if world.size == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=world.device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
    return tensor.tolist()


def gather(world: World, value: Any) -> list[Any]:
    """The value of every process, in each of them."""
    if world.size == 1:
        return [value]
    out: list[Any] = [None] * world.size
    dist.all_gather_object(out, value)
    return out


def broadcast(world: World, value: Any) -> Any:
    """The main process's value."""
    if world.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextlib.contextmanager
def patient_barrier(world: World) -> Iterator[Callable[[], None]]:
    """A barrier for work of which one process may have hours more than another: the process group's own gives up after its timeout
    (gloo 30 minutes, nccl 10). A process that ends still ends the wait of the others. All processes enter and leave together."""
    if world.size == 1:
        yield lambda: None
        return
    group = dist.new_group(backend="gloo", timeout=timedelta(days=365))
    yield lambda: dist.barrier(group=group)
    dist.destroy_process_group(group)


def reduce_metrics(world: World, metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of all processes as one → (values, what each is a mean over).

    A pair (numerator, denominator) is summed over the processes and divided, which is exact where each process validates its own
    share; a plain number is averaged, which leaves it as it is where every process validates everything. Over nothing it is NaN.
    """
    total: dict[str, list[float]] = {}
    for part in gather(world, dict(metrics)):
        for name, value in part.items():
            numerator, denominator = value if isinstance(value, (tuple, list)) else (value, 1.0)
            entry = total.setdefault(name, [0.0, 0.0])
            entry[0] += float(numerator)
            entry[1] += float(denominator)
    values = {name: numerator / denominator if denominator else float("nan") for name, (numerator, denominator) in total.items()}
    return values, {name: denominator for name, (_, denominator) in total.items()}
