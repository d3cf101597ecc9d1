"""One loss per sample from what a Hugging Face model returns, as its own loss would weigh them.

Pure functions: tensors in, tensors out. They follow `transformers.loss.loss_utils`, without its
reduction over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from gradatim.validation import refusal

__all__ = ["IGNORED", "SampleLosses", "logits_of", "mean_of", "sample_losses", "shifts"]

IGNORED = -100
"""Labels of this value are no target, in transformers as in torch."""

_SHIFTED = ("ForCausalLM", "ForConditionalGeneration", "CsmForConditionalGeneration")  # types
_OWN_LOSS = "Pass compute_loss_func=f with f(outputs, labels, num_items_in_batch) -> losses (B,)."


@dataclass
class SampleLosses:
    """What a batch gave, sample by sample.

    Args:
        losses: (B,), with their graph; of texts with a loss per token the mean over their tokens.
        logits: what the model predicts from, first dimension B, or None.
        targets: the labels they were compared to, or None.
        tokens: int64 (B,), how many tokens each loss is a mean of; None where it is of one thing.
    """

    losses: torch.Tensor
    logits: Any = None
    targets: Any = None
    tokens: torch.Tensor | None = None


def shifts(model: Any) -> bool:
    """Whether a loss per token compares each prediction to the label of the next token.

    Example:
        >>> shifts(torch.nn.Linear(1, 1))
        False
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    # Where the type is unknown, transformers takes the loss of a causal language model.
    return getattr(model, "loss_type", "") in (*_SHIFTED, None)


def logits_of(outputs: Any, *, after_loss: bool = False) -> torch.Tensor:
    """The logits in a model's outputs, a mapping or a tuple (whose first may be the loss)."""
    if isinstance(outputs, Mapping):
        if outputs.get("logits") is None:
            raise ValueError(
                f"logits must be in the model's outputs. Got {sorted(outputs)}. {_OWN_LOSS}"
            )
        return outputs["logits"]
    if isinstance(outputs, (tuple, list)):
        return outputs[1 if after_loss and len(outputs) > 1 else 0]
    return outputs


def mean_of(found: SampleLosses) -> torch.Tensor:
    """The batch's loss as transformers reduces it: over tokens where there are some.

    Example:
        >>> losses = torch.tensor([1.0, 4.0])
        >>> float(mean_of(SampleLosses(losses, tokens=torch.tensor([2, 1]))))
        2.0
    """
    if found.tokens is None:
        return found.losses.mean()
    return (found.losses * found.tokens).sum() / found.tokens.sum().clamp(min=1)


def sample_losses(
    model: Any, outputs: Any, labels: Any, *, smoothing: float = 0.0, after_loss: bool = False
) -> SampleLosses:
    """Per-sample losses of a model of transformers, or of one whose shapes tell what it does.

    - one label: cross-entropy, also of multiple choice, images and audio;
    - several labels (float, one column each): mean binary cross-entropy of a row;
    - regression: mean squared error of a row;
    - a label per token: mean cross-entropy of the tokens whose label is not -100, each
      predicted from the one before in a causal language model;
    - question answering: mean of the cross-entropies of start and end.

    Args:
        model: its ``loss_type`` and ``config.problem_type`` decide where shapes do not.
        outputs: with ``logits``, or with ``start_logits`` and ``end_logits``.
        labels: tensor, or a dict with ``start_positions`` and ``end_positions``.
        smoothing: of labels, in [0, 1).
        after_loss: a tuple of outputs starts with the loss.

    Raises:
        ValueError: labels of another shape or dtype than the task has.

    Example:
        >>> outputs = {"logits": torch.tensor([[0.0, 0.0], [9.0, 0.0]])}
        >>> sample_losses(None, outputs, torch.tensor([0, 1])).losses
        tensor([0.6931, 9.0001])
    """
    if isinstance(labels, Mapping):
        return _spans(outputs, labels, smoothing)
    logits = logits_of(outputs, after_loss=after_loss)
    labels = labels.to(logits.device)
    config = getattr(model, "config", None)
    loss_type = getattr(model, "loss_type", None)
    if logits.ndim >= 3 and not labels.is_floating_point():
        return _tokens(logits, labels, smoothing, shifted=shifts(model))
    problem = getattr(config, "problem_type", None)
    if problem is None:
        if logits.ndim == 1 or (logits.shape[-1] == 1 and loss_type != "ForMultipleChoice"):
            problem = "regression"
        elif not labels.is_floating_point():
            problem = "single_label_classification"
        else:
            problem = "multi_label_classification"
    size = logits.shape[0]
    if problem == "single_label_classification":
        if labels.numel() != size:
            raise refusal("labels", f"one per sample, of shape ({size},)", labels)
        if labels.is_floating_point():
            raise refusal("labels", "of an integer dtype, as classes are", labels)
        labels = labels.reshape(size)
        losses = F.cross_entropy(_wide(logits), labels, reduction="none", label_smoothing=smoothing)
        return SampleLosses(losses, logits, labels)
    if labels.numel() != logits.numel() or labels.shape[0] != size:
        rule = f"of the logits' shape {tuple(logits.shape)}"
        raise refusal("labels", rule, labels)
    if smoothing:
        task = "in regression" if problem == "regression" else "with several labels at once"
        raise refusal("label_smoothing_factor", f"0 {task}", smoothing)
    wanted = labels.reshape(logits.shape)
    if problem == "regression":
        rows = F.mse_loss(_wide(logits), wanted.to(_wide(logits).dtype), reduction="none")
    else:
        if not labels.is_floating_point():
            raise refusal("labels", "of a floating dtype, as several labels at once are", labels)
        rows = F.binary_cross_entropy_with_logits(_wide(logits), wanted, reduction="none")
    rows = rows.reshape(size, -1)
    losses = rows.squeeze(1) if rows.shape[1] == 1 else rows.mean(1)
    return SampleLosses(losses, logits, wanted)


def _wide(logits: torch.Tensor) -> torch.Tensor:
    """In float32 or wider: half precision tells losses apart by two or three digits only."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _tokens(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, *, shifted: bool
) -> SampleLosses:
    if labels.shape != logits.shape[:-1]:
        rule = f"one per token, of shape {tuple(logits.shape[:-1])}"
        raise refusal("labels", rule, labels, _OWN_LOSS)
    wanted = F.pad(labels, (0, 1), value=IGNORED)[..., 1:] if shifted else labels
    classes = logits.shape[-1]
    rows = F.cross_entropy(
        logits.reshape(-1, classes).float(),
        wanted.reshape(-1),
        ignore_index=IGNORED,
        reduction="none",
        label_smoothing=smoothing,
    ).reshape(labels.shape[0], -1)
    tokens = wanted.reshape(labels.shape[0], -1).ne(IGNORED).sum(1)
    return SampleLosses(rows.sum(1) / tokens.clamp(min=1), logits, labels, tokens)


def _spans(outputs: Any, labels: Mapping[str, torch.Tensor], smoothing: float) -> SampleLosses:
    total: Any = 0
    ends = [(outputs[f"{end}_logits"], labels[f"{end}_positions"]) for end in ("start", "end")]
    for logits, positions in ends:
        if positions.numel() != logits.shape[0]:
            rule = f"one per sample, of shape ({logits.shape[0]},)"
            raise refusal("start_positions and end_positions", rule, positions)
        length = logits.shape[1]  # answers outside the text are no target
        wanted = positions.reshape(-1).to(logits.device).clamp(0, length)
        total = total + F.cross_entropy(
            _wide(logits),
            wanted,
            ignore_index=length,
            reduction="none",
            label_smoothing=smoothing,
        )
    return SampleLosses(total / 2, ends[0][0], ends[0][1])
