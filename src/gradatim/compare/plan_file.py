"""A plan as a file: TOML that `gradatim compare` takes, and what two of them do otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from gradatim.compare.plan import Plan
from gradatim.validation import check_choice

__all__ = ["as_table", "as_toml", "differences", "from_table"]


def as_table(plan: Plan) -> dict[str, Any]:
    """Return what the plan's file holds: plain values, None left out.

    Args:
        plan: any plan.

    Returns:
        Values by the name of the entry.

    Example:
        >>> as_table(Plan("iris", seeds=2))["seeds"]
        [0, 1]
    """
    plain: dict[str, Any] = {}
    for entry in fields(plan):
        value = getattr(plan, entry.name)
        if isinstance(value, tuple):
            value = list(value)
        if value is not None:
            plain[entry.name] = dict(value) if isinstance(value, Mapping) else value
    return plain


def as_toml(plan: Plan) -> str:
    """Write the plan as a file that `gradatim compare` takes.

    Args:
        plan: any plan.

    Returns:
        TOML.

    Example:
        >>> print(as_toml(Plan(curricula="spl", seeds=2)).splitlines()[0])
        data = "digits"
    """
    plain = as_table(plan)
    found = plain.pop("versions")
    written = {k: json.dumps(value, ensure_ascii=False) for k, value in plain.items()}
    lines = [f"{name} = {value}" for name, value in written.items()]
    lines += ["", "[versions]", *(f'"{name}" = "{number}"' for name, number in found.items())]
    return "\n".join(lines) + "\n"


def from_table(table: Mapping[str, Any]) -> Plan:
    """Read what `as_table` gave, or a user's TOML.

    Args:
        table: names and values; ``versions`` are looked up anew.

    Returns:
        The plan.

    Raises:
        ValueError: an unknown name, with the nearest one that is known.

    Example:
        >>> from_table({"seed": 8})
        Traceback (most recent call last):
        ValueError: entry must be one of ... Got 'seed'. Did you mean 'seeds'?
    """
    known = [entry.name for entry in fields(Plan)]
    for name in table:
        check_choice("entry", name, known)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    values.pop("versions", None)
    return Plan(**values)


def differences(plan: Plan, other: Mapping[str, Any]) -> list[str]:
    """Name what another plan, as a table, does otherwise: "alpha = 0.01, not 0.05".

    Args:
        plan: the one that is wanted.
        other: what `as_table` gave.

    Returns:
        One phrase per entry that differs, other's value first; empty if none does.

    Example:
        >>> differences(Plan(alpha=0.05), as_table(Plan(alpha=0.01)))
        ['alpha = 0.01, not 0.05']
    """
    mine = as_table(plan)
    return [
        f"{name} = {_shown(other.get(name))}, not {_shown(mine.get(name))}"
        for name in dict.fromkeys([*mine, *other])
        if other.get(name) != mine.get(name)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {entry}" for name, entry in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
