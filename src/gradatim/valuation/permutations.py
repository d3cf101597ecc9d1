"""Truncated Monte Carlo: values from random orders, each cut where nothing more is to be gained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradatim.keyed import keyed_generator, keyed_seed
from gradatim.validation import check_count, check_flag, check_number, refusal
from gradatim.valuation.result import Valuation
from gradatim.valuation.rounds import Marginals, average, check_rounds
from gradatim.valuation.utilities import Utility, as_utility, check_utility, named
from gradatim.weighting.inputs import read_groups

__all__ = ["tmc_shapley"]


def tmc_shapley(
    utility: Utility,
    size: int,
    *,
    permutations: int = 1000,
    tolerance: float | None = None,
    patience: int = 0,
    change: float = 0.05,
    window: int = 100,
    labels: torch.Tensor | Sequence[int] | None = None,
    seeded: bool = False,
    seed: int = 0,
    jobs: int = 1,
) -> Valuation:
    """Value samples by what each adds when it joins those before it, over random orders.

    Each permutation grows a set by one sample at a time and asks for its utility v_j. Once
    |v(all) - v_j| < tolerance the rest of the permutation adds nothing and is not evaluated::

        marginal of the j-th = v_j - v_(j-1);   phi_i = mean of its marginals over permutations

    It stops when mean_i |phi_i^t - phi_i^(t-window)| / |phi_i^t| < change.

    Args:
        utility: v, given a frozenset of positions in [0, n); it trains a fresh model on them
            and returns its performance, a finite number, higher is better. v of the empty set is
            that of guessing: for accuracy, of the majority class.
        size: n, at least 1.
        permutations: at most that many.
        tolerance: below this distance to v(all) a permutation is cut; at least 0, 0 never cuts.
            Default: 0.01 |v(all)|.
        patience: small distances in a row that are let pass before it is cut; 5 is the authors'
            code.
        change: relative change of the values below which they have settled; 0 runs all
            ``permutations``.
        window: over how many permutations the change is measured.
        labels: int (n,): sets that lack one of the classes are not evaluated and count as no
            gain, as in the authors' code. Default: every set is evaluated.
        seeded: call ``utility(subset, seed)``, with a seed that is the same throughout one
            permutation: the noise of training then cancels in the differences.
        seed: of the orders; permutation number j depends on (seed, j) alone.
        jobs: permutations at once, over joblib; -1 is one per core. Any number gives the same
            result. `joblib.parallel_config` chooses the backend.

    Returns:
        The values with their standard errors, and why it stopped.

    Raises:
        TypeError: ``utility`` is not callable or returns no number; other kinds of arguments.
        ValueError: a utility is NaN or infinite; an argument is outside its range.

    Example:
        >>> gain = [0.5, 0.0, -0.25]
        >>> found = tmc_shapley(lambda subset: sum(gain[i] for i in subset), 3, tolerance=0,
        ...                     permutations=20)
        >>> found.values
        tensor([ 0.5000,  0.0000, -0.2500], dtype=torch.float64)

    Differences from the paper:
        Truncation looks at v_j from the first sample on, never at the empty set: where guessing
        is as good as the whole, every order would be cut before it began. Samples whose value is 0
        but for rounding count as settled.

    Caveats:
        Truncation biases late marginals to 0. Correlated copies of a sample share its value. The
        utility should sort the subset before it trains on it. Under several processes the number
        of BLAS threads may change the last bits of a utility, and with them the result.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019, Algorithm 1 [ghorbani2019].
    """
    check_utility(utility)
    size, permutations, change, window, seed, jobs = check_rounds(
        size, permutations, change, window, seed, jobs
    )
    patience = check_count("patience", patience)
    seeded = check_flag("seeded", seeded)
    if tolerance is not None:
        tolerance = check_number("tolerance", tolerance, at_least=0)
    groups = None
    if labels is not None:
        groups = read_groups(labels, name="labels").cpu().tolist()
        if len(groups) != size:
            raise refusal("labels", f"one per sample: {size} of them", len(groups))
    ask = Asked(utility, keyed_seed(seed, "tmc") if seeded else None)
    whole = ask(frozenset(range(size)))
    empty = ask(frozenset())
    order = Grown(
        utility=utility,
        size=size,
        whole=whole,
        empty=empty,
        tolerance=0.01 * abs(whole) if tolerance is None else tolerance,
        patience=patience,
        groups=groups,
        seeded=seeded,
        seed=seed,
    )
    return average(
        order,
        size=size,
        permutations=permutations,
        change=change,
        window=window,
        jobs=jobs,
        whole=whole,
    )


class Asked:
    """The utility of subsets, checked; with one seed for all where it takes one."""

    def __init__(self, utility: Utility, seed: int | None) -> None:
        self.utility = utility
        self.seed = seed

    def __call__(self, subset: frozenset[int]) -> float:
        """Return v of the subset."""
        given = (subset,) if self.seed is None else (subset, self.seed)
        return as_utility(self.utility(*given), named(subset))


class Grown:
    """One permutation, by its number; an object that other processes can be sent."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __call__(self, number: int) -> Marginals:
        """Marginals of permutation ``number``."""
        of = self.settings
        size, groups = of["size"], of["groups"] or []
        order = torch.randperm(size, generator=keyed_generator(of["seed"], "tmc", number)).tolist()
        seed = keyed_seed(of["seed"], "tmc seed", number) if of["seeded"] else None
        ask = Asked(of["utility"], seed)
        before = ask(frozenset()) if of["seeded"] else of["empty"]
        gains = torch.zeros(size, dtype=torch.float64)
        evaluations, small, first = 0, 0, before
        missing = set(groups or ())
        for position, sample in enumerate(order):
            if missing:
                missing.discard(groups[sample])
                if missing:
                    continue
            now = of["whole"] if position + 1 == size and not of["seeded"] else None
            if now is None:
                now = ask(frozenset(order[: position + 1]))
            evaluations += 1
            gains[sample] = now - before
            before = now
            small = small + 1 if abs(of["whole"] - now) < of["tolerance"] else 0
            if small > of["patience"]:
                break
        return Marginals(gains, first, evaluations)
