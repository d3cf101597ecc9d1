"""Ways to make the training part harder: wrong labels, rare classes, fewer samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from gradatim.compare.data.splits import draw_stratified
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["Stress", "flip_labels", "flip_pairs", "long_tail", "swap_labels"]

NOISES = ("symmetric", "pair")


@dataclass(frozen=True)
class Stress:
    """What is done to the training part of a comparison, and to no other.

    First a fraction of the training part is kept, then classes are thinned to a long tail, then
    labels are made wrong, so that the share of wrong labels is that of the samples trained on.

    Attributes:
        label_noise: share of the training samples that get a wrong label, in [0, 1).
        noise: ``"symmetric"`` gives any wrong class with the same chance; ``"pair"`` gives class
            c + 1 (and class 0 for the last one). With several labels per sample only the first is
            known: see `swap_labels`.
        imbalance: size of the largest training class over the smallest, at least 1; see
            `long_tail`.
        train_fraction: share of the training part that is kept, in (0, 1], by class.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> Stress().title
        'clean'
        >>> Stress(label_noise=0.3).title
        '30 % of the training labels flipped'
        >>> Stress(imbalance=50, train_fraction=0.1).title
        '10 % of the training data, training classes up to 50 : 1'
    """

    label_noise: float = 0.0
    noise: str = "symmetric"
    imbalance: float = 1.0
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        """Check every value by name."""
        check_number("label_noise", self.label_noise, at_least=0, below=1)
        check_choice("noise", self.noise, NOISES)
        check_number("imbalance", self.imbalance, at_least=1)
        check_number("train_fraction", self.train_fraction, above=0, at_most=1)

    @property
    def title(self) -> str:
        """How tables and plots call it."""
        words = []
        if self.train_fraction < 1:
            words.append(f"{100 * self.train_fraction:g} % of the training data")
        if self.imbalance > 1:
            words.append(f"training classes up to {self.imbalance:g} : 1")
        if self.label_noise:
            to = " to the next class" if self.noise == "pair" else ""
            words.append(f"{100 * self.label_noise:g} % of the training labels flipped{to}")
        return ", ".join(words) or "clean"

    def check(self, kind: str) -> None:
        """Refuse what has no meaning for a kind of task, before anything is trained.

        Args:
            kind: classification, multilabel or regression.

        Raises:
            ValueError: imbalance without classes, noise on numbers, pairs among label sets.

        Example:
            >>> Stress(imbalance=10).check("regression")
            Traceback (most recent call last):
            ValueError: imbalance must be 1 for regression. Got 10. Only classes have sizes.
        """
        if kind == "regression" and self.label_noise:
            cause = "A number has no other class to be flipped to."
            raise refusal("label_noise", "0 for regression", self.label_noise, cause)
        if kind != "classification" and self.imbalance != 1:
            cause = "Only classes have sizes."
            raise refusal("imbalance", f"1 for {kind}", self.imbalance, cause)
        if kind == "multilabel" and self.label_noise and self.noise == "pair":
            cause = "A set of labels has no next one."
            raise refusal("noise", "'symmetric' for multilabel", "'pair'", cause)

    def keep(self, kind: str, labels: np.ndarray, *, seed: int) -> np.ndarray:
        """Choose the training samples that stay.

        Args:
            kind: classification, multilabel or regression.
            labels: the training targets, (N,) or (N, L).
            seed: at least 0.

        Returns:
            int64 positions in ascending order.

        Example:
            >>> labels = np.array([0, 0, 0, 0, 1, 1])
            >>> labels[Stress(train_fraction=0.5).keep("classification", labels, seed=0)]
            array([0, 0, 1])
        """
        kept = np.arange(len(labels))
        if self.train_fraction < 1:
            classes = labels if kind == "classification" else np.zeros(len(labels), np.int64)
            count = max(round(self.train_fraction * len(labels)), len(np.unique(classes)))
            kept = draw_stratified(classes, count, generator=np.random.default_rng([seed, 2]))
        if self.imbalance > 1:
            kept = kept[long_tail(labels[kept], imbalance=self.imbalance, seed=seed)]
        return kept

    def corrupt(
        self, kind: str, labels: torch.Tensor, *, classes: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make labels wrong.

        Args:
            kind: classification, multilabel or regression.
            labels: int64 (N,) or float32 (N, L), not changed.
            classes: number of classes.
            seed: at least 0.

        Returns:
            The labels as a new tensor, and bool (N,): which samples are wrong now.

        Example:
            >>> labels, wrong = Stress(label_noise=0.5, noise="pair").corrupt(
            ...     "classification", torch.zeros(4, dtype=torch.int64), classes=3, seed=0)
            >>> int(labels.sum()), int(wrong.sum())
            (2, 2)
        """
        if kind == "regression" or not self.label_noise:
            return labels.clone(), torch.zeros(len(labels), dtype=torch.bool)
        if kind == "multilabel":
            return swap_labels(labels, fraction=self.label_noise, seed=seed)
        flip = flip_pairs if self.noise == "pair" else flip_labels
        return flip(labels, fraction=self.label_noise, classes=classes, seed=seed)

    def record(self) -> dict[str, Any]:
        """Return what a results file says of it, its title with it.

        Example:
            >>> Stress(label_noise=0.3).record()["label_noise"]
            0.3
        """
        return {"title": self.title, **asdict(self)}


def _chosen(size: int, fraction: float, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    check_number("fraction", fraction, at_least=0, below=1)
    generator = np.random.default_rng([check_count("seed", seed), 1])
    return generator.permutation(size)[: round(fraction * size)], generator


def flip_labels(
    labels: torch.Tensor, *, fraction: float, classes: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a fraction of the samples a wrong label, each wrong class with the same chance.

    Args:
        labels: int64 (N,), in [0, classes).
        fraction: share of labels to flip, in [0, 1); round(fraction * N) of them are.
        classes: number of classes, at least 2.
        seed: at least 0.

    Returns:
        The labels as a new tensor, and bool (N,): which of them are now wrong.

    Raises:
        ValueError: ``fraction`` or ``classes`` outside its range.

    Example:
        >>> noisy, flipped = flip_labels(torch.zeros(4, dtype=torch.int64), fraction=0.5,
        ...                              classes=2, seed=0)
        >>> int(noisy.sum()), bool((noisy.bool() == flipped).all())
        (2, True)
    """
    check_count("classes", classes, at_least=2)
    chosen, generator = _chosen(len(labels), fraction, seed)
    steps = torch.from_numpy(generator.integers(1, classes, len(chosen)))  # never 0
    at = torch.from_numpy(chosen)
    noisy = labels.clone()
    noisy[at] = (noisy[at] + steps) % classes
    return noisy, noisy != labels


def flip_pairs(
    labels: torch.Tensor, *, fraction: float, classes: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a fraction of the samples the next class: c becomes c + 1, the last becomes 0.

    Mistakes that follow a rule are harder to see through than evenly spread ones. The samples are
    those that `flip_labels` chooses for the seed.

    Args:
        labels: int64 (N,), in [0, classes).
        fraction: share of labels to flip, in [0, 1).
        classes: number of classes, at least 2.
        seed: at least 0.

    Returns:
        The labels as a new tensor, and bool (N,): which of them are now wrong.

    Raises:
        ValueError: ``fraction`` or ``classes`` outside its range.

    Example:
        >>> flip_pairs(torch.tensor([0, 1, 2]), fraction=0.99, classes=3, seed=0)[0]
        tensor([1, 2, 0])
    """
    check_count("classes", classes, at_least=2)
    at = torch.from_numpy(_chosen(len(labels), fraction, seed)[0])
    noisy = labels.clone()
    noisy[at] = (noisy[at] + 1) % classes
    return noisy, noisy != labels


def swap_labels(
    labels: torch.Tensor, *, fraction: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exchange one right label for a wrong one in a fraction of the samples.

    A chosen sample loses one of its labels and gains one that it did not have, both with the same
    chance, so the number of labels stays. Without any label it only gains one; with all of them
    it only loses one. With one label per sample this is the flip of `flip_labels`.

    Args:
        labels: float32 (N, L) of 0 and 1, L at least 2.
        fraction: share of samples to change, in [0, 1).
        seed: at least 0.

    Returns:
        The labels as a new tensor, and bool (N,): which samples are now wrong.

    Raises:
        ValueError: ``fraction`` outside its range.

    Example:
        >>> noisy, wrong = swap_labels(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), fraction=0.5, seed=0)
        >>> noisy.sum(1).tolist(), int(wrong.sum())
        ([1.0, 1.0], 1)
    """
    chosen, generator = _chosen(len(labels), fraction, seed)
    at = torch.from_numpy(chosen)
    before = labels[at]
    keys = torch.from_numpy(generator.random((len(chosen), labels.shape[1])))
    after, rows = before.clone(), torch.arange(len(chosen))
    for present in (True, False):  # drop among the labels that are there, add among the others
        candidates = (before > 0.5) == present
        place = torch.where(candidates, keys, -1.0).argmax(1)
        some = candidates.any(1)
        after[rows[some], place[some]] = 0.0 if present else 1.0
    noisy = labels.clone()
    noisy[at] = after
    return noisy, (noisy != labels).any(1)


def long_tail(labels: np.ndarray, *, imbalance: float, seed: int) -> np.ndarray:
    """Choose samples so that class sizes fall geometrically from the first class to the last.

    n_c = n_max * imbalance ** (-c / (C - 1)) for classes c = 0 ... C - 1, with the largest n_max
    that the classes' sizes allow, rounded, and at least 1 (Cui et al., CVPR 2019, section 5.1,
    whose n_max is the common size of the classes).

    Args:
        labels: int64 (N,), in [0, C).
        imbalance: largest over smallest class, at least 1.
        seed: at least 0.

    Returns:
        int64 positions in ascending order.

    Raises:
        ValueError: the smallest class would be empty.

    Example:
        >>> labels = np.repeat([0, 1, 2], 100)
        >>> np.bincount(labels[long_tail(labels, imbalance=100, seed=0)])
        array([100,  10,   1])
    """
    check_number("imbalance", imbalance, at_least=1)
    sizes = np.bincount(labels)
    shares = imbalance ** (-np.arange(len(sizes)) / max(len(sizes) - 1, 1))
    largest = (sizes / shares).min()
    counts = np.rint(largest * shares).astype(np.int64)
    if counts.min() < 1:
        most = int(largest)
        raise refusal("imbalance", f"at most {most} for classes of this size", imbalance)
    generator = np.random.default_rng([check_count("seed", seed), 3])
    return draw_stratified(labels, counts, generator=generator)
