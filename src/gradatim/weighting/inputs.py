"""How the weighting functions read what they are given: once, in one place, without waiting.

Reading a value from an accelerator stops the host until the device has caught up. So values are
checked where they can be read for nothing: Python numbers always, losses on the CPU. Shapes and
dtypes are checked everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gradatim.validation import as_vector, check_number, refusal

__all__ = ["precise_dtype", "read_groups", "read_losses", "read_order", "read_scalar", "readable"]

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def readable(values: Any) -> bool:
    """Whether looking at the values costs no wait for a device.

    Example:
        >>> readable(torch.ones(2)), readable(torch.ones(2, device="meta"))
        (True, False)
    """
    return not isinstance(values, torch.Tensor) or values.device.type == "cpu"


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return the widest floating dtype that the device has.

    Example:
        >>> precise_dtype(torch.device("cpu")), precise_dtype(torch.device("mps"))
        (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


def read_losses(
    losses: torch.Tensor | Sequence[float],
    *,
    at_least: float | None = None,
    attached: bool = False,
) -> tuple[torch.Tensor, torch.dtype]:
    """Return losses wide enough to calculate with, and the dtype that the weights must have.

    Args:
        losses: (B,), one per sample. Half precision is widened to float32, whole numbers become
            float64, other dtypes stay.
        at_least: inclusive lower bound, for forms with a root or a logarithm.
        attached: keep the autograd graph; by default the losses are detached.

    Returns:
        The losses, (B,), which may share memory with the input, and the dtype to return in.

    Raises:
        ValueError: not one value per sample; or, on the CPU, a value that is not finite or is
            below ``at_least``.

    Example:
        >>> read_losses(torch.tensor([1.0], dtype=torch.float16))
        (tensor([1.]), torch.float16)
        >>> read_losses(torch.tensor(0.7))
        Traceback (most recent call last):
        ValueError: losses must be one-dimensional, one value per sample. Got a tensor ...
    """
    if isinstance(losses, torch.Tensor) and losses.ndim == 0:
        rule = "one-dimensional, one value per sample"
        raise refusal("losses", rule, losses, "Forgot reduction='none'?")
    check = readable(losses)
    vector = as_vector("losses", losses, at_least=at_least if check else None, finite=check)
    dtype = vector.dtype
    wide = torch.float32 if dtype.itemsize < 4 else dtype
    return (torch.as_tensor(losses) if attached else vector).to(wide), dtype


def read_scalar(
    name: str,
    value: float | torch.Tensor,
    losses: torch.Tensor,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    infinite: bool = False,
) -> torch.Tensor:
    """Return a parameter as a 0-d tensor of the losses' dtype.

    A Python number is checked and filled in on the losses' device. A 0-d tensor is taken as it
    is: its value stays where it lies, unread.

    Args:
        name: the parameter's name.
        value: a number or a 0-d tensor.
        losses: the tensor it will be combined with.
        above: exclusive lower bound of a number.
        at_least: inclusive lower bound of a number.
        below: exclusive upper bound of a number.
        infinite: accept ``math.inf``.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: a number outside its bounds, or a tensor with dimensions.

    Example:
        >>> read_scalar("threshold", 0.5, torch.zeros(3), above=0)
        tensor(0.5000)
        >>> read_scalar("threshold", torch.zeros(3), torch.zeros(3))
        Traceback (most recent call last):
        ValueError: threshold must be a number or a 0-d tensor. Got a tensor of shape (3,) and ...
    """
    if isinstance(value, torch.Tensor):
        if value.ndim != 0 or value.is_complex():
            raise refusal(name, "a number or a 0-d tensor", value)
        return value.detach().to(losses.dtype)
    if infinite and value == math.inf:
        return losses.new_full((), math.inf)
    number = check_number(name, value, above=above, at_least=at_least, below=below)
    return losses.new_full((), number)


def read_groups(
    groups: torch.Tensor | Sequence[int],
    losses: torch.Tensor | None = None,
    *,
    name: str = "groups",
) -> torch.Tensor:
    """Return whole-number group ids as int64, one per loss and on the losses' device.

    Args:
        groups: (B,) of any integer dtype.
        losses: (B,); None leaves length and device open, until the samples are known.
        name: the parameter's name.

    Raises:
        TypeError: ``groups`` cannot be read as numbers.
        ValueError: not whole numbers, or not one per sample.

    Example:
        >>> read_groups([3, 3, 7], torch.zeros(3))
        tensor([3, 3, 7])
        >>> read_groups([0.5, 1.0], torch.zeros(2))
        Traceback (most recent call last):
        ValueError: groups must be whole numbers, one per sample. Got a tensor of shape (2,) and ...
    """
    try:
        ids = torch.as_tensor(groups)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(groups).__name__
        raise TypeError(f"{name} must be whole numbers, one per sample. Got {kind}.") from error
    # An empty list arrives as float32; there is nothing in it to be wrong.
    if ids.dtype not in _WHOLE and ids.numel():
        raise refusal(name, "whole numbers, one per sample", ids)
    size = None if losses is None else losses.numel()
    ids = as_vector(name, ids, size=size, dtype=torch.int64, finite=False)
    return ids if losses is None else ids.to(losses.device)


def read_order(order: torch.Tensor | Sequence[float], losses: torch.Tensor) -> torch.Tensor:
    """Return the expert's costs, positive, (B,), in the widest dtype of the losses' device.

    Raises:
        TypeError: ``order`` cannot be read as numbers.
        ValueError: not one per sample; or, on the CPU, a cost that is not positive and finite.

    Example:
        >>> read_order([1, 2], torch.zeros(2))
        tensor([1., 2.], dtype=torch.float64)
        >>> read_order([0, 1], torch.zeros(2))
        Traceback (most recent call last):
        ValueError: order must be above 0 everywhere. Got 0.0.
    """
    check = readable(order)
    costs = as_vector("order", order, size=losses.numel(), above=0 if check else None, finite=check)
    return costs.to(losses.device, precise_dtype(losses.device))
