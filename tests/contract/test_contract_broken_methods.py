"""Each check of a method has been seen to fail, and a sound method passes them all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from contract.broken_draws import DrawsBySeed
from contract.broken_methods import BROKEN
from contract.broken_state import LiveState, TakesStateAlive
from contract.sound_method import Sound, example
from gradatim import checkpoint
from gradatim.testing import METHOD_CHECKS, Example, check_method, run_checks


def faults() -> list[object]:
    cases = []
    for check, examples in BROKEN.items():
        for place, broken in enumerate(examples):
            kind = broken.build.__closure__[0].cell_contents.__name__  # type: ignore[index]
            cases.append(pytest.param(check, broken, id=f"{check}-{place}-{kind}"))
    return cases


def test_every_check_has_a_method_that_breaks_it() -> None:
    assert set(BROKEN) == set(METHOD_CHECKS)
    assert all(BROKEN.values())


@pytest.mark.parametrize(("check", "broken"), faults())
def test_the_check_catches_it(check: str, broken: Example) -> None:
    with pytest.raises(AssertionError):
        METHOD_CHECKS[check](broken)


@pytest.mark.parametrize("check", METHOD_CHECKS)
def test_a_sound_method_passes(check: str) -> None:
    assert run_checks({check: METHOD_CHECKS[check]}, example()) == [check]


def test_a_sound_method_that_draws_passes_all_but_relabelling() -> None:
    reason = {"relabelling": "it draws over positions"}
    held = check_method(example(DrawsBySeed, draws=True, exceptions=reason))
    assert set(METHOD_CHECKS) - set(held) == {"relabelling"}


@pytest.mark.parametrize("kind", [LiveState, TakesStateAlive])
def test_the_engine_copies_the_state_that_a_method_saves_and_loads(kind: type[Sound]) -> None:
    checks = {name: METHOD_CHECKS[name] for name in ("saved_state", "resume")}
    assert run_checks(checks, example(kind)) == ["saved_state", "resume"]


@pytest.mark.parametrize("kind", [LiveState, TakesStateAlive])
def test_without_the_engines_copies_the_check_catches_it(
    kind: type[Sound], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "copy", SimpleNamespace(deepcopy=lambda state: state))
    with pytest.raises(AssertionError, match="checkpoint changed it by training on"):
        METHOD_CHECKS["saved_state"](example(kind))


@pytest.mark.parametrize("check", ["neutral", "repr", "references"])
def test_check_method_runs_every_check_and_names_the_one_that_failed(check: str) -> None:
    with pytest.raises(AssertionError, match=f"^{check}: "):
        check_method(BROKEN[check][0])


@pytest.mark.parametrize("check", METHOD_CHECKS)
def test_run_checks_names_the_check_that_failed(check: str) -> None:
    with pytest.raises(AssertionError, match=f"^{check}: "):
        run_checks({check: METHOD_CHECKS[check]}, BROKEN[check][0])


def test_run_checks_names_the_check_that_ran_into_an_error() -> None:
    def check_division(example: Example) -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(AssertionError, match=r"^division: ZeroDivisionError: by zero"):
        run_checks({"division": check_division}, example())


def test_run_checks_runs_all_and_names_those_that_held() -> None:
    ran: list[str] = []

    def fails(_: Example) -> None:
        ran.append("fails")
        raise AssertionError("as it must")

    checks = {"first": lambda _: ran.append("first"), "fails": fails, "last": lambda _: None}
    excepted = example(exceptions={"fails": "it is meant to"})
    assert run_checks(checks, excepted) == ["first", "last"]
    assert ran == ["first", "fails"]


def test_an_exception_that_is_not_needed_fails() -> None:
    with pytest.raises(AssertionError, match="drop its exception"):
        check_method(example(Sound, exceptions={"resume": "it once did not"}))


def test_an_exception_needs_a_reason() -> None:
    with pytest.raises(ValueError, match=r"exceptions\['resume'\] must be a reason"):
        check_method(example(Sound, exceptions={"resume": ""}))
