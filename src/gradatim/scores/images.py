"""Difficulty of images: how much there is to see, from the pixels or from their annotations.

All images have one size and eight bits per channel, and colour is turned to grey first
(0.299 red + 0.587 green + 0.114 blue): scores of differently stored pictures could not be compared.
Resize before scoring, because every score here depends on the resolution.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Literal

import torch

from gradatim.scores.checks import as_tensor
from gradatim.validation import as_vector, check_choice, check_count, check_index, refusal

__all__ = ["annotation_complexity", "compressed_bits", "gradient_magnitude", "grey_entropy"]

Channels = Literal["none", "first", "last"]

_PIXELS_AT_ONCE = 1 << 22  # bounds the int64 and float32 copies to tens of megabytes


def grey_entropy(images: torch.Tensor, *, channels: Channels = "none") -> torch.Tensor:
    """Score each image by the entropy of its grey levels, in bits.

    How many levels it uses and how evenly, whatever their places::

        d = -sum_g p_g log2 p_g

    with p_g the share of pixels of level g.

    Args:
        images: uint8 (n, H, W); with ``channels`` "first" (n, C, H, W), "last" (n, H, W, C),
            C 1 or 3 (red, green, blue).
        channels: where the colour channels are; "none" for grey images without that dimension.

    Returns:
        float64 (n,) in [0, 8] bits, on the device of ``images``.

    Raises:
        ValueError: another dtype or shape.

    Example:
        Half the pixels black, half white: one bit.

        >>> grey_entropy(torch.tensor([[[0, 255], [255, 0]]], dtype=torch.uint8))
        tensor([1.], dtype=torch.float64)

    Differences from the paper:
        No paper; the entropy of the histogram.
    """
    parts = []
    for block in _grey_blocks(images, channels):
        count = len(block)
        shift = 256 * torch.arange(count, device=block.device).unsqueeze(1)
        levels = (block.flatten(1).to(torch.int64) + shift).flatten()
        histogram = torch.bincount(levels, minlength=256 * count).reshape(count, 256)
        shares = histogram.to(torch.float64) / block[0].numel()
        parts.append(torch.special.entr(shares).sum(1) / math.log(2))
    return _joined(parts, images)


def gradient_magnitude(images: torch.Tensor, *, channels: Channels = "none") -> torch.Tensor:
    """Score each image by how steeply its grey level changes from pixel to pixel, on average.

    High for texture, clutter and noise, zero for a uniform area. With forward differences at
    the (H-1)(W-1) pixels that have a right and a lower neighbour::

        d = mean sqrt((g[y, x+1] - g[y, x])^2 + (g[y+1, x] - g[y, x])^2)

    Args:
        images: as for `grey_entropy`; H and W at least 2.
        channels: as for `grey_entropy`.

    Returns:
        float64 (n,) in [0, 255 sqrt 2] grey levels per pixel, on the device of ``images``.

    Raises:
        ValueError: another dtype or shape, a side of one pixel.

    Example:
        A step of 3 to the right and of 4 downwards: 5.

        >>> gradient_magnitude(torch.tensor([[[0, 3], [4, 0]]], dtype=torch.uint8))
        tensor([5.], dtype=torch.float64)

    Differences from the paper:
        No paper.
    """
    parts = []
    for block in _grey_blocks(images, channels, smallest_side=2):
        grey = block.to(torch.float32)
        corner = grey[:, :-1, :-1]
        slope = torch.hypot(grey[:, :-1, 1:] - corner, grey[:, 1:, :-1] - corner)
        parts.append(slope.flatten(1).mean(1, dtype=torch.float64))
    return _joined(parts, images)


def compressed_bits(images: torch.Tensor, *, channels: Channels = "none") -> torch.Tensor:
    """Score each image by the bits per pixel that remain after compression.

    What deflate cannot shorten is detail without repetition. The grey pixels are written row by
    row and compressed at the highest level; the size of the raw stream, without header and
    checksum, is divided by H W.

    Args:
        images: as for `grey_entropy`.
        channels: as for `grey_entropy`.

    Returns:
        float64 (n,) above 0, in bits per pixel (a little above 8 at most, save for images of a
        few pixels), on the device of ``images``.

    Raises:
        ValueError: another dtype or shape.

    Example:
        >>> flat = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> bool(compressed_bits(flat) < 0.1)
        True

    Differences from the paper:
        No paper.

    Caveats:
        zlib compresses one image at a time on the CPU: this loops over images (about 10,000 of
        32 x 32 a second). Builds of zlib differ by a few bytes, so fix one for one study.
    """
    parts = []
    for block in _grey_blocks(images, channels):
        rows = block.flatten(1).cpu().numpy()
        sizes = [_deflated_size(row.tobytes()) for row in rows]
        bits = torch.tensor(sizes, dtype=torch.float64) * 8
        parts.append((bits / rows.shape[1]).to(block.device))
    return _joined(parts, images)


def annotation_complexity(
    index: torch.Tensor,
    areas: torch.Tensor,
    *,
    size: int,
    kind: Literal["count", "inverse_area"] = "count",
) -> torch.Tensor:
    """Score each image by its annotated objects: how many there are, or how small.

    Given one row per object, as detection data sets come. For an image with m objects of areas
    a_1 ... a_m::

        d = m                      kind="count"
        d = mean_k (1 / a_k)       kind="inverse_area"

    Args:
        index: int64 (M,), the image (data set position) that each object lies in.
        areas: (M,) area of each object, above 0, best as a fraction of its image.
        size: the number n of images; those without an object score 0.
        kind: ``"count"`` or ``"inverse_area"``.

    Returns:
        float64 (n,), on the device of ``index``.

    Raises:
        ValueError: an index out of range, areas of another length, not positive or not finite.

    Example:
        Image 0 has objects of a half and a quarter of its area, image 1 has none.

        >>> index, areas = torch.tensor([0, 0]), torch.tensor([0.5, 0.25])
        >>> annotation_complexity(index, areas, size=2)
        tensor([2., 0.], dtype=torch.float64)
        >>> annotation_complexity(index, areas, size=2, kind="inverse_area")
        tensor([3., 0.], dtype=torch.float64)

    Differences from the paper:
        Soviany et al. divide the number of objects by their mean area; here number and smallness
        are two scores, and smallness is the mean of the inverse.

    References:
        Soviany et al., Curriculum self-paced learning for cross-domain object detection, CVIU
        2021 (`soviany2021`).
    """
    check_choice("kind", kind, ["count", "inverse_area"])
    size = check_count("size", size, at_least=1)
    index = as_tensor("index", index, "int64 positions of images")
    check_index("index", index, size)
    vector = as_vector("areas", areas, size=index.numel(), above=0, dtype=torch.float64)
    counts = torch.bincount(index, minlength=size).to(torch.float64)
    if kind == "count":
        return counts
    inverse = vector.to(index.device).reciprocal()
    return torch.zeros_like(counts).index_add_(0, index, inverse) / counts.clamp(min=1)


def _grey_blocks(
    images: torch.Tensor, channels: str, *, smallest_side: int = 1
) -> Iterator[torch.Tensor]:
    """Check the images, then yield them in grey, uint8 (b, H, W), a bounded number at a time."""
    check_choice("channels", channels, ["none", "first", "last"])
    images = as_tensor("images", images, "a uint8 tensor or array")
    layout = {"none": "(n, H, W)", "first": "(n, C, H, W)", "last": "(n, H, W, C)"}[channels]
    if images.dtype != torch.uint8:
        cause = "Fractions of 1? Multiply by 255, round and call .to(torch.uint8)."
        raise refusal("images", "uint8", images, cause if images.is_floating_point() else "")
    if images.ndim != (3 if channels == "none" else 4):
        cause = "Name the layout by channels='first' or 'last'." if images.ndim == 4 else ""
        raise refusal("images", f"of shape {layout} with channels={channels!r}", images, cause)
    if channels == "none":
        images = images.unsqueeze(1)
    elif channels == "last":
        images = images.movedim(3, 1)
    if images.shape[1] not in (1, 3):
        cause = "Channels elsewhere, or an alpha channel to drop?"
        raise refusal("images", f"of shape {layout} with C 1 or 3", images, cause)
    height, width = images.shape[2:]
    if min(height, width) < smallest_side:
        rule = f"at least {smallest_side} pixels high and wide"
        raise refusal("images", rule, f"{height} x {width} pixels")
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    return (_grey(images[start : start + step]) for start in range(0, len(images), step))


def _grey(block: torch.Tensor) -> torch.Tensor:
    """Turn uint8 (b, 1 or 3, H, W) into uint8 (b, H, W), in integers: the same on every device."""
    if block.shape[1] == 1:
        return block[:, 0]
    red, green, blue = block.to(torch.int32).unbind(1)
    thousandths = 299 * red + 587 * green + 114 * blue + 500
    return thousandths.div(1000, rounding_mode="floor").to(torch.uint8)


def _joined(parts: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    if parts:
        return torch.cat(parts)
    return torch.zeros(0, dtype=torch.float64, device=torch.as_tensor(images).device)


def _deflated_size(pixels: bytes) -> int:
    deflate = zlib.compressobj(level=9, wbits=-15)  # negative: no header, no checksum
    return len(deflate.compress(pixels)) + len(deflate.flush())
