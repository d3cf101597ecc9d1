"""Gradient Shapley: values from one pass of training per order, instead of one per subset."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradatim.keyed import keyed_generator, keyed_seed
from gradatim.undisturbed import RandomStates, undisturbed
from gradatim.validation import check_count, check_number, refusal
from gradatim.valuation.result import Valuation
from gradatim.valuation.rounds import Marginals, average, check_rounds
from gradatim.valuation.utilities import as_utility, check_utility

__all__ = ["gradient_shapley", "single_epoch_rate"]

Build = Callable[[], torch.nn.Module]
Score = Callable[[torch.nn.Module], Any]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def gradient_shapley(
    build: Build | torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    utility: Score,
    *,
    learning_rate: float,
    loss: Loss = torch.nn.functional.cross_entropy,
    permutations: int = 1000,
    change: float = 0.05,
    window: int = 100,
    seed: int = 0,
    jobs: int = 1,
) -> Valuation:
    """Value samples by what one gradient step on each does to the performance (G-Shapley).

    Where training anew for every subset is out of reach. Each permutation trains a fresh model
    for one epoch, one sample at a time::

        theta_j = theta_(j-1) - learning_rate * grad loss(theta_(j-1); x_j, y_j)
        marginal of the j-th = v(theta_j) - v(theta_(j-1));   phi_i = mean over permutations

    Args:
        build: returns a fresh model, called once per permutation with torch seeded for it; or a
            model whose copies are the start of every permutation.
        inputs: (n, ...), one row per sample, on the model's device.
        targets: (n, ...), one row per sample.
        utility: v, given the model in evaluation mode and no gradient; returns its performance
            on held-out data, a finite number, higher is better.
        learning_rate: of the single steps, above 0; the one that trains best in one epoch, see
            `single_epoch_rate`.
        loss: of (outputs, targets) with a leading dimension of 1; its mean is taken.
        permutations: at most that many.
        change: as in `tmc_shapley`.
        window: as in `tmc_shapley`.
        seed: of orders and fresh models; permutation number j depends on (seed, j) alone.
        jobs: as in `tmc_shapley`.

    Returns:
        The values with their standard errors, and why it stopped. ``whole`` is NaN: every
        permutation ends in a model of its own.

    Raises:
        TypeError: an argument of another kind; ``utility`` returns no number.
        ValueError: no sample; ``inputs`` and ``targets`` of different lengths; a utility that is
            NaN or infinite; an argument outside its range.

    Example:
        >>> inputs = torch.tensor([[1.0], [1.0]])
        >>> targets = torch.tensor([[1.0], [-1.0]])
        >>> start = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(start.weight)
        >>> found = gradient_shapley(start, inputs, targets, lambda model: model.weight.item(),
        ...                          learning_rate=0.1, loss=torch.nn.functional.mse_loss,
        ...                          permutations=4)
        >>> [round(value, 1) for value in found.values.tolist()]
        [0.2, -0.2]

    Differences from the paper:
        The authors' code gives the first sample of each permutation no marginal; here it is
        v after its step minus v of the fresh model.

    Caveats:
        n utilities per permutation: a small held-out set is enough. Batch normalisation cannot
        train on single samples. Global generators are put back after each permutation; threads
        share them, so with joblib's threading backend the model must draw no random numbers.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019, Algorithm 2 [ghorbani2019].
    """
    size = _check(build, inputs, targets, utility, loss)
    size, permutations, change, window, seed, jobs = check_rounds(
        size, permutations, change, window, seed, jobs
    )
    rate = check_number("learning_rate", learning_rate, above=0)
    one = Pass(build, inputs, targets, utility, loss, seed, rate)
    return average(
        one,
        size=size,
        permutations=permutations,
        change=change,
        window=window,
        jobs=jobs,
        whole=float("nan"),
    )


def single_epoch_rate(
    build: Build | torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    utility: Score,
    *,
    rates: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
    loss: Loss = torch.nn.functional.cross_entropy,
    permutations: int = 5,
    seed: int = 0,
) -> float:
    """Find the learning rate for `gradient_shapley`: the best after one epoch of single steps.

    Args:
        build: as of `gradient_shapley`, as are ``inputs``, ``targets``, ``utility`` and ``loss``.
        inputs: (n, ...).
        targets: (n, ...).
        utility: v of a model.
        rates: to choose from, each above 0.
        loss: of (outputs, targets).
        permutations: epochs per rate, over which v is averaged.
        seed: of orders and fresh models, the same for every rate.

    Returns:
        The rate of the highest mean v; the first of several.

    Raises:
        TypeError: as `gradient_shapley`.
        ValueError: as `gradient_shapley`, or no rate. A rate at which v is not finite is left
            out; it is refused if that leaves none.

    Example:
        >>> inputs, targets = torch.ones(8, 1), torch.ones(8, 1)
        >>> start = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(start.weight)
        >>> single_epoch_rate(start, inputs, targets, lambda model: -abs(model.weight.item() - 1),
        ...                   rates=(1e-3, 1e-1, 10.0), loss=torch.nn.functional.mse_loss)
        0.1

    Differences from the paper:
        The paper says only that the rate was the best for one epoch.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019, section 3.2 [ghorbani2019].
    """
    _check(build, inputs, targets, utility, loss)
    permutations = check_count("permutations", permutations, at_least=1)
    seed = check_count("seed", seed)
    best, found = float("-inf"), None
    for given in rates:
        rate = check_number("rates", given, above=0)
        one = Pass(build, inputs, targets, utility, loss, seed, rate)
        mean = sum(one.final(number) for number in range(permutations)) / permutations
        if mean > best and math.isfinite(mean):
            best, found = mean, rate
    if found is None:
        raise refusal("rates", "such that one leaves v finite", list(rates))
    return found


class Pass:
    """One epoch of single steps, by its number; an object that other processes can be sent."""

    def __init__(
        self,
        build: Build | torch.nn.Module,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        utility: Score,
        loss: Loss,
        seed: int,
        rate: float,
    ) -> None:
        self.build = build
        self.inputs = inputs
        self.targets = targets
        self.utility = utility
        self.loss = loss
        self.seed = seed
        self.rate = rate

    def __call__(self, number: int) -> Marginals:
        """Marginals of permutation ``number``."""
        return self._run(number, every_step=True)

    def final(self, number: int) -> float:
        """Return v at the end of permutation ``number``; NaN or infinity where it diverged."""
        return self._run(number, every_step=False).empty

    def _run(self, number: int, *, every_step: bool) -> Marginals:
        size = len(self.inputs)
        order = torch.randperm(size, generator=keyed_generator(self.seed, "gradient", number))
        gains = torch.zeros(size, dtype=torch.float64)
        states = RandomStates()
        try:
            torch.manual_seed(keyed_seed(self.seed, "gradient model", number))
            if isinstance(self.build, torch.nn.Module):
                model = copy.deepcopy(self.build)
            else:
                model = self.build()
            model.train()
            parameters = [value for value in model.parameters() if value.requires_grad]
            before = first = self._worth(model, "of the fresh model") if every_step else 0.0
            for sample in order.tolist():
                row = slice(sample, sample + 1)
                value = self.loss(model(self.inputs[row]), self.targets[row]).mean()
                gradients = torch.autograd.grad(value, parameters, allow_unused=True)
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        if gradient is not None:
                            parameter.sub_(gradient, alpha=self.rate)
                if every_step:
                    now = self._worth(model, f"after a step on sample {sample}")
                    gains[sample], before = now - before, now
            if not every_step:
                with undisturbed(model):
                    first = float(self.utility(model))
        finally:
            states.restore()
        return Marginals(gains, first, size if every_step else 1)

    def _worth(self, model: torch.nn.Module, where: str) -> float:
        with undisturbed(model):
            return as_utility(self.utility(model), where)


def _check(build: Any, inputs: Any, targets: Any, utility: Any, loss: Any) -> int:
    for name, given in (("build", build), ("utility", utility), ("loss", loss)):
        check_utility(given, name)
    for name, rows in (("inputs", inputs), ("targets", targets)):
        if not isinstance(rows, torch.Tensor):
            raise TypeError(f"{name} must be a tensor. Got {type(rows).__name__}.")
        if rows.ndim == 0 or not len(rows):
            raise refusal(name, "one row per sample, at least one", rows)
    if len(targets) != len(inputs):
        raise refusal("targets", f"one per sample: {len(inputs)} of them", len(targets))
    return len(inputs)
