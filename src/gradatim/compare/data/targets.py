"""From label columns to numbers: classes, sets of labels, or targets of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradatim.compare.data.columns import kind_of
from gradatim.compare.data.rows import Rows
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["Targets", "check_targets", "read_targets"]

FEW = 20  # distinct numbers up to which a label column is taken as classes unasked


@dataclass
class Targets:
    """What is to be predicted.

    Attributes:
        kind: classification, multilabel or regression.
        values: int64 (N,) classes, float32 (N, L) of 0 and 1, or float32 (N,) or (N, T) targets.
        names: of the classes, labels or targets.
        guesses: what was decided without being told.

    Example:
        >>> Targets("classification", np.array([0, 1]), ("no", "yes")).guesses
        {}
    """

    kind: str
    values: np.ndarray
    names: tuple[str, ...]
    guesses: dict[str, Any] = field(default_factory=dict)


def read_targets(
    rows: Rows, columns: Sequence[str], *, task: str | None = None, separator: str | None = None
) -> Targets:
    """Read the label columns.

    Args:
        rows: what was read.
        columns: one or several.
        task: classification, multilabel, regression; None guesses.
        separator: between the labels of one cell. An empty cell then holds no label.

    Returns:
        The targets; classes are sorted by value, labels likewise.

    Raises:
        ValueError: labels are missing, are no numbers where numbers are needed, or do not fit
            the task.

    Example:
        >>> import pandas as pd
        >>> rows = Rows(pd.DataFrame({"y": ["b", "a", "b"]}), {"training": 3})
        >>> found = read_targets(rows, ["y"])
        >>> found.kind, found.values, found.names
        ('classification', array([1, 0, 1]), ('a', 'b'))
    """
    frame, guesses = rows.frame, {}
    if separator is None:
        missing = frame[list(columns)].isna().any(axis=1).to_numpy()
        if missing.any():
            name = ", ".join(map(repr, columns))
            raise refusal(f"label {name}", "present in every row", f"none in {rows.where(missing)}")
    if len(columns) > 1:
        values = _numbers(rows, columns)
        kind = task or ("multilabel" if np.isin(values, (0, 1)).all() else "regression")
        if task is None:
            guesses["task"] = kind
        if kind == "classification":
            raise refusal("task", "multilabel or regression for several label columns", repr(kind))
        return Targets(kind, values.astype(np.float32), tuple(columns), guesses)
    column = frame[columns[0]]
    kind_of_cells = kind_of(column) if separator is None else "list"
    if kind_of_cells == "list" and task != "regression":
        if task == "classification":
            raise refusal("task", "multilabel for lists of labels", repr(task))
        if task is None and separator is None:
            guesses["task"] = "multilabel"
        return _label_sets(rows, columns[0], separator, guesses)
    if task == "multilabel":
        cause = "Several labels in one cell? Name label_separator."
        raise refusal("label", "0/1 columns or lists for multilabel", repr(columns[0]), cause)
    if kind_of_cells == "list":
        return _target_lists(rows, columns[0])
    if kind_of_cells in ("mixed", "date", "bytes"):
        raise refusal("label", "a column of strings, numbers or lists", f"{columns[0]!r}")
    if task is None:
        task = _guess(column, kind_of_cells, coded=columns[0] in rows.names)
        guesses["task"] = task
    if task == "regression":
        values = _numbers(rows, columns)[:, 0]
        return Targets("regression", values.astype(np.float32), tuple(columns), guesses)
    return Targets(*_classes(rows, columns[0]), guesses)


def _guess(column: Any, cells: str, *, coded: bool) -> str:
    """Take many distinct numbers as amounts: fractions, or whole numbers that seldom repeat."""
    if cells != "number" or coded:
        return "classification"
    distinct = column.nunique()
    if distinct <= FEW:
        return "classification"
    fractions = (column.astype(float) % 1 != 0).any()
    return "regression" if fractions or 20 * distinct > len(column) else "classification"


def _numbers(rows: Rows, columns: Sequence[str]) -> np.ndarray:
    for name in columns:
        if kind_of(rows.frame[name]) != "number":
            cause = "Several labels are 0/1 columns; several targets are numbers."
            rule = f"numbers in column {name!r}"
            raise refusal("label", rule, repr(rows.frame[name].iloc[0]), cause)
    values = rows.frame[list(columns)].to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        raise refusal("label", "finite", f"infinite values in {rows.where(wrong)}")
    return values


def _classes(rows: Rows, name: str) -> tuple[str, np.ndarray, tuple[str, ...]]:
    column = rows.frame[name]
    if name in rows.names:  # numbers that stand for names known to the file
        codes, known = column.to_numpy(dtype=np.int64), rows.names[name]
        wrong = (codes < 0) | (codes >= len(known))
        if wrong.any():
            rule = f"in [0, {len(known)}) in every row"
            raise refusal(f"label {name!r}", rule, f"others in {rows.where(wrong)}")
        used, codes = np.unique(codes, return_inverse=True)
        return "classification", codes, tuple(known[i] for i in used)
    if kind_of(column) == "number":
        used, codes = np.unique(column.to_numpy(dtype=np.float64), return_inverse=True)
        words = [str(int(v)) if float(v).is_integer() else repr(v) for v in used.tolist()]
        if column.dtype == bool:
            words = [str(bool(v)) for v in used.tolist()]
        return "classification", codes.astype(np.int64), tuple(words)
    used, codes = np.unique(column.astype(str).to_numpy(dtype=object), return_inverse=True)
    return "classification", codes.astype(np.int64), tuple(map(str, used))


def _label_sets(rows: Rows, name: str, separator: str | None, guesses: dict[str, Any]) -> Targets:
    column = rows.frame[name]
    cells: list[Any] = column.tolist()
    if separator is not None:
        with needs_extra("gradatim compare"):
            import pandas as pd
        empty = pd.isna(column).to_numpy()
        # Where each cell happens to hold one number, gaps have made them floats: 3.0 is label 3.
        whole = kind_of(column) == "number"
        cells = [
            [] if gone else _split(str(int(cell)) if whole else str(cell), separator)
            for cell, gone in zip(cells, empty, strict=True)
        ]
    lengths = np.fromiter((len(cell) for cell in cells), np.int64, len(cells))
    flat = [label for cell in cells for label in cell]
    if not flat:
        raise refusal(f"label {name!r}", "at least one label in some row", "none")
    known = rows.names.get(name)
    words = [known[label] for label in flat] if known else [str(label) for label in flat]
    numeric = all(word.lstrip("-").isdigit() for word in set(words))
    names = sorted(set(words), key=(lambda word: int(word)) if numeric else None)
    place = {word: i for i, word in enumerate(names)}
    values = np.zeros((len(cells), len(names)), np.float32)
    values[np.repeat(np.arange(len(cells)), lengths), [place[word] for word in words]] = 1
    if (lengths == 0).any():
        guesses["samples_without_labels"] = int((lengths == 0).sum())
    return Targets("multilabel", values, tuple(names), guesses)


def _split(cell: str, separator: str) -> list[str]:
    return [part.strip() for part in cell.split(separator) if part.strip()]


def _target_lists(rows: Rows, name: str) -> Targets:
    cells = rows.frame[name].tolist()
    try:
        values = np.array([list(cell) for cell in cells], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise refusal("label", "lists of numbers of one length", repr(name)) from error
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        raise refusal("label", "finite", f"others in {rows.where(wrong)}")
    names = tuple(f"{name}[{i}]" for i in range(values.shape[1]))
    return Targets("regression", values.astype(np.float32), names)


def check_targets(targets: Targets, rows: Rows) -> None:
    """Refuse targets that nothing can be learned from or judged by.

    Args:
        targets: of all rows.
        rows: which part each row belongs to.

    Raises:
        ValueError: one class only, a class with one training sample, a class or label that a
            later part has and training does not, or constant regression targets.

    Example:
        >>> rows = Rows(None, {"training": 2})
        >>> check_targets(Targets("classification", np.array([0, 0]), ("a",)), rows)
        Traceback (most recent call last):
        ValueError: label must be at least two different classes. Got 'a' alone.
    """
    parts = rows.parts()
    training = targets.values[parts["training"]]
    if targets.kind == "regression":
        constant = np.atleast_1d(np.ptp(training, axis=0) == 0)
        if constant.any():
            name = targets.names[int(constant.argmax())]
            raise refusal(
                f"label {name!r}", "different numbers", f"{float(training.min()):g} throughout"
            )
        return
    if targets.kind == "classification":
        if len(targets.names) < 2:
            raise refusal(
                "label",
                "at least two different classes",
                f"{', '.join(map(repr, targets.names))} alone",
            )
        counts = np.bincount(training.astype(np.int64), minlength=len(targets.names))
    else:
        counts = training.sum(axis=0).astype(np.int64)
        odd = ~np.isin(targets.values, (0, 1)).all(axis=1)
        if odd.any():
            raise refusal("label", "0 or 1 in every label column", f"others in {rows.where(odd)}")
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        _refuse_absent(targets, parts, absent)
    if targets.kind == "classification" and (counts == 1).any():
        rare = int(np.flatnonzero(counts == 1)[0])
        where = (targets.values == rare) & np.isin(
            np.arange(len(targets.values)), parts["training"]
        )
        got = f"one of {targets.names[rare]!r}, {rows.where(where)}"
        cause = "A number to predict? Then task='regression'. Else merge or drop the class."
        raise refusal("label", "at least two samples of each class", got, cause)


def _refuse_absent(targets: Targets, parts: dict[str, np.ndarray], absent: np.ndarray) -> None:
    for part, positions in parts.items():
        values = targets.values[positions]
        if targets.kind == "classification":
            here = np.isin(absent, values)
        else:
            here = values[:, absent].any(axis=0)
        if here.any():
            names = ", ".join(repr(targets.names[i]) for i in absent[here][:5])
            rule = f"one that the training part has, in the {part} part too"
            raise refusal("label", rule, names)
    names = ", ".join(repr(targets.names[i]) for i in absent[:5])
    raise refusal("label", "true somewhere for each label", f"none for {names}")
