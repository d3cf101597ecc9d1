"""The contract of a method: every check, and the few that need no training."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import torch

from gradatim.citations import cite
from gradatim.curriculum import Curriculum
from gradatim.method import Method, fingerprint
from gradatim.testing.bad_values import check_refusals
from gradatim.testing.differences import difference, failing
from gradatim.testing.examples import Example
from gradatim.testing.hook_checks import (
    check_copies,
    check_decisions,
    check_distinct,
    check_empty_batch,
    check_inputs,
    check_planned_size,
    check_relabelling,
    check_scores_stand,
)
from gradatim.testing.problems import Problem
from gradatim.testing.running import run_checks
from gradatim.testing.training_checks import (
    check_global_random_state,
    check_half_precision,
    check_neutral,
    check_resume,
    check_return,
    check_saved_state,
    check_seeds,
    check_single_sample,
    check_zero_weight,
)

__all__ = [
    "METHOD_CHECKS",
    "check_bad_values",
    "check_method",
    "check_references",
    "check_repr",
    "rebuilt",
]

TENSOR = re.compile(r"<\([\d, ]*\) tensor ([0-9a-f]+)>")


def rebuilt(method: Method) -> Method:
    """Evaluate the repr of a method, with the tensors that it shows by fingerprint put back.

    Args:
        method: any; its class, the classes of its arguments and the modules of functions among
            them are known to the expression.

    Returns:
        Another method, built by what the repr says.

    Example:
        >>> import gradatim as gr
        >>> method = gr.SPLD([0, 0, 1])
        >>> rebuilt(method) is method, rebuilt(method).groups.equal(method.groups)
        (False, True)
    """
    tensors: dict[str, torch.Tensor] = {}
    names: dict[str, Any] = {type(method).__name__: type(method), "tensors": tensors}
    names |= {"inf": float("inf"), "nan": float("nan")}
    for value in method.settings().values():
        if isinstance(value, torch.Tensor):
            tensors[fingerprint(value)] = value
        elif hasattr(value, "__qualname__"):
            package = value.__module__.partition(".")[0]
            names[package] = sys.modules[package]
        else:
            names.setdefault(type(value).__name__, type(value))
    return eval(TENSOR.sub(r"tensors['\1']", repr(method)), names)


def check_repr(example: Example) -> None:
    """``eval(repr(method))`` builds an equal method, and no argument is missing from the repr.

    Tensors are shown by shape and fingerprint; see `rebuilt`.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SPLD(problem.targets), neutral="...", bad={})
        >>> check_repr(example)
    """
    problem = Problem.make()
    builds = [example.build]
    if not isinstance(example.neutral, str):
        builds.append(example.neutral)
    for build in builds:
        method = build(problem)
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = inspect.signature(type(method)).parameters.values()
        hidden = {found.name for found in parameters if found.kind not in kinds}
        hidden -= set(method.settings())
        assert not hidden, f"repr lacks {sorted(hidden)}: keep them in attributes of these names"
        with failing(f"eval({method!r})"):
            other = rebuilt(method)
        found = difference(other, method, where="method")
        assert not found, f"eval(repr(method)) builds another method: {found}"


def check_bad_values(example: Example) -> None:
    """Every constructor parameter refuses its bad values by name, at the latest by the loader.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> check_bad_values(example)
        Traceback (most recent call last):
        AssertionError: bad must say what Focal refuses for 'gamma': values or a reason
    """
    problem = Problem.make()
    kind = type(example.build(problem))

    def attempt(**changed: Any) -> None:
        method = kind(**{**example.build(problem).settings(), **changed})
        Curriculum(method).loader(problem.dataset, batch_size=8)

    check_refusals(kind, example.bad, attempt)


def check_references(example: Example) -> None:
    """`gradatim.cite` knows every paper that the method names.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> check_references(example)
    """
    method = example.build(Problem.make())
    assert isinstance(method.references, tuple), (
        f"references must be a tuple. Got {method.references!r}"
    )
    with failing(f"cite({method!r})"):
        cite(method)


METHOD_CHECKS: dict[str, Callable[[Example], None]] = {
    "neutral": check_neutral,
    "resume": check_resume,
    "saved_state": check_saved_state,
    "scores_stand": check_scores_stand,
    "return": check_return,
    "repr": check_repr,
    "relabelling": check_relabelling,
    "inputs": check_inputs,
    "global_random_state": check_global_random_state,
    "seeds": check_seeds,
    "bad_values": check_bad_values,
    "copies": check_copies,
    "half_precision": check_half_precision,
    "empty_batch": check_empty_batch,
    "single_sample": check_single_sample,
    "zero_weight": check_zero_weight,
    "decisions": check_decisions,
    "distinct": check_distinct,
    "planned_size": check_planned_size,
    "references": check_references,
}
"""Every check of a method by name, as `Example.exceptions` names them."""


def check_method(example: Example) -> list[str]:
    """A method keeps the whole contract: all of `METHOD_CHECKS`, in a second or two.

    Under pytest, one test per check says more::

        @pytest.mark.parametrize("name", METHOD_CHECKS)
        def test_contract(name):
            held = run_checks({name: METHOD_CHECKS[name]}, example)
            assert held == [name]

    Args:
        example: how to build the method, and what is special about it.

    Returns:
        The names of the checks that held: all but the excepted ones.

    Raises:
        AssertionError: a check fails, or an exception is not needed; the message names the check.

    Example:
        >>> import gradatim as gr
        >>> from gradatim.testing import METHOD_CHECKS, Example, bad_numbers, check_method
        >>> from gradatim.validation import check_number
        >>> class Powered(gr.Method):
        ...     def __init__(self, power=0.5):
        ...         self.power = check_number("power", power, at_least=0)
        ...     def weigh(self, batch, run):
        ...         return None if self.power == 0 else batch.losses**self.power
        >>> held = check_method(Example(
        ...     build=lambda problem: Powered(power=0.5),
        ...     neutral=lambda problem: Powered(power=0),
        ...     bad={"power": bad_numbers(at_least=0)},
        ...     exceptions={"copies": "defined in a docstring, so pickle cannot find the class"},
        ... ))
        >>> set(METHOD_CHECKS) - set(held)
        {'copies'}
    """
    return run_checks(METHOD_CHECKS, example)
