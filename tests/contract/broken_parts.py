"""A sound part of each kind, and for every check some that break just what it watches."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import torch

from gradatim.testing import (
    PaceExample,
    PartExample,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
)
from gradatim.validation import as_vector, check_count, check_number

# ------------------------------------------------------------------------------------ functions


def halved(values):
    return as_vector("values", values) / 2


def jittered(values, *, generator):
    vector = as_vector("values", values)
    if not isinstance(generator, torch.Generator):
        raise TypeError("generator must be a torch.Generator.")
    return vector + torch.rand(vector.numel(), generator=generator)


def halved_in_place(values):
    return as_vector("values", values).div_(2)


def halved_with_global_noise(values):
    return as_vector("values", values) / 2 + torch.rand(1) * 1e-3


def halved_unchecked(values):
    return values / 2


def halved_of_anything(values):
    return torch.zeros(60) if isinstance(values, (str, object)) else values


def halved_with_system_noise(values):
    return as_vector("values", values) / 2 + int.from_bytes(os.urandom(2), "little")


def jittered_always_alike(values, *, generator):
    return jittered(values, generator=torch.Generator().manual_seed(0))


def score(part: Any, *, seeded: bool = False, **facts: Any) -> PartExample:
    bad = {"values": bad_vectors(None)}
    if seeded:
        bad["generator"] = bad_generators()
    arguments = facts.pop("arguments", lambda problem: {"values": problem.scores})
    return PartExample(part=part, arguments=arguments, bad=bad, **facts)


# --------------------------------------------------------------------------------------- scores


def one_too_few(values):
    return as_vector("values", values)[1:]


def as_list(values):
    return as_vector("values", values).tolist()


def logarithms(values):
    return as_vector("values", values).log()


def attached(values):
    as_vector("values", values)
    return values / 2


def rooted(values):
    """Finite, but the slope at the lowest value is not."""
    as_vector("values", values)
    return (values - values.detach().min()).sqrt()


def ranks_by_position(values):
    return as_vector("values", values) + torch.arange(len(values))


def standardised(values):
    vector = as_vector("values", values)
    return (vector - vector.mean()) / (
        (vector - vector.mean()).square().sum() / (vector.numel() - 1 or math.nan)
    )


# ----------------------------------------------------------------------------------- weightings


def inverse(losses):
    vector = as_vector("losses", losses, at_least=0)
    wide = vector.to(torch.promote_types(vector.dtype, torch.float32))
    return (1 / (1 + wide)).to(vector.dtype)


def inverse_of_the_largest(losses):
    weights = inverse(losses)
    return weights / weights.max()


def inverse_in_float32(losses):
    return 1 / (1 + as_vector("losses", losses, at_least=0).float())


def the_losses_themselves(losses):
    return as_vector("losses", losses, at_least=0)


def inverse_lost_in_half(losses):
    vector = as_vector("losses", losses, at_least=0)
    return 1 / (1 + (vector * 1e-8) * 1e8)


def inverse_above_one(losses):
    return inverse(losses) + 1


def rising(losses):
    return 1 - inverse(losses)


def rising_at_the_far_end(losses):
    """Falls everywhere but beyond a loss of 5."""
    return torch.where(as_vector("losses", losses) > 5, 1, inverse(losses))


def weighting(part: Any, **facts: Any) -> PartExample:
    return PartExample(
        part=part,
        arguments=lambda problem: {"losses": problem.losses(0)},
        bad={"losses": bad_vectors(None, at_least=0)},
        **{"low": 0.0, "high": 1.0, **facts},
    )


# ---------------------------------------------------------------------------------------- draws


def first_by_weight(weights, k):
    vector = as_vector("weights", weights)
    return vector.argsort(descending=True)[: check_count("k", k, at_most=vector.numel())]


def first_twice(weights, k):
    return first_by_weight(weights, k) // 2 * 2


def first_in_int32(weights, k):
    return first_by_weight(weights, k).int()


def first_as_list(weights, k):
    return first_by_weight(weights, k).tolist()


def first_beyond(weights, k):
    return first_by_weight(weights, k) + 1


def first_in_columns(weights, k):
    return first_by_weight(weights, k).unsqueeze(1)


def first_but_one(weights, k):
    return first_by_weight(weights, max(0, k - 1))


def first_by_position(weights, k):
    return torch.arange(first_by_weight(weights, k).numel())


def first_of_several(weights, k):
    return first_by_weight(weights, k)[: 1 + torch.tensor([1.0, 2.0])[len(weights) - 1 :].argmax()]


def draw(part: Any, **facts: Any) -> PartExample:
    return PartExample(
        part=part,
        arguments=lambda problem: {"weights": problem.scores, "k": max(1, problem.size // 3)},
        bad={"weights": bad_vectors(None), "k": bad_counts(at_most=60)},
        **facts,
    )


BROKEN_FUNCTIONS: Mapping[str, list[PartExample]] = {
    "inputs": [score(halved_in_place)],
    "random_state": [score(halved_with_global_noise)],
    "bad_values": [
        score(halved_unchecked),
        score(halved_of_anything),
        PartExample(part=halved, arguments=lambda problem: {"values": problem.scores}, bad={}),
    ],
    "seeds": [
        score(halved_with_system_noise),
        score(jittered_always_alike, seeded=True),
        score(halved_with_global_noise),
    ],
}

BROKEN_SCORES: Mapping[str, list[PartExample]] = {
    **BROKEN_FUNCTIONS,
    "rows": [
        score(one_too_few),
        score(as_list),
        score(logarithms),
        score(attached),
        score(halved, differentiable=True),
        score(rooted, differentiable=True),
        score(halved, low=0.0),
        score(halved, high=0.0),
    ],
    "relabelling": [score(ranks_by_position), score(jittered, seeded=True)],
    "single_sample": [score(standardised)],
}

BROKEN_WEIGHTINGS: Mapping[str, list[PartExample]] = {
    **{
        name: examples
        for name, examples in BROKEN_SCORES.items()
        if name not in ("rows", "bad_values")
    },
    "bad_values": [weighting(lambda losses: 1 / (1 + losses))],
    "rows": [weighting(inverse_above_one), weighting(rising, high=0.1)],
    "empty": [weighting(inverse_of_the_largest)],
    "dtypes": [
        weighting(inverse_in_float32),
        weighting(the_losses_themselves, high=None),
        weighting(inverse_lost_in_half),
        weighting(inverse_above_one),
    ],
    "fall": [weighting(rising), weighting(rising_at_the_far_end)],
}

BROKEN_DRAWS: Mapping[str, list[PartExample]] = {
    **BROKEN_FUNCTIONS,
    "positions": [
        draw(first_twice),
        draw(first_in_int32),
        draw(first_as_list),
        draw(first_beyond),
        draw(first_in_columns),
        draw(first_but_one),
    ],
    "relabelling": [draw(first_by_position)],
    "single_sample": [draw(first_beyond)],
}

# ---------------------------------------------------------------------------------------- paces


class Rising:
    """A sound pace without a dataclass: from ``start`` to 1 at ``epochs``."""

    def __init__(self, start: float = 0.25, epochs: float = 4.0) -> None:
        self.start = check_number("start", start, above=0, at_most=1)
        self.epochs = check_number("epochs", epochs, above=0)

    def __call__(self, t: float) -> float:
        t = check_number("t", t, at_least=0)
        return 1.0 if t >= self.epochs else self.start + (1 - self.start) * t / self.epochs

    def __repr__(self) -> str:
        return f"{type(self).__name__}(start={self.start!r}, epochs={self.epochs!r})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.start, self.epochs))


class CountsFromOne(Rising):
    def __call__(self, t):
        return super().__call__(t + 1 if isinstance(t, float) else t)


class BeyondOne(Rising):
    def __call__(self, t):
        return super().__call__(t) if t < 4.5 else 1.5


class Whole(Rising):
    def __call__(self, t):
        fraction = super().__call__(t)
        return int(fraction) if fraction == 1 else fraction


class Dips(Rising):
    def __call__(self, t):
        return super().__call__(t) - (0.05 if 1.5 < t < 1.6 else 0)


class NearlyEnds(Rising):
    def __call__(self, t):
        return min(super().__call__(t), 0.9999999)


class EndsLate(Rising):
    def __call__(self, t):
        return super().__call__(t) if t != self.epochs else 0.99


class WideWindow(Rising):
    def window(self, t):
        return 0.0, min(1.0, self(t) + 0.1)


class EmptyWindow(Rising):
    def window(self, t):
        return self(t), self(t)


class ForgetsInRepr(Rising):
    def __repr__(self):
        return f"{type(self).__name__}(start={self.start!r})"


class EqualsAll(Rising):
    def __eq__(self, other):
        return isinstance(other, Rising)

    __hash__ = Rising.__hash__


class EqualsAnything(Rising):
    def __eq__(self, other):
        return True

    __hash__ = Rising.__hash__


class Unhashable(Rising):
    __hash__ = None  # type: ignore[assignment]


class HashesById(Rising):
    def __hash__(self):
        return id(self)


class HoldsAFunction(Rising):
    def __init__(self, start=0.25, epochs=4.0):
        super().__init__(start, epochs)
        self.curve = lambda x: x


class ForgetsInPickle(Rising):
    def __getstate__(self):
        return {"start": 0.5, "epochs": self.epochs}


class CopiesAnother(Rising):
    def __deepcopy__(self, memo):
        return type(self)(0.5, self.epochs)


class ClampsStart(Rising):
    def __init__(self, start=0.25, epochs=4.0):
        super().__init__(start if start == 0.1875 else 0.25, epochs)


class TakesAnyTime(Rising):
    def __call__(self, t):
        return super().__call__(
            abs(float(t or 0)) if t == t and t not in (math.inf, -math.inf) else 0
        )


def pace(kind: type[Rising], **facts: Any) -> PaceExample:
    usual: dict[str, Any] = {
        "pace": kind,
        "arguments": {"start": 0.25, "epochs": 4.0},
        "start": 0.25,
        "end": 4.0,
        "bad": {"start": bad_numbers(above=0, at_most=1), "epochs": bad_numbers(above=0)},
    }
    return PaceExample(**{**usual, **facts})


BROKEN_PACES: Mapping[str, list[PaceExample]] = {
    "start": [pace(CountsFromOne), pace(BeyondOne), pace(Whole), pace(Rising, start=0.2)],
    "rises": [pace(Dips)],
    "end": [pace(NearlyEnds), pace(EndsLate), pace(Rising, end=3.9), pace(Rising, end=None)],
    "window": [pace(WideWindow), pace(EmptyWindow)],
    "repr": [
        pace(ForgetsInRepr, arguments={"start": 0.25, "epochs": 5.0}),
        pace(EqualsAll),
        pace(EqualsAnything),
        pace(Unhashable),
        pace(HashesById),
    ],
    "copies": [pace(HoldsAFunction), pace(ForgetsInPickle), pace(CopiesAnother)],
    "bad_values": [pace(ClampsStart), pace(TakesAnyTime), pace(Rising, bad={})],
}
