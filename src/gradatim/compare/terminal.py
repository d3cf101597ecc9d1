"""What the terminal shows: the plan, a progress bar, a table per setting, verdicts in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradatim.compare.curricula import BASELINE
from gradatim.compare.data import SETTINGS
from gradatim.compare.extras import needs_extra
from gradatim.compare.plan import Plan
from gradatim.compare.power import smallest_sign_flip_p
from gradatim.compare.results import Row
from gradatim.compare.verdicts import probability

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "progress", "show_plan", "show_results", "table"]

PIPE_WIDTH = 100
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
        >>> show_plan(Plan(seeds=4), Console(file=sys.stdout, width=100), finished=0)
        digits: 7 curricula, 2 settings, 4 seeds: 56 runs.
        4 seeds: the sign-flip test cannot go below p = .125, and Holm multiplies by up to 6. ...
    """
    total = len(plan.cells())
    counts = f"{len(plan.curricula)} curricula, {len(plan.settings)} settings, {plan.seeds} seeds"
    there = f", {finished} of them finished before" if finished else ""
    screen.print(f"{plan.data}: {counts}: {total} runs{there}.")
    smallest, family = smallest_sign_flip_p(plan.seeds), len(plan.curricula) - 1
    if smallest * family > plan.alpha:
        screen.print(
            f"{plan.seeds} seeds: the sign-flip test cannot go below p = {probability(smallest)}, "
            f"and Holm multiplies by up to {family}. More seeds would let it confirm a verdict.",
            style="yellow",
        )


@contextmanager
def progress(screen: Console, *, total: int, finished: int) -> Iterator[Any]:
    """Show a bar with the time left while cells run.

    Args:
        screen: where to draw.
        total: number of cells.
        finished: cells that are there already.

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
        rich_progress.TextColumn("training"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=screen) as bar:
        task = bar.add_task("training", total=total, completed=finished)
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
        >>> table(Plan(seeds=2), "clean", []).title
        'digits, clean'
    """
    with needs_extra("gradatim compare"):
        from rich import box
        from rich.table import Table
    grid = Table(
        title=f"{plan.data}, {SETTINGS[setting].title}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    grid.add_column("curriculum", no_wrap=True)
    grid.add_column("accuracy", justify="right", no_wrap=True)
    grid.add_column("difference [95 %]", justify="right", no_wrap=True)
    for test in ("t", "flip", "Holm"):
        grid.add_column(f"p {test}", justify="right", no_wrap=True)
    grid.add_column("verdict")
    grid.add_column("samples", justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(*_line(plan, row))
    return grid


def _line(plan: Plan, row: Row) -> list[str]:
    forward = row.samples.get("forward", 0) + row.samples.get("survey", 0)
    budget = f"{forward / 1000:.0f}k/{row.samples.get('backward', 0) / 1000:.0f}k"
    accuracy = f"{100 * row.mean:.1f} ± {100 * row.deviation:.1f}"
    found = row.comparison
    if found is None:
        missing = "(baseline)" if row.curriculum == BASELINE else "too few seeds"
        return [row.curriculum, accuracy, "", "", "", "", f"[dim]{missing}[/]", budget]
    low, high = (100 * bound for bound in found.t_test.interval)
    verdict = str(found.verdict)
    if found.verdict == "equivalent":
        verdict += f" within {100 * plan.margin:g}"
    return [
        row.curriculum,
        accuracy,
        f"{100 * found.t_test.difference:+.1f} [{low:+.1f}, {high:+.1f}]".replace("[", r"\["),
        probability(found.t_test.p_value),
        probability(found.sign_flip.p_value),
        probability(found.p_holm),
        f"[{STYLES[found.verdict]}]{verdict}[/]",
        budget,
    ]


def show_results(plan: Plan, summary: Mapping[str, Sequence[Row]], screen: Console) -> None:
    """Print the tables, the verdicts in words, and how to read both.

    Args:
        plan: the comparison.
        summary: rows by setting.
        screen: where to write.

    Example:
        >>> from rich.console import Console
        >>> show_results(Plan(seeds=2), {"clean": []}, Console(quiet=True))
    """
    for setting, rows in summary.items():
        screen.print()
        screen.print(table(plan, setting, rows))
        for row in rows:
            if row.comparison is not None:
                screen.print(row.comparison.sentence(row.curriculum), markup=False)
    family = len(plan.curricula) - 1
    screen.print()
    screen.print(
        f"Test accuracy in percent, mean ± standard deviation over {plan.seeds} seeds; difference "
        f"to {BASELINE} in points, paired by seed, with its 95 % interval. p: paired t-test; "
        f"sign-flip test; t-test after Holm over the {family} curricula of a table, on which the "
        f"verdict rests (level {plan.alpha:g}). Equivalent: two one-sided tests against "
        f"{100 * plan.margin:g} point. A plan can show what it finds four times in five. Everyone "
        "took the same number of steps; the checkpoint was chosen on validation data and the test "
        "set opened once per run. Samples per run: forward (with surveys) / backward.",
        style="dim",
        markup=False,
    )
