"""Difficulty as a small model sees it that was trained on the other samples."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

import gradatim as gr
from gradatim.compare.data.texts import SEGMENT
from gradatim.compare.extras import needs_extra
from gradatim.validation import check_choice, check_count

if TYPE_CHECKING:
    from gradatim.compare.data import Samples

__all__ = ["teacher_scores"]

# A teacher is a linear model: more samples, pixels or rounds cost time and hardly change its view.
MOST_SAMPLES = 10_000
SIDE = 12
KINDS = ("classification", "multilabel", "regression")
MODALITIES = ("table", "image", "spectrogram", "text")


def teacher_scores(
    training: Samples,
    *,
    seed: int,
    folds: int = 5,
    kind: str = "classification",
    modality: str = "table",
) -> torch.Tensor:
    """Score each sample by a small model that was trained without it.

    A teacher that had seen the sample would have learnt its label by heart, right or wrong; one
    trained on clean labels would know what no user knows. Classes are judged by logistic
    regression, 1 - p(y); several labels by ridge regression and their mean absolute error; targets
    of a regression likewise, by the mean squared error in units of their variance. It looks at a
    table as it is, at images and spectrograms shrunk to 12 x 12, at texts as bags of words.

    Args:
        training: features (N, ...) and the labels that a user would have.
        seed: of the folds.
        folds: number of parts, each scored by a model of the others, at least 2.
        kind: classification, multilabel or regression.
        modality: table, image, spectrogram or text.

    Returns:
        Difficulty, higher is harder, (N,); in [0, 1] but for regression.

    Raises:
        ValueError: a parameter outside its range, or fewer samples than folds.

    Example:
        The last sample lies among the zeros and is called a one.

        >>> from gradatim.compare.data import Samples
        >>> features = torch.tensor([0.0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2, 5.3, 0.15])[:, None]
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
        >>> int(teacher_scores(Samples(features, labels), seed=0, folds=4).argmax())
        8

    Caveats:
        A class of fewer members than folds is missing from a teacher now and then; its members
        count as hardest there. Teachers learn from 10,000 samples at most, drawn by the seed.
    """
    check_choice("kind", kind, KINDS)
    check_choice("modality", modality, MODALITIES)
    check_count("folds", folds, at_least=2)
    with needs_extra("gradatim compare"):
        import sklearn.exceptions
        from threadpoolctl import threadpool_limits
    generator = torch.Generator().manual_seed(seed)
    labels = training.labels
    features = _features(training.features, modality)
    fit_predict = _classifier if kind == "classification" else _regressor
    strata = _strata(labels, folds) if kind == "classification" else torch.zeros(len(labels))
    fold = gr.scores.stratified_folds(strata.long(), folds, generator=generator)
    if kind == "classification":
        truth = F.one_hot(labels).double()
    else:
        truth = labels.reshape(len(labels), -1).double()
        if kind == "regression":
            truth = (truth - truth.mean(0)) / truth.std(0).clamp(min=1e-12)
    places, parts = [], []
    # Sums in another order would change the last digits: the same with any number of jobs.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        for number in range(folds):
            train = (fold != number).nonzero().squeeze(1)
            if len(train) > MOST_SAMPLES:
                order = torch.randperm(len(train), generator=generator)[:MOST_SAMPLES]
                train = train[order].sort().values
            held_out = (fold == number).nonzero().squeeze(1)
            places.append(held_out)
            parts.append(
                fit_predict(
                    features[train.numpy()], truth[train], features[held_out.numpy()], modality
                )
            )
    expected = torch.cat(parts)[torch.argsort(torch.cat(places))]
    if kind == "regression":
        return (expected - truth).square().mean(1)
    if kind == "multilabel":
        return (expected.clamp(0, 1) - truth).abs().mean(1)
    return 1 - expected.gather(1, labels.unsqueeze(1)).squeeze(1)


def _strata(labels: torch.Tensor, folds: int) -> torch.Tensor:
    """Classes for dealing folds; those with fewer members than folds join the largest one."""
    counts = torch.bincount(labels)
    return torch.where(counts[labels] < folds, counts.argmax(), labels)


def _features(features: torch.Tensor, modality: str) -> Any:
    """What a linear model can look at: an array (N, F), or a sparse matrix for texts."""
    if modality == "text":
        with needs_extra("gradatim compare"):
            import numpy as np
            import scipy.sparse
            from sklearn.preprocessing import normalize
        ids = features.numpy() % SEGMENT  # a word is the same in both texts of a pair
        rows, columns = np.nonzero(ids)
        words = ids[rows, columns]
        ones = np.ones(len(words))
        shape = (len(ids), int(ids.max(initial=0)) + 1)
        counts = scipy.sparse.csr_matrix((ones, (rows, words)), shape=shape)
        counts.data = np.sqrt(counts.data)
        return normalize(counts)
    if modality in ("image", "spectrogram") and features.ndim == 4:
        scale = 255.0 if features.dtype == torch.uint8 else 1.0
        height, width = (min(side, SIDE) for side in features.shape[2:])
        # In parts: floats are four times as large as the pixels they come from.
        parts = [
            F.adaptive_avg_pool2d(part.float() / scale, (height, width))
            for part in features.split(1024)
        ]
        features = torch.cat(parts)
    return features.flatten(1).numpy()


def _classifier(features: Any, truth: torch.Tensor, held_out: Any, modality: str) -> torch.Tensor:
    from sklearn.linear_model import LogisticRegression

    labels = truth.argmax(1).numpy()
    if len(set(labels.tolist())) == 1:  # what scikit-learn refuses to learn
        return truth[:1].expand(held_out.shape[0], -1)
    rounds = 1000 if modality == "table" else 100
    model = LogisticRegression(max_iter=rounds).fit(features, labels)
    found = torch.from_numpy(model.predict_proba(held_out))
    probabilities = found.new_zeros(len(found), truth.shape[1])
    probabilities[:, torch.from_numpy(model.classes_).long()] = found
    return probabilities


def _regressor(features: Any, truth: torch.Tensor, held_out: Any, modality: str) -> torch.Tensor:
    from sklearn.linear_model import Ridge

    solver = "sparse_cg" if modality == "text" else "cholesky"
    model = Ridge(alpha=1.0, solver=solver).fit(features, truth.numpy())
    return torch.from_numpy(model.predict(held_out).reshape(held_out.shape[0], -1))
