"""From values to an order, to a smaller data set, and to a list of samples to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gradatim.keyed import keyed_generator
from gradatim.selection import lowest
from gradatim.validation import as_vector, check_count, check_number, refusal
from gradatim.valuation.result import Valuation

__all__ = ["difficulty", "lowest_valued", "pruned", "value_table"]

Values = Valuation | torch.Tensor | Sequence[float]

# 0.1 * 3 * 10 is 3.0000000000000004, and 0.7 / 0.1 lies below 7.
_SLACK = 1e-9


def difficulty(values: Values) -> torch.Tensor:
    """Turn values into a static score for `gradatim.Predefined`: the most valuable come first.

    A score there is a difficulty, higher is harder, so it is the negated value.

    Args:
        values: (n,), higher is better; a tensor or what an estimate returned.

    Returns:
        float (n,), -values.

    Raises:
        ValueError: a value is not finite, or there is none.

    Example:
        >>> import gradatim as gr
        >>> score = gr.valuation.difficulty([0.2, -0.1, 0.3])
        >>> gr.Predefined(score=score).score
        tensor([-0.2000,  0.1000, -0.3000], dtype=torch.float64)

    Differences from the paper:
        None known.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019 [ghorbani2019].
    """
    return -_read(values)


def lowest_valued(
    values: Values, share: float = 1.0, *, below: float | None = None, seed: int = 0
) -> torch.Tensor:
    """The samples of lowest value: those to look at, or to leave out.

    Args:
        values: (n,), higher is better; a tensor or what an estimate returned.
        share: of all samples, in [0, 1]; floor(share n) of them are returned.
        below: only those whose value is below this; 0 keeps what does no harm.
        seed: breaks ties for the last place.

    Returns:
        int64, positions by increasing value, the worst first.

    Raises:
        TypeError: an argument of another kind.
        ValueError: a value is not finite, or there is none; ``share`` is outside its range.

    Example:
        >>> lowest_valued([0.3, -0.2, 0.1, -0.4], 0.5)
        tensor([3, 1])
        >>> lowest_valued([0.3, -0.2, 0.1, -0.4], 0.8, below=0)
        tensor([3, 1])

    Differences from the paper:
        None known.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019, section 4 [ghorbani2019].
    """
    known = _read(values)
    share = check_number("share", share, at_least=0, at_most=1)
    count = int(share * known.numel() + _SLACK)
    if below is not None:
        below = check_number("below", below)
        count = min(count, int((known < below).sum()))
    generator = keyed_generator(check_count("seed", seed), "lowest valued")
    chosen = lowest(known, count, generator=generator)
    return chosen[known[chosen].argsort(stable=True)]


def pruned(
    values: Values, share: float = 1.0, *, below: float | None = 0.0, seed: int = 0
) -> torch.Tensor:
    """The samples that stay when those of lowest value are left out, for `torch.utils.data.Subset`.

    Args:
        values: (n,), higher is better; a tensor or what an estimate returned.
        share: at most this share of all samples is left out, in [0, 1].
        below: only samples whose value is below this are left out; None: the share alone decides.
        seed: breaks ties for the last place.

    Returns:
        int64, increasing positions: all but `lowest_valued` of the same arguments.

    Raises:
        TypeError: an argument of another kind.
        ValueError: as `lowest_valued`, or if nothing would stay.

    Example:
        >>> pruned([0.3, -0.2, 0.1, -0.4]), pruned([0.3, -0.2, 0.1, -0.4], 0.25)
        (tensor([0, 2]), tensor([0, 1, 2]))

    Differences from the paper:
        None known.

    Caveats:
        Prune on values from held-out data, and judge the result on other data than that.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019, section 4 [ghorbani2019].
    """
    known = _read(values)
    stays = torch.ones(known.numel(), dtype=torch.bool, device=known.device)
    stays[lowest_valued(known, share, below=below, seed=seed)] = False
    if not bool(stays.any()):
        raise refusal("share", "such that a sample stays", share)
    return stays.nonzero().squeeze(1)


def value_table(
    values: Values, count: int = 20, *, columns: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """A table of the lowest-valued samples, the worst first: where to look for wrong labels.

    Args:
        values: (n,), higher is better; a tensor or what an estimate returned.
        count: rows at most.
        columns: more to show of each sample: labels, texts, file names; n entries each.

    Returns:
        One dict per sample: ``place`` (1 is the worst), ``index``, ``value``, ``standard_error``
        where an estimate has one, and the columns. ``pandas.DataFrame`` takes it as it is.

    Raises:
        TypeError: an argument of another kind.
        ValueError: a value is not finite, or there is none; a column of another length, or one
            named as ours.

    Example:
        >>> value_table([0.3, -0.25, 0.1], 1, columns={"label": ["cat", "dog", "dog"]})
        [{'place': 1, 'index': 1, 'value': -0.25, 'label': 'dog'}]

    Differences from the paper:
        No paper.
    """
    known = _read(values)
    count = min(check_count("count", count), known.numel())
    extra = dict(columns or {})
    errors = values.standard_errors if isinstance(values, Valuation) else None
    for name, column in extra.items():
        if name in ("place", "index", "value", "standard_error"):
            raise refusal("columns", "named otherwise than ours", repr(name))
        if len(column) != known.numel():
            rule = f"one entry per sample: {known.numel()} of them"
            raise refusal(f"columns[{name!r}]", rule, len(column))
    rows = []
    for place, index in enumerate(known.argsort(stable=True)[:count].tolist(), start=1):
        row: dict[str, Any] = {"place": place, "index": index, "value": float(known[index])}
        if errors is not None:
            row["standard_error"] = float(errors[index])
        for name, column in extra.items():
            entry = column[index]
            row[name] = entry.item() if isinstance(entry, torch.Tensor) else entry
        rows.append(row)
    return rows


def _read(values: Values) -> torch.Tensor:
    vector = as_vector("values", values.values if isinstance(values, Valuation) else values)
    if not vector.numel():
        raise refusal("values", "one per sample, at least one", "none")
    return vector
