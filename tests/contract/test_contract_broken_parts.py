"""Each check of a part has been seen to fail, and sound parts pass them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from contract.broken_parts import (
    BROKEN_DRAWS,
    BROKEN_FUNCTIONS,
    BROKEN_PACES,
    BROKEN_SCORES,
    BROKEN_WEIGHTINGS,
    Rising,
    draw,
    first_by_weight,
    halved,
    inverse,
    jittered,
    pace,
    score,
    weighting,
)
from gradatim.testing import (
    DRAW_CHECKS,
    FUNCTION_CHECKS,
    PACE_CHECKS,
    SCORE_CHECKS,
    WEIGHTING_CHECKS,
    check_draw,
    check_function,
    check_pace,
    check_score,
    check_weighting,
)

Broken = Mapping[str, list[Any]]
Checks = Mapping[str, Callable[[Any], None]]

KINDS: dict[str, tuple[Broken, Checks]] = {
    "function": (BROKEN_FUNCTIONS, FUNCTION_CHECKS),
    "score": (BROKEN_SCORES, SCORE_CHECKS),
    "weighting": (BROKEN_WEIGHTINGS, WEIGHTING_CHECKS),
    "draw": (BROKEN_DRAWS, DRAW_CHECKS),
    "pace": (BROKEN_PACES, PACE_CHECKS),
}

FAULTS = [
    pytest.param(checks[name], example, id=f"{kind}-{name}-{place}")
    for kind, (broken, checks) in KINDS.items()
    for name, examples in broken.items()
    for place, example in enumerate(examples)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_has_a_part_that_breaks_it(kind: str) -> None:
    broken, checks = KINDS[kind]
    assert set(broken) == set(checks)
    assert all(broken.values())


@pytest.mark.parametrize(("check", "broken"), FAULTS)
def test_the_check_catches_it(check: Callable[[Any], None], broken: Any) -> None:
    with pytest.raises(AssertionError):
        check(broken)


FUNCTION = {"inputs", "random_state", "bad_values", "seeds"}
ROWS = {"rows", "relabelling", "single_sample"}
PACE = {"start", "rises", "end", "window", "repr", "copies", "bad_values"}


def test_sound_parts_pass() -> None:
    random = {"relabelling": "it draws at random over positions"}
    drawn = score(jittered, seeded=True, exceptions=random)
    assert set(check_function(score(halved))) == FUNCTION
    assert set(check_score(score(halved, low=-3.0, high=3.0))) == FUNCTION | ROWS
    assert set(check_score(drawn)) == FUNCTION | ROWS - {"relabelling"}
    assert set(check_weighting(weighting(inverse))) == FUNCTION | ROWS | {"empty", "dtypes", "fall"}
    picked = {"positions", "relabelling", "single_sample"}
    assert set(check_draw(draw(first_by_weight))) == FUNCTION | picked
    assert set(check_pace(pace(Rising))) == PACE


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        (check_function, BROKEN_FUNCTIONS["seeds"][0]),
        (check_score, BROKEN_SCORES["single_sample"][0]),
        (check_weighting, BROKEN_WEIGHTINGS["fall"][0]),
        (check_draw, BROKEN_DRAWS["relabelling"][0]),
        (check_pace, BROKEN_PACES["bad_values"][0]),
    ],
)
def test_the_whole_contract_of_a_kind_names_the_check_that_failed(check: Any, broken: Any) -> None:
    with pytest.raises(
        AssertionError, match=r"^(seeds|single_sample|fall|relabelling|bad_values): "
    ):
        check(broken)
