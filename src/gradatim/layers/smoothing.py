"""Gaussian smoothing of feature maps and of token sequences.

With zero padding the blur is linear and equal to its own adjoint, so its backward pass is the same
blur of the gradient, and nothing but the kernel is kept for it.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F

from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = [
    "Padding",
    "blurred_maps",
    "blurred_tokens",
    "check_size",
    "check_tokens",
    "gaussian_kernel",
    "is_identity",
    "smooth",
    "smooth_tokens",
]

Padding = Literal["zero", "reflect"]

# A kernel whose centre weighs more than this changes nothing that matters: it is not applied.
IDENTITY = 1 - 1e-3

_HALF = (torch.float16, torch.bfloat16)


def check_size(size: Any) -> int:
    """Return an odd kernel size, or refuse it.

    Raises:
        TypeError: not a whole number.
        ValueError: even, or below 1.

    Example:
        >>> check_size(4)
        Traceback (most recent call last):
        ValueError: size must be odd. Got 4. An even kernel has no centre and would shift the maps.
    """
    size = check_count("size", size, at_least=1)
    if size % 2 == 0:
        cause = "An even kernel has no centre and would shift the maps."
        raise refusal("size", "odd", size, cause)
    return size


def _axis(sigma: float, size: int) -> list[float]:
    """The weights along one axis; those of several axes are products of these."""
    if sigma == 0:
        return [float(x == size // 2) for x in range(size)]
    # Divided before squaring: the square of a small sigma would be 0.
    steps = [(x - size // 2) / sigma for x in range(size)]
    weights = [math.exp(-step * step / 2) for step in steps]
    return [weight / sum(weights) for weight in weights]


def gaussian_kernel(sigma: float, size: int = 3, dims: int = 2) -> torch.Tensor:
    """Sample a Gaussian on a grid: ``exp(-(x^2 + y^2) / (2 sigma^2))``, of sum 1.

    Args:
        sigma: its width in positions, at least 0; 0 is the identity.
        size: of each axis, odd.
        dims: number of axes, 1 to 3.

    Returns:
        float32 (size,) * dims.

    Raises:
        ValueError: an even size, or a value outside its range.

    Example:
        >>> gaussian_kernel(1.0)[:2]
        tensor([[0.0751, 0.1238, 0.0751],
                [0.1238, 0.2042, 0.1238]])

    References:
        Sinha, Garg and Larochelle, Curriculum by Smoothing, NeurIPS 2020 [sinha2020cbs].
    """
    sigma = check_number("sigma", sigma, at_least=0)
    size = check_size(size)
    check_count("dims", dims, at_least=1, at_most=3)
    axis = torch.tensor(_axis(sigma, size), dtype=torch.float64, device="cpu")
    kernel = axis
    for _ in range(dims - 1):
        kernel = kernel.unsqueeze(-1) * axis
    return kernel.float()


def is_identity(sigma: float, size: int = 3, dims: int = 2) -> bool:
    """Whether a kernel's centre weighs more than .999, so that it is not applied.

    Example:
        >>> is_identity(0.24), is_identity(0.25)
        (True, False)
    """
    return _axis(sigma, size)[size // 2] ** dims > IDENTITY


# ---------------------------------------------------------------------------- feature maps


def smooth(
    maps: torch.Tensor, sigma: float, *, size: int = 3, padding: Padding = "zero"
) -> torch.Tensor:
    """Blur each channel of feature maps with a Gaussian; the shape stays.

    ``y = x * g``, ``g(u) ~ exp(-|u|^2 / (2 sigma^2))`` of sum 1, per channel.

    Args:
        maps: floating (B, C, *spatial) with one to three spatial axes, of any layout in memory.
        sigma: width in positions, at least 0.
        size: of the kernel along each axis, odd; it may exceed the maps.
        padding: what lies beyond the border: zeros, which darken it (of ones in, .527 is left in a
            corner at sigma 1), or the maps mirrored at their outermost positions.

    Returns:
        As ``maps``, of their dtype also under autocast; ``maps`` itself where the kernel's centre
        weighs more than .999.

    Raises:
        TypeError: ``maps`` is no floating tensor.
        ValueError: another number of axes, an even size, a value outside its range.

    Example:
        >>> smooth(torch.ones(1, 1, 3, 3), 1.0)[0, 0, 0]
        tensor([0.5270, 0.7259, 0.5270])

    References:
        Sinha, Garg and Larochelle, Curriculum by Smoothing, NeurIPS 2020 [sinha2020cbs].
    """
    _check_floating("maps", maps)
    if not 3 <= maps.ndim <= 5:
        raise refusal("maps", "of shape (B, C, *spatial), one to three spatial axes", maps)
    check_choice("padding", padding, ("zero", "reflect"))
    kernel = gaussian_kernel(sigma, size, maps.ndim - 2)
    if is_identity(sigma, size, maps.ndim - 2):
        return maps
    return blurred_maps(maps, kernel, padding)


def _check_floating(name: str, values: Any) -> None:
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        got = values if isinstance(values, torch.Tensor) else repr(values)
        raise TypeError(str(refusal(name, "a floating tensor", got)))


def blurred_maps(maps: torch.Tensor, kernel: torch.Tensor, padding: Padding) -> torch.Tensor:
    """Blur maps (B, C, *spatial), by a kernel of as many axes as they have spatial ones."""
    if maps.numel() == 0:
        return maps
    if maps.dtype in _HALF and maps.device.type == "cpu":
        # A processor convolves half precision channel by channel up to a hundred times slower.
        return blurred_maps(maps.float(), kernel, padding).to(maps.dtype)
    kernel = kernel.to(maps.device, maps.dtype)
    if padding == "zero":
        return _self_adjoint(maps, kernel.unsqueeze(0))
    half = kernel.shape[0] // 2
    return _convolved(_reflected(maps, half), _per_channel(kernel, maps.shape[1]), 0)


def _per_channel(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    return kernel.expand(channels, 1, *kernel.shape)


def _convolved(maps: torch.Tensor, weight: torch.Tensor, padding: int) -> torch.Tensor:
    convolve = (F.conv1d, F.conv2d, F.conv3d)[maps.ndim - 3]
    with _full_precision(maps):
        return convolve(maps, weight, padding=padding, groups=maps.shape[1])


def _full_precision(values: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Autocast would convolve wider maps in half precision; a blur keeps their dtype."""
    kind = values.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, enabled=False)


def _reflected(maps: torch.Tensor, half: int) -> torch.Tensor:
    """Continue maps by their mirror image, as often as needed where they are small."""
    dims = maps.ndim - 2
    small = min(maps.shape[2:]) <= half
    if not small and not torch.are_deterministic_algorithms_enabled():
        return F.pad(maps, (half, half) * dims, mode="reflect")
    for dim in range(2, maps.ndim):
        maps = _mirrored(maps, half, dim)
    return maps


def _mirrored(values: torch.Tensor, half: int, dim: int) -> torch.Tensor:
    length = values.shape[dim]
    period = max(2 * (length - 1), 1)

    def at(position: int) -> torch.Tensor:
        position %= period
        return values.narrow(dim, min(position, period - position) if length > 1 else 0, 1)

    before = [at(position) for position in range(-half, 0)]
    after = [at(position) for position in range(length, length + half)]
    return torch.cat([*before, values, *after], dim)


def _applied(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Blur by a kernel (1, *size) over spatial axes, or (size,) along a sequence's axis 1."""
    half = kernel.shape[-1] // 2
    if kernel.ndim > 1:
        return _convolved(values, _per_channel(kernel[0], values.shape[1]), half)
    # Rows of a sequence lie together in memory: shifted sums beat a convolution of the transpose.
    blurred = values * kernel[half]
    for shift in range(1, min(half, values.shape[1] - 1) + 1):
        blurred[:, shift:].addcmul_(values[:, :-shift], kernel[half - shift])
        blurred[:, :-shift].addcmul_(values[:, shift:], kernel[half + shift])
    return blurred


def _self_adjoint(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    if torch.compiler.is_compiling():
        return _applied(values, kernel)  # compilers decide themselves what to keep
    return _SelfAdjoint.apply(values, kernel)


class _SelfAdjoint(torch.autograd.Function):
    """A blur under zero padding; torch's own convolution would keep its input for backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return _applied(values, kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (kernel,) = ctx.saved_tensors
        return _SelfAdjoint.apply(gradients[0], kernel), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        (kernel,) = ctx.saved_tensors
        return _SelfAdjoint.apply(tangents[0], kernel)


# ---------------------------------------------------------------------------- tokens


def smooth_tokens(
    hidden: torch.Tensor,
    sigma: float,
    *,
    size: int = 3,
    padding: Padding = "zero",
    grid: Sequence[int] | None = None,
    class_tokens: int = 0,
) -> torch.Tensor:
    """Blur tokens along their sequence, or on the grid of image patches that they are.

    Args:
        hidden: floating (B, T, D).
        sigma: width in positions, at least 0.
        size: of the kernel along each axis, odd.
        padding: ``"zero"`` or ``"reflect"``, as of `smooth`.
        grid: (height, width) of the patches, or one or three lengths; their product is
            T - class_tokens. None goes along the sequence.
        class_tokens: first tokens that are left as they are, and blend into nothing.

    Returns:
        As ``hidden``; ``hidden`` itself where the kernel's centre weighs more than .999.

    Raises:
        TypeError: ``hidden`` is no floating tensor.
        ValueError: another shape, an even size, a value outside its range.

    Example:
        >>> smooth_tokens(torch.tensor([[[1.0], [0.0], [0.0]]]), 1.0).flatten()
        tensor([0.4519, 0.2741, 0.0000])
    """
    _check_floating("hidden", hidden)
    check_choice("padding", padding, ("zero", "reflect"))
    check_count("class_tokens", class_tokens)
    dims = 1 if grid is None else len(grid)
    kernel = gaussian_kernel(sigma, size, dims)
    check_tokens(hidden, grid, class_tokens)
    if is_identity(sigma, size, dims):
        return hidden
    return blurred_tokens(hidden, kernel, padding, grid, class_tokens)


def check_tokens(hidden: torch.Tensor, grid: Sequence[int] | None, class_tokens: int) -> None:
    """Refuse tokens that are not (B, T, D), or whose number does not fit."""
    if hidden.ndim != 3:
        raise refusal("hidden", "of shape (B, T, D)", hidden)
    count = hidden.shape[1] - class_tokens
    if count < 0:
        raise refusal("class_tokens", f"at most the {hidden.shape[1]} tokens", class_tokens)
    if grid is not None and math.prod(grid) != count:
        rule = f"of {count} patches, as many as there are tokens without class_tokens"
        raise refusal("grid", rule, tuple(grid), "Are there class tokens to leave out?")


def blurred_tokens(
    hidden: torch.Tensor,
    kernel: torch.Tensor,
    padding: Padding,
    grid: Sequence[int] | None,
    class_tokens: int,
) -> torch.Tensor:
    """As `smooth_tokens`, by a kernel at hand."""
    if class_tokens:
        first, rest = hidden[:, :class_tokens], hidden[:, class_tokens:]
        return torch.cat([first, blurred_tokens(rest, kernel, padding, grid, 0)], 1)
    if hidden.numel() == 0:
        return hidden
    if grid is not None:
        maps = hidden.unflatten(1, tuple(grid)).movedim(-1, 1)
        return blurred_maps(maps, kernel, padding).movedim(1, -1).flatten(1, -2)
    if hidden.dtype in _HALF and hidden.device.type == "cpu":
        return blurred_tokens(hidden.float(), kernel, padding, None, 0).to(hidden.dtype)
    kernel = kernel.to(hidden.device, hidden.dtype)
    if padding == "zero":
        return _self_adjoint(hidden, kernel)
    half = kernel.shape[0] // 2
    wide = _mirrored(hidden, half, 1)
    shifted = (wide.narrow(1, shift, hidden.shape[1]) for shift in range(len(kernel)))
    return functools.reduce(torch.add, map(torch.mul, shifted, kernel))
