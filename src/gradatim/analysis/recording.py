"""What a run says about each sample, epoch by epoch, in one file."""

from __future__ import annotations

import contextlib
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradatim.validation import check_count, refusal

if TYPE_CHECKING:
    from gradatim.curriculum import Curriculum

__all__ = ["Recording"]

FORMAT = 1
VALUE, EXTRA, MEASURED = "value/", "extra/", "measured/"


class Recording:
    """Every per-sample table of a curriculum, one row per epoch, and who was trained on.

    Call `take` after an epoch's last step, and `save` when it suits. ``recording["Dynamics.loss"]``
    is then a matrix (T, N): one row per recorded epoch, one column per sample.

    Args:
        labels: (N,), whatever the figures may need to know of the samples: class numbers; or
            (N, L) of 0 and 1, where a sample may have several of L labels.
        corrupted: bool (N,), whose labels are known to be wrong.
        **extra: more arrays with one row per sample, (N, ...), under names of your own.

    Attributes:
        epochs: int64 (T,): epochs completed when each row was taken.
        members: bool (T, N): which samples the epoch trained on.
        survey_due: bool (T,): the row was taken before a survey that a method waited for.
        labels: (N,) or (N, L), or None.
        corrupted: bool (N,), or None.
        extra: by name, (N, ...).
        measured: by name, what the epochs were worth: float64 (T,), or (T, L) for several numbers.

    Raises:
        TypeError: an array of objects.
        ValueError: arrays of different numbers of samples, or ``corrupted`` that is not bool.

    Example:
        >>> import gradatim as gr
        >>> from gradatim.analysis.recording import Recording
        >>> curriculum = gr.Curriculum(gr.Dynamics(normalize=False))
        >>> recording = Recording(labels=[0, 1])
        >>> logits = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> loader = curriculum.loader(torch.arange(2), batch_size=2)
        >>> for _ in range(3):
        ...     for k in loader:
        ...         losses = torch.nn.functional.cross_entropy(logits[k], k, reduction="none")
        ...         loss = curriculum(losses, logits=logits[k], targets=k)
        ...     recording.take(curriculum)
        >>> recording.epochs, recording["Dynamics.loss"].shape
        (array([1, 2, 3]), (3, 2))

    Caveats: rows are kept in memory and in the file at the tables' precision, N numbers for each
    table and epoch: 50,000 samples, 5 tables and 300 epochs are 300 MB. With several processes
    every rank may take and one saves; tables are alike after each epoch.
    """

    def __init__(
        self, *, labels: Any = None, corrupted: Any = None, **extra: torch.Tensor | np.ndarray
    ) -> None:
        self.labels = None if labels is None else _array("labels", labels)
        self.corrupted = None if corrupted is None else _array("corrupted", corrupted)
        self.extra = {name: _array(name, values) for name, values in extra.items()}
        if self.corrupted is not None and self.corrupted.dtype != np.bool_:
            raise refusal("corrupted", "bool, one per sample", self.corrupted.dtype)
        self._size: int | None = None
        for name, values in self._fixed():
            if name == "labels" and values.ndim > 2:
                raise refusal(name, "of shape (N,) or (N, L)", values.shape)
            if name == "corrupted" and values.ndim != 1:
                raise refusal(name, "one-dimensional, one per sample", values.shape)
            self._size = _same_size(name, values, self._size)
        self._epochs: list[int] = []
        self._members: list[np.ndarray] = []
        self._due: list[bool] = []
        self._rows: list[dict[str, np.ndarray]] = []
        self._measured: list[dict[str, np.ndarray]] = []

    def __repr__(self) -> str:
        return f"Recording(epochs={len(self)}, samples={self._size}, tables={self.keys()})"

    def __len__(self) -> int:
        """Recorded epochs, T."""
        return len(self._epochs)

    @property
    def size(self) -> int | None:
        """N, or None while it is not known."""
        return self._size

    @property
    def epochs(self) -> np.ndarray:
        """int64 (T,): epochs completed when each row was taken."""
        return np.array(self._epochs, dtype=np.int64)

    @property
    def members(self) -> np.ndarray:
        """Bool (T, N): which samples the epoch trained on."""
        if not self._members:
            return np.zeros((0, self._size or 0), dtype=bool)
        return np.stack(self._members)

    @property
    def survey_due(self) -> np.ndarray:
        """Bool (T,): the row was taken before a survey that a method waited for."""
        return np.array(self._due, dtype=bool)

    @property
    def measured(self) -> dict[str, np.ndarray]:
        """What the epochs were worth, float64 (T,) or (T, L); NaN where it was not measured."""
        found = {}
        for name in dict.fromkeys(name for row in self._measured for name in row):
            empty = np.full_like(next(row[name] for row in self._measured if name in row), np.nan)
            found[name] = np.stack([row.get(name, empty) for row in self._measured])
        return found

    def keys(self) -> list[str]:
        """Names of the tables, as ``"Method.table"``, in the order in which they appeared."""
        return list(dict.fromkeys(key for row in self._rows for key in row))

    def __contains__(self, key: object) -> bool:
        return any(key in row for row in self._rows)

    def __getitem__(self, key: str) -> np.ndarray:
        """The table's values, float (T, N); NaN in the epochs in which there was no such table.

        Raises:
            KeyError: no epoch had it.
        """
        if key not in self:
            known = ", ".join(map(repr, self.keys())) or "none"
            raise KeyError(f"{key!r} was not recorded. Known tables: {known}.")
        empty = np.full(self._size or 0, np.nan, dtype=np.float32)
        return np.stack([row.get(key, empty) for row in self._rows])

    def take(self, curriculum: Curriculum, *, measured: Mapping[str, Any] | None = None) -> None:
        """Record the epoch that has just ended.

        Taken again (after a run went back to a checkpoint), it replaces that epoch's row and drops
        those of later epochs.

        Args:
            curriculum: after the last step of an epoch; where a survey follows (DoCL's baselines),
                after that.
            measured: what the model is worth now, by name: numbers, such as
                ``{"macro-F1": 0.71}`` on validation data, or vectors, such as
                ``{"label F1": label_f1(targets, predictions)}``.

        Raises:
            RuntimeError: no epoch is over yet, or another one has begun.
            ValueError: another number of samples than before, or another length of a vector.
        """
        epochs = curriculum.epochs
        if epochs.begun:
            raise RuntimeError(
                "a recording takes whole epochs, and this one has begun: call take after the "
                "loader's last batch."
            )
        if epochs.previous is None:
            raise RuntimeError("a recording takes epochs that are over, and there is none yet.")
        self.append(
            curriculum.scores(),
            epoch=curriculum.epoch,
            members=epochs.previous,
            survey_due=curriculum.survey_due,
            measured=measured,
        )

    def append(
        self,
        tables: Mapping[str, torch.Tensor | np.ndarray],
        *,
        epoch: int,
        members: torch.Tensor | np.ndarray | None = None,
        survey_due: bool = False,
        measured: Mapping[str, Any] | None = None,
    ) -> None:
        """Record an epoch whose values come from elsewhere; copies are kept.

        Args:
            tables: by name, (N,), real numbers.
            epoch: epochs completed, at least 1; rows of this epoch and later ones are replaced.
            members: bool (N,), which samples it trained on; None is all.
            survey_due: a survey that belongs to the values was still to come.
            measured: as of `take`.

        Raises:
            TypeError: an array of objects.
            ValueError: arrays of different numbers of samples, or another length of a vector.
        """
        check_count("epoch", epoch, at_least=1)
        size, row = self._size, {}
        for key, values in tables.items():
            given = _array(key, values)
            if given.ndim != 1:
                raise refusal(key, "one-dimensional, one value per sample", given.shape)
            if given.dtype.kind not in "biuf":
                raise TypeError(f"{key} must be real numbers. Got {given.dtype}.")
            size = _same_size(key, given, size)
            exact = given.dtype in (np.float16, np.float32)
            row[key] = given.astype(np.float32 if exact else np.float64)
        if members is None and size is None:
            raise refusal("tables", "not empty without members", "none")
        chosen = np.ones(size or 0, bool) if members is None else _array("members", members)
        if chosen.dtype != np.bool_ or chosen.ndim != 1:
            raise refusal("members", "bool (N,)", f"{chosen.dtype} {chosen.shape}")
        size = _same_size("members", chosen, size)
        values = self._worth(measured or {}, epoch)
        self._size = size
        while self._epochs and self._epochs[-1] >= epoch:
            for rows in (self._epochs, self._members, self._due, self._rows, self._measured):
                rows.pop()
        self._epochs.append(epoch)
        self._members.append(chosen)
        self._due.append(survey_due)
        self._rows.append(row)
        self._measured.append(values)

    def _worth(self, measured: Mapping[str, Any], epoch: int) -> dict[str, np.ndarray]:
        """Copies of what was measured, if it fits what earlier epochs measured."""
        found = {}
        kept = [
            row for number, row in zip(self._epochs, self._measured, strict=True) if number < epoch
        ]
        for name, values in measured.items():
            given = _copy(values)
            if given.dtype.kind not in "biuf":
                raise TypeError(f"{name} must be real numbers. Got {given.dtype}.")
            if given.ndim > 1:
                raise refusal(name, "one number, or a vector", given.shape)
            before = next((row[name].shape for row in kept if name in row), given.shape)
            if before != given.shape:
                raise refusal(name, f"of shape {before}, as before", given.shape)
            found[name] = given.astype(np.float64)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as one NumPy archive (.npz), whole or not at all.

        Args:
            path: the file; an old one is replaced.

        Raises:
            ValueError: nothing was recorded.
            OSError: the file cannot be written; an old one is as it was.
        """
        if not self._epochs:
            raise refusal("recording", "of at least one epoch", "none: call take first")
        content: dict[str, Any] = {
            "format": np.array(FORMAT),
            "epochs": self.epochs,
            "members": self.members,
            "survey_due": self.survey_due,
            **{VALUE + key: self[key] for key in self.keys()},
            **{EXTRA + name: values for name, values in self._fixed()},
            **{MEASURED + name: values for name, values in self.measured.items()},
        }
        target = Path(path)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            with partial.open("xb") as file:
                np.savez(file, **content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read what `save` wrote; nothing in the file is executed.

        Args:
            path: the file.

        Returns:
            A recording that can go on.

        Raises:
            OSError: there is no such file, or it cannot be read.
            ValueError: it is no recording, or one of a later format.
        """
        rule, shown = "a recording that Recording.save wrote", repr(str(path))
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                content = {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
            raise refusal("path", rule, shown) from error
        if not {"format", "epochs", "members", "survey_due"} <= set(content):
            raise refusal("path", rule, shown, "Is it another NumPy archive?")
        if int(content["format"]) > FORMAT:
            cause = "Was it written by a later gradatim?"
            raise refusal("path", f"a recording of format {FORMAT} or earlier", shown, cause)
        fixed = {k.removeprefix(EXTRA): v for k, v in content.items() if k.startswith(EXTRA)}
        values = {k.removeprefix(VALUE): v for k, v in content.items() if k.startswith(VALUE)}
        worth = {k.removeprefix(MEASURED): v for k, v in content.items() if k.startswith(MEASURED)}
        recording = cls(**fixed)
        due = content["survey_due"].tolist()
        for number, epoch in enumerate(content["epochs"].tolist()):
            rows = {key: table[number] for key, table in values.items()}
            members = content["members"][number]
            recording.append(
                rows,
                epoch=epoch,
                members=members,
                survey_due=due[number],
                measured={k: v[number] for k, v in worth.items() if not np.isnan(v[number]).all()},
            )
        return recording

    def _fixed(self) -> Iterator[tuple[str, np.ndarray]]:
        """What does not change from epoch to epoch."""
        for name, values in (("labels", self.labels), ("corrupted", self.corrupted)):
            if values is not None:
                yield name, values
        yield from self.extra.items()


def _copy(values: Any) -> np.ndarray:
    """A copy that nothing else writes to."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        values = values.numpy()
    return np.array(values)


def _array(name: str, values: Any) -> np.ndarray:
    found = _copy(values)
    if found.dtype.kind not in "biufU" or not found.ndim:
        raise TypeError(f"{name} must be an array with one row per sample. Got {found.dtype}.")
    return found


def _same_size(name: str, values: np.ndarray, size: int | None) -> int:
    if size is not None and len(values) != size:
        raise refusal(name, f"of {size} samples, as before", len(values))
    return len(values)
