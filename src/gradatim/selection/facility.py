"""Facility location: a subset that is hard and stands for all the others, without an N x N array.

``G(S) = sum_j max_{i in S} w_ij``, ``w_ij = exp(-||z_i - z_j||^2 / (2 s^2))``: every candidate
counts by its likeness to the chosen one that is most like it. Greedy maximisers of
``sum_{i in S} r_i + lambda G(S)`` reach 1 - 1/e of the best value (Nemhauser et al. 1978).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from gradatim.measured import measured
from gradatim.selection.partial import check_generator, permutation
from gradatim.validation import as_vector, check_choice, check_count, check_number, refusal

__all__ = ["facility_location", "facility_value", "mean_distance"]

Greedy = Literal["stochastic", "lazy", "exact"]

CHUNK_BYTES = 4 * 2**20  # stays in a processor's cache, where the passes over it cost little
DEVICE_CHUNKS = 16  # times as much on other devices, where fewer and larger steps are cheaper
WIDTH = 1024  # candidates per chunk
PAIRS = 1_000_000
ROUNDING = 1e-5  # of a gain, relatively
SAMPLED_ABOVE = 20_000  # all pairs of more candidates would cost more than the choice itself


def facility_location(
    features: torch.Tensor,
    k: int,
    *,
    scores: torch.Tensor | Sequence[float] | None = None,
    diversity: float = 1.0,
    greedy: Greedy = "stochastic",
    epsilon: float = 0.01,
    scale: float | None = None,
    reference: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Choose k candidates with large scores that together stand for all.

    Maximises ``sum_{i in S} r_i + lambda G(S)`` greedily, keeping only the cover
    ``max_{i in S} w_ij`` of each j: similarities are computed in chunks and dropped.

    Args:
        features: z, (m, D), floating; half precision is widened. On any device.
        k: how many to choose; m or more chooses all.
        scores: r, (m,), the modular term; None is 0. They are shifted by their minimum, which
            changes no choice of k and keeps the objective from falling.
        diversity: lambda, at least 0; 0 chooses the k largest scores.
        greedy: ``"stochastic"`` looks at ``ceil(m / k log(1 / epsilon))`` random candidates per
            step (Mirzasoleiman et al. 2015): expected value at least 1 - 1/e - epsilon of the best.
            ``"exact"`` looks at all of them; ``"lazy"`` finds the same choice and looks again only
            where a gain may still be the largest.
        epsilon: of the stochastic choice, in (0, 1).
        scale: s; None is `mean_distance`.
        reference: (R, D), which rows j are summed over; None is all candidates. Its sum is
            multiplied by m / R, so that ``diversity`` keeps its meaning.
        generator: for ``"stochastic"``, and to sample pairs where m is above 20,000.

    Returns:
        int64 (min(k, m),), in the order of choice, on the features' device.

    Raises:
        TypeError: ``generator`` is missing where it is needed.
        ValueError: features that are no finite matrix, or a parameter outside its range.

    Example:
        Three points near each other, one far away: it stands for itself.

        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
        >>> facility_location(z, 2, scores=[0.2, 0.1, 0.3, 0.0], greedy="exact")
        tensor([2, 3])
        >>> facility_location(z, 2, scores=[0.2, 0.1, 0.3, 0.0], diversity=0.0, greedy="exact")
        tensor([2, 0])

    Differences from the paper:
        Zhou, Wang and Bilmes (2020) print the similarity without its minus sign; and leave open
        how negative scores are treated.

    Caveats:
        Where all features are equal nothing is diverse: a warning, and the k largest scores.

    References:
        Mirzasoleiman et al., Lazier Than Lazy Greedy, AAAI 2015. Zhou, Wang and Bilmes, Curriculum
        Learning by Dynamic Instance Hardness, NeurIPS 2020, Eq. 3.
    """
    z = _matrix("features", features)
    size = len(z)
    k = min(check_count("k", k), size)
    check_number("diversity", diversity, at_least=0)
    check_choice("greedy", greedy, ("stochastic", "lazy", "exact"))
    check_number("epsilon", epsilon, above=0, below=1)
    if greedy == "stochastic":
        check_generator(generator)
    gains = torch.zeros(size, dtype=z.dtype, device=z.device)
    if scores is not None:
        gains = as_vector("scores", scores).to(z)
        if gains.numel() != size:
            raise refusal("scores", f"one per candidate: {size}", gains.numel())
        gains = gains - gains.min() if size else gains
    if scale is not None:
        scale = check_number("scale", scale, above=0)
    elif size > 1:
        scale = mean_distance(z, generator=generator)
    rows = z if reference is None else _matrix("reference", reference).to(z)
    if rows.shape[1:] != z.shape[1:]:
        raise refusal("reference", f"of {z.shape[1]} columns, as features", rows.shape)
    if not scale:
        if size > 1 and diversity > 0:
            warnings.warn(
                "features are all equal, so nothing is diverse: the largest scores are chosen.",
                stacklevel=2,
            )
        diversity, scale = 0.0, 1.0
    cover = _Cover(rows, z, scale, diversity * size / max(1, len(rows)))
    with measured("diversity"):
        if greedy == "stochastic" and diversity > 0:
            assert generator is not None
            sampled = min(size, math.ceil(size / max(1, k) * math.log(1 / epsilon)))
            return _stochastic(cover, gains, k, sampled, generator)
        return _lazy(cover, gains, k) if greedy == "lazy" else _exact(cover, gains, k)


def facility_value(
    features: torch.Tensor, chosen: torch.Tensor | Sequence[int], *, scale: float | None = None
) -> float:
    """Compute G(S) of a subset.

    Args:
        features: z, (m, D).
        chosen: positions of S; the empty set has the value 0.
        scale: s; None is `mean_distance` of all pairs.

    Returns:
        G(S), in [0, m].

    Raises:
        ValueError: features that are no finite matrix.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
        >>> round(facility_value(z, [0, 1]), 4), round(facility_value(z, [0, 3]), 4)
        (3.2239, 3.9347)
    """
    z = _matrix("features", features)
    if scale is None:
        scale = mean_distance(z, generator=torch.Generator().manual_seed(0))
    cover = _Cover(z, z, scale or 1.0, 1.0)
    for position in torch.as_tensor(chosen, dtype=torch.int64).tolist():
        cover.add(position)
    return float(cover.values.double().sum())


def mean_distance(features: torch.Tensor, *, generator: torch.Generator | None = None) -> float:
    """Compute the mean distance of two different candidates, in chunks.

    Args:
        features: (m, D).
        generator: samples 1,000,000 pairs where m is above 20,000; needed there.

    Returns:
        s; 0 for fewer than two candidates.

    Raises:
        TypeError: ``generator`` is missing where it is needed.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
        >>> round(mean_distance(z), 6)
        3.881922
    """
    z = _matrix("features", features)
    size = len(z)
    if size < 2:
        return 0.0
    if size > SAMPLED_ABOVE:
        check_generator(generator)
        device = generator.device if generator is not None else torch.device("cpu")
        first = torch.randint(size, (PAIRS,), generator=generator, device=device)
        # A second one that differs: the other size - 1 positions, all alike.
        gap = torch.randint(1, size, (PAIRS,), generator=generator, device=device)
        second = ((first + gap) % size).to(z.device)
        first = first.to(z.device)
        step = max(1, _elements(z) // z.shape[1])
        total = sum(
            float((z[a] - z[b]).square().sum(1).sqrt().double().sum())
            for a, b in zip(first.split(step), second.split(step), strict=True)
        )
        return total / PAIRS
    z = z - z.mean(0)
    norms = z.square().sum(1)
    total = 0.0
    step = max(1, _elements(z) // size)
    for start in range(0, size, step):
        part = slice(start, start + step)
        # To itself and to all after it: the others had this distance in their turn.
        squares = torch.addmm(norms[start:], z[part], z[start:].T, alpha=-2)
        squares.add_(norms[part, None])
        # Rounding gives a point a distance to itself, which is not among the pairs.
        squares.diagonal().zero_()
        sums = squares.clamp_(min=0).sqrt_().sum(1, dtype=torch.float64)
        total += float(2 * sums.sum() - squares[:, : len(squares)].sum(dtype=torch.float64))
    return total / (size * (size - 1))


def _elements(like: torch.Tensor) -> int:
    """How many elements a chunk has."""
    share = 1 if like.device.type == "cpu" else DEVICE_CHUNKS
    return share * CHUNK_BYTES // like.element_size()


class _Cover:
    """``max_{i in S} w_ij`` of each row j, and what candidates would add to its sum.

    With a = z_i / s and b = z_j / s the exponent ``-||a - b||^2 / 2`` is one product of two rows,
    ``(a, 1, -||a||^2 / 2)`` and ``(b, -||b||^2 / 2, 1)``; it goes into memory that is kept. All of
    it is in powers of two, which take half the time of those of e.
    """

    def __init__(
        self, rows: torch.Tensor, candidates: torch.Tensor, scale: float, weight: float
    ) -> None:
        center = candidates.mean(0)  # near the origin the exponent keeps its digits
        self.rows = _widened(rows, center, scale, norm_first=True)
        self.candidates = _widened(candidates, center, scale, norm_first=False)
        self.weight = weight
        self.values = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
        self.chunk = torch.empty(0, dtype=rows.dtype, device=rows.device)
        # The candidates of the last look, and what each row would gain by them.
        self._looked: tuple[list[int], torch.Tensor] | None = None

    def parts(self, width: int) -> Iterator[slice]:
        """All rows, as many at once as make a chunk with ``width`` candidates."""
        step = max(1, _elements(self.values) // max(1, width))
        return (slice(start, start + step) for start in range(0, len(self.rows), step))

    def likeness(self, rows: slice, candidates: torch.Tensor) -> torch.Tensor:
        """W (candidates, rows), until the next call."""
        left, right = self.candidates[candidates], self.rows[rows]
        shape = (len(left), len(right))
        if math.prod(shape) > len(self.chunk):
            self.chunk = self.chunk.new_empty(math.prod(shape))
        found = self.chunk[: math.prod(shape)].view(shape)
        return torch.mm(left, right.T, out=found).clamp_(max=0).exp2_()

    def gains(self, candidates: torch.Tensor) -> torch.Tensor:
        """``lambda sum_j max(0, w_ij - cover_j)`` of candidates (C,)."""
        total = torch.zeros(len(candidates), dtype=torch.float64, device=self.values.device)
        if self.weight == 0:
            return total.to(self.values)
        self._looked = None
        for some, sums in zip(candidates.split(WIDTH), total.split(WIDTH), strict=True):
            for part in self.parts(len(some)):
                more = self.likeness(part, some).sub_(self.values[part]).clamp_(min=0)
                sums += more.sum(1)
                if more.shape == (len(candidates), len(self.values)):  # all of it in one chunk
                    self._looked = candidates.tolist(), more
        return (self.weight * total).to(self.values)

    def add(self, position: int) -> None:
        """Choose a candidate."""
        if self.weight == 0:
            return
        if self._looked is not None and position in self._looked[0]:
            self.values += self._looked[1][self._looked[0].index(position)]
        else:
            likeness = torch.mv(self.rows, self.candidates[position]).clamp_(max=0).exp2_()
            torch.maximum(self.values, likeness, out=self.values)
        self._looked = None


def _widened(
    z: torch.Tensor, center: torch.Tensor, scale: float, *, norm_first: bool
) -> torch.Tensor:
    """(z / s, -norm / 2, 1), or the last two the other way round: (n, D + 2); s for powers of 2."""
    size, columns = z.shape
    scale *= math.sqrt(math.log(2))
    wide = z.new_ones(size, columns + 2)
    for start in range(0, size, step := max(1, _elements(z) // columns)):
        part = wide[start : start + step]
        scaled = (z[start : start + step] - center).div_(scale)
        part[:, :columns] = scaled
        part[:, columns if norm_first else columns + 1] = scaled.square_().sum(1).mul_(-0.5)
    return wide


def _matrix(name: str, features: torch.Tensor) -> torch.Tensor:
    if not isinstance(features, torch.Tensor) or not features.is_floating_point():
        kind = getattr(features, "dtype", type(features).__name__)
        raise TypeError(str(refusal(name, "a floating tensor", kind)))
    if features.ndim != 2 or features.shape[1] == 0:
        raise refusal(name, "of shape (m, D) with D at least 1", tuple(features.shape))
    wide = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    # A sum with one of them in it is not finite either, and takes no memory.
    if not bool(wide.sum().isfinite()) and bool((bad := ~wide.isfinite().all(1)).any()):
        rows = bad.nonzero().squeeze(1)[:10].tolist()
        raise refusal(name, "finite", f"values that are not, in rows {rows}")
    return wide


def _exact(cover: _Cover, modular: torch.Tensor, k: int) -> torch.Tensor:
    everybody = torch.arange(len(modular), device=modular.device)
    left = modular.clone()
    chosen: list[int] = []
    for _ in range(k):
        best = int((left + cover.gains(everybody)).argmax())
        chosen.append(best)
        left[best] = -torch.inf
        cover.add(best)
    return torch.tensor(chosen, dtype=torch.int64, device=modular.device)


def _lazy(cover: _Cover, modular: torch.Tensor, k: int) -> torch.Tensor:
    """Gains only fall, so an old gain is an upper bound: look again at the largest until it stays.

    Looking at as many as were looked at before, instead of at one, keeps the number of rounds low.
    """
    bounds = modular + cover.gains(torch.arange(len(modular), device=modular.device))
    chosen: list[int] = []
    for _ in range(k):
        fresh = torch.zeros(len(bounds), dtype=torch.bool, device=bounds.device)
        width = 1
        while not bool(fresh[best := int(bounds.argmax())]):
            stale = torch.where(fresh, -torch.inf, bounds)
            again = stale.topk(min(width, len(bounds) - len(chosen))).indices
            again = again[~fresh[again] & (bounds[again] > -torch.inf)]
            bounds[again] = modular[again] + cover.gains(again)
            fresh[again] = True
            width *= 2
        chosen.append(best)
        bounds[best] = -torch.inf
        cover.add(best)
    return torch.tensor(chosen, dtype=torch.int64, device=modular.device)


def _stochastic(
    cover: _Cover, modular: torch.Tensor, k: int, sampled: int, generator: torch.Generator
) -> torch.Tensor:
    """As if every sampled candidate were looked at in every step, without looking at all of them.

    Gains only fall: what a candidate would have added when it was last sampled bounds what it adds
    now. One whose bound lies below the best of the others needs no look: nearly half of them.
    """
    left = np.arange(len(modular))  # the first ``remaining`` of them are not chosen
    bounds = np.full(len(modular), np.inf)
    fixed = modular.cpu().double().numpy()
    chosen: list[int] = []

    def look(candidates: np.ndarray) -> None:
        found = cover.gains(torch.from_numpy(candidates).to(modular.device))
        bounds[candidates] = fixed[candidates] + found.cpu().numpy()

    best = -np.inf
    for remaining in range(len(modular), len(modular) - k, -1):
        slots = _distinct(min(sampled, remaining), remaining, generator)
        candidates = left[slots]
        # The best of the last step is nearly that of this one: most are decided in one look.
        looked = bounds[candidates] >= best
        if looked.any():
            look(candidates[looked])
        best = float(bounds[candidates[looked]].max(initial=-np.inf))
        # Rounding may raise a gain by its last digits.
        again = ~looked & (bounds[candidates] >= best - ROUNDING * abs(best))
        if again.any():
            look(candidates[again])
        # A bound that was not looked at lies below the best, so the largest is a gain.
        slot = int(bounds[candidates].argmax())
        best = float(bounds[candidates[slot]])
        chosen.append(int(candidates[slot]))
        cover.add(chosen[-1])
        # The last one takes the place of the one that leaves.
        left[slots[slot]] = left[remaining - 1]
    return torch.tensor(chosen, dtype=torch.int64, device=modular.device)


def _distinct(count: int, size: int, generator: torch.Generator) -> np.ndarray:
    """A uniform set of ``count`` numbers below ``size``, in O(count) where that is small."""
    if 2 * count > size:
        return permutation(size, generator)[:count].cpu().numpy()
    device = generator.device
    found: dict[int, None] = {}  # in the order drawn: sorted, the first would be the smallest
    while len(found) < count:
        drawn = torch.randint(size, (2 * count,), generator=generator, device=device)
        found |= dict.fromkeys(drawn.tolist())
    return np.fromiter(found, dtype=np.int64, count=len(found))[:count]
