"""The nuclear norm of token representations: how much information a text's matrix holds."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradatim.scores.checks import as_tensor
from gradatim.validation import refusal

__all__ = ["checked_mask", "finite_norms", "masked_norms", "nuclear_norm"]


def nuclear_norm(hidden: torch.Tensor, mask: torch.Tensor | Any) -> torch.Tensor:
    """Sum of the singular values of each text's token representations.

    With E the rows of ``hidden`` whose mask is 1, SPDCL's difficulty of a text (Eq. 1)::

        d = trace(sqrt(E' E)) = sum_j sigma_j(E)

    Longer and richer texts have larger values. Only rows of mask 1 are looked at: padding counts
    for nothing, whatever stands there, NaN included, and costs nothing, on whichever side it is.

    Args:
        hidden: (B, L, h) floating, hidden states of one layer, usually the last; finite where mask
            is 1. Half precision is cast up. Not changed.
        mask: (B, L), 1 for tokens (special ones too) and 0 for padding, in any order; any real
            dtype. At least one 1 in each row.

    Returns:
        (B,), at least 0, without gradient, on the device of ``hidden``: float64 where that is
        float64, else float32.

    Raises:
        TypeError: no tensors.
        ValueError: other shapes, a mask of other values than 0 and 1 or with a row of zeros, hidden
            states that are not finite where mask is 1.

    Example:
        >>> import torch, gradatim as gr
        >>> hidden = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [9.0, 9.0]]])
        >>> mask = torch.tensor([[1, 1], [1, 0]])
        >>> gr.scores.nuclear_norm(hidden, mask)
        tensor([7.0000, 1.4142])

    Differences from the paper:
        None in the value. The paper says that exchanging the positions of tokens changes the norm;
        exchanging whole rows does not.

    Caveats:
        On the CPU (and for MPS, which has no float64, on the CPU as well) roots of the eigenvalues
        of E E' or E' E, the smaller, in float64: relative error below 1e-6; O(l^2 h + l^3) for a
        text of l tokens. Rows of equal length are done together. In float32 the same way would be
        wrong by up to 1 % on matrices of low rank. On other devices, where float64 may be slow,
        singular values, in float32 for float32. It waits for the device.

    References:
        Zhang, Wang, Cheng and Xiao, Improving Imbalanced Text Classification with Dynamic
        Curriculum Learning, MSN 2022, Eq. 1 [zhang2022spdcl].
    """
    return finite_norms(masked_norms(hidden, mask))


def finite_norms(norms: torch.Tensor) -> torch.Tensor:
    """Give norms back, or refuse those of hidden states that are not finite.

    Raises:
        ValueError: a norm is NaN.

    Example:
        >>> finite_norms(torch.tensor([1.0, torch.nan]))
        Traceback (most recent call last):
        ValueError: hidden must be finite where mask is 1. Got 1 non-finite row at index [1].
    """
    bad = norms.isnan()
    if bool(bad.any()):
        got = _listed("non-finite row", bad.nonzero().squeeze(1))
        raise refusal("hidden", "finite where mask is 1", got)
    return norms


def masked_norms(
    hidden: torch.Tensor, mask: torch.Tensor | Any, index: torch.Tensor | None = None
) -> torch.Tensor:
    """As `nuclear_norm`, with NaN for rows whose hidden states are not finite.

    Args:
        hidden: as there.
        mask: as there.
        index: int64 (B,), what refusals call the rows; None counts them.

    Raises:
        TypeError: no tensors.
        ValueError: other shapes, or a bad mask.

    Example:
        >>> masked_norms(torch.tensor([[[torch.nan]], [[2.0]]]), torch.ones(2, 1))
        tensor([nan, 2.])
    """
    kept = checked_mask(hidden, mask, index)
    hidden = hidden.detach()
    kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    batch, _, width = hidden.shape
    norms = torch.zeros(batch, dtype=kind, device=hidden.device)
    if not batch:
        return norms
    lengths = kept.sum(1)
    # Stable, so that the tokens of texts of one length stand one text after the other.
    order = torch.argsort(lengths, stable=True)
    text, place = kept[order].nonzero(as_tuple=True)
    flat = (order[text] * hidden.shape[1] + place).to(hidden.device)
    tokens = hidden.reshape(-1, width).index_select(0, flat)
    if tokens.device.type == "mps":
        tokens = tokens.cpu()
    on_cpu = tokens.device.type == "cpu"
    spoilt = torch.zeros(batch, dtype=torch.bool, device=norms.device)
    # A sum is a tenth of the work, and finite wherever all is; it may overflow without need.
    if not bool(tokens.sum().isfinite()):
        finite = tokens.isfinite().all(1)
        spoilt[order[text][~finite.cpu()].to(norms.device)] = True
        # A solver may not come to an end on what is not finite, so it is not shown any.
        tokens = torch.where(finite.unsqueeze(1), tokens, 0)
    sizes, counts = torch.unique_consecutive(lengths[order], return_counts=True)
    sums = _gram_sums if on_cpu else _singular_sums
    parts, start = [], 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        rows = tokens[start : start + size * count].reshape(count, size, width)
        start += size * count
        parts.append(sums(rows))
    norms[order.to(norms.device)] = torch.cat(parts).to(norms)
    return norms.masked_fill_(spoilt, math.nan)


def _gram_sums(rows: torch.Tensor) -> torch.Tensor:
    """Sums of singular values (b,) of ``rows`` (b, l, h), by the smaller Gram matrix in float64."""
    scale = None
    if rows.dtype == torch.float64:  # squares of float32 cannot overflow here, these can
        scale = rows.abs().amax((1, 2)).clamp(min=torch.finfo(torch.float64).tiny)
        rows = rows / scale[:, None, None]
    rows = rows.double()
    gram = rows @ rows.mT if rows.shape[1] <= rows.shape[2] else rows.mT @ rows
    found = torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_().sum(1)
    return found if scale is None else found * scale


def _singular_sums(rows: torch.Tensor) -> torch.Tensor:
    """Sums of singular values (b,) of ``rows`` (b, l, h), in float32 or wider."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return torch.linalg.svdvals(rows.to(wide)).sum(1)


def _listed(noun: str, names: torch.Tensor) -> str:
    plural = "" if names.numel() == 1 else "s"
    return f"{names.numel()} {noun}{plural} at index {names[:10].tolist()}"


def checked_mask(hidden: Any, mask: Any, index: torch.Tensor | None = None) -> torch.Tensor:
    """The mask as bool (B, L) on the CPU, after all checks but that for finite states.

    Args:
        hidden: (B, L, h), as of `nuclear_norm`.
        mask: (B, L), likewise.
        index: int64 (B,), what refusals call the rows; None counts them.

    Raises:
        TypeError: no tensors.
        ValueError: other shapes, or a bad mask.

    Example:
        >>> checked_mask(torch.zeros(1, 3, 2), [[1, 1, 0]])
        tensor([[ True,  True, False]])
    """
    rule = "a floating tensor of shape (B, L, h)"
    if not isinstance(hidden, torch.Tensor):
        cause = ""
        if isinstance(hidden, (tuple, list)):
            cause = "The states of all layers? Pass those of one: hidden_states[-1]."
        raise TypeError(str(refusal("hidden", rule, type(hidden).__name__, cause)))
    if hidden.ndim != 3 or not hidden.is_floating_point() or 0 in hidden.shape[1:]:
        raise refusal("hidden", rule, hidden)
    values = as_tensor("mask", mask, "a tensor of 0 and 1", device=torch.device("cpu"))
    shape = tuple(hidden.shape[:2])
    if tuple(values.shape) != shape or values.is_complex():
        raise refusal("mask", f"of shape {shape}, as hidden", values)
    kept = values == 1
    wrong = ~(kept | (values == 0))
    if bool(wrong.any()):
        cause = "An additive mask? Pass the tokenizer's attention_mask."
        raise refusal("mask", "0 or 1 everywhere", float(values[wrong][0]), cause)
    empty = ~kept.any(1)
    if bool(empty.any()):
        names = empty.nonzero().squeeze(1)
        names = names if index is None else index.cpu()[names]
        cause = "Are these texts empty?"
        raise refusal("mask", "1 at least once in each row", _listed("zero row", names), cause)
    return kept
