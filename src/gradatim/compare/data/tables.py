"""Tables: numbers with gaps and columns of categories, fitted on the training part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradatim.compare.data.columns import kind_of
from gradatim.compare.data.rows import Rows
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["Table", "read_table"]

MOST_CATEGORIES = 1000


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a table before anything is fitted.

    Attributes:
        numbers: float64 (N, F), NaN where a cell is missing.
        codes: int64 (N, K), the category of each cell.
        categories: number of categories of each of the K columns.
        scale: divides all numbers; None standardises each column instead.

    Example:
        >>> table = Table(np.array([[1.0], [3.0], [9.0]]), np.array([[0], [1], [2]]), (3,))
        >>> table.features(np.array([0, 1]))
        array([[-1.,  1.,  0.],
               [ 1.,  0.,  1.],
               [ 7.,  0.,  0.]], dtype=float32)
    """

    numbers: np.ndarray
    codes: np.ndarray
    categories: tuple[int, ...]
    scale: float | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.numbers)

    def features(self, training: np.ndarray) -> np.ndarray:
        """Fit on some rows and transform all.

        Missing numbers become the median, with a 0/1 column that says so for each column that
        misses some; columns are standardised; each category seen becomes a 0/1 column, and an
        unseen one leaves them all 0.

        Args:
            training: int64 positions of the rows that the fit may see.

        Returns:
            float32 (N, columns).
        """
        blocks = []
        if self.numbers.shape[1]:
            blocks += self._numbers(training)
        for column, count in zip(self.codes.T, self.categories, strict=True):
            seen = np.flatnonzero(np.bincount(column[training], minlength=count))
            blocks.append((column[:, None] == seen).astype(np.float32))
        return np.concatenate(blocks, axis=1)

    def _numbers(self, training: np.ndarray) -> list[np.ndarray]:
        if self.scale is not None:
            return [(self.numbers / self.scale).astype(np.float32)]
        numbers, gaps = self.numbers, np.isnan(self.numbers)
        known = gaps[training]
        if gaps.any():
            medians = np.zeros(numbers.shape[1])
            some = ~known.all(axis=0)
            medians[some] = np.nanmedian(numbers[training][:, some], axis=0)
            numbers = np.where(gaps, medians, numbers)
        fitted = numbers[training]
        mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
        # Rounding leaves a constant column a tiny spread, which would blow up what is not constant.
        constant = spread <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
        standard = (numbers - mean) / np.where(constant, 1.0, spread)
        indicators = gaps[:, known.any(axis=0) & ~known.all(axis=0)]
        return [standard.astype(np.float32), indicators.astype(np.float32)]


def read_table(rows: Rows, columns: tuple[str, ...]) -> tuple[Table, dict[str, Any]]:
    """Turn columns into a table.

    Args:
        rows: what was read.
        columns: numbers, or strings, each different one of which is a category.

    Returns:
        The table, and a note of its columns for the record.

    Raises:
        ValueError: infinite numbers, cells of other kinds, or too many categories.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"size": [1, None], "colour": ["red", "blue"]})
        >>> table, note = read_table(Rows(frame, {"training": 2}), ("size", "colour"))
        >>> table.codes[:, 0], note
        (array([1, 0]), {'numbers': 1, 'categories': 1, 'missing_cells': 1})
    """
    with needs_extra("gradatim compare"):
        import pandas as pd
    frame = rows.frame
    numbers, codes, counts, missing = [], [], [], 0
    for name in columns:
        kind = kind_of(frame[name])
        missing += int(frame[name].isna().sum())
        if kind == "number":
            values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
            wrong = np.isinf(values)
            if wrong.any():
                got = f"infinite values in column {name!r}, {rows.where(wrong)}"
                raise refusal("features", "finite", got)
            numbers.append(values)
        elif kind == "string":
            column, known = pd.factorize(frame[name].astype(object), sort=True)
            if len(known) > MOST_CATEGORIES:
                rule = f"columns of at most {MOST_CATEGORIES} categories"
                got = f"{len(known)} in column {name!r}"
                raise refusal("features", rule, got, "A text? Then name it: text.")
            codes.append(np.where(column < 0, len(known), column))  # missing: a category of its own
            counts.append(len(known) + 1)
        else:
            raise refusal("features", "columns of numbers or strings", f"{kind} cells in {name!r}")
    size = len(frame)
    table = Table(
        np.stack(numbers, axis=1) if numbers else np.empty((size, 0)),
        np.stack(codes, axis=1).astype(np.int64) if codes else np.empty((size, 0), np.int64),
        tuple(counts),
        rows.scale,
    )
    note = {"numbers": len(numbers), "categories": len(codes), "missing_cells": missing}
    return table, note
