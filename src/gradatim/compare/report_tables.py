"""The report's smaller tables: other scores, scores per class, what methods saw, plain facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradatim.compare.metrics import METRICS

__all__ = ["facts", "score_tables", "seen", "task_facts"]

MOST_CLASSES = 20
MOST_ENTRIES = 24
GROUPS = {"many": "frequent classes", "medium": "medium", "few": "rare classes"}

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def score_tables(runs: Runs, names: Sequence[str], *, primary: str) -> list[dict[str, Any]]:
    """Average over seeds what was measured besides the primary metric.

    Args:
        runs: finished cells by curriculum, with any of ``scores``, ``by_frequency``,
            ``by_label_group`` and ``by_class``, dicts of numbers.
        names: curricula in the order of the columns.
        primary: the metric that has its own table.

    Returns:
        Per table a title, a note, columns and rows of text; tables without rows are left out.

    Example:
        >>> runs = {"uniform": [{"scores": {"macro_f1": 0.5}}, {"scores": {"macro_f1": 0.7}}]}
        >>> score_tables(runs, ["uniform"], primary="accuracy")[0]["rows"]
        [('macro F1 ↑', ['60.0'])]
    """
    columns = [name for name in names if runs.get(name)]
    tables = []
    for field, title, note in (
        ("scores", "Other scores on the test set", "Means over seeds; arrows show what is better. "
         "None of them was tested: the verdicts rest on one metric, chosen beforehand."),
        ("by_frequency", "Frequent and rare classes", "Mean recall (F1 for labels), in percent, of "
         "classes in three groups by how often they occur in training."),
        ("by_label_group", "Labels by frequency", "Macro-F1, in percent, of labels sorted by how "
         "often they occur in training, most frequent first, in groups of equal size."),
        ("by_class", "By class", "Recall (F1 for labels) in percent, means over seeds."),
    ):  # fmt: skip
        means = {name: _means(runs[name], field) for name in columns}
        keys = list(dict.fromkeys(key for found in means.values() for key in found))
        if field == "scores":
            # Groups of classes have a table of their own.
            keys = [key for key in keys if key != primary and not key.endswith("_classes")]
        elif field == "by_class" and len(keys) > MOST_CLASSES:
            first = means[columns[0]]
            note += f" The {MOST_CLASSES} of {len(keys)} classes that {columns[0]} does worst on."
            keys = sorted(keys, key=lambda key: first.get(key, 0.0))[:MOST_CLASSES]
        rows = [
            (_label(field, key), [_shown(field, key, means[name].get(key)) for name in columns])
            for key in keys
        ]
        if rows:
            tables.append({"title": title, "note": note, "columns": columns, "rows": rows})
    return tables


def _means(done: Sequence[Mapping[str, Any]], field: str) -> dict[str, float]:
    collected: dict[str, list[float]] = {}
    for run in done:
        for key, value in (run.get(field) or {}).items():
            if value is not None:
                collected.setdefault(str(key), []).append(float(value))
    return {key: float(np.mean(values)) for key, values in collected.items()}


def _label(field: str, key: str) -> str:
    if field == "by_frequency":
        return GROUPS.get(key, key)
    if field == "by_label_group":
        return f"label {key}" if key.isdigit() else f"labels {key.replace('-', ' to ')}"
    if field == "scores" and key in METRICS:
        return f"{METRICS[key].title} {'↑' if METRICS[key].higher_is_better else '↓'}"
    return key.replace("_", " ") if field == "scores" else key


def _shown(field: str, key: str, value: float | None) -> str:
    if value is None:
        return ""
    if field != "scores" or (key in METRICS and METRICS[key].scale == 100):
        return f"{100 * value:.1f}"
    return (f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}").replace("-", "\u2212")


def seen(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Say per curriculum what it was and what it looked at, from its first cell.

    Args:
        cells: finished cells with ``curriculum``, ``method`` and ``sees``.
        names: curricula in order.

    Returns:
        Per curriculum a name, the method as it would be typed, and phrases.

    Example:
        >>> seen([{"curriculum": "a", "method": "A()", "sees": ["labels"]}], ["a", "b"])
        [{'name': 'a', 'method': 'A()', 'sees': ['labels']}]
    """
    first: dict[str, Mapping[str, Any]] = {}
    for cell in cells:
        first.setdefault(cell["curriculum"], cell)
    return [
        {
            "name": name,
            "method": str(first[name].get("method") or ""),
            "sees": [str(phrase) for phrase in first[name].get("sees") or []],
        }
        for name in names
        if name in first
    ]


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write a dict as names and texts; long lists are cut.

    Args:
        values: from JSON.

    Returns:
        Pairs, nothing left out but empty values.

    Example:
        >>> facts({"batch_size": 64, "classes": ["a", "b"], "none": None})
        [('batch size', '64'), ('classes', 'a, b')]
    """
    pairs = [(str(name).replace("_", " "), _text(value)) for name, value in values.items()]
    return [(name, text) for name, text in pairs if text]


def task_facts(task: Mapping[str, Any], titles: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Split facts about the data into those of all settings and those of each.

    Args:
        task: facts, or facts by setting.
        titles: of the settings, by name.

    Returns:
        A heading and pairs as `facts` makes them, for each part that has any.

    Example:
        >>> task = {"a": {"kind": "k", "n": 1}, "b": {"kind": "k", "n": 2}}
        >>> task_facts(task, {"a": "A", "b": "B"})
        [('Data', [('kind', 'k')]), ('Data, A', [('n', '1')]), ('Data, B', [('n', '2')])]
    """
    by_setting = {name: entry for name, entry in task.items() if isinstance(entry, Mapping)}
    if not task or set(by_setting) != set(titles) or len(by_setting) < len(task):
        return [("Data", facts(task))] if task else []
    first = next(iter(by_setting.values()))
    shared = {
        name: value
        for name, value in first.items()
        if all(name in entry and entry[name] == value for entry in by_setting.values())
    }
    parts = [("Data", facts(shared))]
    for setting, entry in by_setting.items():
        own = {name: value for name, value in entry.items() if name not in shared}
        own.pop("stress", None)  # the title says it, and the plan in full
        parts.append((f"Data, {titles[setting]}", facts(own)))
    return [(heading, pairs) for heading, pairs in parts if pairs]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")  # a narrow space between thousands
    if isinstance(value, Mapping):
        return _text([f"{str(k).replace('_', ' ')}: {_text(v)}" for k, v in value.items()])
    if isinstance(value, list | tuple):
        more = f", ... ({len(value)})" if len(value) > MOST_ENTRIES else ""
        return ", ".join(_text(entry) for entry in value[:MOST_ENTRIES]) + more
    return f"{value:g}" if isinstance(value, float) else str(value)
