"""Files that are whole or absent: an interrupted write never leaves a half one."""

from __future__ import annotations

import json
import math
import os
import uuid
from pathlib import Path
from typing import Any

__all__ = ["as_json", "partial_files", "remove_partial_files", "replace_file"]

PARTIAL = ".partial"


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file in one step: readers see the old content or the new, never a part.

    Args:
        path: the file; its folder is made if it is missing.
        content: text (UTF-8) or bytes.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file is as it was.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> replace_file(folder / "a.txt", "whole")
        >>> [path.name for path in folder.iterdir()], (folder / "a.txt").read_text()
        (['a.txt'], 'whole')
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partial_files(folder: Path) -> None:
    """Remove what killed writers left behind.

    Args:
        folder: searched with all folders below.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / f".a.json.x{PARTIAL}").write_text("ha")
        >>> remove_partial_files(folder)
        >>> list(folder.iterdir())
        []
    """
    for path in partial_files(folder):
        path.unlink(missing_ok=True)


def partial_files(folder: Path) -> list[Path]:
    """List what killed writers left behind.

    Args:
        folder: searched with all folders below.

    Returns:
        Paths of files.

    Example:
        >>> partial_files(Path("a folder that is missing"))
        []
    """
    return list(folder.rglob(f".*{PARTIAL}"))


def as_json(value: Any, *, depth: int = 3) -> str:
    """Write JSON that people can read too: the outer levels one entry per line, the rest compact.

    Args:
        value: dicts, lists and tuples, numbers, strings, booleans, None. Numbers that JSON does
            not know (infinities, NaN) become null.
        depth: levels with one entry per line.

    Returns:
        Strict JSON, without a line break at the end.

    Example:
        >>> print(as_json({"a": [1, 2], "b": float("inf")}, depth=1))
        {
          "a": [1, 2],
          "b": null
        }
    """
    return _lines(_strict(value), depth, "")


def _lines(value: Any, depth: int, indent: str) -> str:
    if depth == 0 or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    if isinstance(value, dict):
        left, right = "{", "}"
        rows = [f"{json.dumps(k)}: {_lines(v, depth - 1, inner)}" for k, v in value.items()]
    else:
        left, right = "[", "]"
        rows = [_lines(v, depth - 1, inner) for v in value]
    body = ",\n".join(inner + row for row in rows)
    return f"{left}\n{body}\n{indent}{right}"


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _strict(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
