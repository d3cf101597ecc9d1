"""The contract of a part: functions of tensors, by what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradatim.testing.bad_values import check_refusals
from gradatim.testing.differences import (
    difference,
    failing,
    global_random_state_untouched,
    unchanged,
)
from gradatim.testing.examples import PartExample
from gradatim.testing.problems import Problem
from gradatim.testing.running import run_checks

__all__ = [
    "DRAW_CHECKS",
    "FUNCTION_CHECKS",
    "SCORE_CHECKS",
    "WEIGHTING_CHECKS",
    "check_draw",
    "check_function",
    "check_score",
    "check_weighting",
]

HALF = {torch.float16: 0.02, torch.bfloat16: 0.05}


def check_part_inputs(example: PartExample) -> None:
    """The part changes nothing that it is given."""
    problem = Problem.make()
    arguments = example.arguments(problem)
    drawn_from = [name for name in arguments if isinstance(arguments[name], torch.Generator)]
    watched = {name: value for name, value in arguments.items() if name not in drawn_from}
    with unchanged((problem, watched), "the part"):
        example.call(problem, **arguments)


def check_part_random_state(example: PartExample) -> None:
    """The global generators of Python, NumPy and torch stay as they are."""
    with global_random_state_untouched("the part"):
        example.call(Problem.make())


def check_part_bad_values(example: PartExample) -> None:
    """Every parameter refuses its bad values by name."""
    problem = Problem.make()
    check_refusals(example.part, example.bad, lambda **changed: example.call(problem, **changed))


def check_part_seeds(example: PartExample) -> None:
    """Asked again it answers the same; where it takes a generator, another seed answers otherwise.

    And it takes a generator if it draws: two calls around a reseeding of the global generator are
    equal.
    """
    problem = Problem.make()
    first = example.call(problem)
    found = difference(example.call(problem), first, where="result")
    assert not found, f"the same call gives two results: {found}"
    if example.seeded(problem):
        others = [example.call(problem, seed=seed) for seed in (1, 2, 3)]
        assert any(difference(other, first) for other in others), "other seeds give the same result"


def _rows(example: PartExample, problem: Problem, **changed: Any) -> torch.Tensor:
    rows = example.call(problem, **changed)
    assert isinstance(rows, torch.Tensor), f"the result must be a tensor. Got {rows!r}"
    shape = tuple(rows.shape)
    assert shape == (problem.size,), f"the result must be one row per sample. Got {shape}"
    return rows


def _check_bounds(example: PartExample, rows: torch.Tensor) -> None:
    assert torch.isfinite(rows).all(), f"the result must be finite. Got {rows}"
    if rows.numel() and example.low is not None:
        assert float(rows.min()) >= example.low, f"below {example.low}: {float(rows.min())}"
    if rows.numel() and example.high is not None:
        assert float(rows.max()) <= example.high, f"above {example.high}: {float(rows.max())}"


def check_part_rows(example: PartExample) -> None:
    """One finite value per sample, within bounds, without gradient unless it is meant to have."""
    problem = Problem.make()
    arguments = {
        name: value.clone().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in example.arguments(problem).items()
    }
    rows = _rows(example, problem, **arguments)
    _check_bounds(example, rows.detach())
    if not example.differentiable:
        assert not rows.requires_grad, "the result carries gradient: detach, or say so"
        return
    assert rows.requires_grad, "the result carries no gradient, although it is said to"
    rows.sum().backward()
    for name, value in arguments.items():
        gradient = value.grad if isinstance(value, torch.Tensor) else None
        finite = gradient is None or bool(torch.isfinite(gradient).all())
        assert finite, f"the gradient for {name} is not finite: {gradient}"


def check_part_relabelling(example: PartExample) -> None:
    """Relabelling the samples relabels the result."""
    problem, order = _relabelled()
    rows = _rows(example, problem)
    again = _rows(example, problem.relabelled(order))
    found = difference(again, rows[order], tolerance=1e-5, where="result")
    assert not found, f"relabelling the samples changes more than their labels: {found}"


def _relabelled() -> tuple[Problem, torch.Tensor]:
    problem = Problem.make()
    return problem, torch.randperm(problem.size, generator=torch.Generator().manual_seed(1))


def check_part_single_sample(example: PartExample) -> None:
    """A data set of one sample gives one finite value."""
    with failing("one sample"):
        _check_bounds(example, _rows(example, Problem.make().first(1)))


def check_part_empty(example: PartExample) -> None:
    """No samples give no values."""
    with failing("no samples"):
        _rows(example, Problem.make().first(0))


def check_weights_dtypes(example: PartExample) -> None:
    """Weights have the dtype of the losses and are new; half precision means what float32 means."""
    problem = Problem.make()
    losses = example.arguments(problem)["losses"]
    for dtype in (torch.float64, torch.float32, *HALF):
        given = losses.to(dtype, copy=True)
        with failing(f"losses in {dtype}"):
            weights = _rows(example, problem, losses=given)
        assert weights.dtype == dtype, f"losses in {dtype} give weights in {weights.dtype}"
        shared = weights.untyped_storage().data_ptr() == given.untyped_storage().data_ptr()
        assert not shared, "weights share the losses' memory"
        _check_bounds(example, weights)
        if dtype in HALF:
            expected = _rows(example, problem, losses=given.float())
            found = difference(weights.float(), expected, tolerance=HALF[dtype])
            assert not found, f"losses in {dtype} and float32 weigh differently: weights{found}"


def check_weights_fall(example: PartExample) -> None:
    """A sample whose own loss is higher, all else equal, never weighs more."""
    problem = Problem.make()
    losses = example.arguments(problem)["losses"]
    before = _rows(example, problem, losses=losses)
    for place in range(0, problem.size, 5):
        for rise in (1e-3, 0.1, 10.0):
            higher = losses.clone()
            higher[place] += rise
            after = _rows(example, problem, losses=higher)
            assert float(after[place]) <= float(before[place]) + 1e-6, (
                f"a loss of {float(losses[place])} weighs {float(before[place])}, but one of "
                f"{float(higher[place])} weighs {float(after[place])}"
            )


def _positions(example: PartExample, problem: Problem, **changed: Any) -> torch.Tensor:
    positions = example.call(problem, **changed)
    assert isinstance(positions, torch.Tensor), f"positions must be a tensor. Got {positions!r}"
    assert positions.dtype == torch.int64, f"positions must be int64. Got {positions.dtype}"
    assert positions.ndim == 1, f"positions must be one-dimensional. Got {tuple(positions.shape)}"
    distinct = positions.unique().numel() == positions.numel()
    assert distinct, f"positions must be distinct. Got {positions}"
    inside = not positions.numel() or (positions.min() >= 0 and positions.max() < problem.size)
    assert inside, f"positions must lie in [0, {problem.size}). Got {positions}"
    return positions


def check_draw_positions(example: PartExample) -> None:
    """Distinct int64 positions of samples: k of them where a k is given, from none to all."""
    problem = Problem.make()
    arguments = example.arguments(problem)
    _positions(example, problem)
    for k in (0, 1, problem.size - 1, problem.size) if "k" in arguments else ():
        count = _positions(example, problem, k=k).numel()
        assert count == k, f"{count} positions are drawn where k is {k}"


def check_draw_relabelling(example: PartExample) -> None:
    """Relabelled samples are drawn alike: the same ones, in the same order where it has one."""
    problem, order = _relabelled()
    usual = _positions(example, problem)
    again = order[_positions(example, problem.relabelled(order))]
    if usual.numel() > 1 and bool((usual[1:] > usual[:-1]).all()):  # a set, in ascending order
        again = again.sort().values
    found = difference(again, usual, where="positions")
    assert not found, f"relabelling the samples changes more than their labels: {found}"


def check_draw_single_sample(example: PartExample) -> None:
    """A data set of one sample can be drawn from."""
    with failing("one sample"):
        _positions(example, Problem.make().first(1))


Check = Callable[[PartExample], None]

FUNCTION_CHECKS: dict[str, Check] = {
    "inputs": check_part_inputs,
    "random_state": check_part_random_state,
    "bad_values": check_part_bad_values,
    "seeds": check_part_seeds,
}
"""Of any function."""

SCORE_CHECKS: dict[str, Check] = {
    **FUNCTION_CHECKS,
    "rows": check_part_rows,
    "relabelling": check_part_relabelling,
    "single_sample": check_part_single_sample,
}
"""Of functions that return one value per sample."""

WEIGHTING_CHECKS: dict[str, Check] = {
    **SCORE_CHECKS,
    "empty": check_part_empty,
    "dtypes": check_weights_dtypes,
    "fall": check_weights_fall,
}
"""Of functions that return one weight per loss; their argument is called ``losses``."""

DRAW_CHECKS: dict[str, Check] = {
    **FUNCTION_CHECKS,
    "positions": check_draw_positions,
    "relabelling": check_draw_relabelling,
    "single_sample": check_draw_single_sample,
}
"""Of functions that return positions of samples."""


def check_function(example: PartExample) -> list[str]:
    """Any function keeps `FUNCTION_CHECKS`: pure, repeatable, and kind to bad input.

    Returns:
        The names of the checks that held: all but the excepted ones.

    Example:
        >>> from gradatim.selection import prefix_size
        >>> from gradatim.testing import PartExample, bad_counts, bad_numbers, check_function
        >>> check_function(PartExample(
        ...     part=prefix_size,
        ...     arguments=lambda problem: {"fraction": 0.5, "size": problem.size},
        ...     bad={
        ...         "fraction": bad_numbers(at_least=0, at_most=1),
        ...         "size": bad_counts(at_least=1),
        ...     },
        ... ))
        ['inputs', 'random_state', 'bad_values', 'seeds']
    """
    return run_checks(FUNCTION_CHECKS, example)


def check_score(example: PartExample) -> list[str]:
    """A score keeps `SCORE_CHECKS`: one finite value per sample, whatever the samples' order.

    Returns:
        The names of the checks that held: all but the excepted ones.

    Example:
        >>> import torch
        >>> from gradatim.testing import PartExample, bad_vectors, check_score
        >>> from gradatim.validation import as_vector
        >>> def distance(values):
        ...     values = as_vector("values", values)
        ...     return (values - values.mean()).abs()
        >>> check_score(PartExample(
        ...     part=distance,
        ...     arguments=lambda problem: {"values": problem.scores},
        ...     bad={"values": bad_vectors(None)},
        ...     low=0.0,
        ... ))
        ['inputs', 'random_state', 'bad_values', 'seeds', 'rows', 'relabelling', 'single_sample']
    """
    return run_checks(SCORE_CHECKS, example)


def check_weighting(example: PartExample) -> list[str]:
    """A weighting keeps `WEIGHTING_CHECKS`: a weight per loss, falling, in the losses' dtype.

    Returns:
        The names of the checks that held: all but the excepted ones.

    Example:
        >>> from gradatim.testing import PartExample, bad_vectors, check_weighting
        >>> from gradatim.validation import as_vector
        >>> def inverse(losses):
        ...     return 1 / (1 + as_vector("losses", losses, at_least=0))
        >>> check_weighting(PartExample(
        ...     part=inverse,
        ...     arguments=lambda problem: {"losses": problem.losses(0)},
        ...     bad={"losses": bad_vectors(None, at_least=0)},
        ...     low=0.0,
        ...     high=1.0,
        ... ))
        ['inputs', 'random_state', 'bad_values', 'seeds', 'rows', 'relabelling', 'single_sample',
         'empty', 'dtypes', 'fall']
    """
    return run_checks(WEIGHTING_CHECKS, example)


def check_draw(example: PartExample) -> list[str]:
    """A draw keeps `DRAW_CHECKS`: distinct positions, repeatable by seed, other by another seed.

    Returns:
        The names of the checks that held: all but the excepted ones.

    Example:
        >>> import torch
        >>> from gradatim.testing import (
        ...     PartExample, bad_counts, bad_generators, bad_vectors, check_draw)
        >>> from gradatim.selection import weighted_draw
        >>> check_draw(PartExample(
        ...     part=weighted_draw,
        ...     arguments=lambda problem: {
        ...         "weights": problem.losses(0), "k": (problem.size + 1) // 2},
        ...     bad={
        ...         "weights": bad_vectors(None, at_least=0),
        ...         "k": bad_counts(at_most=60),
        ...         "generator": bad_generators(),
        ...         "log": "any truth value",
        ...         "ordered": "any truth value",
        ...     },
        ...     exceptions={"relabelling": "it draws at random"},
        ... ))
        ['inputs', 'random_state', 'bad_values', 'seeds', 'positions', 'single_sample']
    """
    return run_checks(DRAW_CHECKS, example)
