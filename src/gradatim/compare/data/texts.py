"""Texts: words by a regular expression, ids by frequency in the training part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradatim.compare.data.rows import Rows
from gradatim.validation import refusal

__all__ = ["SEGMENT", "Texts", "read_texts", "words"]

PADDING, UNKNOWN, SEPARATOR = 0, 1, 2
SEGMENT = 1 << 32
"""Added to ids of a pair's second text, for models that are told which text a token is of."""
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


def words(text: str) -> list[str]:
    """Cut a text into lower-cased words; digits are words, punctuation is dropped.

    Scripts without spaces give one word per run of characters; a pretrained tokenizer reads those.

    Example:
        >>> words("Don't panic: it's 42!")
        ["don't", 'panic', "it's", '42']
    """
    return _WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts cut into words, before ids are given.

    Attributes:
        first: N texts.
        second: N second texts, or None.
        codes: int64, all words one text after the other, as positions in the sorted list of all
            words; -1 stands between two texts of a pair.
        lengths: int64 (N,), words per text, with the separator.
        known: number of different words.
        vocabulary: ids at most.

    Example:
        >>> texts = Texts(("b a a", "c"), None, np.array([1, 0, 0, 2]), np.array([3, 1]), 3, 100)
        >>> texts.features(np.array([0]))
        (array([[3, 2, 2],
               [1, 0, 0]]), 4)
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    codes: np.ndarray
    lengths: np.ndarray
    known: int
    vocabulary: int

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.first)

    def joined(self, position: int) -> str:
        """Return a text, or a pair as one text."""
        second = self.second[position] if self.second else ""
        return f"{self.first[position]} {second}".strip()

    def features(self, training: np.ndarray) -> tuple[np.ndarray, int]:
        """Give ids by frequency in some texts and write all texts in them.

        0 is padding, 1 a word that the training texts do not have or that is too rare for the
        vocabulary, 2 stands between the texts of a pair; words follow from the most frequent on,
        equal ones in alphabetical order.

        Args:
            training: int64 positions of the texts that are counted.

        Returns:
            int64 (N, longest text), and the number of ids.
        """
        row = np.repeat(np.arange(len(self)), self.lengths)
        counted = np.zeros(len(self), bool)
        counted[training] = True
        seen = self.codes[counted[row] & (self.codes >= 0)]
        counts = np.bincount(seen, minlength=self.known)
        special = 2 if self.second is None else 3
        kept = min(int((counts > 0).sum()), self.vocabulary - special)
        ids = np.full(self.known + 1, UNKNOWN, np.int64)
        ids[np.argsort(-counts, kind="stable")[:kept]] = np.arange(special, special + kept)
        ids[-1] = SEPARATOR  # where code -1 looks
        width = max(1, int(self.lengths.max()))
        matrix = np.full((len(self), width), PADDING, np.int64)
        matrix[np.arange(width) < self.lengths[:, None]] = ids[self.codes]
        # A text without any word, as "!!!", is one unknown word: models average over words.
        matrix[self.lengths == 0, 0] = UNKNOWN
        return matrix, special + kept


def read_texts(
    rows: Rows, columns: tuple[str, ...], *, max_tokens: int, vocabulary: int
) -> tuple[Texts, dict[str, Any]]:
    """Cut a column of texts, or two, into words.

    Args:
        rows: what was read.
        columns: the text, and the second text if there is one.
        max_tokens: words kept of a text; the texts of a pair share them.
        vocabulary: ids at most.

    Returns:
        The texts, and a note for the record.

    Raises:
        ValueError: a text is missing or empty.

    Example:
        >>> import pandas as pd
        >>> rows = Rows(pd.DataFrame({"t": ["Good one", "bad"]}), {"training": 2})
        >>> texts, note = read_texts(rows, ("t",), max_tokens=8, vocabulary=100)
        >>> texts.codes, note
        (array([1, 2, 0]), {'words': 3, 'texts_cut': 0})
    """
    columns_read = [_column(rows, name) for name in columns]
    lookup: dict[str, int] = {}
    codes: list[int] = []
    lengths = np.empty(len(rows.frame), np.int64)
    cut = 0
    for i, texts in enumerate(zip(*columns_read, strict=True)):
        parts = [words(text) for text in texts]
        room = _room([len(part) for part in parts], max_tokens)
        start = len(codes)
        for place, (part, most) in enumerate(zip(parts, room, strict=True)):
            codes += [-1] * place  # between the two
            codes += [lookup.setdefault(word, len(lookup)) for word in part[:most]]
        lengths[i] = len(codes) - start
        cut += any(len(part) > most for part, most in zip(parts, room, strict=True))
    order = np.argsort(np.array(list(lookup), dtype=object), kind="stable")
    alphabetical = np.empty(len(lookup) + 1, np.int64)
    alphabetical[order] = np.arange(len(lookup))
    alphabetical[-1] = -1
    second = tuple(columns_read[1]) if len(columns_read) > 1 else None
    flat = alphabetical[np.array(codes, np.int64)]
    found = Texts(tuple(columns_read[0]), second, flat, lengths, len(lookup), vocabulary)
    return found, {"words": len(lookup), "texts_cut": int(cut)}


def _column(rows: Rows, name: str) -> list[str]:
    column = rows.frame[name]
    text = column.astype(object).where(column.notna(), "").astype(str)
    empty = (text.str.strip() == "").to_numpy()
    if empty.any():
        raise refusal(f"text {name!r}", "non-empty in every row", f"none in {rows.where(empty)}")
    return text.tolist()


def _room(lengths: list[int], most: int) -> list[int]:
    """Share the room of a pair: a short text leaves what it does not need to the other."""
    if len(lengths) == 1:
        return [most]
    room = most - 1  # for the separator
    first = min(lengths[0], max(room - room // 2, room - lengths[1]))
    return [first, room - first]
