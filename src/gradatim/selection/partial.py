"""The k smallest of N values without sorting them: the core of every selection here."""

from __future__ import annotations

import numpy as np
import torch

__all__: list[str] = []


def check_generator(generator: object) -> torch.Generator:
    """Refuse anything but a generator: None would mean the global random state."""
    if not isinstance(generator, torch.Generator):
        kind = type(generator).__name__
        raise TypeError(f"generator must be a torch.Generator. Got {kind}.")
    return generator


def smallest(keys: torch.Tensor, k: int, generator: torch.Generator | None) -> torch.Tensor:
    """Return the positions of the k smallest keys, increasing; infinities are values like others.

    One partial selection finds the k-th smallest value, one comparison the keys below it. Against
    a top-k or an argpartition this needs no array of N indices and is 3 to 7 times faster for
    large k. Of the keys that tie at the border, ``generator`` chooses uniformly; None takes the
    first ones.

    Args:
        keys: (N,), floating, without NaN.
        k: in [0, N].
        generator: breaks ties; on any device.

    Returns:
        int64 (k,), on the device of ``keys``.
    """
    size = keys.numel()
    if k == size:
        return torch.arange(size, device=keys.device)
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=keys.device)
    border = _kth_smallest(keys, k)
    chosen = keys < border
    tied = _true_positions(keys == border)
    missing = k - int(torch.count_nonzero(chosen))
    if generator is not None and missing < tied.numel():
        tied = tied[permutation(tied.numel(), generator).to(tied.device)]
    chosen[tied[:missing]] = True
    return _true_positions(chosen)


def permutation(size: int, generator: torch.Generator) -> torch.Tensor:
    """Return a uniform permutation, int64 (size,), on the generator's device."""
    return torch.randperm(size, generator=generator, device=generator.device)


def _kth_smallest(keys: torch.Tensor, k: int) -> torch.Tensor:
    if keys.device.type != "cpu":
        return keys.kthvalue(k).values
    # NumPy partitions with vector instructions, ten times faster than kthvalue on the CPU.
    return torch.as_tensor(np.partition(keys.numpy(), k - 1)[k - 1])


def _true_positions(mask: torch.Tensor) -> torch.Tensor:
    if mask.device.type != "cpu":
        return mask.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(mask.numpy()))
