"""What reading a file leaves: columns, which rows belong to which part, and how to name rows."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.validation import refusal

__all__ = ["AUDIO", "IMAGES", "PARTS", "Rows", "part_name"]

PARTS = ("training", "validation", "test")
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff")

_PART_NAMES = {
    "training": ("training", "train"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def part_name(name: str) -> str | None:
    """Return the part that a folder, split or key of this name holds, or None.

    Example:
        >>> part_name("Train"), part_name("dev"), part_name("cats")
        ('training', 'validation', None)
    """
    return next((part for part, known in _PART_NAMES.items() if name.lower() in known), None)


@dataclass
class Rows:
    """Rows of all given parts, one after the other.

    Attributes:
        frame: pandas data frame.
        sizes: rows of each given part, in the order of the frame.
        names: class names by column, where the file stores numbers for them.
        folder: what relative paths in cells start from.
        label: label columns, where the data set knows them itself.
        media: the column of images or clips and which of the two, where the data set knows it.
        scale: divides table features that share one unit; None standardises each.
        notes: remarks for the record.

    Example:
        >>> import pandas as pd
        >>> rows = Rows(pd.DataFrame({"a": [1, 2, 3]}), {"training": 2, "test": 1})
        >>> rows.where(np.array([True, False, True]))
        'row 0 of the training part and row 0 of the test part (counted from 0, header apart)'
    """

    frame: Any
    sizes: dict[str, int]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path = Path()
    label: tuple[str, ...] | None = None
    media: tuple[str, str] | None = None
    scale: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, np.ndarray]:
        """Return the positions of each given part."""
        ends = np.cumsum(list(self.sizes.values()))
        return {
            name: np.arange(end - size, end)
            for (name, size), end in zip(self.sizes.items(), ends, strict=True)
        }

    def where(self, wrong: Any) -> str:
        """Name the rows that are True in a mask, the first ten of each part."""
        shown = []
        for part, positions in self.parts().items():
            rows = np.flatnonzero(wrong[positions])
            if len(rows):
                noun = "row" if len(rows) == 1 else "rows"
                more = ", ..." if len(rows) > 10 else ""
                of = f" of the {part} part" if len(self.sizes) > 1 else ""
                shown.append(f"{noun} {', '.join(map(str, rows[:10]))}{more}{of}")
        return " and ".join(shown) + " (counted from 0, header apart)"

    def folds(self, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read which fold each sample is in.

        Args:
            column: its name.

        Returns:
            int64 (N,), places in the names; -1 outside the training part. And the names, sorted.
        """
        self.check_column("folds", column)
        training = self.parts()["training"]
        values = self.frame[column].iloc[training]
        gaps = np.zeros(len(self.frame), bool)
        gaps[training] = values.isna().to_numpy()
        if gaps.any():
            raise refusal(
                f"folds {column!r}", "present in every row", f"none in {self.where(gaps)}"
            )
        if any(isinstance(cell, list | dict | np.ndarray) for cell in values):
            raise refusal(f"folds {column!r}", "numbers or strings", "lists")
        names = sorted(values.unique().tolist(), key=lambda name: (str(type(name)), name))
        if not 1 < len(names) < len(values):
            got = f"{len(names)} in column {column!r} of {len(values)} samples"
            rule = "two or more values that several samples share"
            raise refusal("folds", rule, got)
        found = np.full(len(self.frame), -1, np.int64)
        found[training] = values.map({name: place for place, name in enumerate(names)}).to_numpy()
        return found, tuple(map(str, names))

    def check_present(self, name: str, column: str) -> None:
        """Refuse missing cells."""
        missing = self.frame[column].isna().to_numpy()
        if missing.any():
            got = f"none in {self.where(missing)}"
            raise refusal(f"{name} {column!r}", "present in every row", got)

    def check_column(self, parameter: str, column: str) -> str:
        """Return the column's name if it exists, else refuse it and suggest the nearest."""
        known = [str(name) for name in self.frame.columns]
        if column in known:
            return column
        near = difflib.get_close_matches(column, known, n=1, cutoff=0.5)
        near = near or [name for name in known if name.lower() == column.lower()]
        shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
        cause = f"Did you mean {near[0]!r}?" if near else ""
        raise refusal(parameter, f"a column of the data: {shown}", repr(column), cause)
