"""Where two things differ, and whether something was left as it was."""

from __future__ import annotations

import copy
import math
import pickle
import random
import types
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["difference", "failing", "global_random_state_untouched", "unchanged"]

_ATOMS = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, weakref.ref)


def difference(first: Any, second: Any, *, tolerance: float = 0.0, where: str = "") -> str:
    """Say where two things differ, or return an empty string.

    Tensors must have equal dtypes, shapes and values (NaN equals NaN); containers, and objects
    by their attributes, are compared part by part.

    Args:
        first: anything.
        second: what it should be equal to.
        tolerance: relative and absolute, of floating tensors; 0 asks for equality.
        where: name of the things, to start the answer with.

    Example:
        >>> difference({"loss": [1.0, 2.0]}, {"loss": [1.0, 3.0]})
        "['loss'][1]: 2.0 and 3.0"
        >>> difference(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
        ''
    """
    return _difference(first, second, where, tolerance, set())


def _difference(
    first: Any, second: Any, where: str, tolerance: float, seen: set[tuple[int, int]]
) -> str:
    if first is second or (id(first), id(second)) in seen:
        return ""
    seen.add((id(first), id(second)))
    if type(first) is not type(second):
        return f"{where}: {first!r} and {second!r}"
    if isinstance(first, torch.Tensor):
        return _tensor_difference(first, second, where, tolerance)
    if isinstance(first, np.ndarray):
        return "" if np.array_equal(first, second) else f"{where}: arrays differ"
    if isinstance(first, torch.Generator):
        same = torch.equal(first.get_state(), second.get_state())
        return "" if same else f"{where}: generators in different states"
    if isinstance(first, Mapping):
        if list(first) != list(second):
            return f"{where}: keys {list(first)} and {list(second)}"
        pairs = [(f"{where}[{key!r}]", first[key], second[key]) for key in first]
    elif isinstance(first, (tuple, list)):
        if len(first) != len(second):
            return f"{where}: {len(first)} and {len(second)} entries"
        pairs = [
            (f"{where}[{place}]", one, other)
            for place, (one, other) in enumerate(zip(first, second, strict=True))
        ]
    elif hasattr(first, "__dict__") and not isinstance(first, _ATOMS):
        return _difference(vars(first), vars(second), where, tolerance, seen)
    else:
        alike = first == second or (first != first and second != second)
        if tolerance and isinstance(first, float):
            alike = alike or math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance)
        return "" if alike else f"{where}: {first!r} and {second!r}"
    for name, one, other in pairs:
        found = _difference(one, other, name, tolerance, seen)
        if found:
            return found
    return ""


def _tensor_difference(
    first: torch.Tensor, second: torch.Tensor, where: str, tolerance: float
) -> str:
    for name in ("dtype", "shape"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            return f"{where}: {name} {one} and {other}"
    first, second = first.detach().cpu(), second.detach().cpu()
    if tolerance and first.is_floating_point():
        alike = torch.isclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        alike = (first == second) | ((first != first) & (second != second))
    if bool(alike.all()):
        return ""
    place = tuple((~alike).nonzero()[0].tolist())
    shown = f"{where}{list(place)}" if place else where
    return f"{shown}: {first[place].item()} and {second[place].item()}"


@contextmanager
def unchanged(things: Any, what: str) -> Iterator[None]:
    """Fail if ``things`` are not inside ``with`` what they were before.

    Args:
        things: tensors, containers or objects; they are copied.
        what: completes "... changed its input", as "plan".

    Raises:
        AssertionError: something in them has changed.

    Example:
        >>> losses = torch.ones(2)
        >>> with unchanged(losses, "halving"):
        ...     losses.div_(2)
        Traceback (most recent call last):
        AssertionError: halving changed its input[0]: 0.5 and 1.0
    """
    before = copy.deepcopy(things)
    yield
    found = difference(things, before)
    assert not found, f"{what} changed its input{found}"


@contextmanager
def global_random_state_untouched(what: str) -> Iterator[None]:
    """Fail if a global generator of Python, NumPy or torch was drawn from or seeded.

    Args:
        what: completes "... moved the global generator of torch", as "plan".

    Raises:
        AssertionError: a generator is in another state.

    Example:
        >>> with global_random_state_untouched("the draw"):
        ...     draw = torch.rand(2, generator=torch.Generator().manual_seed(0))
    """
    before = _global_states()
    yield
    for name, state in _global_states().items():
        moved = state != before[name]
        assert not moved, f"{what} moved the global generator of {name}: pass a torch.Generator"


def _global_states() -> dict[str, Any]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - looked at, not drawn from
    return {
        "Python": random.getstate(),
        "NumPy": pickle.dumps(numpy_state),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn an error inside ``with`` into a failed check that says ``what`` was tried.

    Example:
        >>> with failing("a batch of no rows"):
        ...     torch.ones(0).max()
        Traceback (most recent call last):
        AssertionError: a batch of no rows raised RuntimeError: max(): Expected reduction dim ...
    """
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error
