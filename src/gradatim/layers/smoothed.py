"""Forward hooks that blur what the layers of a model give."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gradatim.layers.smoothing import (
    Padding,
    blurred_maps,
    blurred_tokens,
    check_tokens,
    gaussian_kernel,
    is_identity,
)
from gradatim.validation import refusal

__all__ = ["Smoothing", "TokenSmoothing"]


class Smoothing:
    """A forward hook that blurs what a convolution gives: an object, so that models are picklable.

    A copy of the model has its own, and keeps the blur it had. The kernel is a tensor that `set`
    writes in place, so compiled models see it change without compiling again.

    Args:
        dims: spatial axes of the convolution.
        size: of the kernel, odd.
        padding: as of `smooth`.

    Attributes:
        kernel: float32, or None where it is the identity: then the hook does nothing.
        attached: whether a curriculum drives it; a copy's hook is driven by none.

    Example:
        >>> layer, hook = nn.Conv2d(1, 1, 1), Smoothing(dims=2)
        >>> handle = layer.register_forward_hook(hook)
        >>> maps = torch.ones(1, 1, 5, 5)
        >>> plain = layer(maps)
        >>> hook.set(1.0)
        >>> bool(layer(maps).allclose(plain))
        False
    """

    def __init__(self, dims: int, size: int = 3, padding: Padding = "zero") -> None:
        self.dims = dims
        self.size = size
        self.padding: Padding = padding
        self.kernel: torch.Tensor | None = None
        self.attached = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "attached": False}

    def set(self, sigma: float, device: torch.device | str = "cpu") -> None:
        """Blur with width ``sigma`` from now on.

        Args:
            sigma: at least 0.
            device: where the layer is; elsewhere the kernel is copied at each call.
        """
        if is_identity(sigma, self.size, self.dims):
            self.kernel = None
            return
        with torch.inference_mode(False), torch.no_grad():
            kernel = gaussian_kernel(sigma, self.size, self.dims)
            if self.kernel is None or self.kernel.device != torch.device(device):
                self.kernel = kernel.to(device)
            else:
                self.kernel.copy_(kernel)

    def __call__(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        """Blur a convolution's output, but for maps of a single position."""
        kernel = self.kernel
        # A map of one position (of a squeeze-and-excitation) has nothing to blend with.
        if kernel is None or all(length == 1 for length in output.shape[-self.dims :]):
            return None
        if output.ndim == self.dims + 1:  # without a batch
            return blurred_maps(output.unsqueeze(0), kernel, self.padding).squeeze(0)
        return blurred_maps(output, kernel, self.padding)


class TokenSmoothing(Smoothing):
    """A forward hook that blurs the tokens a block gives, alone or as the first of a tuple.

    Args:
        size: of the kernel, odd.
        padding: as of `smooth`.
        grid: as of `smooth_tokens`.
        class_tokens: likewise.
        batch_first: the block gives (B, T, D), not (T, B, D).

    Example:
        >>> layer, hook = nn.Identity(), TokenSmoothing()
        >>> handle = layer.register_forward_hook(hook)
        >>> hook.set(1.0)
        >>> layer(torch.ones(1, 3, 1)).flatten()
        tensor([0.7259, 1.0000, 0.7259])
    """

    def __init__(
        self,
        size: int = 3,
        padding: Padding = "zero",
        grid: tuple[int, ...] | None = None,
        class_tokens: int = 0,
        batch_first: bool = True,
    ) -> None:
        super().__init__(1 if grid is None else len(grid), size, padding)
        self.grid = grid
        self.class_tokens = class_tokens
        self.batch_first = batch_first

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Blur a block's output."""
        if self.kernel is None:
            return None
        if isinstance(output, tuple) and output:
            first = self._blurred(module, output[0], self.kernel)
            rest = (first, *output[1:])
            # A named tuple takes its fields one by one.
            return type(output)(*rest) if hasattr(output, "_fields") else rest
        return self._blurred(module, output, self.kernel)

    def _blurred(self, module: nn.Module, hidden: Any, kernel: torch.Tensor) -> torch.Tensor:
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3 or hidden.is_nested:
            got: Any = hidden if isinstance(hidden, torch.Tensor) else type(hidden).__name__
            cause = f"It comes from {type(module).__name__}. "
            if isinstance(hidden, torch.Tensor) and hidden.is_nested:
                got = "a nested tensor"
                cause += "Build nn.TransformerEncoder with enable_nested_tensor=False."
            else:
                cause += "Name other modules in tokens=."
            raise refusal("hidden", "a tensor of shape (B, T, D)", got, cause)
        if not self.batch_first:
            hidden = hidden.transpose(0, 1)
        check_tokens(hidden, self.grid, self.class_tokens)
        blurred = blurred_tokens(hidden, kernel, self.padding, self.grid, self.class_tokens)
        return blurred if self.batch_first else blurred.transpose(0, 1)
