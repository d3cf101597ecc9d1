"""Difficulty from a model's outputs: loss, confidence, margin and entropy of each sample.

Which model is the question that matters. One that was trained on the very samples it scores has
memorised the hard ones: prefer a teacher trained elsewhere, or `gradatim.scores.out_of_fold`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from gradatim.scores.checks import as_labels, as_matrix, as_probabilities

__all__ = ["confidence", "entropy", "loss", "margin"]


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Score each sample by the cross-entropy of a model that has not seen it.

    The commonest difficulty: what a teacher finds hard to predict, a student will too. For one
    sample with logits z and label y::

        d = log(sum_j exp(z_j)) - z_y

    Args:
        logits: (n, C) finite, unnormalised log-probabilities z; half precision is raised to
            float32.
        targets: (n,) whole class numbers y in [0, C).

    Returns:
        (n,) at least 0, no gradient, float32 or float64 as ``logits``, on their device.

    Raises:
        ValueError: wrong shapes, labels out of range, non-finite logits.

    Example:
        Two classes, equal logits: log 2 whichever is right.

        >>> loss(torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.tensor([0, 1]))
        tensor([0.6931, 0.6931])

    Differences from the paper:
        None known. Hacohen and Weinshall rank by the confidence of the teacher, which orders
        samples exactly as this does.

    References:
        Hacohen, Weinshall, On The Power of Curriculum Learning in Training Deep Networks, ICML
        2019, section 2 (`hacohen2019`).
    """
    matrix = as_matrix("logits", logits)
    labels = _targets(matrix, targets)
    return F.cross_entropy(matrix, labels, reduction="none")


def confidence(probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Score each sample by the probability that a model withholds from its label.

    Bounded, where the loss is not: one absurd sample cannot dominate. ``d = 1 - p_y``.

    Args:
        probabilities: (n, C) rows p, at least 0, summing to 1 within 1e-3.
        targets: (n,) whole class numbers y in [0, C).

    Returns:
        (n,) in [0, 1], no gradient, float32 or float64 as ``probabilities``, on their device.

    Raises:
        ValueError: wrong shapes, rows that are no probabilities, labels out of range.

    Example:
        >>> confidence(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]))
        tensor([0.2500, 0.7500])

    Differences from the paper:
        None known.

    References:
        Hacohen, Weinshall, On The Power of Curriculum Learning in Training Deep Networks, ICML
        2019, section 2 (`hacohen2019`).
    """
    matrix = as_probabilities("probabilities", probabilities)
    return 1 - _own(matrix, _targets(matrix, targets))


def margin(outputs: torch.Tensor, targets: torch.Tensor, *, logits: bool = False) -> torch.Tensor:
    """Score each sample by how far its strongest rival stands above its label.

    Unlike the confidence it tells a sample that is torn between two classes from one that is
    unsure of all. Negative where the model is right::

        d = max_{j != y} p_j - p_y

    Args:
        outputs: (n, C) with C at least 2: probabilities p, or unnormalised logits in their place.
        targets: (n,) whole class numbers y in [0, C).
        logits: True takes ``outputs`` as logits; the margin is then unbounded.

    Returns:
        (n,) in [-1, 1] (any finite value for logits), no gradient, float32 or float64 as
        ``outputs``, on their device.

    Raises:
        ValueError: one class only, wrong shapes, rows that are no probabilities, labels out of
            range.

    Example:
        >>> p = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
        >>> margin(p, torch.tensor([0, 1]))
        tensor([-0.2500,  0.2500])

    Differences from the paper:
        No paper; the usual classification margin, negated.
    """
    if logits:
        matrix = as_matrix("logits", outputs, columns=2)
    else:
        matrix = as_probabilities("probabilities", outputs, columns=2)
    labels = _targets(matrix, targets)
    rivals = matrix.scatter(1, labels.unsqueeze(1), -math.inf).amax(1)
    return rivals - _own(matrix, labels)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Score each sample by how undecided a model is, without looking at its label.

    The choice where labels are missing or not to be trusted. Divided by its maximum::

        d = -sum_j p_j log p_j / log C          (0 log 0 = 0)

    Args:
        probabilities: (n, C) rows p, at least 0, summing to 1 within 1e-3; C at least 2.

    Returns:
        (n,) in [0, 1] for rows that sum to 1 exactly, no gradient, float32 or float64 as
        ``probabilities``, on their device.

    Raises:
        ValueError: one class only, wrong shape, rows that are no probabilities.

    Example:
        >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([0., 1.])

    Differences from the paper:
        No paper; Shannon's entropy, normalised.

    Caveats:
        A model that is confidently wrong counts as easy.
    """
    matrix = as_probabilities("probabilities", probabilities, columns=2)
    return torch.special.entr(matrix).sum(1) / math.log(matrix.shape[1])


def _targets(matrix: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    size, classes = matrix.shape
    return as_labels("targets", targets, size=size, classes=classes, device=matrix.device)


def _own(matrix: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return matrix.gather(1, labels.unsqueeze(1)).squeeze(1)
