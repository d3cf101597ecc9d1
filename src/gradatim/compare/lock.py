"""A results folder belongs to one comparison at a time, and to none that was killed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gradatim.validation import refusal

__all__ = ["LOCK", "locked"]

LOCK = ".lock"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other comparisons out of a folder.

    The lock is the operating system's, taken through SQLite, which knows how on every system. It
    ends with the process that holds it, however that ends; the empty file stays. Where a file
    system has no locks there is none, as before.

    Args:
        out: the folder; made if it is missing.

    Yields:
        Nothing, while the folder is locked.

    Raises:
        ValueError: another comparison, in this process or another, works in it.
        OSError: the folder cannot be made.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with locked(folder), locked(folder):
        ...     pass
        Traceback (most recent call last):
        ValueError: out must be a folder in which no other comparison runs. Got ... Wait for it, ...
        >>> with locked(folder):
        ...     pass
    """
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            connection = sqlite3.connect(out / LOCK, timeout=0, isolation_level=None)
            stack.enter_context(contextlib.closing(connection))
            connection.execute("PRAGMA journal_mode = OFF")  # it would be a second file
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                cause = "Wait for it, or choose another --out."
                rule = "a folder in which no other comparison runs"
                raise refusal("out", rule, out, cause) from error
        yield
