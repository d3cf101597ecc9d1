"""A task: one data set, split for one seed, put under one stress, ready to train on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gradatim.compare.data.loading import Loaded
from gradatim.compare.data.parts import fold_facts, parts_of
from gradatim.compare.data.stress import Stress
from gradatim.compare.data.tables import Table
from gradatim.compare.data.texts import Texts
from gradatim.validation import check_count, refusal

__all__ = ["Samples", "Task", "make_task"]

EncodeTexts = Callable[[list[str], list[str] | None], torch.Tensor]


class Samples(Dataset):
    """Features and labels in memory, as any user's data set: item i is one pair.

    Args:
        features: (N, ...), of any dtype.
        labels: (N,) or (N, L).

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


@dataclass(frozen=True, eq=False)
class Task:
    """One data set, split for one seed, in one setting.

    Attributes:
        training: what a curriculum sees, as the stress left it.
        validation: chooses the checkpoint; labels untouched.
        test: opened once per run; labels untouched.
        outputs: number of classes, labels or targets.
        corrupted: bool (training size,), which training labels are wrong. Recorded, never shown
            to a method.
        kind: classification (labels int64 (N,)), multilabel (float32 (N, L)) or regression
            (float32 (N,) or (N, T), in the data's own units).
        modality: table (features float32 (N, F)), image (uint8 (N, C, H, W)), spectrogram
            (float32 (N, 1, M, T)) or text (int64 (N, L), 0 padding, 1 unknown).
        label_names: of the classes, labels or targets.
        tokens: number of token ids, or None where there are no texts of our own encoding.
        texts: training texts, or None.
        facts: sizes, class counts, guesses and the stress, of plain values.
        positions: of each part's samples in the data set as it was read, int64, by part.

    Example:
        >>> from gradatim.compare.data import digits
        >>> task = digits("noisy", seed=0)
        >>> len(task.training), len(task.validation), len(task.test), int(task.corrupted.sum())
        (1078, 359, 360, 323)
    """

    training: Samples
    validation: Samples
    test: Samples
    outputs: int
    corrupted: torch.Tensor
    kind: str = "classification"
    modality: str = "table"
    label_names: tuple[str, ...] = ()
    tokens: int | None = None
    texts: tuple[str, ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """The number of outputs, by the name it has for classification."""
        return self.outputs

    @property
    def flipped(self) -> torch.Tensor:
        """Which training labels are wrong, by the name it has for classification."""
        return self.corrupted


def make_task(
    loaded: Loaded,
    stress: Stress,
    *,
    seed: int,
    fold: int | None = None,
    encode_texts: EncodeTexts | None = None,
) -> Task:
    """Split a data set for a seed and put its training part under a stress.

    Classes keep their shares in all parts drawn; a single regression target is drawn from ten
    equally full bins. Whatever is fitted (means, medians, categories, word frequencies) is fitted
    on the training samples that the stress leaves, for this seed alone.

    Args:
        loaded: from `load`.
        stress: what is done to the training part.
        seed: at least 0; of the split and of the stress. The same seed gives the same task.
        fold: which one tests, from 1, where the source has folds.
        encode_texts: turns texts and second texts (or None) into int64 (N, L), in place of words
            by frequency; as a pretrained model's tokenizer does. It must be hashable.

    Returns:
        The task.

    Raises:
        ValueError: the stress does not fit the kind of task, or too few samples are left.

    Example:
        >>> from gradatim.compare.data import Source, Stress, load, make_task
        >>> task = make_task(load(Source("wine")), Stress(train_fraction=0.5), seed=0)
        >>> task.facts["sizes"], task.facts["training_counts"]
        ({'training': 53, 'validation': 36, 'test': 36}, {'class_0': 18, 'class_1': 21, ...})
    """
    check_count("seed", seed)
    stress.check(loaded.kind)
    parts = parts_of(loaded, seed=seed, fold=fold)
    known = parts["training"]
    kept = known[stress.keep(loaded.kind, loaded.targets[known], seed=seed)]
    parts["training"] = kept
    features, tokens = _features(loaded, parts, encode_texts)
    labels = {part: torch.from_numpy(loaded.targets[at]) for part, at in parts.items()}
    outputs = len(loaded.label_names)
    before = labels["training"]
    labels["training"], corrupted = stress.corrupt(loaded.kind, before, classes=outputs, seed=seed)
    samples = {part: Samples(features[part], labels[part]) for part in parts}
    facts = dict(loaded.facts)
    facts["sizes"] = {part: len(at) for part, at in parts.items()}
    facts["drawn_parts"] = [part for part in parts if part not in loaded.parts]
    if fold is not None:
        facts["drawn_parts"].remove("test")  # all folds together are the same for every seed
        facts |= {"folds": fold_facts(loaded), "fold": fold}
    if loaded.kind != "regression":
        given = labels["training"]
        counts = given.sum(0) if given.ndim == 2 else torch.bincount(given, minlength=outputs)
        counted = counts.long().tolist()
        facts["training_counts"] = dict(zip(loaded.label_names, counted, strict=True))
    facts["stress"] = {**stress.record(), "corrupted": int(corrupted.sum())}
    texts = None
    if isinstance(loaded.inputs, Texts):
        texts = tuple(loaded.inputs.joined(int(i)) for i in kept)
    return Task(
        **samples,
        outputs=outputs,
        corrupted=corrupted,
        kind=loaded.kind,
        modality=loaded.modality,
        label_names=loaded.label_names,
        tokens=tokens,
        texts=texts,
        facts=facts,
        positions=parts,
    )


def _features(
    loaded: Loaded, parts: dict[str, np.ndarray], encode_texts: EncodeTexts | None
) -> tuple[dict[str, torch.Tensor], int | None]:
    inputs, tokens = loaded.inputs, None
    if isinstance(inputs, Texts) and encode_texts is not None:
        return _encoded(inputs, parts, encode_texts), None
    if isinstance(inputs, Table):
        values = inputs.features(parts["training"])
    elif isinstance(inputs, Texts):
        values, tokens = inputs.features(parts["training"])
    else:
        values = inputs
    return {part: torch.from_numpy(values[at]) for part, at in parts.items()}, tokens


def _encoded(
    texts: Texts, parts: dict[str, np.ndarray], encode_texts: EncodeTexts
) -> dict[str, torch.Tensor]:
    """Encode all parts at once, so that they are padded alike."""
    order = np.concatenate(list(parts.values()))
    if 2 * len(order) > len(texts):  # once for all seeds, settings and curricula
        encoded = _whole(texts, encode_texts)[torch.from_numpy(order)]
    else:
        encoded = _rows_encoded(texts, order.tolist(), encode_texts)
    cuts = encoded.split([len(at) for at in parts.values()])
    return dict(zip(parts, cuts, strict=True))


@functools.lru_cache(maxsize=2)
def _whole(texts: Texts, encode_texts: EncodeTexts) -> torch.Tensor:
    return _rows_encoded(texts, list(range(len(texts))), encode_texts)


def _rows_encoded(texts: Texts, rows: list[int], encode_texts: EncodeTexts) -> torch.Tensor:
    second = None if texts.second is None else [texts.second[i] for i in rows]
    encoded = encode_texts([texts.first[i] for i in rows], second)
    rule = f"a function that returns an int64 tensor of shape ({len(rows)}, L)"
    if not isinstance(encoded, torch.Tensor):
        raise TypeError(str(refusal("encode_texts", rule, type(encoded).__name__)))
    if encoded.ndim != 2 or len(encoded) != len(rows) or encoded.dtype != torch.int64:
        raise refusal("encode_texts", rule, encoded)
    return encoded
