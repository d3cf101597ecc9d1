"""How a model is asked: with hidden states where a curriculum wants them, and without padding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

import gradatim as gr

__all__ = ["CPU_ROWS", "ask", "ask_all", "cropped", "in_chunks", "needs_hidden", "shows_hidden"]

CPU_ROWS = 32
"""Texts of similar length that go through a transformer together, without gradient, on a CPU."""

TOKENS = 16_384
"""The same elsewhere: tokens, padding included."""


def needs_hidden(methods: Sequence[gr.Method]) -> bool:
    """Tell whether a method reads the hidden states of texts.

    Args:
        methods: of one curriculum.

    Example:
        >>> needs_hidden([gr.SPDCL()]), needs_hidden([gr.SPL(pace=gr.pacing.Root(epochs=3))])
        (True, False)
    """
    return any("hidden" in (*method.accepts, *method.wants) for method in methods)


def shows_hidden(model: nn.Module) -> bool:
    """Tell whether a model hands over its hidden states when it is called with ``hidden=True``.

    Args:
        model: from features to outputs; then to outputs, hidden states (B, L, h) and mask (B, L).

    Example:
        >>> shows_hidden(nn.Linear(2, 2))
        False
    """
    try:
        return "hidden" in inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # a forward without signature
        return False


def cropped(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Leave out the last columns of a batch where they are padding in every row.

    Args:
        model: only where it says ``dynamic_padding = True``; others get what they always got.
        features: (B, L), 0 where a text has ended; on the CPU, where looking costs no wait.

    Example:
        >>> from types import SimpleNamespace
        >>> cropped(SimpleNamespace(dynamic_padding=True), torch.tensor([[5, 0, 0], [6, 7, 0]]))
        tensor([[5, 0],
                [6, 7]])
    """
    if not getattr(model, "dynamic_padding", False):
        return features
    return features[:, : max(1, int((features != 0).any(0).count_nonzero()))]


def in_chunks(
    model: nn.Module, features: torch.Tensor, device: torch.device, *, rows: int
) -> Iterator[torch.Tensor]:
    """Say in which parts a data set goes through a model without gradient.

    Args:
        model: see `cropped`.
        features: (N, ...), on the CPU.
        device: where the model is.
        rows: per part of a model that takes its features as they are.

    Yields:
        int64 positions. Texts of a model with dynamic padding come by length, so that little of a
        part is padding.

    Example:
        >>> parts = in_chunks(nn.Identity(), torch.zeros(3, 1), torch.device("cpu"), rows=2)
        >>> [part.tolist() for part in parts]
        [[0, 1], [2]]
    """
    everything = torch.arange(len(features))
    if getattr(model, "dynamic_padding", False):
        everything = torch.argsort((features != 0).sum(1), stable=True)
        rows = CPU_ROWS
        if torch.device(device).type != "cpu":
            rows = max(CPU_ROWS, TOKENS // features.shape[1])
    yield from everything.split(rows)


def ask(model: Any, features: torch.Tensor, *, hidden: bool) -> tuple[torch.Tensor, dict[str, Any]]:
    """Call a model.

    Args:
        model: from features to outputs.
        features: (B, ...), where the model is.
        hidden: whether to ask for hidden states.

    Returns:
        Outputs, and the signals ``hidden`` (B, L, h) and ``mask`` (B, L), or none.
    """
    if not hidden:
        return model(features), {}
    outputs, states, mask = model(features, hidden=True)
    return outputs, {"hidden": states, "mask": mask}


def ask_all(
    model: nn.Module, features: torch.Tensor, device: torch.device, *, hidden: bool
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Call a model, part by part where it takes texts of any length.

    Args:
        model: from features to outputs.
        features: (B, ...), on the CPU.
        device: where the model is.
        hidden: whether to ask for hidden states.

    Returns:
        As `ask`, in the order of ``features``; hidden states of shorter parts have zeros behind.

    Example:
        >>> ask_all(nn.Identity(), torch.ones(2, 1), torch.device("cpu"), hidden=False)[0].shape
        torch.Size([2, 1])
    """
    parts = list(in_chunks(model, features, device, rows=len(features)))
    answers = [
        ask(model, cropped(model, features[part]).to(device), hidden=hidden) for part in parts
    ]
    back = torch.argsort(torch.cat(parts)).to(device)
    outputs = torch.cat([answer for answer, _ in answers])[back]
    signals = {}
    for name in answers[0][1]:
        values = [found[name] for _, found in answers]
        width = max(value.shape[1] for value in values)
        whole = values[0].new_zeros(len(features), width, *values[0].shape[2:])
        start = 0
        for value in values:
            whole[start : start + len(value), : value.shape[1]] = value
            start += len(value)
        signals[name] = whole[back]
    return outputs, signals
