"""Values from random orders against exact ones, and wrong labels found by nearest neighbours."""

from __future__ import annotations

import numpy as np
import torch

from gradatim.valuation import exact_shapley, knn_shapley, tmc_shapley


def test_four_thousand_permutations_of_six_players_within_four_standard_errors() -> None:
    """Six two-sided normal tails beyond 4: fails by chance once in 2 600; the seed is fixed."""
    worth = np.random.default_rng(0).normal(size=64).tolist()

    def utility(subset: frozenset[int]) -> float:
        return worth[sum(1 << i for i in subset)]

    found = tmc_shapley(utility, 6, permutations=4000, tolerance=0, change=0)
    off = (found.values - exact_shapley(utility, 6)).abs()
    assert found.permutations == 4000
    assert bool((off <= 4 * found.standard_errors).all())
    assert float(found.standard_errors.max()) < 0.03


def test_knn_values_find_flipped_labels() -> None:
    """200 points of two overlapping classes, 20 % flipped, K = 5, 200 test points, 10 seeds.

    methods.md 13 observed means of -.006 and +.006 and a precision of .82 to .93; the bounds 0
    and .75 are far below: no failure in 1000 other seeds.
    """
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(400) % 2
        features = torch.randn(400, 2, generator=generator, dtype=torch.float64)
        features[:, 0] += 4.0 * labels
        flipped = torch.zeros(200, dtype=torch.bool)
        flipped[torch.randperm(200, generator=generator)[:40]] = True
        given = torch.where(flipped, 1 - labels[:200], labels[:200])
        values = knn_shapley(features[:200], given, features[200:], labels[200:], k=5)
        assert float(values[flipped].mean()) < 0 < float(values[~flipped].mean())
        assert float(flipped[values < 0].double().mean()) >= 0.75
