"""Evaluate a model, or draw from the global generators, without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["RandomStates", "seed_numpy", "undisturbed"]


def seed_numpy(seed: int) -> None:
    """Seed NumPy's global generator, which others' code may draw from, with 32 bits of ``seed``.

    Example:
        >>> states = RandomStates()
        >>> seed_numpy(2**32 + 3)
        >>> round(float(np.random.rand()), 4)
        0.5508
        >>> states.restore()
    """
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 - the one place that does


class RandomStates:
    """The states of the global generators (Python, NumPy, torch and its devices), to put back."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002 - saved, not drawn from
        self._torch = torch.get_rng_state()
        initialized = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._cuda = torch.cuda.get_rng_state_all() if initialized else None

    def restore(self) -> None:
        """Put every state back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


@contextmanager
def undisturbed(model: torch.nn.Module | None) -> Iterator[None]:
    """Evaluate a model inside ``with``, without a gradient and without a trace.

    Inside, the model is in evaluation mode and no graph is built. On leaving, also by an
    exception, every module has its own train flag back, every buffer its object and its values,
    and the random generators of Python, NumPy, the CPU and CUDA devices their states.

    Args:
        model: any module, its parameters are not touched; None keeps the generators alone.

    Yields:
        None.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2).eval())
        >>> with undisturbed(model):
        ...     model.training
        False
        >>> model[0].training, model[1].training
        (True, False)

    Caveats:
        Buffers are copied, once. Generators of accelerators other than CUDA are not kept.
    """
    modules = [] if model is None else list(model.modules())
    modes = [(module, module.training) for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    ]
    states = RandomStates()
    try:
        with torch.no_grad():
            if model is not None:
                model.eval()
            yield
    finally:
        states.restore()
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                # An expanded buffer cannot be written to, and need not be where nothing changed.
                if not torch.equal(buffer, values):
                    buffer.copy_(values)
                # A forward pass may also have put another tensor in the buffer's place.
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
        for module, training in modes:
            module.training = training
