"""SPDCL: an order by the nuclear norm of token representations, and by how it changes."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch

from gradatim.method import Batch, Method, Pool, Run
from gradatim.scores.token_norms import NORMS
from gradatim.selection import prefix_size, share_sizes
from gradatim.selection.partial import permutation
from gradatim.table import Scalar, Table
from gradatim.validation import check_choice, check_count, check_finite, check_number, refusal

__all__ = ["SPDCL"]


class SPDCL(Method):
    """Self-paced dynamic curriculum for text: order by norm first, then by its change.

    With E_t the last hidden states of a text's tokens in epoch t = 1, 2, ... (Eq. 1 and 2)::

        d_t = sum of the singular values of E_t          D_t = d_t - d_(t-1)

    Algorithm 1: for t = 1 texts are sorted by d_1 of the pretrained model, small ones first; from
    t = 2 on by D_t, large ones first. They are divided into K shares as equal as possible (the
    first n mod K are one larger), and the epoch trains on shares 1 to min(t, K), shuffled together.
    From t = K on all is visible: nothing is sorted or surveyed any more.

    Give hidden states and their mask to the survey: ``curriculum.survey(dataset, forward)`` with
    ``{"losses": ..., "hidden": out.hidden_states[-1], "mask": batch["attention_mask"]}`` from
    ``forward``, while ``curriculum.survey_due``. Attach the model, so that the survey puts it in
    evaluation mode: under dropout D is noise.

    Args:
        shares: K, in [1, n]; 1 is plain training.
        change: ``"signed"`` sorts by D, as Eq. 2 and the algorithm say; ``"abs"`` by its size, as
            the text does. While norms fall, the signed order puts those that changed most last.
            ``"none"`` keeps the order by d_1: one survey, a fixed order to compare with.
        norm: d. ``"nuclear"``, Eq. 1, or one of those that the paper compares it to: ``"word"``,
            `gradatim.scores.word_norm`; ``"word_mean"``, its mean; ``"l1"`` and ``"l2"``,
            `gradatim.scores.l1_norm` and `gradatim.scores.l2_norm`.
        review: rho in [0, 1]: before all is visible, a new random part of each earlier share of
            this fraction (rounded up) is trained on, next to all of the newest share.
        planned_epochs: how long training will last; warns where all would never be visible.
        measure: ``"survey"`` measures d_t by one pass over all texts before each epoch t < K.
            ``"training"`` asks for that pass before the first epoch only; from then on d_t is what
            the epoch's own forward passes show: pass ``hidden=`` and ``mask=`` to the call.
        tie: texts alike in everything are in random order, or in that of their ``"index"``.

    State:
        norm: float32 (N,), d, last seen. before: float32 (N,), d of the time before that. change:
        float32 (N,), D = norm - before. All NaN where unknown. seen: int64 (N,), when d was: 2 e in
        the survey before epoch e = t - 1, 2 e + 1 in that epoch; -1 at first. tokens: int64 (N,),
        ones in the mask then; 0 at first. surveyed: e of the last survey, or -1. All merged by the
        later observation.

    Raises:
        ValueError: a parameter outside its range; at the first epoch, more shares than samples; in
            the survey or the call, missing hidden states or mask, or such as
            `gradatim.scores.nuclear_norm` refuses.
        RuntimeError: at an epoch's start, a survey that is due was not made.

    Warns:
        UserWarning: fewer planned epochs than shares; texts of another number of tokens than
            before, whose D is then taken for unknown.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.SPDCL(shares=3)
        >>> curriculum = gr.Curriculum(method, seed=0)
        >>> states = torch.tensor([5.0, 3.0, 8.0, 1.0, 7.0, 2.0]).reshape(6, 1, 1)
        >>> loader = curriculum.loader(range(6), batch_size=2)
        >>> curriculum.survey(range(6), lambda index: {
        ...     "losses": torch.zeros(len(index)),
        ...     "hidden": states[index],
        ...     "mask": torch.ones(len(index), 1),
        ... })
        >>> sorted(index for batch in loader for index in batch.tolist())
        [3, 5]

    Differences from the paper:
        The paper does not say what becomes of the first shares in later epochs (here they stay
        visible, ``review=1``), nor K in training (here 6, the bins of its Table I). Samples of
        equal change are in the order of their norms. In ``measure="training"``, which is ours,
        samples that were not seen since d_1 have no D: they count as the (lower) median of those
        that have one, by ascending norm, so that what changed least is left for later and what is
        new comes in the linguistic order. The paper compares norms, and gives no formulas and no
        numbers for the others.

    Caveats:
        One pass over the data per epoch before t = K (K - 1 of them). Truncation and padding must
        not change between epochs. ``"training"`` sees dropout, and D_2 compares a pass with
        dropout to one without; its steps also take the time of the norms, and on accelerators wait
        for the device. The first epochs are shorter than full ones: compare at equal steps.

    References:
        Zhang, Wang, Cheng and Xiao, Improving Imbalanced Text Classification with Dynamic
        Curriculum Learning, MSN 2022 [zhang2022spdcl].
    """

    accepts = ("hidden", "mask")
    references = ("zhang2022spdcl",)

    def __init__(
        self,
        shares: int = 6,
        *,
        change: Literal["signed", "abs", "none"] = "signed",
        norm: Literal["nuclear", "word", "word_mean", "l1", "l2"] = "nuclear",
        review: float = 1.0,
        planned_epochs: int | None = None,
        measure: Literal["survey", "training"] = "survey",
        tie: Literal["random", "index"] = "random",
    ) -> None:
        self.shares = check_count("shares", shares, at_least=1)
        check_choice("change", change, ("signed", "abs", "none"))
        self.change: Literal["signed", "abs", "none"] = change
        check_choice("norm", norm, NORMS)
        self.norm: Literal["nuclear", "word", "word_mean", "l1", "l2"] = norm
        self.review = check_number("review", review, at_least=0, at_most=1)
        if planned_epochs is not None:
            check_count("planned_epochs", planned_epochs, at_least=1)
        self.planned_epochs = planned_epochs
        check_choice("measure", measure, ("survey", "training"))
        self.measure: Literal["survey", "training"] = measure
        check_choice("tie", tie, ("random", "index"))
        self.tie: Literal["random", "index"] = tie
        # A scalar, so that a rank without a sample of its own knows of the survey, too; from here
        # on, since whether one is due may be asked before there is a loader.
        self.surveyed = Scalar("surveyed", fill=-1)
        if planned_epochs is not None and planned_epochs < shares:
            warnings.warn(
                f"planned_epochs is {planned_epochs}, below shares={shares}: not all of the data "
                "will ever be visible. Take fewer shares, or train for longer.",
                stacklevel=2,
            )

    # ------------------------------------------------------------------ what is remembered

    def setup(self, run: Run) -> None:
        if self.shares > run.size:
            rule = f"at most the number of samples, {run.size}"
            raise refusal("shares", rule, self.shares)
        self.norms = Table("norm", fill=math.nan)
        self.before = Table("before", fill=math.nan)
        self.changes = Table("change", fill=math.nan)
        self.seen = Table("seen", dtype=torch.int64, fill=-1)
        self.tokens = Table("tokens", dtype=torch.int64)
        self.surveyed = Scalar("surveyed", fill=-1)

    def survey_due(self, run: Run) -> bool:
        measured = run.epoch == 0 or (self.measure == "survey" and self.change != "none")
        if not measured or run.epoch + 1 >= self.shares:
            return False
        return int(self.surveyed.value) != run.epoch

    def records(self, epoch: int) -> bool:
        return True  # surveys are welcome in any epoch

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        if self.change == "none" and not (batch.surveyed and batch.epoch == 0):
            return {}  # d_1 it stays
        if not batch.surveyed and (self.measure == "survey" or batch.epoch + 2 >= self.shares):
            return {}  # no order is left to be made from it
        missing = [name for name in self.accepts if batch.signals.get(name) is None]
        if missing and batch.surveyed and not self.survey_due(run):
            return {}  # somebody else's
        if missing:
            raise ValueError(self._missing(missing[0], surveyed=batch.surveyed))
        hidden, mask = (batch.signals[name] for name in self.accepts)
        if isinstance(hidden, torch.Tensor) and hidden.ndim and len(hidden) != batch.size:
            raise refusal("hidden", f"one row per sample: {batch.size} of them", hidden)
        if not isinstance(mask, torch.Tensor):  # anything else is not cut where rows only pad
            raise TypeError(str(refusal("mask", "a tensor (B, L)", type(mask).__name__)))
        # The states themselves would take 19 MB for each batch of 25 x 250 x 768.
        norms = NORMS[self.norm](hidden, mask, batch.index).float()
        return {"norm": norms, "tokens": (mask == 1).sum(1).to(norms.device)}

    def _missing(self, name: str, *, surveyed: bool) -> str:
        where = "forward(batch) must return" if surveyed else "the call must be given"
        what = {
            "hidden": "hidden states (B, L, h). Call the model with output_hidden_states=True and "
            "pass hidden=output.hidden_states[-1]",
            "mask": "the attention mask (B, L) of the hidden states. Pass "
            'mask=batch["attention_mask"]',
        }[name]
        return f"{where} {name!r}: {self} needs {what}."

    def observe(self, batch: Batch, run: Run) -> None:
        if "norm" not in batch.signals:
            return
        norm, index = batch.signals["norm"], batch.index
        check_finite("hidden", norm, index)
        now = 2 * batch.epoch + (0 if batch.surveyed else 1)
        # Seen twice at one time, as by a second survey: compared to the time before, not to itself.
        again = self.seen[index] == now
        before = torch.where(again, self.before[index], self.norms[index])
        norm = norm.to(before)
        before = self._comparable(before, batch.signals["tokens"].to(index), index)
        self.norms.write(index, norm)
        self.before.write(index, before)
        self.changes.write(index, norm - before)
        self.seen.write(index, torch.full_like(index, now))
        if batch.surveyed:
            self.surveyed.write(float(batch.epoch))

    def _comparable(
        self, before: torch.Tensor, tokens: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        """Earlier norms, NaN where a text had another number of tokens then."""
        known = self.tokens[index]
        self.tokens.write(index, tokens)
        other = (known != tokens) & (known > 0)
        count = int(other.sum())
        if not count or self.change == "none":
            return before
        which = "1 text has" if count == 1 else f"{count} texts have"
        warnings.warn(
            f"{which} another number of tokens than before, at index {index[other][:10].tolist()}: "
            "what changed is not how the model sees them, so their change is taken for unknown. "
            "Keep truncation and mask the same in all epochs.",
            stacklevel=2,
        )
        return before.masked_fill(other.to(before.device), math.nan)

    # ------------------------------------------------------------------ what is chosen

    def plan(self, pool: Pool, run: Run) -> Pool:
        visible = run.epoch + 1
        if visible >= self.shares:
            return pool
        if self.survey_due(run):
            raise RuntimeError(
                f"survey must run before epoch {run.epoch}: {self!r} orders by the hidden states "
                "of all samples. Call curriculum.survey(dataset, forward) while "
                "curriculum.survey_due."
            )
        count = min(self.shares, pool.index.numel())  # a method before this one may leave few
        if visible >= count:
            return pool
        order = self._order(pool.index, run)
        shares = order.split(share_sizes(order.numel(), count))[:visible]
        if self.review < 1:
            generator = run.generator("spdcl", "review")
            reviewed = [
                share[permutation(share.numel(), generator)[: self._reviewed(share.numel())]]
                for share in shares[:-1]
            ]
            shares = (*reviewed, shares[-1])
        return pool.keep(torch.cat(shares).sort().values)

    def _order(self, index: torch.Tensor, run: Run) -> torch.Tensor:
        """Positions in the pool, easiest first; a pure function of the tables."""
        norm = self.norms[index].cpu().nan_to_num(math.inf)
        order = torch.arange(norm.numel())
        if self.tie == "random":
            order = permutation(norm.numel(), run.generator("spdcl", "ties"))
        order = order[torch.argsort(norm[order], stable=True)]
        if run.epoch == 0 or self.change == "none":
            return order
        change = self.changes[index].cpu()
        if self.change == "abs":
            change = change.abs()
        change = torch.where(change.isnan(), change.nanmedian().nan_to_num(), change)
        return order[torch.argsort(change[order], descending=True, stable=True)]

    def _reviewed(self, size: int) -> int:
        """How many of an earlier share of ``size`` samples are trained on."""
        return prefix_size(self.review, size) if self.review > 0 else 0

    def planned_size(self, size: int, epoch: int) -> int | None:
        visible = epoch + 1
        count = min(self.shares, size)
        if visible >= count:
            return size
        *earlier, newest = share_sizes(size, count)[:visible]
        return newest + sum(self._reviewed(share) for share in earlier)
