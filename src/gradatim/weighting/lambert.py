"""The Lambert W function on any device, without leaving it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from gradatim.weighting.inputs import precise_dtype

__all__ = ["lambert_w"]

_ITERATIONS = 3
_INVERSE_E = math.exp(-1)
_INVERSE_E_REST = -1.2428753672788363e-17  # 1/e minus its float64
_NEAR = 0.001
# W = -1 + p - p^2/3 + 11 p^3/72 - ..., p = sqrt(2 (1 + e x)) at the branch point.
_SERIES = (-1.0, 1.0, -1 / 3, 11 / 72, -43 / 540)
# p / (1 + p/3 + c p^2) - 1 has the series' first terms, and is exact at x = 0, p = sqrt(2).
_START = (2 * math.sqrt(2) / 3 - 1) / 2


def lambert_w(values: torch.Tensor) -> torch.Tensor:
    """Solve ``w exp(w) = x`` for w, on the principal branch.

    SuperLoss needs it on every step. SciPy has it too, but on the CPU, so each step would wait
    for the device. Halley's iteration in float64 triples the digits each time; from starts that
    are right to a hundredth, two rounds are enough and three are done. They are
    ``u (1 - log(1 + u) / (2 + u))``, ``u = log(1 + x)``, for x >= 0, and a fraction in
    ``p = sqrt(2 (1 + e x))`` below. The residual is divided by ``exp(w)``, so nothing overflows
    for any finite x. Where p < .001, close to the branch point x = -1/e, the residual has lost
    its digits, and the series in p stands in.

    Args:
        values: x, any shape, real. Below -1/e (by more than the rounding of its dtype) there is
            no real solution.

    Returns:
        w >= -1, new, detached, of the same shape, device and floating dtype (whole numbers give
        float64); NaN below -1/e; inf at inf. The relative error in float64 is below 1e-12.

    Raises:
        TypeError: not a tensor of real numbers.

    Example:
        >>> lambert_w(torch.tensor([0.0, 1.0, math.e], dtype=torch.float64))
        tensor([0.0000, 0.5671, 1.0000], dtype=torch.float64)

    Differences from the paper:
        None known.

    References:
        Corless, Gonnet, Hare, Jeffrey, Knuth, "On the Lambert W Function", Advances in
        Computational Mathematics 1996.
    """
    if not isinstance(values, torch.Tensor) or values.is_complex():
        kind = type(values).__name__
        raise TypeError(f"values must be a tensor of real numbers. Got {kind}.")
    x = values.detach().to(precise_dtype(values.device))
    dtype = values.dtype if values.is_floating_point() else x.dtype
    # -1/e itself, rounded to the caller's dtype, may lie just below the branch point.
    slip = torch.finfo(dtype).eps
    if x.is_cpu:
        # On a batch NumPy's operations take a fraction of the time of torch's.
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.asarray(_solved(x.numpy(), slip, np))).to(dtype)
    return _solved(x, slip, torch).to(dtype)


def _solved(x: Any, slip: float, lib: Any) -> Any:
    """The iteration, in ``lib``: torch or NumPy, which spell these operations alike."""
    # 1 + e x would cancel near -1/e; the distance to -1/e in two parts keeps its digits.
    above_branch = math.e * ((x + _INVERSE_E) + _INVERSE_E_REST)
    p = lib.sqrt(lib.clip(2 * above_branch, 0, None))
    u = lib.log1p(lib.clip(x, 0, None))
    start = p / (1 + p / 3 + _START * p * p) - 1
    w = lib.where(x < 0, start, u - u * lib.log1p(u) / (2 + u))
    for _ in range(_ITERATIONS):
        residual = w - x * lib.exp(-w)
        slope = w + 1
        w = w - residual / (slope - (w + 2) * residual / (2 * slope))
    near = lib.zeros_like(p)
    for coefficient in reversed(_SERIES):
        near = near * p + coefficient
    w = lib.where(p < _NEAR, near, w)
    w = lib.where(lib.isposinf(x), x, w)
    return lib.where(above_branch < -slip, math.nan, w)
