"""The data of a comparison: what is trained on, what chooses the checkpoint, what judges.

A setting is a way to make one data set harder (flipped labels here). It changes training data only:
validation and test parts stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from gradatim.compare.extras import needs_extra
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["SETTINGS", "Samples", "Setting", "Task", "digits", "flip_labels", "stratified_split"]


class Samples(Dataset):
    """Features and labels in memory, as any user's data set: item i is one pair.

    Args:
        features: (N, ...), float32.
        labels: int64 (N,).

    Example:
        >>> samples = Samples(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
        >>> len(samples), int(samples[1][1])
        (3, 1)
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        if len(features) != len(labels):
            raise refusal("labels", f"one per sample: {len(features)} of them", len(labels))
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one sample's features and label."""
        return self.features[position], self.labels[position]

    def __getitems__(self, positions: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return several samples: two look-ups instead of two per sample."""
        index = torch.tensor(positions)
        return list(zip(self.features[index], self.labels[index], strict=True))


@dataclass(frozen=True)
class Setting:
    """A stress put on the training part.

    Attributes:
        title: how tables and plots call it.
        label_noise: fraction of training labels flipped to another class, in [0, 1).

    Example:
        >>> SETTINGS["noisy"].label_noise
        0.3
    """

    title: str
    label_noise: float = 0.0


SETTINGS = {
    "clean": Setting("clean"),
    "noisy": Setting("30 % of the training labels flipped", label_noise=0.3),
}


@dataclass(frozen=True)
class Task:
    """One data set, split for one seed, in one setting.

    Attributes:
        training: what a curriculum sees, labels as the setting left them.
        validation: chooses the checkpoint; labels untouched.
        test: opened once per run; labels untouched.
        classes: number of classes.
        flipped: bool (training size,), which training labels are wrong. Recorded, never shown to a
            method.

    Example:
        >>> task = digits("noisy", seed=0)
        >>> len(task.training), len(task.validation), len(task.test), int(task.flipped.sum())
        (1078, 359, 360, 323)
    """

    training: Samples
    validation: Samples
    test: Samples
    classes: int
    flipped: torch.Tensor


def stratified_split(labels: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Split 60/20/20 into training, validation and test, each with the classes' shares.

    The split belongs to the seed: all curricula of one seed share it, and another seed draws
    another test set, so that the spread over seeds holds the test set's chance as well.

    Args:
        labels: int (N,).
        seed: at least 0.

    Returns:
        Disjoint positions that together cover the data set, int64, by name of the part.

    Raises:
        ValueError: a class has too few members for three parts.

    Example:
        >>> parts = stratified_split(np.repeat([0, 1], 10), seed=0)
        >>> {name: len(positions) for name, positions in parts.items()}
        {'training': 12, 'validation': 4, 'test': 4}
    """
    check_count("seed", seed)
    with needs_extra("gradatim compare"):
        from sklearn.model_selection import train_test_split
    everything = np.arange(len(labels))
    training, rest = map(
        np.asarray, train_test_split(everything, train_size=0.6, stratify=labels, random_state=seed)
    )
    validation, test = map(
        np.asarray, train_test_split(rest, train_size=0.5, stratify=labels[rest], random_state=seed)
    )
    return {"training": training, "validation": validation, "test": test}


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
    check_number("fraction", fraction, at_least=0, below=1)
    check_count("classes", classes, at_least=2)
    count = round(fraction * len(labels))
    generator = np.random.default_rng([check_count("seed", seed), 1])
    chosen = torch.from_numpy(generator.permutation(len(labels))[:count])
    steps = torch.from_numpy(generator.integers(1, classes, count))  # 1 ... classes - 1: never 0
    noisy = labels.clone()
    noisy[chosen] = (noisy[chosen] + steps) % classes
    return noisy, noisy != labels


def digits(setting: str, *, seed: int) -> Task:
    """Load scikit-learn's 1,797 handwritten digits, split and put under a setting.

    Args:
        setting: a name in `SETTINGS`.
        seed: of the split and of the label noise.

    Returns:
        8 x 8 grey values in [0, 1] as (N, 64) float32, ten classes.

    Raises:
        ValueError: an unknown setting.

    Example:
        >>> digits("clean", seed=0).training.features.shape
        torch.Size([1078, 64])

    References:
        Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """
    stress = SETTINGS[check_choice("setting", setting, SETTINGS)]
    with needs_extra("gradatim compare"):
        from sklearn.datasets import load_digits
    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    features = torch.from_numpy((pixels / 16).astype(np.float32))
    labels = torch.from_numpy(classes.astype(np.int64))
    parts = {
        name: Samples(features[positions], labels[positions])
        for name, positions in stratified_split(classes, seed=seed).items()
    }
    training = parts.pop("training")
    noisy, flipped = flip_labels(
        training.labels, fraction=stress.label_noise, classes=10, seed=seed
    )
    return Task(Samples(training.features, noisy), **parts, classes=10, flipped=flipped)
