"""Where the data of a comparison come from, as plain values that a plan can store and compare."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields

from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["BUNDLED", "KINDS", "Source"]

BUNDLED = ("digits", "breast_cancer", "wine", "iris", "diabetes", "linnerud")
KINDS = ("classification", "multilabel", "regression")

_NAMES = ("data", "validation", "test", "text", "text_pair", "image", "audio", "label_separator")


@dataclass(frozen=True)
class Source:
    """Where data come from and which columns mean what.

    Lists are accepted where tuples are named, and one name where a tuple of names is, so that a
    source written to JSON and read back is equal to the one written.

    Attributes:
        data: a scikit-learn bundled set (digits, breast_cancer, wine, iris, diabetes, linnerud); a
            .csv, .tsv, .json, .jsonl, .parquet or .npz file; a folder with one subfolder of images
            or WAV files per class, or with such folders under train/, validation/, test/; or the
            name of a data set on the Hugging Face hub, ``owner/name`` or ``owner/name:config``.
        validation: file with the validation part; None draws it from the training part.
        test: file with the test part; None draws it as well. Parts of folders, .npz files and hub
            data sets are found by their names.
        features: columns of a table; None takes all that can be used.
        text: column of texts.
        text_pair: column of second texts, read after the first.
        image: column of images (paths beside the file, or encoded bytes).
        audio: column of WAV clips, likewise; for .npz, the array that holds spectrograms.
        label: the column to predict, or several: 0/1 columns of labels, or targets of a
            regression.
        label_separator: what stands between the labels of one cell, as "," in ``3,17,20``.
        task: classification, multilabel or regression; None guesses and says so.
        split: shares of training, validation and test where they are drawn.
        image_size: height and width that image files are resized to, in pixels; arrays of images
            stay as they are.
        max_tokens: tokens kept of a text.
        vocabulary: token ids at most, those for padding and unknown words included.
        limit: samples used at most, drawn by the seed (with folds, the same for all seeds); None
            uses all.
        folds: how many to draw for cross-validation, or the column (for .npz, the array) that says
            which fold each sample is in; None tests on one part.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: it lies outside its range, or two parameters exclude each other.

    Example:
        >>> Source("reviews.csv", text="review", label="stars").label
        ('stars',)
        >>> Source(split=(0.5, 0.5, 0.5))
        Traceback (most recent call last):
        ValueError: split must be three shares above 0 that sum to 1. Got (0.5, 0.5, 0.5).
    """

    data: str = "digits"
    validation: str | None = None
    test: str | None = None
    features: tuple[str, ...] | None = None
    text: str | None = None
    text_pair: str | None = None
    image: str | None = None
    audio: str | None = None
    label: tuple[str, ...] | None = None
    label_separator: str | None = None
    task: str | None = None
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    image_size: int = 32
    max_tokens: int = 64
    vocabulary: int = 20_000
    limit: int | None = None
    folds: int | str | None = None

    def __post_init__(self) -> None:
        """Check every value by name."""
        for name in _NAMES:
            self._check_name(name)
        for name in ("features", "label"):
            self._check_names(name)
        if self.task is not None:
            check_choice("task", self.task, KINDS)
        self._check_split()
        check_count("image_size", self.image_size, at_least=1, at_most=1024)
        check_count("max_tokens", self.max_tokens, at_least=1)
        check_count("vocabulary", self.vocabulary, at_least=4)
        if self.limit is not None:
            check_count("limit", self.limit, at_least=10)
        self._check_folds()
        self._check_together()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # what the constructor does in a frozen class

    def _check_name(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
            self._set(name, value)
        if value is None and name != "data":
            return
        if not isinstance(value, str):
            raise TypeError(str(refusal(name, "a string", repr(value))))
        if not value:
            raise refusal(name, "non-empty", repr(value))

    def _check_names(self, name: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        names = (value,) if isinstance(value, str) else value
        rule = "column names, one or several"
        if not isinstance(names, tuple | list) or not all(isinstance(n, str) for n in names):
            raise TypeError(str(refusal(name, rule, repr(value))))
        if not names or not all(names):
            raise refusal(name, rule, repr(value))
        if len(set(names)) < len(names):
            raise refusal(name, "different columns", repr(value))
        self._set(name, tuple(names))

    def _check_split(self) -> None:
        rule = "three shares above 0 that sum to 1"
        if not isinstance(self.split, tuple | list):
            raise TypeError(str(refusal("split", rule, repr(self.split))))
        shares = tuple(check_number("split", share) for share in self.split)
        if len(shares) != 3 or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise refusal("split", rule, tuple(self.split))
        self._set("split", shares)

    def _check_folds(self) -> None:
        if self.folds is None:
            return
        if isinstance(self.folds, bool) or not isinstance(self.folds, int | str):
            rule = "a number of folds or the name of a column"
            raise TypeError(str(refusal("folds", rule, repr(self.folds))))
        if isinstance(self.folds, int):
            check_count("folds", self.folds, at_least=2)
        else:
            self._check_name("folds")
        if self.test is not None:
            cause = "Each fold is tested in its turn; a test part would be one more."
            raise refusal("folds", "left out where test is given", repr(self.folds), cause)

    def _check_together(self) -> None:
        inputs = [name for name in ("features", "text", "image", "audio") if getattr(self, name)]
        if len(inputs) > 1:
            got = " and ".join(inputs)
            raise refusal("the inputs", "one of features, text, image, audio", got)
        if self.text_pair and not self.text:
            raise refusal("text_pair", "given with text", repr(self.text_pair))
        if self.text_pair:
            check_count("max_tokens with text_pair", self.max_tokens, at_least=3)
        used = [*(self.features or ()), self.text, self.text_pair, self.image, self.audio]
        both = [name for name in self.label or () if name in used]
        if both and not self.data.endswith(".npz"):
            raise refusal("label", "no input column", repr(both[0]), "It would be its own answer.")
        if self.folds is not None and self.folds in [*used, *(self.label or ())]:
            raise refusal("folds", "no input or label column", repr(self.folds))
        if self.label_separator and self.label and len(self.label) > 1:
            raise refusal("label", "one column where label_separator is given", self.label)
        if self.label_separator and self.task not in (None, "multilabel"):
            raise refusal("task", "'multilabel' where label_separator is given", repr(self.task))

    def named_columns(self) -> list[str]:
        """List the parameters that name columns and are given.

        Example:
            >>> Source("a.csv", text="review", label="stars").named_columns()
            ['text', 'label']
        """
        columns = ("features", "text", "text_pair", "image", "audio", "label")
        return [f.name for f in fields(self) if f.name in columns and getattr(self, f.name)]
