"""Several processes, started by `torchrun`, as if they were one."""

from __future__ import annotations

import atexit
import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """This process's number among those started by `torchrun`; 0 where there is one."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def join() -> None:
    """Join the other processes, if `torchrun` started some."""
    if world_size() > 1 and not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        atexit.register(_leave)


def _leave() -> None:
    """End the threads that speak to the others: they would abort the process as it ends. They end once nothing
    holds them any more, and what `distribute` gave does, which may be in a cycle."""
    gc.collect()
    dist.destroy_process_group()


def distribute(module: nn.Module) -> nn.Module:
    """The module with its gradients averaged over the processes."""
    if world_size() == 1 or not any(p.requires_grad for p in module.parameters()):
        return module
    join()
    return DistributedDataParallel(module)


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over processes."""
    if world_size() > 1:
        join()
        dist.all_reduce(values)
    return values


class _Gather(torch.autograd.Function):
    """Forward: every process's rows. Backward: each gets the sum of what all want of its rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather_rows(tensor: Tensor) -> Tensor:
    """[B, ...] of every process as one tensor; gradients flow back to where the rows came from."""
    if world_size() == 1:
        return tensor
    join()
    return _Gather.apply(tensor)


def gather_objects(value: Any) -> list[Any]:
    """A value of every process, by rank."""
    if world_size() == 1:
        return [value]
    join()
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def share_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers (batch statistics, which each made from its own rows)."""
    if world_size() > 1:
        join()
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


_LOST = ("Connection closed", "Connection reset", "Broken pipe", "Socket", "NCCL", "gloo")


def lost(error: Exception) -> bool:
    """Whether an error of torch's says that another process no longer answers."""
    return world_size() > 1 and any(word in str(error) for word in _LOST)


def barrier() -> None:
    """Wait for the others."""
    if world_size() > 1:
        join()
        dist.barrier()
