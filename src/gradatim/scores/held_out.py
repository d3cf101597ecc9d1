"""How probable it is that a label is wrong, judged by models that never saw it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradatim.scores.checks import as_labels, check_callable
from gradatim.scores.outputs import confidence
from gradatim.selection.partial import check_generator, permutation
from gradatim.validation import check_count, refusal

__all__ = ["out_of_fold", "stratified_folds"]


def stratified_folds(
    labels: torch.Tensor | Sequence[int], folds: int = 5, *, generator: torch.Generator
) -> torch.Tensor:
    """Deal the samples into folds, each with its share of every class.

    The samples are shuffled, sorted by class and dealt out like cards, round after round. Any two
    folds then differ by at most one sample in each class, and by at most one in all.

    Args:
        labels: (n,) whole class numbers, at least 0, each class present with ``folds`` members or
            more; n at least 1.
        folds: the number K of folds, at least 2.
        generator: decides who goes where.

    Returns:
        int64 (n,) fold in [0, K) of each sample, on the device of ``labels``.

    Raises:
        ValueError: fewer than 2 folds, no sample, a class with fewer than K members, labels that
            are no class numbers.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 0, 0])
        >>> fold = stratified_folds(labels, 2, generator=torch.Generator().manual_seed(0))
        >>> sorted(fold[labels == 1].tolist()), sorted(fold[labels == 0].tolist())
        ([0, 1], [0, 0, 1, 1])

    Differences from the paper:
        No paper.
    """
    folds = check_count("folds", folds, at_least=2)
    classes_of = as_labels("labels", labels)
    size, device = classes_of.numel(), classes_of.device
    if size == 0:
        raise refusal("labels", "one class number per sample, at least one", "none")
    classes, counts = torch.unique(classes_of, return_counts=True)
    if bool((counts < folds).any()):
        scarce = int(counts.argmin())
        got = f"{int(counts[scarce])} of class {int(classes[scarce])}"
        cause = "Take fewer folds, or merge or drop the rare classes."
        raise refusal("labels", f"at least {folds} of every class, one per fold", got, cause)
    shuffled = permutation(size, check_generator(generator)).to(device)
    order = shuffled[torch.argsort(classes_of[shuffled], stable=True)]
    fold = torch.empty_like(classes_of)
    fold[order] = torch.arange(size, device=device) % folds
    return fold


def out_of_fold(
    labels: torch.Tensor | Sequence[int],
    fit_predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | Any],
    *,
    folds: int = 5,
    generator: torch.Generator,
) -> torch.Tensor:
    """Score each sample by how little a model trained on the other folds believes its label.

    A model that has seen a sample can memorise its label, right or wrong; one that has not can
    only believe what the rest of the data supports. The score finds wrong labels, and it is the
    honest form of every teacher score::

        d_i = 1 - p(y_i | x_i),    p fitted without the fold of i

    Args:
        labels: (n,) whole class numbers y in [0, C), each class with ``folds`` members or more.
        fit_predict: called once per fold with ``(train_index, held_out_index)``, int64, ascending,
            on the CPU. It trains a fresh model on the first and returns the probabilities of the
            second, (len(held_out_index), C), rows in that order, column c for class c.
        folds: the number K of folds and of trainings, at least 2.
        generator: decides who goes into which fold.

    Returns:
        (n,) in [0, 1], float32 or float64 as the probabilities, on the device of ``labels``.

    Raises:
        ValueError: as `stratified_folds`; probabilities of a wrong shape or that are none.

    Example:
        A model that predicts the class shares of what it was trained on. Two of three labels are
        0 in every training set.

        >>> labels = torch.tensor([0, 0, 1, 0, 0, 1])
        >>> def shares(train, held_out):
        ...     counts = torch.bincount(labels[train], minlength=2)
        ...     return (counts / counts.sum()).expand(len(held_out), 2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> out_of_fold(labels, shares, folds=2, generator=generator)
        tensor([0.3333, 0.3333, 0.6667, 0.3333, 0.3333, 0.6667])

    Differences from the paper:
        Northcutt et al. go on to count likely errors per pair of classes; this is the first step
        alone, the self-confidence, as a difficulty.

    Caveats:
        K trainings. Near-duplicates in other folds leak; deal groups out yourself if there are.

    References:
        Northcutt, Jiang, Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
        JAIR 2021 (`northcutt2021`).
    """
    check_callable("fit_predict", fit_predict)
    truth = as_labels("labels", labels)
    fold = stratified_folds(truth, folds, generator=generator).cpu()
    classes = int(truth.max()) + 1
    indices, parts = [], []
    for number in range(folds):
        held_out = (fold == number).nonzero().squeeze(1)
        train = (fold != number).nonzero().squeeze(1)
        probabilities = torch.as_tensor(fit_predict(train, held_out))
        if probabilities.ndim != 2 or len(probabilities) != len(held_out):
            rule = f"of shape ({len(held_out)}, C), one row per held-out sample"
            raise refusal("fit_predict(train_index, held_out_index)", rule, probabilities)
        if probabilities.shape[1] < classes:
            rule = f"of shape (n, C) with C at least {classes}, one column per class number"
            cause = "Does the classifier number the classes anew? Spread its columns."
            raise refusal("fit_predict(train_index, held_out_index)", rule, probabilities, cause)
        indices.append(held_out)
        parts.append(confidence(probabilities, truth[held_out.to(truth.device)]))
    joined = torch.cat([part.to(truth.device) for part in parts])
    scores = torch.empty_like(joined)
    scores[torch.cat(indices).to(truth.device)] = joined
    return scores
