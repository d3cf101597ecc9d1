"""What the arguments of all paces have in common: each has a range, and each is checked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gradatim.validation import check_count, check_number

__all__ = ["COUNT", "FRACTION", "POSITIVE", "Checked"]

FRACTION: dict[str, float] = {"above": 0, "at_most": 1}
POSITIVE: dict[str, float] = {"above": 0}
COUNT: dict[str, float] = {"at_least": 1}


class Checked:
    """Checks every field of a frozen dataclass against the range in its metadata."""

    def __post_init__(self) -> None:
        own: Any = self
        for entry in fields(own):
            check = check_count if entry.type == "int" else check_number
            value = check(entry.name, getattr(self, entry.name), **dict(entry.metadata))
            # Stored as a plain number, so that the repr rebuilds the pace: NumPy's would not.
            object.__setattr__(self, entry.name, value)
