"""Images: read, made square, all in one array of bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.compare.data.rows import Rows
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["content_of", "read_images"]


def content_of(cell: Any, folder: Path) -> tuple[str, Any]:
    """Return how to call an image or clip, and what to read it from.

    Args:
        cell: a path, encoded bytes, or a dict of both as the hub stores it.
        folder: what relative paths start from.

    Returns:
        A name for messages, and a path or a stream of bytes.

    Example:
        >>> content_of("a.png", Path("/data"))
        ('/data/a.png', PosixPath('/data/a.png'))
    """
    if isinstance(cell, dict):
        name = str(cell.get("path") or "bytes")
        if cell.get("bytes") is not None:
            return name, io.BytesIO(cell["bytes"])
        cell = name
    if isinstance(cell, bytes):
        return "bytes", io.BytesIO(cell)
    path = folder / str(cell)
    return str(path), path


def read_images(rows: Rows, column: str, *, size: int) -> np.ndarray:
    """Read a column of images.

    Args:
        rows: what was read.
        column: paths or encoded bytes.
        size: height and width after resizing, in pixels; the shape is not kept.

    Returns:
        uint8 (N, 3, size, size), or (N, 1, size, size) where all images are grey.

    Raises:
        ValueError: an image is missing or cannot be read; the message names it.

    Example:
        >>> import pandas as pd
        >>> rows = Rows(pd.DataFrame({"file": ["no.png"]}), {"training": 1})
        >>> read_images(rows, "file", size=8)
        Traceback (most recent call last):
        ValueError: image 'file' must be a readable image in every row. Got no.png (...), row 0 ...
    """
    with needs_extra("gradatim compare"):
        from PIL import Image, ImageOps
    rows.check_present("image", column)
    found, coloured = [], False
    for i, cell in enumerate(rows.frame[column].tolist()):
        name, content = content_of(cell, rows.folder)
        try:
            with Image.open(content) as opened:
                image = ImageOps.exif_transpose(opened)
                pixels = _pixels(image, size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            wrong = np.arange(len(rows.frame)) == i
            got = f"{name} ({type(error).__name__}), {rows.where(wrong)}"
            rule = "a readable image in every row"
            raise refusal(f"image {column!r}", rule, got) from error
        coloured |= pixels.ndim == 3
        found.append(pixels)
    if not coloured:
        return np.stack(found)[:, None]
    images = np.empty((len(found), 3, size, size), np.uint8)
    for image, pixels in zip(images, found, strict=True):
        image[:] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return images


def _pixels(image: Any, size: int) -> np.ndarray:
    with needs_extra("gradatim compare"):
        from PIL import Image
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would cut off at 255
        depth = np.asarray(image, dtype=np.float64) / 257
        image = Image.fromarray(np.clip(np.rint(depth), 0, 255).astype(np.uint8))
    grey = image.mode in ("1", "L", "LA", "F")
    if not grey and image.mode != "RGB":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.asarray(image.convert("L" if grey else "RGB").resize((size, size)))
