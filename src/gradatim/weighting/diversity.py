"""Self-paced learning with diversity: easy samples, but from many groups."""

from __future__ import annotations

import torch

from gradatim.selection.orders import lowest
from gradatim.selection.partial import check_generator, permutation
from gradatim.validation import check_count
from gradatim.weighting.inputs import precise_dtype, read_groups, read_losses, read_scalar

__all__ = ["spld", "spld_by_count"]


def spld(
    losses: torch.Tensor,
    groups: torch.Tensor,
    *,
    threshold: float | torch.Tensor,
    gamma: float | torch.Tensor,
) -> torch.Tensor:
    """Take easy samples, with a bonus for those that open or widen a group.

    Plain self-paced learning begins with whatever is easiest, which may be one class. SPLD rewards
    spreading over groups: it minimises, over v in {0, 1}^n ::

        sum_i v_i l_i - lambda sum_i v_i - gamma sum_g ||v^(g)||_2

    The exact solution (Algorithm 1) ranks each group by loss; the sample of rank r = 1, 2, ... is
    taken if and only if ::

        l_(r) < lambda + gamma / (sqrt(r) + sqrt(r - 1))

    Losses rise and the right side falls with r, so each group gives its easiest samples.

    =====================================  ================================================
    in Algorithm 1                         here
    =====================================  ================================================
    sort the samples of each group         two stable sorts for all groups together
    the bar for the sample of rank r       ``threshold`` plus a bonus for each sample
    take samples until one misses the bar  one comparison: after a miss no later one passes
    =====================================  ================================================

    Args:
        losses: (B,), any real values.
        groups: (B,) whole numbers, the group of each sample: class, cluster, source.
        threshold: lambda, in units of the loss; may be negative, since with gamma > 0 the first
            of a group enters at a loss below lambda + gamma.
        gamma: at least 0, in units of the loss. 0 is `gradatim.weighting.hard` with a
            strict inequality.

    Returns:
        Zeros and ones, (B,), new, in the losses' floating dtype.

    Raises:
        TypeError: groups cannot be read as numbers.
        ValueError: gamma < 0, groups of a wrong length or dtype, a threshold of NaN.

    Example:
        >>> losses = torch.tensor([0.05, 0.12, 0.14, 0.15, 0.40, 0.28])
        >>> groups = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> spld(losses, groups, threshold=0.03, gamma=0.26)
        tensor([1., 1., 0., 0., 0., 1.])

    Differences from the paper:
        None known. Equal losses within a group are ranked by position.

    Differences from the authors' code:
        Not compared. A public implementation takes the same number K from every group, by the
        same marginal costs; that is another rule, whose objective is in general worse.

    Caveats:
        The first sample of every group gets the full gamma, whatever the group's size, so many
        tiny groups dominate: merge them first.

    References:
        Jiang, Meng, Yu, Lan, Shan, Hauptmann, "Self-Paced Learning with Diversity", NeurIPS 2014,
        Algorithm 1 [jiang2014spld].
    """
    wide, dtype = read_losses(losses)
    ids = read_groups(groups, wide)
    limit = read_scalar("threshold", threshold, wide, infinite=True)
    width = read_scalar("gamma", gamma, wide, at_least=0)
    return (wide < limit + _bonus(wide, ids, width)).to(dtype)


def spld_by_count(
    losses: torch.Tensor,
    groups: torch.Tensor,
    *,
    k: int,
    gamma: float | torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Take exactly k samples, easy and spread over groups.

    `spld` with the lambda that includes k samples. Taking the sample of rank r in its group
    changes the objective by its marginal cost ``c = l_(r) - gamma / (sqrt(r) + sqrt(r - 1))``
    minus lambda, and costs rise with r. So the count is monotone in lambda, every lambda between
    the k-th and the next cost solves the problem, and the answer is the k lowest costs: no search
    for lambda is needed. It is the best set of size k for
    ``sum_i v_i l_i - gamma sum_g ||v^(g)||_2``.

    Args:
        losses: (N,), any real values.
        groups: (N,) whole numbers, the group of each sample.
        k: how many, in 1..N.
        gamma: at least 0, in units of the loss.
        generator: breaks ties of loss and of cost at random; None takes the earlier positions.

    Returns:
        k ones and N - k zeros, (N,), new, in the losses' floating dtype.

    Raises:
        TypeError: groups cannot be read as numbers; generator is not a torch.Generator.
        ValueError: gamma < 0, k outside 1..N, groups of a wrong length or dtype.

    Example:
        >>> losses = torch.tensor([0.05, 0.12, 0.14, 0.15, 0.40, 0.28])
        >>> groups = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> spld_by_count(losses, groups, k=3, gamma=0.0)
        tensor([1., 1., 1., 0., 0., 0.])
        >>> spld_by_count(losses, groups, k=3, gamma=0.26)
        tensor([1., 1., 0., 0., 0., 1.])

    Differences from the paper:
        The paper sets lambda by value. Equal costs at the boundary, where no lambda gives
        exactly k, are split by the tie rule.

    References:
        Jiang, Meng, Yu, Lan, Shan, Hauptmann, "Self-Paced Learning with Diversity", NeurIPS 2014,
        Algorithm 1 [jiang2014spld].
    """
    wide, dtype = read_losses(losses)
    ids = read_groups(groups, wide)
    k = check_count("k", k, at_least=1, at_most=wide.numel())
    width = read_scalar("gamma", gamma, wide, at_least=0)
    order = torch.arange(wide.numel(), device=wide.device)
    if generator is not None:
        # Reordering before ranking breaks both kinds of tie, within a group and between groups.
        order = permutation(wide.numel(), check_generator(generator)).to(wide.device)
    losses = wide[order]
    costs = losses - _bonus(losses, ids[order], width)
    weights = torch.zeros_like(wide, dtype=dtype)
    weights[order[lowest(costs, k, tie="index")]] = 1
    return weights


def _bonus(losses: torch.Tensor, groups: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Return ``gamma / (sqrt(r) + sqrt(r - 1))`` for each sample's rank r in its group, (B,)."""
    by_loss = losses.argsort(stable=True)
    order = by_loss[groups[by_loss].argsort(stable=True)]
    sorted_groups = groups[order]
    place = torch.arange(losses.numel(), device=losses.device)
    opens = torch.ones_like(place, dtype=torch.bool)
    opens[1:] = sorted_groups[1:] != sorted_groups[:-1]
    # The running maximum carries each group's first place to all its members.
    before = place - torch.where(opens, place, 0).cummax(0).values
    before = before.to(precise_dtype(losses.device))
    share = 1 / ((before + 1).sqrt() + before.sqrt())
    bonus = torch.empty_like(losses)
    bonus[order] = gamma * share.to(losses.dtype)
    return bonus
