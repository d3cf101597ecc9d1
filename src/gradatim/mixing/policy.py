"""What all policies share: state that can be saved, and a repr that rebuilds them."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from gradatim.keyed import keyed_generator
from gradatim.validation import as_vector, refusal

__all__ = ["Policy", "Resumable", "draw_source", "read_weights"]


class Resumable:
    """State under fixed keys, which ``kept`` names, and a repr that rebuilds the object."""

    kept: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Copies of what changes: CPU tensors and plain Python, always under the same keys."""
        return {name: _copied(getattr(self, name)) for name in self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: the state of another policy or another number of sources; nothing changes.
        """
        if not isinstance(state, Mapping) or set(state) != set(self.kept):
            got = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise refusal("state", f"of the keys {sorted(self.kept)}", got)
        for name in self.kept:
            have, given = getattr(self, name), state[name]
            if type(have) is not type(given):
                rule = f"of type {type(have).__name__}"
                raise refusal(f"state[{name!r}]", rule, type(given).__name__)
            if isinstance(have, torch.Tensor) and (
                have.shape != given.shape or have.dtype != given.dtype
            ):
                cause = "Another number of sources?"
                raise refusal(f"state[{name!r}]", f"of shape {tuple(have.shape)}", given, cause)
        for name in self.kept:
            setattr(self, name, _copied(state[name]))

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        shown = ", ".join(f"{name}={_shown(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({shown})"


class Policy(Resumable, ABC):
    """How often each source is drawn; derive from it for a policy of your own.

    A policy keeps each constructor argument in an attribute of the same name, and names in
    ``kept`` the attributes that change: they make up its state.

    Example:
        >>> class Fixed(Policy):
        ...     def __init__(self, weights):
        ...         self.weights = weights
        ...     def probabilities(self):
        ...         return torch.tensor(self.weights, dtype=torch.float64)
        >>> Fixed([0.5, 0.5]), Fixed([0.5, 0.5]).probabilities()
        (Fixed(weights=[0.5, 0.5]), tensor([0.5000, 0.5000], dtype=torch.float64))

    Differences from the paper:
        No paper.
    """

    references: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def probabilities(self) -> torch.Tensor:
        """How often each source is drawn now: float64 (K,), at least 0, summing to 1."""


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return list(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, torch.Tensor) else value)


def read_weights(
    name: str, weights: torch.Tensor | Sequence[float], size: int | None = None
) -> torch.Tensor:
    """Return weights of sources as float64 on the CPU, summing to 1, or refuse them.

    Raises:
        ValueError: no source, a weight that is negative or not finite, or only zeros.

    Example:
        >>> read_weights("weights", [3, 1])
        tensor([0.7500, 0.2500], dtype=torch.float64)
        >>> read_weights("weights", [0, 0])
        Traceback (most recent call last):
        ValueError: weights must be above 0 for one source at least. Got [0.0, 0.0].
    """
    vector = as_vector(name, weights, dtype=torch.float64, at_least=0).cpu()
    if size is not None and vector.numel() != size:
        raise refusal(name, f"one per source: {size} of them", vector.numel())
    if not vector.numel():
        raise refusal(name, "one per source, at least one", "none")
    if not float(vector.sum()) > 0:
        raise refusal(name, "above 0 for one source at least", vector.tolist())
    vector = vector / vector.max()  # so that the sum does not overflow
    return vector / vector.sum()


def draw_source(probabilities: torch.Tensor, *key: object) -> int:
    """Draw one source by a generator that depends on the key alone; none of probability zero.

    Example:
        >>> draw_source(torch.tensor([0.0, 1.0, 0.0]), 0, "step", 7)
        1
    """
    edges = probabilities.double().cumsum(0)
    point = torch.rand((), dtype=torch.float64, generator=keyed_generator(*key)) * edges[-1]
    return int(torch.searchsorted(edges, point, right=True))
