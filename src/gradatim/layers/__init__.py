"""Layers of a model: which move together, at what multiple of the rate, and what blurs them."""

from gradatim.layers.groups import LayerGroup, layer_groups
from gradatim.layers.rates import (
    decade_factor,
    decade_start,
    decades_below,
    exponential_factor,
    initial_factors,
    linear_factor,
)
from gradatim.layers.scaled_steps import ScaledSteps
from gradatim.layers.smoothing import gaussian_kernel, smooth, smooth_tokens

__all__ = [
    "LayerGroup",
    "ScaledSteps",
    "decade_factor",
    "decade_start",
    "decades_below",
    "exponential_factor",
    "gaussian_kernel",
    "initial_factors",
    "layer_groups",
    "linear_factor",
    "smooth",
    "smooth_tokens",
]
