"""Shapley values against pyDVL's, where a Python with pyDVL is named.

pyDVL forces a NumPy below 2, so it lives in an environment of its own:

    python -m venv pydvl
    pydvl/bin/pip install pydvl==0.10.0 numpy==1.26.4 scikit-learn==1.9.1
    GRADATIM_PYDVL_PYTHON=pydvl/bin/python python -m pytest tests/reference/test_pydvl.py -s

The largest differences are printed.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression

from gradatim.valuation import exact_shapley, knn_shapley

PYTHON = "GRADATIM_PYDVL_PYTHON"
WITHIN = 1e-10
Game = Callable[[frozenset[int]], float]


# --- Games of up to eight players, as functions of the subset ---------------------------------


def airport(members: frozenset[int]) -> float:
    """Littlechild and Owen 1973: a runway as long as the largest plane needs."""
    return float(max((1, 1, 2, 2, 3, 5, 8, 13)[i] for i in members)) if members else 0.0


def gloves(members: frozenset[int]) -> float:
    """Three left and four right gloves; what counts are pairs."""
    return float(min(len(members & {0, 1, 2}), len(members & {3, 4, 5, 6})))


def council(members: frozenset[int]) -> float:
    """Weighted votes, of which more than half win."""
    return float(sum((9, 8, 4, 3, 2, 1)[i] for i in members) > 13.5)


def noise(size: int, seed: int) -> Game:
    """A random number per subset, the empty one included."""
    worth = np.random.default_rng(seed).normal(size=2**size).tolist()
    return lambda members: worth[sum(1 << i for i in members)]


@functools.cache
def wines() -> tuple[np.ndarray, ...]:
    """Seven wines to learn from and sixty to judge by."""
    features, labels = load_wine(return_X_y=True)
    features = (features - features.mean(0)) / features.std(0)
    order = np.random.default_rng(0).permutation(len(labels))
    return features[order[:7]], labels[order[:7]], features[order[100:160]], labels[order[100:160]]


def regression(members: frozenset[int]) -> float:
    """Accuracy of a logistic regression; where there is one class, its share; else a third."""
    features, labels, test, test_labels = wines()
    chosen = sorted(members)
    classes = set(labels[chosen].tolist())
    if len(classes) < 2:
        return float((test_labels == classes.pop()).mean()) if classes else 1 / 3
    model = LogisticRegression().fit(features[chosen], labels[chosen])
    return float(model.score(test, test_labels))


GAMES: dict[str, tuple[int, Game]] = {
    "airport": (8, airport),
    "gloves": (7, gloves),
    "council": (6, council),
    "noise": (5, noise(5, 1)),
    "large noise": (8, noise(8, 2)),
    "regression": (7, regression),
}
SHOES = [(3, 4), (2, 2), (1, 6)]


def table(size: int, utility: Game) -> list[float]:
    """The utility of every subset, that of a subset at the sum of 2^i over its members."""
    return [utility(frozenset(i for i in range(size) if mask >> i & 1)) for mask in range(2**size)]


# --- Data for nearest neighbours, without equal distances -------------------------------------


def neighbours() -> dict[str, dict[str, Any]]:
    found = {}
    for name, load, sizes in (
        ("wine", load_wine, (118, 60)),
        ("cancer", load_breast_cancer, (200, 40)),
    ):
        features, labels = load(return_X_y=True)
        features = (features - features.mean(0)) / features.std(0)
        order = np.random.default_rng(3).permutation(len(labels))
        train, test = order[: sizes[0]], order[sizes[0] : sum(sizes)]
        for k in (1, 3, 5, 10, len(train)):
            found[f"{name}, K = {k}"] = {
                "k": k,
                "train": features[train].tolist(),
                "train_labels": labels[train].tolist(),
                "test": features[test].tolist(),
                "test_labels": labels[test].tolist(),
            }
    return found


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What pyDVL says, and what it was asked."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"needs {PYTHON}, a Python with pyDVL: see the docstring of test_pydvl.py")
    asked = {
        "games": {name: table(*given) for name, given in GAMES.items()},
        "shoes": SHOES,
        "neighbours": neighbours(),
    }
    script = Path(__file__).with_name("pydvl_answers.py")
    done = subprocess.run(
        [python, str(script)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "asked": asked}


def largest(found: torch.Tensor, expected: list[float]) -> float:
    assert len(found) == len(expected)
    return float((found - torch.tensor(expected, dtype=torch.float64)).abs().max())


def test_exact_values_are_pydvls(answers: dict[str, Any]) -> None:
    """Ghorbani and Zou 2019, Eq. 1, over all subsets; up to five players over all orders too."""
    off = {}
    for name, (size, utility) in GAMES.items():
        values = exact_shapley(utility, size)
        for sampler, expected in answers["games"][name].items():
            off[f"{name}, {sampler}"] = largest(values, expected)
        assert float(values.abs().max()) > 0.01, "the game is not empty"
    print("\npyDVL", answers["version"], "largest differences", off)
    assert len(off) == len(GAMES) + 1
    assert max(off.values()) < WITHIN, off


def test_exact_values_are_pydvls_closed_form_of_gloves(answers: dict[str, Any]) -> None:
    off = {}
    for left, right in SHOES:

        def pairs(members: frozenset[int], left: int = left) -> float:
            return float(min(sum(i < left for i in members), sum(i >= left for i in members)))

        values = exact_shapley(pairs, left + right)
        off[left, right] = largest(values, answers["shoes"][f"{left},{right}"])
    print("\nlargest differences", off)
    assert max(off.values()) < WITHIN, off


def test_nearest_neighbour_values_are_pydvls(answers: dict[str, Any]) -> None:
    """Jia et al. 2019, Theorem 1, for K up to N."""
    off = {}
    for name, given in answers["asked"]["neighbours"].items():
        values = knn_shapley(
            given["train"], given["train_labels"], given["test"], given["test_labels"],
            k=given["k"], tie="index",
        )  # fmt: skip
        off[name] = largest(values, answers["neighbours"][name])
        assert float(values.abs().max()) > 1e-4
    print("\nlargest differences", off)
    assert len(off) == 10
    assert max(off.values()) < WITHIN, off
