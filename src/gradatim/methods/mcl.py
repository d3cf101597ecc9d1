"""Minimax curriculum learning: small diverse sets first, larger and harder ones later."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import torch

from gradatim.method import Batch, Pool, Run
from gradatim.methods.clusters import cluster_ids, described
from gradatim.methods.features import WithFeatures
from gradatim.methods.self_paced import SelfPaced
from gradatim.selection import facility_location, highest, prefix_size
from gradatim.selection.coverage import Greedy, coverage_gains, coverage_value, feature_coverage
from gradatim.selection.partial import permutation
from gradatim.table import Table
from gradatim.validation import check_choice, check_count, check_flag, check_number, refusal

__all__ = ["MCL"]

Function = Literal["coverage", "facility", "centrality"]

LAZY_UP_TO = 100_000  # rows; with more of them most steps would look at all again
INFLATION = 2  # of the random subset from which the reference code takes the best half


class MCL(SelfPaced, WithFeatures):
    """Minimax curriculum learning: hard samples, diverse at first and ever more of them.

    ``min_w max_{A, |A| <= k} sum_{i in A} l_i(w) + lambda F(A)`` (Zhou and Bilmes 2018, Eq. 2). An
    epoch is an inner step of their Algorithm 1: A is a greedy maximiser for the losses at hand, and
    is trained on in mini-batches. After p of them ``lambda <- (1 - gamma) lambda`` and
    ``k <- k + Delta`` (line 11). Once k reaches all samples, this is plain training, exactly.

    Args:
        start_fraction: first k as a share of the samples, in (0, 1]; 1 is plain training.
        growth: Delta as a share of the samples, above 0; or of k, where ``"multiplicative"``.
        growth_form: ``"additive"``, or ``"multiplicative"``: ``k <- (1 + Delta) k``.
        inner_epochs: p, epochs between two changes of lambda and k.
        diversity: lambda at first, at least 0; 0 trains on the k largest losses.
        gamma: decay of lambda, in [0, 1).
        function: F. ``"coverage"``: ``sum_u sqrt(sum_{i in A} c_u(i))`` of features that are not
            negative (`gradatim.selection.feature_coverage`). ``"facility"``:
            `gradatim.selection.facility_location`, for any features. ``"centrality"``: no F but the
            authors' approximation in code: of 2 k samples drawn at random the k with the largest
            ``l_i + lambda c_i``, c the mean cosine with all others.
        clusters: how many clusters of features are chosen instead of samples, or None. Clusters
            are chosen until they hold k samples; all of these are trained on. Needs scikit-learn.
        cluster_hardness: ``"representative"``: |C| times the loss of the sample nearest to the
            centroid; ``"mean"``: |C| times the mean loss, that is the sum over the cluster.
        reuse: keep the last epoch's A where its value is at least ``reuse_share`` of
            ``tau = sum of the k largest singleton values``, an upper bound (their Algorithm 2); if
            k has grown since, the rest is chosen beside it. With ``"coverage"`` of samples only:
            elsewhere the bound costs as much as the choice.
        reuse_share: in (0, 1].
        greedy: ``"lazy"``, ``"exact"`` or ``"stochastic"``; None is lazy with ``"coverage"`` and
            stochastic with ``"facility"``.
        warmup_epochs: epochs of plain training first, which also give the first losses.
        survey_every_epochs: ask for a `Curriculum.survey` every so many epochs, so that the losses
            of left-out samples are fresh (the paper's form, at the cost of a forward pass); None
            uses the losses of each sample's last visit.
        features: (N, D), floating; None takes the inputs of the model's last linear layer in the
            last epoch of the warm-up (or ``features=`` of the call).
        layer: name of another linear layer.

    State:
        loss: float32 (N,), last seen; the later observation wins between ranks.
        features: float32 (N, D), where they are not given.
        trained_epoch: int64 (N,), epoch of the last training step, with ``reuse``.
        clusters: int64 (N,) and no table, found once, after the warm-up.

    Raises:
        ValueError: a parameter outside its range; features that are negative or of another length
            than the data.
        ImportError: clusters without scikit-learn.

    Example:
        >>> import torch, gradatim as gr
        >>> method = MCL(start_fraction=0.5, features=torch.tensor([[4.0, 0], [1, 1], [0, 9]]))
        >>> run = gr.Run(size=3, seed=0, epoch=1)
        >>> method.setup(run)
        >>> method.losses = gr.Table("loss").allocate(3)
        >>> method.losses.write(torch.arange(3), torch.tensor([0.5, 0.2, 0.1]))
        >>> method.plan(gr.Pool(torch.arange(3)), run).index.tolist()
        [0, 2]

    Differences from the paper:
        Losses of the last visit stand in for a forward pass over all samples, unless
        ``survey_every_epochs`` is set. gamma, Delta, lambda and k are tuned for each data set
        there; the defaults here are ours. Samples that no epoch has seen count as hardest.
        With ``"centrality"`` nothing is submodular.

    Caveats:
        lambda weighs losses against F, which grows with the number and size of the features, and
        losses may shrink by orders of magnitude: choose ``diversity`` for your features. Left-out
        samples keep the loss of their last visit. Under label noise hard samples are often wrong
        ones. The square root keeps G(A) of many samples far below tau, so that ``reuse`` keeps
        large choices only with a small ``reuse_share``.

    References:
        Zhou and Bilmes, Minimax Curriculum Learning: Machine Teaching with Desirable Difficulties
        and Scheduled Diversity, ICLR 2018 [zhou2018mcl].
    """

    references = ("zhou2018mcl",)

    def __init__(
        self,
        *,
        start_fraction: float = 0.1,
        growth: float = 0.1,
        growth_form: Literal["additive", "multiplicative"] = "additive",
        inner_epochs: int = 10,
        diversity: float = 1.0,
        gamma: float = 0.1,
        function: Function = "coverage",
        clusters: int | None = None,
        cluster_hardness: Literal["representative", "mean"] = "representative",
        reuse: bool = False,
        reuse_share: float = 0.5,
        greedy: Greedy | None = None,
        warmup_epochs: int = 1,
        survey_every_epochs: int | None = None,
        features: torch.Tensor | None = None,
        layer: str | None = None,
    ) -> None:
        SelfPaced.__init__(self, None, warmup_epochs, survey_every_epochs)
        self.pace = None  # k has a form of its own
        WithFeatures.__init__(self, features, layer)
        self.start_fraction = check_number("start_fraction", start_fraction, above=0, at_most=1)
        self.growth = check_number("growth", growth, above=0)
        check_choice("growth_form", growth_form, ("additive", "multiplicative"))
        self.growth_form = growth_form
        self.inner_epochs = check_count("inner_epochs", inner_epochs, at_least=1)
        self.diversity = check_number("diversity", diversity, at_least=0)
        self.gamma = check_number("gamma", gamma, at_least=0, below=1)
        check_choice("function", function, ("coverage", "facility", "centrality"))
        self.function: Function = function
        if clusters is not None:
            check_count("clusters", clusters, at_least=1)
        self.clusters = clusters
        check_choice("cluster_hardness", cluster_hardness, ("representative", "mean"))
        self.cluster_hardness = cluster_hardness
        self.reuse = check_flag("reuse", reuse)
        if reuse and (function != "coverage" or clusters is not None):
            other = f"function={function!r}" if clusters is None else "clusters"
            raise refusal("reuse", "False unless samples are chosen by coverage", f"{other} too")
        self.reuse_share = check_number("reuse_share", reuse_share, above=0, at_most=1)
        if greedy is not None:
            check_choice("greedy", greedy, ("lazy", "exact", "stochastic"))
        self.greedy: Greedy | None = greedy
        if features is not None and self._needs_features:
            self._check_sign(features)
        self._cluster_ids: torch.Tensor | None = None

    # ------------------------------------------------------------------ lambda and k by epoch

    def _round(self, epoch: int) -> int:
        return (epoch - self.warmup_epochs) // self.inner_epochs

    def _lambda(self, epoch: int) -> float:
        return self.diversity * (1 - self.gamma) ** self._round(epoch)

    def _fraction(self, epoch: int) -> float:
        if epoch < self.warmup_epochs:
            return 1.0
        done = self._round(epoch)
        if self.growth_form == "additive":
            fraction = self.start_fraction + self.growth * done
        else:
            # Through the logarithm: a power of thousands of rounds overflows.
            exponent = math.log(self.start_fraction) + done * math.log1p(self.growth)
            fraction = math.exp(min(0.0, exponent))
        return 1.0 if fraction > 1 - 1e-9 else fraction

    def planned_size(self, size: int, epoch: int) -> int | None:
        fraction = self._fraction(epoch)
        if fraction >= 1:
            return size
        return None if self.clusters is not None else prefix_size(fraction, size)

    # ------------------------------------------------------------------ what is remembered

    def setup(self, run: Run) -> None:
        SelfPaced.setup(self, run)
        WithFeatures.setup(self, run)
        self._cluster_ids = None
        if self.reuse:
            self.trained_epoch = Table("trained_epoch", dtype=torch.int64, fill=-1)

    @property
    def _needs_features(self) -> bool:
        return self.start_fraction < 1 and (self.diversity > 0 or self.clusters is not None)

    @property
    def _collecting(self) -> bool:
        return self._needs_features

    def collects(self, epoch: int) -> bool:
        return self._needs_features and epoch == max(0, self.warmup_epochs - 1)

    def observe(self, batch: Batch, run: Run) -> None:
        SelfPaced.observe(self, batch, run)
        if self.warmup_epochs > 0 or batch.surveyed:
            # Without a warm-up only the survey shows all samples to one and the same model.
            WithFeatures.observe(self, batch, run)
        if self.reuse and not batch.surveyed:
            rows = torch.full_like(batch.index, batch.epoch)
            self.trained_epoch.write(batch.index, rows)

    def start_epoch(self, run: Run) -> None:
        if run.epoch >= self.warmup_epochs and self._fraction(run.epoch) < 1:
            self._keep_clusters(run)

    def end_epoch(self, run: Run) -> None:
        if run.epoch == self.warmup_epochs - 1:
            self._keep_clusters(run)

    def _keep_clusters(self, run: Run) -> None:
        if self.clusters is not None and self.start_fraction < 1:
            self._cluster_ids = self._clustered(run)

    def _clustered(self, run: Run) -> torch.Tensor:
        """int64 (N,): the clusters, as they are kept or as they will be."""
        if self._cluster_ids is not None:
            return self._cluster_ids
        assert self.clusters is not None
        rows = self.feature_rows(torch.arange(run.size))
        generator = run.generator("mcl", "clusters", epoch=self.warmup_epochs)
        return cluster_ids(rows, self.clusters, generator=generator)

    def state_dict(self) -> dict[str, Any]:
        kept = self._cluster_ids
        return {**super().state_dict(), "clusters": None if kept is None else kept.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        kept = state["clusters"]
        self._cluster_ids = None if kept is None else kept.clone()

    # ------------------------------------------------------------------ the choice

    def _losses(self, pool: Pool, run: Run) -> torch.Tensor:
        losses = super()._losses(pool, run)
        held = self.losses.values
        unseen = held[pool.index.to(held.device)].isnan().cpu()
        return torch.where(unseen, losses.max(), losses)

    def plan(self, pool: Pool, run: Run) -> Pool:
        fraction = self._fraction(run.epoch)
        if fraction >= 1:
            return pool
        losses = self._losses(pool, run)
        size = losses.numel() if pool.size is None else min(pool.size, losses.numel())
        k = prefix_size(fraction, size)
        if self.clusters is not None:
            chosen = self._clusters_of(pool, losses, k, run)
        elif self._lambda(run.epoch) == 0:
            chosen = highest(losses, k, generator=run.generator("mcl", "ties"))
        else:
            rows = self.feature_rows(pool.index)
            previous = self._previous(pool, run)
            chosen = self._chosen(losses, rows, k, run, previous).sort().values
        # The choice that was asked for is made: nobody is to draw from it.
        return replace(pool.keep(chosen), log_weights=None, size=None)

    def _chosen(
        self,
        scores: torch.Tensor,
        rows: torch.Tensor,
        k: int,
        run: Run,
        previous: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Positions (k,) of items with ``scores`` (M,) and features (M, D), in order of choice."""
        weight = self._lambda(run.epoch)
        generator = run.generator("mcl", "choice")
        if self.function == "centrality":
            return _central(scores + weight * _centrality(rows).cpu(), k, generator)
        if self.function == "facility":
            greedy = self.greedy or "stochastic"
            # On the features' device, where there is more to calculate than to wait for.
            return facility_location(
                rows, k, scores=scores, diversity=weight, greedy=greedy, generator=generator
            ).cpu()
        rows = rows.cpu()
        self._check_sign(rows)
        if previous is not None and not self._still_good(scores, rows, k, weight, previous):
            previous = None
        return feature_coverage(
            rows,
            k,
            scores=scores,
            diversity=weight,
            greedy=self.greedy or ("lazy" if len(rows) <= LAZY_UP_TO else "stochastic"),
            generator=generator,
            start=previous,
        )

    def _check_sign(self, rows: torch.Tensor) -> None:
        if self.function == "coverage" and rows.numel() and float(rows.min()) < 0:
            raise refusal(
                "features",
                'at least 0 everywhere with function="coverage"',
                float(rows.min()),
                'Is there no ReLU before the last layer? Choose function="facility".',
            )

    def _previous(self, pool: Pool, run: Run) -> torch.Tensor | None:
        """Positions in the pool of what the last epoch trained on, if that was chosen."""
        if not self.reuse or run.epoch <= self.warmup_epochs:
            return None
        held = self.trained_epoch.values
        trained = held[pool.index.to(held.device)].cpu() == run.epoch - 1
        return trained.nonzero().squeeze(1)

    def _still_good(
        self,
        losses: torch.Tensor,
        rows: torch.Tensor,
        k: int,
        weight: float,
        previous: torch.Tensor,
    ) -> bool:
        """Whether ``G(A) >= alpha tau`` holds for the previous A."""
        if not 0 < previous.numel() <= k:
            return False
        losses = losses.double()
        tau = (losses + weight * coverage_gains(rows)).topk(k).values.sum()
        value = losses[previous].sum() + weight * coverage_value(rows, previous)
        return bool(value >= self.reuse_share * tau)

    def _clusters_of(self, pool: Pool, losses: torch.Tensor, k: int, run: Run) -> torch.Tensor:
        """Positions (at least k,) of the samples of whole clusters, ascending."""
        ids = self._clustered(run)[pool.index.cpu()]
        found = described(self.feature_rows(pool.index), ids)
        if self.cluster_hardness == "representative":
            hardness = found.counts * losses[found.representatives]
        else:
            hardness = torch.zeros(len(found.counts), dtype=torch.float64)
            hardness.index_add_(0, found.members, losses.double())
        total = len(found.counts)
        count = math.ceil(total * k / losses.numel())
        while True:
            order = self._chosen(hardness, found.centroids, count, run)
            held = found.counts[order].cumsum(0)
            if int(held[-1]) >= k:
                break
            count = min(total, 2 * count)
        taken = torch.zeros(total, dtype=torch.bool)
        taken[order[: int((held < k).sum()) + 1]] = True
        return taken[found.members].nonzero().squeeze(1)


def _central(values: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """The largest k of a random subset of twice the size, as in the authors' code."""
    drawn = permutation(values.numel(), generator)[: INFLATION * k]
    return drawn[values[drawn].topk(k).indices]


def _centrality(rows: torch.Tensor) -> torch.Tensor:
    """Mean cosine of each sample with all samples, without their N x N products."""
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    return unit @ unit.mean(0)
