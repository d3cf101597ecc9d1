"""Which columns are inputs and which is the label, where the user did not say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradatim.compare.data.rows import AUDIO, IMAGES, Rows
from gradatim.compare.data.source import Source
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["Roles", "kind_of", "roles"]

LABELS = ("label", "labels", "target", "targets", "class", "y", "stars", "rating", "category")
ROW_NUMBER = re.compile(r"idx|index|row|unnamed: 0|(.*[ _.-])?id|.*[a-z]I[dD]", re.DOTALL)
COMMAS = r"[-+]?[\d.]*\d,\d[\d,]*"  # 1,500 and 0,5
CATEGORIES = 50  # distinct strings that a column may have to be taken as a category unasked
LONG = 40  # mean characters from which a string column is taken as text beside other columns


@dataclass
class Roles:
    """What each column is for.

    Attributes:
        modality: table, image, spectrogram or text.
        inputs: the columns read: of a table, or one, or text and second text.
        labels: one column or several.
        guesses: what was decided without being told, for the record.

    Example:
        >>> Roles("text", ("review",), ("stars",)).guesses
        {}
    """

    modality: str
    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    guesses: dict[str, Any] = field(default_factory=dict)


def kind_of(column: Any) -> str:
    """Return what a pandas column holds, missing cells apart.

    Returns:
        number, string, list, bytes (encoded images or clips), date, empty or mixed.

    Example:
        >>> import pandas as pd
        >>> [kind_of(pd.Series(cells)) for cells in ([1, None], ["a", None], [[1], [2]])]
        ['number', 'string', 'list']
    """
    with needs_extra("gradatim compare"):
        import pandas as pd
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return "number" if column.notna().any() else "empty"
    present = column.dropna()
    if not len(present):
        return "empty"
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = present.astype(column.cat.categories.dtype)
    inferred = pd.api.types.infer_dtype(present, skipna=True)
    if inferred in ("string", "empty"):
        return "string"
    if inferred in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
        return "number"
    first = present.iloc[0]
    if isinstance(first, list | tuple | np.ndarray):
        return "list"
    if isinstance(first, bytes) or (isinstance(first, dict) and "bytes" in first):
        return "bytes"
    return "date" if "date" in inferred or "time" in inferred else "mixed"


def roles(rows: Rows, source: Source) -> Roles:
    """Decide what each column is for: as the source says, else as it looks.

    Args:
        rows: what was read.
        source: names columns, or leaves them to be guessed.

    Returns:
        The roles, with every guess noted.

    Raises:
        ValueError: a column named is not there, or nothing is left to be an input.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"id": [7, 8], "size": [1.5, 2.5], "y": [0, 1]})
        >>> found = roles(Rows(frame, {"training": 2}), Source("a.csv"))
        >>> found.inputs, found.labels
        (('size',), ('y',))
    """
    guesses: dict[str, Any] = {}
    labels = _labels(rows, source, guesses)
    if source.folds in labels:
        raise refusal("folds", "no label column", repr(source.folds))
    named = {"text": "text", "image": "image", "audio": "spectrogram"}
    for parameter, modality in named.items():
        column = getattr(source, parameter)
        if column:
            inputs = [rows.check_column(parameter, column)]
            if source.text_pair:
                inputs.append(rows.check_column("text_pair", source.text_pair))
            return Roles(modality, _apart(inputs, labels), labels, guesses)
    if source.features:
        inputs = [rows.check_column("features", column) for column in source.features]
        return Roles("table", _apart(inputs, labels), labels, guesses)
    if rows.media and rows.media[0] not in labels:
        column, kind = rows.media
        return Roles("image" if kind == "image" else "spectrogram", (column,), labels, guesses)
    return _guess(rows, labels, guesses, apart=source.folds)


def _apart(inputs: list[str], labels: tuple[str, ...]) -> tuple[str, ...]:
    both = [column for column in inputs if column in labels]
    if both:
        raise refusal("label", "no input column", repr(both[0]), "Name it: label.")
    return tuple(inputs)


def _labels(rows: Rows, source: Source, guesses: dict[str, Any]) -> tuple[str, ...]:
    if source.label:
        return tuple(rows.check_column("label", column) for column in source.label)
    if rows.label:
        return rows.label
    inputs = {*(source.features or ()), source.text, source.text_pair, source.image, source.audio}
    columns = [c for c in rows.frame.columns if c not in inputs and c != source.folds]
    if not columns:
        raise refusal("label", "a column beside the inputs", "none")
    by_name = {column.lower(): column for column in reversed(columns)}
    likely = [by_name[name] for name in LABELS if name in by_name]
    likely += [c for c in columns if c in rows.names or c.lower().endswith(("_label", " label"))]
    label = (likely or columns[-1:])[0]
    guesses["label"] = label
    return (label,)


def _guess(
    rows: Rows, labels: tuple[str, ...], guesses: dict[str, Any], *, apart: int | str | None
) -> Roles:
    frame, training = rows.frame, rows.parts()["training"]
    table, long, unused = [], [], {}
    for column in (c for c in frame.columns if c not in labels and c != apart):
        values, kind = frame[column], kind_of(frame[column])
        if kind == "bytes" or (kind == "string" and _are_paths(values)):
            first = values.dropna().iloc[0]
            name = str(first.get("path") or "") if isinstance(first, dict) else str(first)
            audio = name.lower().endswith(AUDIO)
            guesses["audio" if audio else "image"] = column
            return Roles("spectrogram" if audio else "image", (column,), labels, guesses)
        if kind == "number":
            named = ROW_NUMBER.fullmatch(column) or ROW_NUMBER.fullmatch(column.lower())
            if named and values.iloc[training].is_unique:
                unused[column] = "a number for each row"
            else:
                table.append(column)
        elif kind == "string":
            distinct = values.nunique()
            few = distinct <= CATEGORIES and 2 * distinct <= max(len(values), 4)
            if few:
                table.append(column)
            elif values.dropna().str.fullmatch(COMMAS).all():
                unused[column] = "numbers with commas: write 0.5 and 1500"
            else:
                long.append((column, float(values.dropna().str.len().mean())))
                unused[column] = f"{distinct} different strings"
        else:
            unused[column] = "no values" if kind == "empty" else f"{kind} cells"
    texts = [column for column, length in long if length >= LONG or not table]
    if len(texts) == 1:
        others = dict.fromkeys(table, "beside a text")
        unused = {**{c: why for c, why in unused.items() if c not in texts}, **others}
        guesses["text"] = texts[0]
        return _with_unused(Roles("text", (texts[0],), labels, guesses), unused)
    if len(texts) > 1:
        rule = f"named, one of {', '.join(map(repr, texts))}"
        raise refusal("text", rule, "None", "A second text goes to text_pair, a table to features.")
    if not table:
        why = "; ".join(f"{column}: {reason}" for column, reason in unused.items()) or "no columns"
        raise refusal("features", "columns of numbers or categories, or a text", why)
    guesses["features"] = list(table) if unused else f"all {len(table)} columns beside the label"
    return _with_unused(Roles("table", tuple(table), labels, guesses), unused)


def _with_unused(found: Roles, unused: dict[str, str]) -> Roles:
    if unused:
        found.guesses["columns_not_used"] = unused
    return found


def _are_paths(values: Any) -> bool:
    return bool(values.dropna().str.lower().str.endswith(IMAGES + AUDIO).all())
