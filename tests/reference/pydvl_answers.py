"""Values of small games by pyDVL, for `test_pydvl.py`, which starts this in pyDVL's own Python.

It reads one JSON object and prints one. ``games`` are tables of 2^n utilities, that of a subset at
the sum of 2^i over its members; ``neighbours`` are data of a classifier by K nearest neighbours.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def game(worth: list[float], sampler: str) -> list[float]:
    """Shapley values of one table, from all subsets or from all orders."""
    import numpy as np
    from pydvl.valuation import dataset, samplers, stopping
    from pydvl.valuation.methods.shapley import ShapleyValuation
    from pydvl.valuation.utility.base import UtilityBase

    class Told(UtilityBase):
        def __call__(self, sample: Any) -> float:
            members = [] if sample is None else [int(i) for i in sample.subset]
            return worth[sum(1 << i for i in members)]

    size = len(worth).bit_length() - 1
    data = dataset.Dataset(np.arange(size).reshape(-1, 1), np.zeros(size, dtype=int))
    valuation = ShapleyValuation(
        Told(),
        sampler=getattr(samplers, sampler)(),
        is_done=stopping.NoStopping(),
        show_warnings=False,
        progress=False,
    )
    return valuation.fit(data).result.values.tolist()


def shoes(left: int, right: int) -> list[float]:
    """The closed form that pyDVL tests itself by."""
    from pydvl.valuation.games import ShoesGame

    return ShoesGame(left, right).shapley_values().values.tolist()


def neighbours(given: dict[str, Any]) -> list[float]:
    """KNN-Shapley values."""
    import numpy as np
    from pydvl.valuation.dataset import Dataset
    from pydvl.valuation.methods.knn_shapley import KNNShapleyValuation
    from sklearn.neighbors import KNeighborsClassifier

    train, test = (
        Dataset(np.array(given[part]), np.array(given[f"{part}_labels"]))
        for part in ("train", "test")
    )
    # A tree's distances are exact sums of squares, as ours are.
    model = KNeighborsClassifier(n_neighbors=given["k"], algorithm="kd_tree")
    return KNNShapleyValuation(model, test, progress=False).fit(train).result.values.tolist()


def main() -> None:
    import pydvl

    asked = json.load(sys.stdin)
    answers = {
        "version": pydvl.__version__,
        "games": {
            name: {
                sampler: game(worth, sampler)
                for sampler in ("DeterministicUniformSampler", "DeterministicPermutationSampler")
                if sampler == "DeterministicUniformSampler" or len(worth) <= 2**5
            }
            for name, worth in asked["games"].items()
        },
        "shoes": {f"{left},{right}": shoes(left, right) for left, right in asked["shoes"]},
        "neighbours": {name: neighbours(given) for name, given in asked["neighbours"].items()},
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
