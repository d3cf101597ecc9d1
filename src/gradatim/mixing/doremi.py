"""DoReMi: weights of sources from a small proxy model and a reference model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from gradatim import distributed
from gradatim.mixing.policy import Policy, read_weights
from gradatim.validation import check_count, check_number, refusal

__all__ = ["DoReMi", "domain_excess"]


def domain_excess(
    losses: torch.Tensor,
    reference: torch.Tensor,
    domains: torch.Tensor,
    count: int,
    *,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum, by domain, how much worse than the reference a proxy predicts each token.

    Each token's excess is cut at 0 before anything is averaged: max(l - l_ref, 0).

    Args:
        losses: l, (B, T), of the proxy, per token.
        reference: l_ref, (B, T), of the reference model.
        domains: int64 (B,), the domain of each row, in [0, count).
        count: K.
        mask: (B, T), true where there is a token; default: everywhere.

    Returns:
        float64 (K,) sums and (K,) token counts on the CPU, over all processes (collective).

    Raises:
        ValueError: shapes that differ, a domain outside its range, a value that is not finite.

    Example:
        >>> proxy, reference = torch.tensor([[1.3, 0.7]]), torch.tensor([[1.0, 1.0]])
        >>> sums, tokens = domain_excess(proxy, reference, torch.tensor([0]), 1)
        >>> round(float(sums / tokens), 6)
        0.15

    Differences from the paper:
        None known.

    References:
        Xie et al., DoReMi, NeurIPS 2023, Algorithm 1 [xie2023doremi].
    """
    count = check_count("count", count, at_least=1)
    if losses.ndim != 2:
        raise refusal("losses", "of shape (rows, tokens)", losses, "Forgot reduction='none'?")
    for name, given in (("reference", reference), ("mask", mask)):
        if given is not None and given.shape != losses.shape:
            raise refusal(name, f"of shape {tuple(losses.shape)}", given)
    _check_domains(domains, losses, count)
    kept = torch.ones_like(losses, dtype=torch.bool) if mask is None else mask.bool()
    excess = (losses.detach().double() - reference.detach().double()).clamp(min=0)
    excess = torch.where(kept, excess, 0.0)  # padding may hold anything
    pair = torch.stack([excess.sum(1), kept.sum(1).double()]).cpu()
    if not bool(torch.isfinite(pair).all()):
        raise refusal("losses", "finite, as must be the reference", "NaN or infinity")
    by_domain = torch.zeros(2, count, dtype=torch.float64).index_add_(1, domains.cpu(), pair)
    sums, tokens = distributed.global_sum(by_domain)
    return sums, tokens


def _check_domains(domains: torch.Tensor, losses: torch.Tensor, count: int) -> None:
    rows = losses.shape[0]
    if domains.dtype != torch.int64 or domains.shape != (rows,):
        raise refusal("domains", f"int64 of shape ({rows},)", domains)
    if rows and (int(domains.min()) < 0 or int(domains.max()) >= count):
        raise refusal("domains", f"in [0, {count})", [int(domains.min()), int(domains.max())])


class DoReMi(Policy):
    """Find weights of sources by training a small proxy against its worst ones (Group DRO).

    A reference model is trained on the reference weights. Then a proxy of the same size is trained
    with the weights a (at first uniform), which move at every step by the excess losses e::

        e_i = mean over tokens of domain i of max(l - l_ref, 0)
        a' ~ a exp(eta e), normalised;   a = (1 - c) a' + c / K
        loss of the proxy = sum_i a_i (mean token loss of domain i)

    The result, `average`, is the mean of a over steps: resample the data by it and train the large
    model as always. Per step: `observe` each micro-batch, `update` once, then `loss`.

    Args:
        domains: K, at least 1.
        eta: step size, above 0.
        c: share of the uniform mix, in [0, 1): a is at least c / K.
        vocabulary: number of tokens; log of it is the excess of a domain before it is first seen,
            as in the authors' code. Default: 0, such a domain waits.
        sampling: (K,), how often domains are drawn while the proxy trains; `loss` divides by it.
            Default: uniform, as in the paper.

    State:
        ``log_weights``, ``total`` (sum of a over steps) and ``excess`` (the last known), float64
        (K,); ``seen``, bool (K,); ``steps``; sums and counts of the micro-batches of this step.

    Raises:
        TypeError: an argument of another kind.
        ValueError: an argument outside its range.

    Example:
        >>> proxy = DoReMi(3)
        >>> proxy.update([0.5, 0.0, 0.1])
        >>> proxy.probabilities()
        tensor([0.4391, 0.2665, 0.2944], dtype=torch.float64)

    Differences from the paper:
        A domain absent from a step keeps its last excess, as in the authors' code.

    Caveats:
        The weights of the step are known only once all of its micro-batches were observed: with
        gradient accumulation, observe them all before the first `loss`. A reference loss per token
        can be cached: the reference model is fixed.

    References:
        Xie et al., DoReMi: Optimizing data mixtures speeds up language model pretraining,
        NeurIPS 2023, Algorithm 1 [xie2023doremi].
    """

    references: ClassVar[tuple[str, ...]] = ("xie2023doremi",)
    kept: ClassVar[tuple[str, ...]] = (
        "log_weights", "total", "excess", "seen", "steps", "sums", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        domains: int,
        *,
        eta: float = 1.0,
        c: float = 1e-3,
        vocabulary: int | None = None,
        sampling: torch.Tensor | Sequence[float] | None = None,
    ) -> None:
        self.domains = check_count("domains", domains, at_least=1)
        self.eta = check_number("eta", eta, above=0)
        self.c = check_number("c", c, at_least=0, below=1)
        if vocabulary is not None:
            vocabulary = check_count("vocabulary", vocabulary, at_least=1)
        self.vocabulary = vocabulary
        self.sampling = None if sampling is None else read_weights("sampling", sampling, domains)
        if self.sampling is not None and not bool((self.sampling > 0).all()):
            raise refusal("sampling", "above 0 everywhere", self.sampling.tolist())
        zeros = torch.zeros(self.domains, dtype=torch.float64)
        self.log_weights = zeros - math.log(self.domains)
        self.total = zeros.clone()
        self.excess = zeros + (math.log(vocabulary) if vocabulary else 0.0)
        self.seen = torch.zeros(self.domains, dtype=torch.bool)
        self.steps = 0
        self.sums = zeros.clone()
        self.tokens = zeros.clone()

    def probabilities(self) -> torch.Tensor:
        """The weights a of the step that was updated last: float64 (K,)."""
        return self.log_weights.exp()

    def observe(
        self,
        losses: torch.Tensor,
        reference: torch.Tensor,
        domains: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
    ) -> None:
        """Add a micro-batch to the coming `update`; arguments as of `domain_excess`."""
        sums, tokens = domain_excess(losses, reference, domains, self.domains, mask=mask)
        self.sums += sums
        self.tokens += tokens

    def update(self, excess: torch.Tensor | Sequence[float] | None = None) -> None:
        """Move the weights, once per optimizer step and before the proxy's loss.

        Args:
            excess: e, (K,), at least 0, NaN for domains absent from the step; default: of what was
                observed since the last update.

        Raises:
            ValueError: a negative or infinite excess (cut each token at 0 before the mean), or
                nothing was observed. Nothing changes.
        """
        if excess is None:
            if not bool((self.tokens > 0).any()):
                raise refusal("excess", "given, or tokens observed before", "neither")
            known = self.sums / self.tokens  # 0 / 0 is NaN: absent
        else:
            known = torch.as_tensor(excess, dtype=torch.float64).detach().cpu()
        if known.shape != (self.domains,):
            raise refusal("excess", f"one per domain: {self.domains} of them", known)
        present = ~known.isnan()
        if bool((known[present] < 0).any()) or bool(known[present].isinf().any()):
            cause = "Was each token's excess cut at 0 before the mean?"
            raise refusal("excess", "at least 0 and finite", known.tolist(), cause)
        self.excess = torch.where(present, known, self.excess)
        self.seen = self.seen | present
        moved = torch.log_softmax(self.log_weights + self.eta * self.excess, 0)
        if self.c:
            floor = torch.full_like(moved, math.log(self.c) - math.log(self.domains))
            moved = torch.logaddexp(moved + math.log1p(-self.c), floor)
        self.log_weights = moved
        self.total = self.total + moved.exp()
        self.steps += 1
        self.sums, self.tokens = torch.zeros_like(self.sums), torch.zeros_like(self.tokens)

    def loss_weights(self) -> torch.Tensor:
        """The weights of the proxy's domain losses: a, over the sampling weights if not uniform."""
        if self.sampling is None:
            return self.probabilities()
        return torch.softmax(self.log_weights - self.sampling.log(), 0)

    def loss(
        self, losses: torch.Tensor, domains: torch.Tensor, *, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The proxy's loss on a micro-batch: sum_i a_i (mean token loss of domain i).

        Args:
            losses: (B, T), per token, with gradient.
            domains: int64 (B,).
            mask: (B, T), true where there is a token; default: everywhere.

        Returns:
            A scalar; domains that are absent add nothing.

        Raises:
            ValueError: shapes that differ, or a domain outside its range.
        """
        if losses.ndim != 2:
            raise refusal("losses", "of shape (rows, tokens)", losses, "Forgot reduction='none'?")
        if mask is not None and mask.shape != losses.shape:
            raise refusal("mask", f"of shape {tuple(losses.shape)}", mask)
        _check_domains(domains, losses, self.domains)
        kept = torch.ones_like(losses, dtype=torch.bool) if mask is None else mask.bool()
        rows = torch.where(kept, losses, 0.0).sum(1)
        where = domains.to(losses.device)
        sums = rows.new_zeros(self.domains).index_add(0, where, rows)
        tokens = rows.new_zeros(self.domains).index_add(0, where, kept.sum(1).to(rows.dtype))
        weights = self.loss_weights().to(device=losses.device, dtype=rows.dtype)
        return (weights * sums / tokens.clamp(min=1)).sum()

    def average(self) -> torch.Tensor:
        """The result: the mean of a over all updates, float64 (K,).

        Raises:
            ValueError: nothing was updated yet, or a domain never had a token.
        """
        if not self.steps:
            raise refusal("average", "asked for after an update", "none")
        if not bool(self.seen.all()):
            never = (~self.seen).nonzero().squeeze(1).tolist()
            raise refusal("domains", "seen at least once each", f"no token of {never}")
        return self.total / self.steps
