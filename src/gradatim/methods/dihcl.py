"""DIHCL: train on what stays hard to learn, by a running mean of hardness seen in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from gradatim.dynamics import running_hardness
from gradatim.episodes import check_episodes
from gradatim.method import Batch, Pool, Run
from gradatim.methods.dynamics import Kind, LrSum, check_kind, correctness, instant_hardness
from gradatim.methods.pruning import Pruned
from gradatim.selection import highest, inclusion_probabilities, shrinking_size, weighted_draw
from gradatim.selection.facility import Greedy
from gradatim.table import Table
from gradatim.validation import check_choice, check_count, check_flag, check_number, refusal

__all__ = ["DIHCL"]

Selection = Literal["greedy", "rand", "exp", "beta", "ucb", "counts"]
_SELECTIONS = ("greedy", "rand", "exp", "beta", "ucb", "counts")

FLOORS = {"inclusion": 1e-2, "draw": 1e-8}  # of the chance by which Exp divides
# The authors' Beta counts: where they start, and how they fade.
COUNT, COUNT_DISCOUNT = 2.0, 0.9


class DIHCL(Pruned):
    """Curriculum by dynamic instance hardness: shrinking subsets of what is hard to learn.

    All samples for ``warmup_epochs`` epochs; then each epoch trains on k_t of them, chosen by
    their running hardness r, which costs no extra forward pass:

    - instantaneous hardness a: (A) ``"loss"``: ``l / eta``; (B) ``"loss_change"``:
      ``|l - l'| / E``; (C) ``"flip"``: ``|correct - correct'| / E``, E the learning rates summed
      between two observations (Eq. 2);
    - ``r <- gamma r + (1 - gamma) a`` for the samples observed (Eq. 1);
    - ``k_t = max(gamma_k^d, k_min) n`` after d decays (line 12).

    Args:
        hardness: ``"loss"``, ``"loss_change"`` or ``"flip"``.
        selection: ``"greedy"``: the k_t largest r. ``"rand"``: drawn in proportion to r. ``"exp"``:
            drawn in proportion to ``exp(sqrt(2 log n / n) r)``, observations divided by the chance
            p with which they were drawn. ``"beta"``: drawn in proportion to
            ``s ~ Beta(r, c - r)``. ``"ucb"``: the k_t largest
            ``r + exploration sqrt(2 log t / visits)``, unvisited ones first; t counts epochs.
            ``"counts"``: as beta, from discounted counts of flips and of their absence (the
            authors' code).
        warmup_epochs: T0, at least 1, and at least 2 for changes and flips.
        gamma: in [0, 1]; or ``"mean"``: the plain mean of all observations.
        gamma_on: ``"history"`` or ``"new"``: what gamma weighs.
        gamma_k: factor of k at each decay, above 0; above 1 changes nothing, since k <= n.
        k_min: smallest subset, as a fraction of the data, in (0, 1].
        episodes: ends of episodes, in epochs, increasing: k then decays when one ends (after the
            warm-up) instead of every epoch. None decays every epoch.
        normalize: divide by learning rates; None does, but for flips under beta and counts.
        lr_sum: ``"elapsed"`` sums the rates of the updates between two observations,
            ``"inclusive"`` also the coming one's.
        clip: largest change of a loss that counts, above 0; None is no bound.
        p: of exp: ``"inclusion"``, the chance of being among the k_t, or ``"draw"``, of being
            drawn first; at least .01 and 1e-8.
        topk: take the k_t largest weights instead of drawing: for beta and counts, the k_t largest
            s (Thompson sampling).
        c: of beta: above the hardness it bounds; None is 1 for flips that are not normalised, else
            ``max(1, 1.05 max r)``.
        exploration: of ucb, at least 0.
        prune: gamma_k', in (0, 1]: the fraction of each subset that diversity pruning leaves
            (Eq. 3; the paper has .4). 1 does not prune.
        diversity: lambda_1 of Eq. 3, at least 0.
        diversity_decay: factor of lambda each epoch, in (0, 1].
        rescale: divide r by its mean in Eq. 3.
        greedy: of `gradatim.selection.facility_location`.
        features: (N, D), for Eq. 3; None takes the inputs of the last linear layer of the attached
            model, in the last epoch of the warm-up.
        layer: its name; None is the linear layer registered last.

    State:
        dih: float32 (N,), r, 1 at first. loss, correct, stamp (N,): of the last observation, where
        the hardness needs them. visits: int64 (N,). All merged by the later observation.

    Raises:
        ValueError: a parameter outside its range; in `Curriculum.__call__`, negative losses under
            ``"loss"``; at an epoch's start, ``c`` below every hardness.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.DIHCL("loss", "greedy", warmup_epochs=1, k_min=0.25)
        >>> run = gr.Run(size=4, seed=0, epoch=3)
        >>> method.setup(run)
        >>> method.dih = gr.Table("dih").allocate(4)
        >>> method.dih.write(torch.arange(4), torch.tensor([0.5, 2.0, 1.0, 4.0]))
        >>> method.plan(gr.Pool(torch.arange(4)), run).index.tolist()  # .85^3 of 4
        [1, 3]

    Differences from the paper:
        gamma = .95 weighs the history, as the text says (a "running mean") and the authors' code
        does; Eq. 1 prints it on the new value: ``gamma_on="new"``. Eq. 2 sums rates to t inclusive:
        ``lr_sum="inclusive"``. k decays from the first subset on, not during the warm-up (line 12
        does). Exp divides by the inclusion probability: by ``p="draw"``, as one may read the paper,
        r of unselected samples is soon outweighed for ever. Pruning is off by default.

    Caveats:
        With a learning rate that falls or cycles (A) changes scale between epochs:
        ``normalize=False``. Under label noise the highest losses are those of wrong labels, so (A)
        trains on them; (B) and (C) do so less. Changes and flips at a sample's first observation
        leave r at 1.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020
        [zhou2020dihcl].
    """

    references = ("zhou2020dihcl",)
    fresh = ("correct",)

    def __init__(
        self,
        hardness: Kind = "loss_change",
        selection: Selection = "exp",
        *,
        warmup_epochs: int = 5,
        gamma: float | Literal["mean"] = 0.95,
        gamma_on: Literal["history", "new"] = "history",
        gamma_k: float = 0.85,
        k_min: float = 0.2,
        episodes: Sequence[int] | None = None,
        normalize: bool | None = None,
        lr_sum: LrSum = "elapsed",
        clip: float | None = None,
        p: Literal["inclusion", "draw"] = "inclusion",
        topk: bool = False,
        c: float | None = None,
        exploration: float = 1.0,
        prune: float = 1.0,
        diversity: float = 1.0,
        diversity_decay: float = 0.8,
        rescale: bool = False,
        greedy: Greedy = "stochastic",
        features: torch.Tensor | None = None,
        layer: str | None = None,
    ) -> None:
        super().__init__(
            prune=prune,
            diversity=diversity,
            diversity_decay=diversity_decay,
            rescale=rescale,
            greedy=greedy,
            features=features,
            layer=layer,
        )
        self.hardness: Kind = check_kind(hardness)
        self.nonnegative = hardness == "loss"
        self.reads_losses = hardness != "flip"
        check_choice("selection", selection, _SELECTIONS)
        if selection == "counts" and hardness != "flip":
            raise refusal("hardness", "'flip' where selection is 'counts'", repr(hardness))
        self.selection: Selection = selection
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs, at_least=1)
        if hardness != "loss" and warmup_epochs < 2:
            cause = "A change needs two looks at every sample."
            raise refusal("warmup_epochs", f"at least 2 for {hardness!r}", warmup_epochs, cause)
        if gamma != "mean":
            if isinstance(gamma, str):
                raise refusal("gamma", "a number in [0, 1] or 'mean'", repr(gamma))
            check_number("gamma", gamma, at_least=0, at_most=1)
        self.gamma = gamma
        check_choice("gamma_on", gamma_on, ("history", "new"))
        self.gamma_on: Literal["history", "new"] = gamma_on
        self.gamma_k = check_number("gamma_k", gamma_k, above=0)
        self.k_min = check_number("k_min", k_min, above=0, at_most=1)
        self.episodes = None if episodes is None else check_episodes("episodes", episodes)
        self.normalize = None if normalize is None else check_flag("normalize", normalize)
        check_choice("lr_sum", lr_sum, ("elapsed", "inclusive"))
        self.lr_sum: LrSum = lr_sum
        self.clip = None if clip is None else check_number("clip", clip, above=0)
        check_choice("p", p, tuple(FLOORS))
        self.p: Literal["inclusion", "draw"] = p
        self.topk = check_flag("topk", topk)
        if topk and selection == "exp":
            cause = "What is divided by a chance must be drawn by it: take 'greedy'."
            raise refusal("topk", "False where selection is 'exp'", topk, cause)
        self.c = None if c is None else check_number("c", c, above=0)
        self.exploration = check_number("exploration", exploration, at_least=0)
        self._normalizes = normalize is not False
        if normalize is None and hardness == "flip" and selection in ("beta", "counts"):
            self._normalizes = False
        signals = ("logits", "targets") if hardness == "flip" else ()
        self.wants = (*signals, *(("learning_rate",) if self._normalizes else ()))
        # The chances of this epoch's draw, by which Exp divides what the epoch sees; and what
        # `plan` found last, from which `start_epoch` makes them.
        self._chances: torch.Tensor | None = None
        self._chances_epoch = -1
        self._drawn: tuple[int, torch.Tensor, torch.Tensor, int] | None = None

    # ------------------------------------------------------------------ what is remembered

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._chances, self._chances_epoch, self._drawn = None, -1, None
        self.dih = Table("dih", fill=1.0)
        self.visits = Table("visits", dtype=torch.int64)
        if self.hardness == "loss_change":
            self.loss = Table("loss", fill=math.nan)
        if self.hardness == "flip":
            self.correct = Table("correct", fill=-1.0)
        if self.hardness != "loss" and self._normalizes:
            self.stamp = Table("stamp", dtype=torch.float64, fill=math.nan)
        if self.selection == "counts":
            self.flips = Table("flips", fill=COUNT)
            self.stays = Table("stays", fill=COUNT)

    def collects(self, epoch: int) -> bool:
        return self.prune < 1 and epoch == self.warmup_epochs - 1

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        columns = self.feature_column(batch, run) if self.prune < 1 else {}
        if self.hardness == "flip":
            columns["correct"] = correctness(batch.signals["logits"], batch.signals["targets"])
        return columns

    def observe(self, batch: Batch, run: Run) -> None:
        index = batch.index
        stamp = self.stamp[index] if hasattr(self, "stamp") else None
        now = instant_hardness(
            self.hardness,
            batch,
            loss=self.loss[index] if self.hardness == "loss_change" else None,
            correct=self.correct[index] if self.hardness == "flip" else None,
            stamp=stamp,
            normalize=self._normalizes,
            lr_sum=self.lr_sum,
            clip=self.clip,
        )
        if self._chances is not None and run.epoch == self._chances_epoch and not batch.surveyed:
            now = now / self._chances[index.cpu()].to(now)
        super().observe(batch, run)
        known = ~now.isnan()
        visits = self.visits[index]
        self.dih.write(index, self._averaged(self.dih[index], now, visits))
        self.visits.write(index, visits + known)
        if self.selection == "counts":
            flip = (now > 0).float()
            for table, count in ((self.flips, flip), (self.stays, 1 - flip)):
                old = table[index]
                table.write(index, torch.where(known, COUNT_DISCOUNT * old + count, old))
        if self.hardness == "loss_change":
            self.loss.write(index, batch.losses)
        if self.hardness == "flip":
            self.correct.write(index, batch.signals["correct"])
        if stamp is not None:
            assert isinstance(batch.clock, torch.Tensor)
            self.stamp.write(index, batch.clock)

    def _averaged(
        self, hardness: torch.Tensor, now: torch.Tensor, visits: torch.Tensor
    ) -> torch.Tensor:
        if self.gamma == "mean":
            share = 1 / (visits.to(hardness) + 1)
            return running_hardness(hardness, now, share, gamma_on="new")
        assert not isinstance(self.gamma, str)
        return running_hardness(hardness, now, self.gamma, gamma_on=self.gamma_on)

    # ------------------------------------------------------------------ what is chosen

    def _decays(self, epoch: int) -> int:
        """How often k has decayed when an epoch starts; 0 in the warm-up."""
        if epoch < self.warmup_epochs:
            return 0
        if self.episodes is None:
            return epoch - self.warmup_epochs + 1
        return 1 + sum(self.warmup_epochs < end <= epoch for end in self.episodes)

    def _size(self, size: int, epoch: int) -> int:
        """k_t of ``size`` samples, before pruning."""
        decays = self._decays(epoch)
        if decays == 0 or self.gamma_k >= 1:
            return size
        return min(size, shrinking_size(max(self.gamma_k**decays, self.k_min) * size))

    def planned_size(self, size: int, epoch: int) -> int | None:
        if epoch < self.warmup_epochs:
            return size
        return self._pruned_size(self._size(size, epoch))

    def plan(self, pool: Pool, run: Run) -> Pool:
        self._drawn = None
        if run.epoch < self.warmup_epochs:
            return pool
        hardness = self.dih.values[pool.index.to(self.dih.values.device)].cpu()
        size = hardness.numel() if pool.size is None else min(pool.size, hardness.numel())
        k = self._size(size, run.epoch)
        chosen = torch.arange(hardness.numel())
        if k < hardness.numel():
            chosen = self._chosen(pool, hardness, k, run)
        if self.prune < 1:
            steps = run.epoch - self.warmup_epochs
            chosen = self._pruned(pool.index, chosen, hardness, run, steps)
        if chosen.numel() == hardness.numel():
            return pool
        # The draw that was asked for is made: nobody is to draw by the same weights again.
        return replace(pool.keep(chosen), log_weights=None, size=None)

    def _chosen(self, pool: Pool, hardness: torch.Tensor, k: int, run: Run) -> torch.Tensor:
        generator = run.generator("dihcl", "draw")
        given = None if pool.log_weights is None else pool.log_weights.detach().cpu()
        if self.selection == "exp":
            size = hardness.numel()
            logits = math.sqrt(2 * math.log(size) / size) * hardness.double()
            logits = logits if given is None else logits + given
            self._drawn = (run.epoch, pool.index.clone(), logits, k)
            return weighted_draw(logits, k, generator=generator, log=True)
        weights = hardness
        if self.selection == "ucb":
            weights = self._upper_bounds(pool, hardness, run)
        elif self.selection in ("beta", "counts"):
            weights = self._thompson(pool, hardness, run)
        if self.topk or self.selection in ("greedy", "ucb"):
            if given is not None:  # an order by hardness has no use for weights but "never"
                weights = weights.masked_fill(given == -math.inf, -math.inf)
            return highest(weights, k, generator=generator)
        if given is not None:
            logits = weights.double().log() + given
            return weighted_draw(logits, k, generator=generator, log=True)
        return weighted_draw(weights, k, generator=generator)

    def _upper_bounds(self, pool: Pool, hardness: torch.Tensor, run: Run) -> torch.Tensor:
        visits = self.visits.values[pool.index.to(self.visits.values.device)].cpu()
        bonus = torch.sqrt(2 * math.log(max(1, run.epoch)) / visits.clamp(min=1).double())
        bounds = hardness.double() + self.exploration * bonus
        # Above every bound, and finite: nobody knows these samples.
        return torch.where(visits == 0, bounds.max() + 1, bounds)

    def _thompson(self, pool: Pool, hardness: torch.Tensor, run: Run) -> torch.Tensor:
        if self.selection == "counts":
            a, b = (
                table.values[pool.index.to(table.values.device)].cpu().double()
                for table in (self.flips, self.stays)
            )
        else:
            r = hardness.double()
            c = self._bound(r)
            a = r.clamp(1e-3 * c, (1 - 1e-3) * c)
            b = c - a
        seed = torch.randint(2**62, (1,), generator=run.generator("dihcl", "beta"))
        drawn = np.random.default_rng(int(seed)).beta(a.numpy(), b.numpy())
        return torch.from_numpy(drawn)

    def _bound(self, hardness: torch.Tensor) -> float:
        """c, above what r can be."""
        if self.c is None:
            if self.hardness == "flip" and not self._normalizes:
                return 1.0
            return max(1.0, 1.05 * float(hardness.max()))
        if float(hardness.min()) > self.c:
            low = f"{float(hardness.min()):.4g}"
            cause = f"The lowest is {low}: give a larger c, or None."
            raise refusal("c", "above the hardness of some sample", self.c, cause)
        return self.c

    def start_epoch(self, run: Run) -> None:
        if self._drawn is None or self._drawn[0] != run.epoch:
            # Nothing was drawn, or before a resume within the epoch: then they were loaded.
            if self._chances_epoch != run.epoch:
                self._chances, self._chances_epoch = None, run.epoch
            return
        self._chances_epoch = run.epoch
        _, index, logits, k = self._drawn
        # Relative to the largest, so that the exponential cannot overflow.
        weights = torch.exp(logits - logits.max())
        if self.p == "inclusion":
            chances = inclusion_probabilities(weights, k)
        else:
            chances = weights / weights.sum()
        self._chances = torch.ones(run.size)
        self._chances[index] = chances.clamp(min=FLOORS[self.p]).float()

    def state_dict(self) -> dict[str, Any]:
        return {"chances": self._chances, "chances_epoch": self._chances_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._chances, self._chances_epoch = state["chances"], state["chances_epoch"]
        self._drawn = None
