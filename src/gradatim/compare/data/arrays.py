"""Reading .npz files: arrays called x and y, or one pair per part."""

from __future__ import annotations

import difflib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.compare.data.rows import PARTS, Rows, part_name
from gradatim.compare.data.source import Source
from gradatim.compare.data.tables import Table
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["Arrays", "read_arrays"]


class Arrays:
    """What an .npz file holds, named by what it is.

    Attributes:
        rows: the labels as columns, and which rows belong to which part.
        modality: table, image or spectrogram.
        inputs: a `Table`, or uint8 (N, C, H, W), or float32 (N, 1, M, T).

    Example:
        >>> Arrays(Rows(None, {}), "image", np.zeros((1, 1, 2, 2), np.uint8)).modality
        'image'
    """

    def __init__(self, rows: Rows, modality: str, inputs: Any) -> None:
        self.rows, self.modality, self.inputs = rows, modality, inputs


def read_arrays(path: Path, source: Source) -> Arrays:
    """Read ``x`` and ``y``, or ``x_train, y_train, x_test, y_test`` and, if given, validation.

    uint8 arrays (N, H, W), (N, H, W, C) and (N, C, H, W) with one or three channels are images;
    (N, F) is a table; (N, M, T) is a stack of spectrograms where ``source.audio`` names x.

    Args:
        path: the file. Arrays of Python objects are refused: reading them would run code.
        source: says whether arrays are spectrograms, and which array holds folds.

    Returns:
        Inputs of all parts, and their labels as columns "y" or "y[0]", "y[1]", ...

    Raises:
        ValueError: arrays are missing, or have other shapes or types.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, x=np.zeros((4, 8, 8), np.uint8), y=np.array([0, 1, 0, 1]))
        >>> read_arrays(path, Source(str(path))).inputs.shape
        (4, 1, 8, 8)
    """
    with needs_extra("gradatim compare"):
        import pandas as pd
    arrays = _read(path)
    pairs = _pairs(arrays)
    for part, (x, y) in pairs.items():
        if x.shape[1:] != pairs["training"][0].shape[1:] or x.dtype != pairs["training"][0].dtype:
            got = f"{x.shape[1:]} {x.dtype} in the {part} part"
            wanted = pairs["training"][0]
            raise refusal("x", f"{wanted.shape[1:]} {wanted.dtype} in every part", got)
        if y.ndim not in (1, 2) or len(x) != len(y) or not len(x):
            got = f"{x.shape} and {y.shape} in the {part} part"
            raise refusal("y", "one label or one row of labels per sample of x", got)
        if y.shape[1:] != pairs["training"][1].shape[1:]:
            raise refusal("y", "of one width in every part", f"{y.shape} in the {part} part")
    x = np.concatenate([pair[0] for pair in pairs.values()])
    y = np.concatenate([pair[1] for pair in pairs.values()])
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    columns = {"y": y} if y.ndim == 1 else {f"y[{i}]": y[:, i] for i in range(y.shape[1])}
    sizes = {part: len(pair[0]) for part, pair in pairs.items()}
    rows = Rows(pd.DataFrame(columns), sizes, label=tuple(columns))
    if isinstance(source.folds, str):
        # Other parts are in no fold; what stands there is never read.
        given = _folds(arrays, source.folds, size=sizes["training"])
        rows.frame[source.folds] = np.resize(given, len(x))
    return Arrays(rows, *_inputs(x, rows, source))


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        objects = "Object arrays" in str(error)
        got = f"arrays of Python objects in {path.name}" if objects else repr(path.name)
        cause = "Save plain numbers: x.astype(np.float32)." if objects else ""
        raise refusal("data", "a readable .npz file of plain arrays", got, cause) from error


def _folds(arrays: dict[str, np.ndarray], name: str, *, size: int) -> np.ndarray:
    if name not in arrays:
        near = difflib.get_close_matches(name, arrays, n=1, cutoff=0.5)
        cause = f"Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(map(repr, sorted(arrays)))
        raise refusal("folds", f"an array of the file: {known}", repr(name), cause)
    if arrays[name].shape != (size,):
        got = f"{name!r} of shape {arrays[name].shape}"
        raise refusal("folds", f"an array of shape ({size},), one fold per sample", got)
    return arrays[name]


def _pairs(arrays: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    lower = {name.lower(): array for name, array in arrays.items()}
    if "x" in lower and "y" in lower:
        return {"training": (lower["x"], lower["y"])}
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in lower.items():
        kind, _, part = name.partition("_")
        if kind in ("x", "y") and part_name(part):
            found.setdefault(str(part_name(part)), {})[kind] = array
    whole = {
        p: (found[p]["x"], found[p]["y"]) for p in PARTS if set(found.get(p, ())) == {"x", "y"}
    }
    if "training" not in whole or len(whole) < len(found):
        got = ", ".join(sorted(arrays)) or "no arrays"
        raise refusal("data", "an .npz file with x and y, or x_train, y_train, ...", got)
    return whole


def _inputs(x: np.ndarray, rows: Rows, source: Source) -> tuple[str, Any]:
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise refusal("x", "numbers", f"dtype {x.dtype}")
    if np.issubdtype(x.dtype, np.floating):
        flat = x.reshape(len(x), -1)
        wrong = np.isinf(flat).any(axis=1) if x.ndim == 2 else ~np.isfinite(flat).all(axis=1)
        if wrong.any():
            raise refusal("x", "finite", f"others in {rows.where(wrong)}")
    if source.audio is not None:
        if x.ndim != 3:
            raise refusal("x", "spectrograms of shape (N, M, T)", f"shape {x.shape}")
        return "spectrogram", _spectrograms(x)
    if x.ndim == 2:
        numbers = x.astype(np.float64)
        return "table", Table(numbers, np.empty((len(x), 0), np.int64), ())
    if x.dtype == np.uint8 and x.ndim == 3:
        return "image", x[:, None]
    if x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] in (1, 3):
        return "image", np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    if x.dtype == np.uint8 and x.ndim == 4 and x.shape[1] in (1, 3):
        return "image", x
    rule = "uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W), or a table (N, F)"
    cause = "Spectrograms? Then name the array: audio='x'."
    raise refusal("x", rule, f"{x.dtype} of shape {x.shape}", cause)


def _spectrograms(x: np.ndarray) -> np.ndarray:
    """Bytes are 255ths; floats outside [0, 1] are scaled clip by clip."""
    if x.dtype == np.uint8:
        return (x / np.float32(255)).astype(np.float32)[:, None]
    values = x.astype(np.float32)
    if values.min() < 0 or values.max() > 1:
        low = values.min(axis=(1, 2), keepdims=True)
        span = values.max(axis=(1, 2), keepdims=True) - low
        values = (values - low) / np.where(span > 0, span, 1)
    return values[:, None]
