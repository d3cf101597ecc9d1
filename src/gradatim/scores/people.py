"""Difficulty that people know: their own scores, and how far annotators disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gradatim.scores.checks import as_labels, as_matrix
from gradatim.validation import as_vector, check_choice, check_count, refusal

__all__ = ["annotator_agreement", "human"]


def human(values: torch.Tensor | Sequence[float], size: int | None = None) -> torch.Tensor:
    """Take a difficulty that you bring yourself: reading ages, reaction times, exam grades.

    Only checked and copied, so that a mistake surfaces here and not in the middle of a training.

    Args:
        values: (n,) finite numbers, **higher is harder**; n at least 1.
        size: the number of samples n of the data set, checked if given.

    Returns:
        (n,) copy, no gradient, float64 unless ``values`` are floating, on their device.

    Raises:
        TypeError: ``values`` are no numbers.
        ValueError: not one finite value per sample.

    Example:
        >>> human([3, 1, 2], size=3)
        tensor([3., 1., 2.], dtype=torch.float64)

    Differences from the paper:
        No paper.
    """
    if size is not None:
        check_count("size", size, at_least=1)
    vector = as_vector("values", values, size=size)
    if vector.numel() == 0:
        raise refusal("values", "one value per sample, at least one", "none")
    return vector.clone()


def annotator_agreement(
    votes: torch.Tensor,
    targets: torch.Tensor | None = None,
    *,
    kind: str = "agreement",
) -> torch.Tensor:
    """Score each sample by how far its annotators disagree.

    What people quarrel about, models find hard, and the score costs no training. With v_j votes
    for class j, V votes in all, and the label y::

        d = 1 - v_y / V                                  kind="agreement"
        d = -sum_j (v_j / V) log(v_j / V) / log C        kind="entropy"

    Args:
        votes: (n, C) counts v, at least 0, at least one in each row; C at least 2.
        targets: (n,) whole class numbers y in [0, C); None takes the most voted class. Only for
            ``kind="agreement"``: the entropy knows no label.
        kind: ``"agreement"`` or ``"entropy"``.

    Returns:
        (n,) in [0, 1], no gradient; float64 for whole counts, else as ``votes`` and at least
        float32; on their device.

    Raises:
        ValueError: a sample without votes, negative votes, one class only, labels out of range,
            or labels given for the entropy.

    Example:
        >>> annotator_agreement(torch.tensor([[3, 1], [2, 0]]))
        tensor([0.2500, 0.0000], dtype=torch.float64)
        >>> annotator_agreement(torch.tensor([[3, 1], [2, 0]]), torch.tensor([1, 0]))
        tensor([0.7500, 0.0000], dtype=torch.float64)
        >>> annotator_agreement(torch.tensor([[2, 2], [2, 0]]), kind="entropy")
        tensor([1., 0.], dtype=torch.float64)

    Differences from the paper:
        Wei et al. sort samples into a few bins of agreement and open one bin after another; the
        score here is the agreement itself. The entropy is our addition.

    References:
        Wei et al., Learn like a Pathologist: Curriculum Learning by Annotator Agreement for
        Histopathology Image Classification, WACV 2021 (`wei2021`).
    """
    check_choice("kind", kind, ["agreement", "entropy"])
    counts = as_matrix("votes", votes, columns=2)
    if bool((counts < 0).any()):
        raise refusal("votes", "at least 0 everywhere", float(counts.min()))
    totals = counts.sum(1)
    if bool((totals == 0).any()):
        rows = (totals == 0).nonzero().squeeze(1)[:10].tolist()
        cause = "Nobody annotated them? Drop these rows."
        raise refusal("votes", "at least one vote per sample", f"none at index {rows}", cause)
    if kind == "entropy":
        if targets is not None:
            cause = "The entropy knows no label; leave targets out or take kind='agreement'."
            raise refusal("targets", "None with kind='entropy'", type(targets).__name__, cause)
        shares = counts / totals.unsqueeze(1)
        return torch.special.entr(shares).sum(1) / math.log(counts.shape[1])
    if targets is None:
        own = counts.amax(1)
    else:
        size, classes = counts.shape
        labels = as_labels("targets", targets, size=size, classes=classes, device=counts.device)
        own = counts.gather(1, labels.unsqueeze(1)).squeeze(1)
    return 1 - own / totals
