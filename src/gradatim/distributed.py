"""What ranks exchange: rows at the end of an epoch, a checksum of the plan, a mean over the batch.

The process group may start after a curriculum was built, so every function looks it up when called.
Without a group each function answers for one process and communicates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

if dist.is_available() and not dist.is_initialized():
    # Defaults in this module hold the group of the time of its import, and the first
    # DistributedDataParallel imports it. A group held for good keeps its threads to the end of the
    # process, and one of them that asks for the interpreter while it shuts down aborts the process.
    # Imported before there is a group, it holds none, and `destroy_process_group` ends them.
    import torch.distributed.nn.functional

__all__ = ["agree", "gather_objects", "gather_rows", "global_mean", "global_sum", "world_and_rank"]

Plain = TypeVar("Plain")


def world_and_rank() -> tuple[int, int]:
    """Number of processes and this one's position among them; (1, 0) without a process group.

    Example:
        >>> world_and_rank()
        (1, 0)
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(), dist.get_rank()
    return 1, 0


def _wire_device() -> torch.device:
    """NCCL moves only tensors of its own device; every other backend here takes CPU tensors."""
    if "nccl" in str(dist.get_backend()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def gather_rows(columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Concatenate every rank's rows, in rank order, on every rank (collective).

    Args:
        columns: tensors that share their first dimension, which may differ between ranks.

    Returns:
        One tensor per column, on the column's device; the same on every rank.

    Example:
        >>> gather_rows([torch.tensor([3, 1])])
        [tensor([3, 1])]
    """
    world, _ = world_and_rank()
    if world == 1:
        return list(columns)
    wire = _wire_device()
    rows = torch.tensor([columns[0].shape[0]], device=wire)
    counts = [torch.zeros_like(rows) for _ in range(world)]
    dist.all_gather(counts, rows)
    lengths = [int(count) for count in counts]
    gathered = []
    for column in columns:
        # Equal shapes are all that Gloo and NCCL gather, and bytes a dtype they both carry.
        padded = column.new_zeros((max(lengths), *column.shape[1:]), device=wire)
        padded[: column.shape[0]] = column
        received = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather([_bytes(part) for part in received], _bytes(padded))
        joined = torch.cat([part[:length] for part, length in zip(received, lengths, strict=True)])
        gathered.append(joined.to(column.device))
    return gathered


def gather_objects(value: Plain) -> list[Plain]:
    """Every rank's ``value``, in rank order (collective). For small plain Python objects.

    Example:
        >>> gather_objects({"step": 3})
        [{'step': 3}]
    """
    world, _ = world_and_rank()
    if world == 1:
        return [value]
    gathered = [value] * world
    dist.all_gather_object(gathered, value)
    return gathered


def global_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over ranks (collective); a new tensor, without gradient.

    Example:
        >>> global_sum(torch.tensor(2.0))
        tensor(2.)
    """
    total = value.detach().clone()
    if world_and_rank()[0] > 1:
        wire = total.to(_wire_device())
        dist.all_reduce(wire)
        total = wire.to(value.device)
    return total


def global_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over the rows of all ranks (collective); NaN where no rank has a row.

    Args:
        values: (B,), where B may differ between ranks and may be 0.

    Returns:
        0-d tensor in float32 or wider, on the device of ``values``, without gradient.

    Example:
        >>> global_mean(torch.tensor([1.0, 2.0, 6.0]))
        tensor(3.)
    """
    wide = values.detach().to(torch.promote_types(values.dtype, torch.float32))
    if world_and_rank()[0] == 1:
        return wide.mean()
    pair = global_sum(torch.stack([wide.sum(), wide.new_tensor(float(wide.numel()))]))
    return pair[0] / pair[1]


def agree(name: str, value: int, cause: str) -> None:
    """Raise on every rank unless all ranks hold the same value (collective).

    Raises:
        RuntimeError: the values differ.

    Example:
        >>> agree("plan", 7, "Do all ranks use the same seed?")
    """
    world, _ = world_and_rank()
    if world == 1:
        return
    mine = torch.tensor([value], dtype=torch.int64, device=_wire_device())
    every = [torch.zeros_like(mine) for _ in range(world)]
    dist.all_gather(every, mine)
    found = [int(each) for each in every]
    if len(set(found)) > 1:
        raise RuntimeError(f"{name} must be the same on every rank. Got {found}. {cause}")
