"""Reading a source once: everything that no seed changes."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.compare.data.arrays import read_arrays
from gradatim.compare.data.audio import read_clips
from gradatim.compare.data.columns import roles
from gradatim.compare.data.files import TABLES, read_bundled, read_folder, read_tables
from gradatim.compare.data.hub import read_hub
from gradatim.compare.data.images import read_images
from gradatim.compare.data.rows import Rows
from gradatim.compare.data.source import BUNDLED, Source
from gradatim.compare.data.tables import Table, read_table
from gradatim.compare.data.targets import Targets, check_targets, read_targets
from gradatim.compare.data.texts import Texts, read_texts
from gradatim.validation import refusal

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set in memory, before it is split and before anything is fitted.

    Attributes:
        source: where it came from.
        kind: classification, multilabel or regression.
        modality: table, image, spectrogram or text.
        inputs: a `Table` or `Texts`, uint8 (N, C, H, W) images or float32 (N, 1, M, T)
            spectrograms.
        targets: int64 (N,), float32 (N, L), or float32 (N,) or (N, T).
        label_names: of the classes, labels or targets.
        parts: positions of the parts that the source itself gives, "training" among them.
        facts: what was read and what was guessed, of plain values.
        folds: int64 (N,), places in ``fold_names``, -1 outside the training part; None where no
            column names folds.
        fold_names: values of that column.

    Example:
        >>> loaded = load(Source("iris"))
        >>> loaded.kind, loaded.modality, len(loaded.targets), loaded.label_names[0]
        ('classification', 'table', 150, 'setosa')
    """

    source: Source
    kind: str
    modality: str
    inputs: Table | Texts | np.ndarray
    targets: np.ndarray
    label_names: tuple[str, ...]
    parts: dict[str, np.ndarray]
    facts: dict[str, Any]
    folds: np.ndarray | None = None
    fold_names: tuple[str, ...] = ()


@functools.lru_cache(maxsize=2)
def load(source: Source) -> Loaded:
    """Read a source. The last two stay in memory: seeds and settings share them.

    Args:
        source: what to read. A file that changes later in the same process is not read again.

    Returns:
        The data set; its arrays are shared, so leave them as they are.

    Raises:
        ValueError: files, columns or values are not as they must be; see `Source`.
        ImportError: a package that reads them is missing.

    Example:
        >>> load(Source("digit"))
        Traceback (most recent call last):
        ValueError: data must be a bundled name, ... Got 'digit'. Did you mean 'digits'?
    """
    path = Path(source.data).expanduser()
    if source.data not in BUNDLED and path.suffix.lower() == ".npz":
        return _from_arrays(path, source)
    rows = _read_rows(path, source)
    found = roles(rows, source)
    targets = read_targets(rows, found.labels, task=source.task, separator=source.label_separator)
    check_targets(targets, rows)
    column = found.inputs[0]
    note: dict[str, Any] = {}
    if found.modality == "image":
        inputs = read_images(rows, column, size=source.image_size)
    elif found.modality == "spectrogram":
        inputs, note = read_clips(rows, column)
    elif found.modality == "text":
        limits = {"max_tokens": source.max_tokens, "vocabulary": source.vocabulary}
        inputs, note = read_texts(rows, found.inputs, **limits)
    else:
        inputs, note = read_table(rows, found.inputs)
    guesses = {**found.guesses, **targets.guesses}
    return _loaded(source, rows, targets, found.modality, inputs, {**note, "guesses": guesses})


def _loaded(
    source: Source, rows: Rows, targets: Targets, modality: str, inputs: Any, notes: dict[str, Any]
) -> Loaded:
    if source.folds is not None and "test" in rows.sizes:
        got = "a test part in the data"
        raise refusal("folds", "left out for data with a test part of their own", got)
    facts = {
        "kind": targets.kind,
        "modality": modality,
        "samples": len(rows.frame),
        "given_parts": dict(rows.sizes),
        **rows.notes,
        **notes,
    }
    names = targets.names
    folds, fold_names = None, ()
    if isinstance(source.folds, str):
        folds, fold_names = rows.folds(source.folds)
    return Loaded(
        source,
        targets.kind,
        modality,
        inputs,
        targets.values,
        names,
        rows.parts(),
        facts,
        folds,
        fold_names,
    )


def _from_arrays(path: Path, source: Source) -> Loaded:
    _check_exists(path)
    _check_no_parts(source, "an .npz file")
    if set(source.named_columns()) - {"audio", "image"}:
        got = ", ".join(source.named_columns())
        raise refusal("the columns of an .npz file", "left out: it has x and y", got)
    arrays = read_arrays(path, source)
    rows = arrays.rows
    targets = read_targets(rows, rows.label or (), task=source.task)
    check_targets(targets, rows)
    notes = {"guesses": targets.guesses}
    return _loaded(source, rows, targets, arrays.modality, arrays.inputs, notes)


def _read_rows(path: Path, source: Source) -> Rows:
    suffix = path.suffix.lower()
    if source.data in BUNDLED:
        _check_no_parts(source, "a bundled data set")
        return read_bundled(source.data)
    if suffix in TABLES:
        given = {"training": path}
        for part in ("validation", "test"):
            name = getattr(source, part)
            if name is not None:
                given[part] = Path(name)
                if Path(name).suffix.lower() not in TABLES:
                    raise refusal(part, f"a file of the kinds {', '.join(TABLES)}", repr(name))
        return read_tables(given)
    _check_no_parts(source, "a folder or a hub data set")
    if path.is_dir():
        return read_folder(path)
    if path.exists():
        kinds = ", ".join((*TABLES, ".npz"))
        raise refusal("data", f"a folder, or a file of the kinds {kinds}", repr(source.data))
    rule = "a bundled name, a file, a folder or a hub name"
    near = difflib.get_close_matches(source.data.lower(), BUNDLED, n=1, cutoff=0.75)
    if near:
        raise refusal("data", rule, repr(source.data), f"Did you mean {near[0]!r}?")
    if path.is_absolute() or source.data[0] in ".~\\" or source.data.count("/") > 1:
        _check_exists(path)
    return read_hub(source.data)


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise refusal("data", "a file or folder that exists", repr(str(path)))


def _check_no_parts(source: Source, what: str) -> None:
    for part in ("validation", "test"):
        if getattr(source, part) is not None:
            cause = "Its parts are found by their names."
            raise refusal(part, f"left out for {what}", repr(getattr(source, part)), cause)
