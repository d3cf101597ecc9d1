"""Every public method keeps the contract, in each of its modes."""

from __future__ import annotations

import pytest

from contract.method_examples import METHODS
from gradatim.testing import METHOD_CHECKS, Example, Problem, run_checks

EXAMPLES = [
    pytest.param(example, id=f"{name}-{mode}")
    for name, modes in METHODS.items()
    for mode, example in modes.items()
]


@pytest.mark.parametrize("check", METHOD_CHECKS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_method_keeps_the_contract(example: Example, check: str) -> None:
    held = run_checks({check: METHOD_CHECKS[check]}, example)
    assert held == ([] if check in example.exceptions else [check])


@pytest.mark.parametrize("name", METHODS)
def test_examples_build_what_they_are_filed_under(name: str) -> None:
    for example in METHODS[name].values():
        assert type(example.build(Problem.make())).__name__ == name
        assert set(example.exceptions) <= set(METHOD_CHECKS)
