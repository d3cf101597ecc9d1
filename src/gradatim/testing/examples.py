"""What the checks must be told about a method or part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gradatim.method import Method
from gradatim.testing.bad_values import Bad
from gradatim.testing.problems import Problem

__all__ = ["Example", "PaceExample", "PartExample"]


def _linear_model(problem: Problem) -> nn.Module:
    return nn.Linear(problem.features.shape[1], 3)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One way to build a method, and what the contract needs to know about it.

    Args:
        build: ``build(problem) -> Method``, fresh at each call. What has one value per sample must
            come from the `Problem`, so that relabelled samples bring relabelled parameters.
        neutral: builds the method at the setting at which it is plain training to the bit; or the
            reason why there is none.
        bad: per constructor parameter the values it must refuse, as made by `bad_numbers` and its
            like, or the reason why it takes anything. Each parameter must be listed.
        signals: how to calculate what the method wants besides ``logits``, ``targets`` and the
            learning rate: ``signal(problem, index) -> tensor``, rows as in ``index``.
        model: ``model(problem) -> module`` from features (B, 4) to logits (B, 3), for methods that
            act on layers; a linear model by default.
        draws: the method itself draws: under another seed it plans other samples from the same
            tables.
        epochs: that a checked run lasts: enough for the method to leave its warm-up, with some
            epochs of choosing and of its end behind it.
        returns_within: epochs in which every sample must be trained on at least once, from any
            epoch on.
        exceptions: checks that this method does not pass, by name, with the reason. A reason that
            is not needed fails too.

    Example:
        >>> import gradatim as gr
        >>> from gradatim.testing import Example, bad_numbers
        >>> example = Example(
        ...     build=lambda problem: gr.Focal(gamma=2.0),
        ...     neutral=lambda problem: gr.Focal(gamma=0.0),
        ...     bad={"gamma": bad_numbers(at_least=0)},
        ... )
        >>> example.build(Problem.make())
        Focal(gamma=2.0)
    """

    build: Callable[[Problem], Method]
    neutral: Callable[[Problem], Method] | str
    bad: Mapping[str, Bad | str]
    signals: Mapping[str, Callable[[Problem, torch.Tensor], Any]] = field(default_factory=dict)
    model: Callable[[Problem], nn.Module] = _linear_model
    draws: bool = False
    epochs: int = 4
    returns_within: int = 5
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def signals_of(
        self, method: Method, problem: Problem, index: torch.Tensor, logits: torch.Tensor
    ) -> dict[str, Any]:
        """What ``method`` wants or accepts, for the rows of ``index``.

        Raises:
            ValueError: it wants a signal that nobody calculates.
        """
        known = {"logits": logits, "targets": problem.targets[index]}
        found: dict[str, Any] = {}
        for name in (*method.wants, *method.accepts):
            if name == "learning_rate":
                continue
            if name in self.signals:
                found[name] = self.signals[name](problem, index)
            elif name in known:
                found[name] = known[name]
            elif name in method.wants:
                raise ValueError(f"signals must say how to calculate {name!r}, which is wanted.")
        return found


@dataclass(frozen=True, kw_only=True)
class PartExample:
    """One way to call a function that takes tensors and returns a tensor.

    Args:
        part: the function.
        arguments: ``arguments(problem) -> dict``, fresh at each call. What has one value per sample
            must come from the `Problem`. A ``generator`` that is not among them is made by seed.
        bad: per parameter the values it must refuse, or the reason why it takes anything.
        low: lower bound of the values returned, or None.
        high: upper bound of the values returned, or None.
        differentiable: the result carries gradient; it must not, otherwise.
        exceptions: checks that this part does not pass, by name, with the reason. A reason that
            is not needed fails too.

    Example:
        >>> import gradatim as gr
        >>> from gradatim.testing import PartExample, bad_numbers, bad_vectors
        >>> example = PartExample(
        ...     part=gr.weighting.linear,
        ...     arguments=lambda problem: {"losses": problem.losses(0), "threshold": 0.5},
        ...     bad={
        ...         "losses": bad_vectors(None),
        ...         "threshold": bad_numbers(above=0, infinite=True),
        ...     },
        ...     low=0.0,
        ...     high=1.0,
        ... )
        >>> example.call(Problem.make()).shape
        torch.Size([60])
    """

    part: Callable[..., Any]
    arguments: Callable[[Problem], dict[str, Any]]
    bad: Mapping[str, Bad | str]
    low: float | None = None
    high: float | None = None
    differentiable: bool = False
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def call(self, problem: Problem, *, seed: int = 0, **changed: Any) -> Any:
        """The result on ``problem``, with a generator of ``seed`` where the part takes one."""
        arguments = {**self.arguments(problem), **changed}
        if "generator" in self.bad and "generator" not in arguments:
            arguments["generator"] = torch.Generator().manual_seed(seed)
        return self.part(**arguments)

    def seeded(self, problem: Problem) -> bool:
        """Whether `call` hands over a generator: the part takes one, and the arguments lack it."""
        return "generator" in self.bad and "generator" not in self.arguments(problem)


@dataclass(frozen=True, kw_only=True)
class PaceExample:
    """One way to build a pace.

    Args:
        pace: the class, or a function that makes paces.
        arguments: for ``pace``.
        start: the fraction at t = 0.
        end: the time from which everything is visible; None for a pace that never shows all.
        bad: per parameter the values it must refuse, or the reason why it takes anything.
        exceptions: checks that this pace does not pass, by name, with the reason.

    Example:
        >>> import gradatim as gr
        >>> from gradatim.testing import PaceExample, bad_numbers
        >>> example = PaceExample(
        ...     pace=gr.pacing.Linear,
        ...     arguments={"start_fraction": 0.25, "epochs": 4},
        ...     start=0.25,
        ...     end=4.0,
        ...     bad={
        ...         "start_fraction": bad_numbers(above=0, at_most=1),
        ...         "epochs": bad_numbers(above=0),
        ...     },
        ... )
        >>> example.build()(2.0)
        0.625
    """

    pace: Callable[..., Callable[[float], float]]
    arguments: Mapping[str, Any]
    start: float
    end: float | None
    bad: Mapping[str, Bad | str]
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def build(self, **changed: Any) -> Callable[[float], float]:
        """A fresh pace, with ``changed`` arguments."""
        return self.pace(**{**self.arguments, **changed})
