"""What the terminal shows: the plan, a progress bar, a table per setting, verdicts in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradatim.compare.curricula import BASELINE
from gradatim.compare.extras import needs_extra
from gradatim.compare.plan import Plan
from gradatim.compare.power import minimum_detectable_difference, smallest_sign_flip_p
from gradatim.compare.results import Row
from gradatim.compare.verdicts import probability, signed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "progress", "show_plan", "show_results", "table"]

PIPE_WIDTH = 100
HOPELESS = 5.0  # standard deviations
STYLES = {"helps": "green", "hurts": "red", "equivalent": "cyan", "not enough evidence": "dim"}


def console(*, stderr: bool = False) -> Console:
    """Open the terminal; a pipe or file gets 100 columns, enough for the tables.

    Args:
        stderr: whether to write to standard error.

    Returns:
        A rich console.

    Raises:
        ImportError: rich is missing.

    Example:
        >>> console().width > 0
        True
    """
    with needs_extra("gradatim compare"):
        from rich.console import Console
    opened = Console(stderr=stderr, highlight=False)
    if not opened.is_terminal:
        opened = Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)
    return opened


def show_plan(plan: Plan, screen: Console, *, finished: int) -> None:
    """Say what will run, and what the plan cannot show whatever happens.

    Args:
        plan: the comparison.
        screen: where to write.
        finished: cells that are there already.

    Example:
        >>> import sys
        >>> from rich.console import Console
        >>> plan = Plan(seeds=4, metric="accuracy", epochs=20, batch_size=64)
        >>> show_plan(plan, Console(file=sys.stdout, width=100), finished=0)
        digits: 7 curricula, 2 settings, 4 seeds: 56 runs. Judged by accuracy; 20 epochs' worth of
        steps for everybody.
        4 seeds: the sign-flip test cannot go below p = .125, and Holm multiplies by up to 6. ...
    """
    total, seeds = len(plan.cells()) + len(plan.trials()), len(plan.seed_list)
    counts = f"{len(plan.specs)} curricula, {len(plan.settings)} settings, {seeds} seeds"
    if len(plan.settings) == 1:
        counts = counts.replace("settings", "setting")
    there = f", {finished} of them finished before" if finished else ""
    tuning = f" ({len(plan.trials())} of them tune)" if plan.tune else ""
    folds = "" if plan.folds is None else f", on each of {plan.folds} folds"
    if isinstance(plan.folds, str):
        folds = f", on each fold of {plan.folds!r}"
    spent = f"{plan.epochs} epochs' worth of {plan.budget}"
    if plan.epochs == 1:
        spent = spent.replace("epochs'", "epoch's")
    if plan.amount is not None:
        spent = f"{plan.amount:,g} {plan.budget}"
    elif plan.budget == "epochs":
        spent = f"{plan.epochs} epochs of its own"
    screen.print(
        f"{plan.data}: {counts}: {total} runs{tuning}{there}{folds}. "
        f"Judged by {plan.score.title}; {spent} for everybody.",
        markup=False,
    )
    smallest, family = smallest_sign_flip_p(seeds), len(plan.specs) - 1
    if smallest * family > plan.alpha:
        screen.print(
            f"{seeds} seeds: the sign-flip test cannot go below p = {probability(smallest)}, "
            f"and Holm multiplies by up to {family}. More seeds would let it confirm a verdict.",
            style="yellow",
        )
    detectable = minimum_detectable_difference(1.0, seeds, alpha=plan.alpha / family)
    found = f"a difference of {detectable:.1f} standard deviations of the paired differences"
    if detectable > HOPELESS:
        found = "next to nothing: differences many times as large as their spread over seeds"
    screen.print(f"This plan finds, four times in five, {found}.", style="dim")


@contextmanager
def progress(
    screen: Console, *, total: int, finished: int, title: str = "training"
) -> Iterator[Any]:
    """Show a bar with the time left while cells run.

    Args:
        screen: where to draw.
        total: number of cells.
        finished: cells that are there already.
        title: what stands before the bar.

    Yields:
        A function without arguments, to be called once per cell.

    Example:
        >>> from rich.console import Console
        >>> with progress(Console(quiet=True), total=2, finished=0) as advance:
        ...     advance()
    """
    with needs_extra("gradatim compare"):
        from rich import progress as rich_progress
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=screen) as bar:
        task = bar.add_task(title, total=total, completed=finished)
        yield lambda: bar.advance(task)


def table(plan: Plan, setting: str, rows: Sequence[Row]) -> Table:
    """Lay out one setting: a line per curriculum, differences to plain training.

    Args:
        plan: the comparison.
        setting: its name.
        rows: what `summarise` made of it.

    Returns:
        A rich table that fits 100 columns.

    Example:
        >>> table(Plan(seeds=2, metric="accuracy"), "clean", []).title
        'digits, clean'
    """
    with needs_extra("gradatim compare"):
        from rich import box
        from rich.markup import escape
        from rich.table import Table
    grid = Table(
        title=escape(f"{plan.data}, {plan.settings[setting].title}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    grid.add_column("curriculum", no_wrap=True)
    grid.add_column(plan.score.name, justify="right", no_wrap=True)
    grid.add_column("gain [95 %]", justify="right", no_wrap=True)
    for test in ("t", "flip", "Holm"):
        grid.add_column(f"p {test}", justify="right", no_wrap=True)
    grid.add_column("verdict", min_width=10)
    grid.add_column("samples", justify="right", no_wrap=True)
    for row in rows:
        name, *others = _line(plan, row)
        grid.add_row(escape(name), *others)
    for label in [spec.label for spec in plan.specs]:
        if rows and label not in [row.curriculum for row in rows]:
            grid.add_row(escape(label), *[""] * 5, "[red]failed[/]", "")
    return grid


def _line(plan: Plan, row: Row) -> list[str]:
    forward = row.samples.get("forward", 0) + row.samples.get("survey", 0)
    budget = f"{_rows(forward)}/{_rows(row.samples.get('backward', 0))}"
    scale = plan.score.scale
    mean, deviation = (signed(scale * v, scale).lstrip("+") for v in (row.mean, row.deviation))
    score = f"{mean} ± {deviation}"
    found = row.comparison
    if found is None:
        missing = "(baseline)" if row.curriculum == BASELINE else "too few seeds"
        return [row.curriculum, score, "", "", "", "", f"[dim]{missing}[/]", budget]
    low, high = (signed(scale * bound, scale) for bound in found.interval)
    verdict = str(found.verdict)
    if found.verdict == "equivalent":
        verdict += f" within {scale * found.equivalence.margin:.3g}"
    return [
        row.curriculum,
        score,
        rf"{signed(scale * found.t_test.difference, scale)} \[{low}, {high}]",
        probability(found.t_test.p_value),
        probability(found.sign_flip.p_value),
        probability(found.p_holm),
        f"[{STYLES[found.verdict]}]{verdict}[/]",
        budget,
    ]


def _rows(count: float) -> str:
    return f"{count / 1000:.0f}k" if count >= 1000 else f"{count:.0f}"


def show_results(plan: Plan, summary: Mapping[str, Sequence[Row]], screen: Console) -> None:
    """Print the tables, the verdicts in words, and how to read both.

    Args:
        plan: the comparison.
        summary: rows by setting.
        screen: where to write.

    Example:
        >>> from rich.console import Console
        >>> plan = Plan(seeds=2, metric="accuracy", margin=0.01)
        >>> show_results(plan, {"clean": []}, Console(quiet=True))
    """
    metric = plan.score
    assert plan.margin is not None
    if not any(summary.values()):
        screen.print("No run finished, so there is nothing to judge.", style="red")
        return
    for setting, rows in summary.items():
        screen.print()
        screen.print(table(plan, setting, rows))
        for row in rows:
            if row.comparison is not None:
                sentence = row.comparison.sentence(
                    row.curriculum, unit=metric.unit, scale=metric.scale
                )
                screen.print(sentence, markup=False)
    family, seeds = len(plan.specs) - 1, len(plan.seed_list)
    unit = "in percent" if metric.scale == 100 else "as it is"
    margin = f"{metric.scale * plan.margin:.3g} {'point' if metric.scale == 100 else ''}".strip()
    compared = [row.comparison for rows in summary.values() for row in rows if row.comparison]
    fixed = ""
    if any(found.item_interval is not None for found in compared):
        fixed = " Intervals resample seeds and test items together."
    opened = "the test set opened" if plan.folds is None else "each fold predicted"
    screen.print()
    screen.print(
        f"Test {metric.title} {unit}, mean ± standard deviation over {seeds} seeds; gain over "
        f"{BASELINE}, paired by seed, positive is better, with its 95 % interval.{fixed} p: paired "
        "t-test; sign-flip test; t-test after Holm over the "
        f"{family} curricula of a table, on which the verdict rests (level {plan.alpha:g}). "
        f"Equivalent: two one-sided tests against {margin}. A plan can show what it finds four "
        "times in five. The checkpoint was chosen on validation data and "
        f"{opened} once per run. Samples per {'fold' if plan.folds else 'run'}: forward (with "
        "surveys) / backward.",
        style="dim",
        markup=False,
    )
