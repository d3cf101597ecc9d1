"""Curricula whose order is known before training, and the control that shuffles it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch

from gradatim.method import Method, Pool, Run
from gradatim.pacing import Linear, Pace
from gradatim.scores import cdf
from gradatim.selection import balanced_prefix, order_by, prefix_size
from gradatim.validation import as_vector, check_choice, check_number, refusal
from gradatim.weighting.inputs import read_groups

__all__ = ["PacedRandom", "Predefined"]

Order = Literal["curriculum", "anti", "random"]
Mode = Literal["subset", "soft", "window"]


class Predefined(Method):
    """A curriculum from any score, pace and order: easy first, hard first, or a random control.

    A score says how hard each sample is, a pace which fraction is visible in each epoch; the
    visible samples are shuffled anew every epoch. With W_t in [0, 1] training minimises
    L_t = (1/n) sum_i W_t(z_i) l_i; W rises until it is 1 everywhere (Bengio et al. 2009)::

        subset   W_t(z) = 1 for the c(t) n easiest, else 0: the rest is not visited at all
        soft     W_t(z) = sigmoid((c(t) - F(d)) / T), F the distribution function of the score
        window   W_t(z) = 1 for ranks in ((c(t) - width) n, c(t) n], and all once c(t) = 1

    Args:
        score: (N,), finite, higher is harder; see `gradatim.scores`. Not needed for ``"random"``.
        pace: maps epochs completed (0 at the start) to the visible fraction in (0, 1]; see
            `gradatim.pacing`. One with ``window(t)``, as `pacing.OnePass`, gives both ends itself.
        order: ``"curriculum"`` easiest first, ``"anti"`` hardest first, ``"random"`` a fixed
            seeded order with the same pace: the control for the growth of the data set.
        mode: ``"subset"``, ``"soft"`` or ``"window"``.
        balanced: labels (N,), int: take the visible fraction within each class. ``"subset"`` only.
        width: of the window, a fraction in (0, 1].
        temperature: T of the soft mode, above 0; default 0.05, ours.
        tie: ``"random"`` breaks ties by the seed, ``"index"`` by position.

    Raises:
        ValueError: a parameter outside its range, or a score of another length than the data.

    Example:
        >>> import torch, gradatim as gr
        >>> pace = gr.pacing.Linear(start_fraction=0.5, epochs=2)
        >>> method = gr.Predefined(score=[3.0, 1.0, 2.0, 4.0], pace=pace)
        >>> run = gr.Run(size=4, seed=0)
        >>> method.setup(run)
        >>> method.plan(gr.Pool(torch.arange(4)), run).index.tolist()
        [1, 2]

    Differences from the paper:
        The soft and window modes and their defaults are ours. Fractions count the samples that
        methods before this one left, so that two curricula in one pipeline both keep their pace.

    Caveats:
        A subset epoch is shorter than a full one: compare at equal steps, not at equal epochs.

    References:
        Bengio, Louradour, Collobert and Weston, Curriculum learning, ICML 2009 [bengio2009].
    """

    references = ("bengio2009",)

    def __init__(
        self,
        score: torch.Tensor | Sequence[float] | None = None,
        *,
        pace: Pace | None = None,
        order: Order = "curriculum",
        mode: Mode = "subset",
        balanced: torch.Tensor | Sequence[int] | None = None,
        width: float | None = None,
        temperature: float = 0.05,
        tie: Literal["random", "index"] = "random",
    ) -> None:
        check_choice("order", order, ("curriculum", "anti", "random"))
        check_choice("mode", mode, ("subset", "soft", "window"))
        check_choice("tie", tie, ("random", "index"))
        pace = Linear(start_fraction=0.2, epochs=10) if pace is None else pace
        if not callable(pace):
            raise TypeError(str(refusal("pace", "callable, as in gradatim.pacing", repr(pace))))
        if score is None and order != "random":
            cause = "Pass one value per sample, higher is harder."
            raise refusal("score", f"given for order={order!r}", None, cause)
        self.score = None if score is None else as_vector("score", score).cpu()
        self.pace = pace
        self.order: Order = order
        self.mode: Mode = mode
        self.balanced = None if balanced is None else read_groups(balanced, name="balanced").cpu()
        if self.balanced is not None and mode != "subset":
            raise refusal("mode", "'subset' with balanced=", repr(mode))
        if mode == "window" and width is None and not hasattr(pace, "window"):
            raise refusal("width", 'given for mode="window", or the pace have window(t)', None)
        self.width = None if width is None else check_number("width", width, above=0, at_most=1)
        self.temperature = check_number("temperature", temperature, above=0)
        self.tie: Literal["random", "index"] = tie
        self._ranks: tuple[int, torch.Tensor] | None = None
        if self.score is not None and order != "random" and self.score.numel() > 1:
            low, high = self.score.aminmax()
            if bool(low == high):
                warnings.warn(
                    "score is the same for all samples: the order is random. Is it the right one?",
                    stacklevel=2,
                )

    def setup(self, run: Run) -> None:
        for name, values in (("score", self.score), ("balanced", self.balanced)):
            if values is not None and values.numel() != run.size:
                raise refusal(name, f"one value per sample: {run.size} of them", values.numel())

    def _rank(self, run: Run) -> torch.Tensor:
        """Place of every sample in the order, int64 (N,); fixed by the seed."""
        if self._ranks is None or self._ranks[0] != run.seed:
            score = torch.zeros(run.size) if self.score is None else self.score
            generator = run.generator("predefined", epoch=0)
            order = order_by(score, order=self.order, generator=generator, tie=self.tie)
            ranks = torch.empty_like(order)
            ranks[order] = torch.arange(run.size)
            self._ranks = (run.seed, ranks)
        return self._ranks[1]

    def _window(self, epoch: int) -> tuple[float, float]:
        """The visible ranks in ``epoch``, as fractions (low, high]."""
        window = getattr(self.pace, "window", None)
        if window is not None:
            return window(epoch)
        high = self._fraction(epoch)
        if self.width is None or self.mode != "window" or high >= 1:
            return 0.0, high
        return max(0.0, high - self.width), high

    def _fraction(self, epoch: int) -> float:
        return check_number("pace(t)", float(self.pace(float(epoch))), above=0, at_most=1)

    def plan(self, pool: Pool, run: Run) -> Pool:
        low, high = self._window(run.epoch)
        if low <= 0 and high >= 1:
            return pool
        ranks = self._rank(run)[pool.index]
        if self.mode == "soft":
            # Ranks of a random order have no ties; the score's ties share one value of F.
            score = ranks.double() if self.score is None else self.score[pool.index]
            if self.order != "curriculum":
                score = -score if self.order == "anti" else ranks.double()
            return pool.weigh(torch.sigmoid((high - cdf(score)) / self.temperature))
        easiest = torch.argsort(ranks)
        if self.balanced is not None:
            labels = self.balanced[pool.index]
            return pool.keep(balanced_prefix(easiest, labels, high))
        first, last = self._bounds(low, high, pool.index.numel())
        return pool.keep(easiest[first:last].sort().values)

    @staticmethod
    def _bounds(low: float, high: float, size: int) -> tuple[int, int]:
        last = prefix_size(high, size)
        # Rounded as prefix_size rounds, so that windows side by side share nothing; but where
        # low is 0 but for rounding, none is hidden: a prefix would be of one sample at least.
        first = 0 if low * size < 1e-9 else min(prefix_size(low, size), last - 1)
        return first, last

    def planned_size(self, size: int, epoch: int) -> int | None:
        low, high = self._window(epoch)
        if self.mode == "soft" or (low <= 0 and high >= 1):
            return size
        if self.balanced is None:
            first, last = self._bounds(low, high, size)
            return last - first
        if size != self.balanced.numel():
            return None
        counts = torch.unique(self.balanced, return_counts=True)[1].tolist()
        return sum(prefix_size(high, count) for count in counts)


class PacedRandom(Predefined):
    """The control of every growing curriculum: the same subset sizes, random membership.

    If a curriculum does not beat this, its gain (if any) comes from the growing data set and not
    from the order. It is `Predefined` with ``order="random"``.

    Args:
        pace: as of `Predefined`; use the pace of the curriculum to be tested.

    Example:
        >>> import gradatim as gr
        >>> gr.PacedRandom(pace=gr.pacing.Linear(start_fraction=0.2, epochs=5))
        PacedRandom(pace=Linear(start_fraction=0.2, epochs=5.0))

    Differences from the paper:
        None known.

    References:
        Wu, Dyer and Neyshabur, When do curricula work?, ICLR 2021 [wu2021].
    """

    references = ("wu2021",)

    def __init__(self, *, pace: Pace | None = None) -> None:
        super().__init__(pace=pace, order="random")
