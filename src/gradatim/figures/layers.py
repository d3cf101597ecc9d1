"""Drawings of what layers give: entropy over epochs, and maps of low and high entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from gradatim.analysis.activations import activation_entropy
from gradatim.analysis.hardness_figures import band
from gradatim.compare.extras import needs_extra
from gradatim.figures.panels import curve, grid, legend
from gradatim.figures.request import Request
from gradatim.plots import _plain
from gradatim.validation import refusal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["activation_maps", "lerac_entropy"]

Values: TypeAlias = "torch.Tensor | np.ndarray"

TABLES = {"entropy.first": "First convolution", "entropy.last": "Last convolution"}
MOST = 8  # images of one figure
SIDE = 1.0  # inches of a map


def lerac_entropy(request: Request) -> Figure:
    """Entropy of the first and last convolution's activations in two runs, epoch by epoch."""
    for run, name in zip(request.runs, request.names, strict=True):
        for key in TABLES:
            if key not in run:
                had = ", ".join(map(repr, run.keys())) or "none"
                cause = f"Record it: append({{{key!r}: activation_entropy(...)}}, epoch=...)."
                raise refusal(f"recording {name!r}", f"one with table {key!r}", had, cause)
    figure, axes = grid(1, 2, list(TABLES.values()), ["entropy, mean and deviation", ""])
    for axis, key in zip(axes, TABLES, strict=True):
        for run, name, style in zip(request.runs, request.names, ("second", "first"), strict=True):
            curve(axis, run.epochs, *band(run[key]), style, name)
    return legend(figure, axes)


def activation_maps(images: Values, maps: Mapping[str, Values]) -> Figure:
    """Draw, for each image, a layer's activation maps of lowest and highest entropy.

    Figure 3 of the LeRaC paper; entropies stand above the maps.

    Args:
        images: (B, H, W), (B, 3, H, W) or (B, H, W, 3), at most 8: numbers in [0, 1], or bytes.
        maps: by what to call it, such as ``"first conv, LeRaC"``: activations (B, C, h, w) of the
            same images, at least 2 channels and 2 places.

    Returns:
        A matplotlib figure, a row for each image: the image, then two maps of each entry.

    Raises:
        ValueError: other shapes, or values that are not finite.
        ImportError: matplotlib is missing.

    Example:
        >>> found = {"first": torch.rand(2, 4, 8, 8), "last": torch.rand(2, 6, 3, 3)}
        >>> figure = activation_maps(torch.rand(2, 3, 8, 8), found)
        >>> len(figure.axes)
        10

    Caveats:
        Maps are shown as sizes, |activation|, each from its own 0 (dark) to its own largest
        (light). A channel that is 0 everywhere has entropy 0 and is the lowest.

    References:
        Croitoru et al., Learning Rate Curriculum, IJCV 2024, Figure 3.
    """
    shown = _pictures(images)
    if not maps:
        raise refusal("maps", "one entry or more", "none")
    ready = {name: _maps(name, values, len(shown)) for name, values in maps.items()}
    with needs_extra("gradatim figure"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    columns = 1 + 2 * len(ready)
    figure = Figure(figsize=(SIDE * columns, 1.25 * SIDE * len(shown) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid_axes: Any = figure.subplots(len(shown), columns, squeeze=False)
    for row, axes in enumerate(grid_axes):
        _show(axes[0], shown[row], "input" if row == 0 else "", "gray", 1.0)
        for pair, (name, (sizes, entropies)) in enumerate(ready.items()):
            of_row = entropies[row]
            ends = (("lowest", int(of_row.argmin())), ("highest", int(of_row.argmax())))
            for offset, (word, channel) in enumerate(ends):
                # The name stands above the left one of two maps, and may reach over the other.
                head = f"{'' if offset else name}\n{word}\n" if row == 0 else ""
                title, part = f"{head}{of_row[channel]:.3f}", sizes[row, channel]
                axis = axes[1 + 2 * pair + offset]
                _show(axis, part, title, "cividis", float(part.max()) or 1.0)
    return figure


def _show(axis: Axes, picture: np.ndarray, title: str, colours: str, most: float) -> None:
    axis.set_title(_plain(title), loc="left", fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.imshow(picture, cmap=colours, vmin=0, vmax=most, interpolation="nearest")


def _array(values: Values) -> np.ndarray:
    found = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return np.asarray(found)


def _pictures(images: Values) -> np.ndarray:
    found = _array(images)
    if found.ndim == 4 and found.shape[1] in (1, 3):
        found = found.transpose(0, 2, 3, 1)
    if found.ndim == 4 and found.shape[3] == 1:
        found = found[..., 0]
    if not (found.ndim == 3 or (found.ndim == 4 and found.shape[3] == 3)) or not len(found):
        raise refusal("images", "of shape (B, H, W), (B, 3, H, W) or (B, H, W, 3)", found.shape)
    if len(found) > MOST:
        raise refusal("images", f"at most {MOST}", len(found))
    if found.dtype == np.uint8:
        return found / 255.0
    if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1:
        raise refusal("images", "bytes, or numbers in [0, 1]", "others")
    return found


def _maps(name: str, values: Values, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (B, C, h, w) and entropies (B, C)."""
    found = _array(values)
    if found.ndim != 4 or len(found) != images or found.shape[1] < 2:
        rule = f"of shape ({images}, C, h, w) with 2 channels or more"
        raise refusal(f"maps[{name!r}]", rule, found.shape)
    each = activation_entropy(found.reshape(-1, *found.shape[2:]))
    return np.abs(found), each.reshape(found.shape[:2])
