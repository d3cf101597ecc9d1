"""Every public part keeps the contract, with several settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from contract.draw_examples import DRAWS, FUNCTIONS
from contract.dynamics_examples import PER_SAMPLE
from contract.pace_examples import PACES
from contract.score_examples import SCORES
from contract.selecting_part_examples import SELECTING_FUNCTIONS, SELECTING_SCORES
from contract.weighting_examples import WEIGHTINGS
from gradatim.testing import (
    DRAW_CHECKS,
    FUNCTION_CHECKS,
    PACE_CHECKS,
    SCORE_CHECKS,
    WEIGHTING_CHECKS,
    Problem,
    run_checks,
)

KINDS: list[tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Callable[[Any], None]]]] = [
    (PACES, PACE_CHECKS),
    (WEIGHTINGS, WEIGHTING_CHECKS),
    (SCORES, SCORE_CHECKS),
    (PER_SAMPLE, SCORE_CHECKS),
    (SELECTING_SCORES, SCORE_CHECKS),
    (DRAWS, DRAW_CHECKS),
    (FUNCTIONS, FUNCTION_CHECKS),
    (SELECTING_FUNCTIONS, FUNCTION_CHECKS),
]

CASES = [
    pytest.param(example, {check: checks[check]}, id=f"{name}-{mode}-{check}")
    for examples, checks in KINDS
    for name, modes in examples.items()
    for mode, example in modes.items()
    for check in checks
]


@pytest.mark.parametrize(("example", "check"), CASES)
def test_part_keeps_the_contract(example: Any, check: dict[str, Any]) -> None:
    held = run_checks(check, example)
    assert held == [name for name in check if name not in example.exceptions]


@pytest.mark.parametrize(("examples", "checks"), KINDS)
def test_examples_build_what_they_are_filed_under(
    examples: Mapping[str, Mapping[str, Any]], checks: Mapping[str, Any]
) -> None:
    for name, modes in examples.items():
        for example in modes.values():
            part = getattr(example, "part", None) or example.pace
            assert part.__name__ == name
            assert set(example.exceptions) <= set(checks)


@pytest.mark.parametrize("name", ["threshold_for", "loss_scale"])
def test_a_number_for_all_samples_does_not_depend_on_their_labels(name: str) -> None:
    problem = Problem.make()
    order = torch.randperm(problem.size, generator=torch.Generator().manual_seed(1))
    example = FUNCTIONS[name]["part"]
    assert torch.equal(example.call(problem), example.call(problem.relabelled(order)))
    assert not torch.equal(example.call(problem), example.call(problem.first(30)))
