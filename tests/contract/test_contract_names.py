"""Nothing public is left out of the contract suite: every name has an example or a reason."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType

import pytest

import gradatim as gr
from contract.draw_examples import DRAWS, FUNCTIONS
from contract.dynamics_examples import PER_SAMPLE
from contract.method_examples import METHODS
from contract.pace_examples import PACES
from contract.score_examples import SCORES
from contract.selecting_part_examples import SELECTING_FUNCTIONS, SELECTING_SCORES
from contract.weighting_examples import WEIGHTINGS

PARTS = {**WEIGHTINGS, **SCORES, **DRAWS, **FUNCTIONS, **PER_SAMPLE}
PARTS |= {**SELECTING_SCORES, **SELECTING_FUNCTIONS}

ENGINE = "of the engine; tests/engine is about it"
ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "gradatim": {
        "Method": "the protocol itself: without an answer to any hook it is Uniform",
        **dict.fromkeys(
            ("Batch", "Curriculum", "CurriculumLoader", "Pool", "Run", "Scalar", "Table"), ENGINE
        ),
        "cite": "tests/engine/test_citations.py is about it",
        "CyclicCosine": "a scheduler; tests/engine/test_schedules.py is about it",
        "ema_model": "tests/engine/test_averaging.py is about it",
        "analysis": "a module of arrays; tests/equations are about it",
        "layers": "a module about models; tests/equations and tests/engine are about it",
        "valuation": "functions of utilities; tests/equations/test_shapley.py is about it",
        "streams": "data sets made from streams; tests/streams are about them",
        "mixing": "policies over data sets; tests/equations are about each",
        **dict.fromkeys(
            ("DoReMi", "Exp3S", "OnlineDataMixing", "StagedMix"),
            "a policy over data sets, no method; tests/equations are about each",
        ),
        **dict.fromkeys(
            ("contrastive", "dynamics", "pacing", "scores", "selection", "weighting"),
            "a module, walked below",
        ),
    },
    "gradatim.pacing": {"Pace": "a protocol: there is nothing to build"},
}

MODULES: list[tuple[ModuleType, Collection[str]]] = [
    (gr, METHODS),
    (gr.pacing, PACES),
    (gr.weighting, PARTS),
    (gr.selection, PARTS),
    (gr.scores, PARTS),
    (gr.dynamics, PARTS),
    (gr.contrastive, PARTS),
]

INTERNAL = {
    "SelfPaced": "what SPL, SPLD and SPCL share; abstract, tested through them",
    "WithFeatures": "what methods with features share; tested through them",
    "Selecting": "what methods that choose within batches share; tested through them",
    "Pruned": "what DIHCL and DoCL share; tested through them",
}


def without_example(module: ModuleType, examples: Collection[str]) -> list[str]:
    """Public names of a module that have neither an example nor a reason."""
    reasons = ELSEWHERE.get(module.__name__, {})
    return [name for name in module.__all__ if name not in examples and name not in reasons]


def subclasses(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


@pytest.mark.parametrize(("module", "examples"), MODULES)
def test_every_public_name_has_an_example(module: ModuleType, examples: Collection[str]) -> None:
    assert without_example(module, examples) == []


@pytest.mark.parametrize(("module", "examples"), MODULES)
def test_no_reason_and_no_example_is_about_nothing(
    module: ModuleType, examples: Collection[str]
) -> None:
    reasons = ELSEWHERE.get(module.__name__, {})
    assert set(reasons) <= set(module.__all__)
    assert not set(reasons) & set(examples)
    everything = {name for public, _ in MODULES for name in public.__all__}
    assert set(examples) <= everything


def test_every_method_of_the_library_is_public_or_internal_for_a_reason() -> None:
    ours = [
        kind for kind in subclasses(gr.Method) if kind.__module__.startswith("gradatim.methods")
    ]
    assert {kind.__name__ for kind in ours} == set(METHODS) | set(INTERNAL)
    public = [getattr(gr, name) for name in gr.__all__]
    classes = {kind for kind in public if inspect.isclass(kind) and issubclass(kind, gr.Method)}
    assert {kind.__name__ for kind in classes} - {"Method"} == set(METHODS)


def test_a_public_name_without_an_example_is_noticed() -> None:
    module = ModuleType("gradatim.pacing")
    module.__all__ = [*gr.pacing.__all__, "Dummy"]
    assert without_example(module, PACES) == ["Dummy"]
    assert without_example(gr.pacing, set(PACES) - {"Linear"}) == ["Linear"]
    assert without_example(gr, set(METHODS) - {"SPL"}) == ["SPL"]


def test_a_method_class_without_an_example_is_noticed() -> None:
    dummy = type("Dummy", (gr.Method,), {"__module__": "gradatim.methods.dummy"})
    ours = [
        kind for kind in subclasses(gr.Method) if kind.__module__.startswith("gradatim.methods")
    ]
    assert dummy in ours
    assert {kind.__name__ for kind in ours} - set(METHODS) - set(INTERNAL) == {"Dummy"}
    del dummy, ours
    gc.collect()  # or the class would still be there for another test


def test_the_suite_needs_no_test_framework_and_the_library_does_not_load_it() -> None:
    code = (
        "import sys, gradatim\n"
        "assert 'gradatim.testing' not in sys.modules\n"
        "import gradatim.testing\n"
        "assert not {'pytest', 'hypothesis', 'scipy', 'sklearn'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
