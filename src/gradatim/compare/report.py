"""``report.html``: one page that answers whether a curriculum helped, for readers new to it.

The page stands alone: no script, no font, no picture from elsewhere. It is made from what
``results.json`` holds, so an old results folder can be rendered again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.compare.efficiency import COSTS, area_under_curve, to_reach
from gradatim.compare.extras import needs_extra
from gradatim.compare.files import replace_file
from gradatim.compare.folds import trainings
from gradatim.compare.report_charts import Series, line_chart, merge_equal, style_of, ticks
from gradatim.compare.report_tables import facts, score_tables, seen, task_facts
from gradatim.compare.report_words import Numbers, headline, interval_of, joined, sentence
from gradatim.compare.verdicts import probability

__all__ = ["render", "write_report"]

TEMPLATE = Path(__file__).with_name("report_template.html")
ACCURACY = {
    "name": "accuracy",
    "title": "accuracy",
    "unit": "points",
    "scale": 100,
    "higher_is_better": True,
}
CONTROLS = ("uniform", "paced_random")
MARKS = {"helps": "▲", "hurts": "▼", "equivalent": "≈", "not enough evidence": "?"}
SECONDS = ("loading", "preparation", "data", "forward", "backward", "training")
SECONDS += ("selection", "diversity", "survey", "evaluation", "other")
BUDGETS = {"steps": "number of steps", "seconds": "time", "": "budget"}

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def render(content: Mapping[str, Any]) -> str:
    """Lay out a comparison as one self-contained page.

    Args:
        content: what ``results.json`` holds, as a dict, or as read back from it.

    Returns:
        HTML, with every name escaped.

    Raises:
        ImportError: jinja2 is missing.

    Example:
        >>> page = render({"plan": {"data": "<mine>"}, "statistics": {}})
        >>> "&lt;mine&gt;" in page, "<mine>" in page
        (True, False)
    """
    with needs_extra("gradatim compare"):
        import jinja2
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(_page(content))


def write_report(content: Mapping[str, Any], out: Path) -> Path:
    """Write ``report.html`` to the results folder, whole or not at all.

    Args:
        content: as `render` takes it.
        out: the results folder.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
        ImportError: jinja2 is missing.

    Example:
        >>> import tempfile
        >>> write_report({}, Path(tempfile.mkdtemp())).name
        'report.html'
    """
    path = out / "report.html"
    replace_file(path, render(content))
    return path


def _page(content: Mapping[str, Any]) -> dict[str, Any]:
    metric = {**ACCURACY, **(content.get("metric") or {})}
    plan = content.get("plan") or {}
    statistics = {
        setting: _rows(family, metric)
        for setting, family in (content.get("statistics") or {}).items()
    }
    rows = [row for family in statistics.values() for row in family.values()]
    numbers = Numbers.of(metric, [row["mean"] for row in rows])
    names = list(dict.fromkeys(name for family in statistics.values() for name in family))
    baseline = content.get("baseline") or CONTROLS[0]
    controls = tuple(content.get("controls") or CONTROLS)
    cells = list(content.get("cells") or [])
    titles = {
        setting: str((content.get("settings") or {}).get(setting, setting))
        for setting in statistics
    }
    seeds, budget = plan.get("seeds"), str(plan.get("budget") or "steps")
    settings = [
        _setting(
            place,
            setting,
            titles[setting],
            statistics[setting],
            {name: [c for c in cells if (c["setting"], c["curriculum"]) == (setting, name)]
             for name in statistics[setting]},
            numbers,
            names,
            baseline,
        )
        for place, setting in enumerate(statistics)
    ]  # fmt: skip
    answer, words = headline(
        {part["title"]: statistics[part["name"]] for part in settings}, numbers, controls
    )
    return {
        "data": str(plan.get("data", "your data")),
        "answer": answer,
        "headline": words,
        "settings": settings,
        "legend": [{"name": name, "style": style_of(place)} for place, name in enumerate(names)],
        "metric": metric,
        "numbers": numbers,
        "baseline": baseline,
        "control": next((name for name in controls if name != baseline and name in names), None),
        "others": max(0, len(names) - 1),
        "runs": len(cells),
        "seeds": len(seeds) if isinstance(seeds, list | tuple) else seeds,
        "budget": BUDGETS.get(budget, f"number of {budget}"),
        "tuned": bool(plan.get("tune")),
        "items": any((row.get("comparison") or {}).get("item_interval") for row in rows),
        "alpha": plan.get("alpha", 0.05),
        "margin": numbers.size(plan["margin"]) if plan.get("margin") else "",
        "sees": seen(cells, names),
        "failures": [str(failure) for failure in content.get("failures") or []],
        "facts": [
            *task_facts(content.get("task") or {}, titles),
            ("Plan, fixed before the first run", facts(plan)),
            ("Versions", facts(content.get("versions") or {})),
        ],
        "command": str(content.get("command") or ""),
        "smallest_p": content.get("smallest_sign_flip_p"),
        "probability": probability,
        "interval_of": interval_of,
    }


def _rows(family: Mapping[str, Any], metric: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the primary metric's rows, whether its key is its name or an older one."""
    for name in (metric["name"], f"test_{metric['name']}"):
        if name in family:
            return family[name]
    return next(iter(family.values()), {})


def _setting(
    place: int,
    setting: str,
    title: str,
    rows: Mapping[str, Any],
    runs: Runs,
    numbers: Numbers,
    names: Sequence[str],
    baseline: str,
) -> dict[str, Any]:
    costs = _costs(runs, baseline, numbers)
    compared = {name: row for name, row in rows.items() if row.get("comparison")}
    axis = _axis([row["comparison"] for row in compared.values()], numbers)
    spent = {
        kind
        for done in runs.values()
        for run in done
        for kind, seconds in (run.get("seconds") or {}).items()
        if seconds
    }
    kinds = [kind for kind in SECONDS if kind in spent] + sorted(spent - set(SECONDS))
    return {
        "name": setting,
        "title": title,
        "axis": axis,
        "verdicts": [
            {
                "name": name,
                "kind": row["comparison"]["verdict"],
                "style": row["comparison"]["verdict"].replace(" ", "-"),
                "mark": MARKS.get(row["comparison"]["verdict"], ""),
                "sentence": sentence(row["comparison"], numbers),
                **_track(row["comparison"], axis, numbers),
            }
            for name, row in compared.items()
        ],
        "rows": [
            {
                "name": name,
                "mean": numbers.value(row["mean"]),
                "deviation": numbers.value(row.get("deviation")),
                "runs": len(row.get("scores") or []),
                "samples": row.get("samples") or {},
                "seconds": _seconds(runs[name], kinds),
                "found": row.get("comparison"),
                "cost": costs.get(name, {}),
            }
            for name, row in rows.items()
        ],
        "second_kinds": kinds,
        "costs": [cost for cost in COSTS if any(cost in found for found in costs.values())],
        "has_area": any("area" in found for found in costs.values()),
        "charts": _charts(place, runs, names, numbers),
        "tables": score_tables(runs, names, primary=numbers.name),
    }


def _axis(comparisons: Sequence[Mapping[str, Any]], numbers: Numbers) -> dict[str, Any]:
    """Choose the range of the difference tracks, and where its ticks and the margin lie."""
    if not comparisons:
        return {"low": 0, "high": 1, "ticks": [], "zero": 0, "band": None}
    ends = [bound for found in comparisons for bound in interval_of(found)]
    margin = comparisons[0]["equivalence"]["margin"]
    low, high = min(*ends, -margin), max(*ends, margin)
    room = (high - low) * 0.03
    low, high = low - room, high + room

    def share(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    marks = ticks(low * numbers.scale, high * numbers.scale, about=4)
    return {
        "low": low,
        "high": high,
        "zero": share(0),
        "band": (share(-margin), round(share(margin) - share(-margin), 2)),
        "ticks": [
            {"at": share(value / numbers.scale), "text": f"{value:+g}".replace("-", "\u2212")}
            for value in (v or 0.0 for v in marks)
        ],
    }


def _track(found: Mapping[str, Any], axis: Mapping[str, Any], numbers: Numbers) -> dict[str, Any]:
    width = axis["high"] - axis["low"]
    low, high = interval_of(found)
    left, point, right = (
        round(100 * (value - axis["low"]) / width, 2)
        for value in (low, found["t_test"]["difference"], high)
    )
    return {
        "left": left,
        "point": point,
        "right": right,
        "size": numbers.change(found["t_test"]["difference"]),
    }


def _score_curve(run: Mapping[str, Any]) -> dict[str, Any]:
    """Give a curve under today's names; without evaluations it is empty."""
    curve = dict(run.get("curve") or {})
    if "validation_score" not in curve:
        curve["validation_score"] = curve.get("validation_accuracy") or []
    length = len(curve["validation_score"])
    return {name: v for name, v in curve.items() if len(v) == length} if length else {}


def _costs(runs: Runs, baseline: str, numbers: Numbers) -> dict[str, dict[str, str]]:
    """Say per curriculum, over seeds, what plain training's final score cost, and the area."""
    plain = {run["seed"]: _score_curve(run) for run in runs.get(baseline, [])}
    reached: dict[str, dict[str, list[float]]] = {}
    areas: dict[str, list[float]] = {}
    for name, done in runs.items():
        for run in done:
            curve = _score_curve(run)
            if "steps" in curve:
                area = area_under_curve(curve["steps"], curve["validation_score"])
                areas.setdefault(name, []).append(area)
            if curve and plain.get(run["seed"]):
                found = to_reach(
                    {name: curve}, plain[run["seed"]], higher_is_better=numbers.higher_is_better
                )
                for cost, spent in found[name].items():
                    reached.setdefault(name, {}).setdefault(cost, []).append(spent)
    costs = {
        name: {cost: _median(cost, spent) for cost, spent in found.items()}
        for name, found in reached.items()
    }
    for name, found in areas.items():
        costs.setdefault(name, {})["area"] = numbers.value(float(np.mean(found)))
    return costs


def _median(cost: str, spent: Sequence[float]) -> str:
    """Write the median over seeds; a seed that never got there counts as infinitely late."""
    there, middle = int(np.isfinite(spent).sum()), float(np.median(spent))
    if not there:
        return "never"
    write = Numbers.seconds if cost == "seconds" else Numbers.amount
    text = write(middle) if np.isfinite(middle) else "never"
    return text if there == len(spent) else f"{text} ({there} of {len(spent)})"


def _seconds(done: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> dict[str, str]:
    """Average seconds over runs, by kind and in all; loading is left to whoever comes first."""
    spent = [[(run.get("seconds") or {}).get(kind) or 0 for kind in kinds] for run in done]
    if not spent or not kinds:
        return dict.fromkeys([*kinds, "all"], "")
    means = np.mean(spent, axis=0)
    total = sum(mean for kind, mean in zip(kinds, means, strict=True) if kind != "loading")
    texts = [Numbers.seconds(float(mean)) for mean in (*means, total)]
    return dict(zip([*kinds, "all"], texts, strict=True))


def _charts(place: int, runs: Runs, names: Sequence[str], numbers: Numbers) -> list[dict[str, Any]]:
    score = f"validation {numbers.title}" + (", %" if numbers.scale == 100 else "")
    wanted = [
        ("steps", "Score over steps", "optimizer steps", score),
        ("seconds", "Score over time", "seconds of training", score),
        ("sizes", "Samples in the epoch", "optimizer steps", "samples"),
    ]
    with needs_extra("gradatim compare"):
        from markupsafe import Markup  # line_chart has escaped its names
    charts = []
    for kind, title, xlabel, ylabel in wanted:
        lines = []
        for number, name in enumerate(names):
            done = runs.get(name, [])
            line = _sizes(done) if kind == "sizes" else _learning(done, kind, numbers.scale)
            if line is not None:
                lines.append(Series((name,), number, *line, stepped=kind == "sizes"))
        note = ""
        if kind == "sizes":
            lines = merge_equal(lines)
            same = "; ".join(joined(line.names) for line in lines if len(line.names) > 1)
            note = f"One line each: {same}." if same else ""
        if lines:
            picture = line_chart(
                lines,
                chart=f"{kind}-{place}",
                xlabel=xlabel,
                ylabel=ylabel,
                from_zero=kind == "sizes",
                lower_is_better=not numbers.higher_is_better,
            )
            charts.append({"title": title, "svg": Markup(picture), "ylabel": ylabel, "note": note})
    return charts


def _learning(
    done: Sequence[Mapping[str, Any]], x: str, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Average curves evaluation by evaluation; times differ between runs and are averaged too."""
    curves = [curve for curve in map(_score_curve, done) if x in curve]
    if not curves:
        return None
    length = min(len(curve[x]) for curve in curves)
    values = scale * np.array([curve["validation_score"][:length] for curve in curves], dtype=float)
    grid = np.array([curve[x][:length] for curve in curves], dtype=float).mean(0)
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(length)
    return grid, values.mean(0), spread


def _sizes(
    done: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Average subset sizes over runs, at every step at which one of them begins an epoch."""
    done = [each for run in done for each in trainings(run) if each.get("epochs")]
    if not done:
        return None
    starts = [[epoch["first_step"] for epoch in run["epochs"]] for run in done]
    grid = np.unique([step for first in starts for step in first])
    sizes = [
        np.array([epoch["samples"] for epoch in run["epochs"]], dtype=float)[
            np.searchsorted(first, grid, side="right") - 1
        ]
        for run, first in zip(done, starts, strict=True)
    ]
    mean = np.mean(sizes, axis=0)
    end = max(float(run.get("steps") or grid[-1]) for run in done)
    return np.r_[grid, end].astype(float), np.r_[mean, mean[-1]], np.zeros(len(grid) + 1)
