"""What DIHCL and DoCL share: a chosen subset is reduced to a diverse part of itself."""

from __future__ import annotations

import torch

from gradatim.method import Run
from gradatim.methods.features import WithFeatures
from gradatim.selection import facility_location, shrinking_size
from gradatim.selection.facility import Greedy
from gradatim.validation import check_choice, check_flag, check_number

__all__ = ["Pruned"]


class Pruned(WithFeatures):
    """A method whose subsets S_t are pruned to ``k' = prune |S_t|`` samples, hard and diverse.

    ``max_{S in S_t, |S| <= k'} sum_{i in S} r_i + lambda_t G(S)``, G the facility location of
    `gradatim.selection.facility_location` (Zhou, Wang and Bilmes 2020, Eq. 3; 2021, Eq. 15).

    Args:
        prune: gamma_k', in (0, 1]; 1 does not prune.
        diversity: lambda_1, at least 0.
        diversity_decay: factor of lambda at each selection step, in (0, 1].
        rescale: divide scores by their mean over S_t first: the two terms have unrelated scales.
        greedy: how, as in `facility_location`.
        features: as of `WithFeatures`.
        layer: likewise.
    """

    def __init__(
        self,
        *,
        prune: float,
        diversity: float,
        diversity_decay: float,
        rescale: bool,
        greedy: Greedy,
        features: torch.Tensor | None,
        layer: str | None,
    ) -> None:
        super().__init__(features, layer)
        self.prune = check_number("prune", prune, above=0, at_most=1)
        self.diversity = check_number("diversity", diversity, at_least=0)
        self.diversity_decay = check_number("diversity_decay", diversity_decay, above=0, at_most=1)
        self.rescale = check_flag("rescale", rescale)
        check_choice("greedy", greedy, ("stochastic", "lazy", "exact"))
        self.greedy: Greedy = greedy

    @property
    def _collecting(self) -> bool:
        return self.prune < 1

    def _pruned_size(self, count: int) -> int:
        """How many of ``count`` chosen samples `_pruned` leaves."""
        return min(count, shrinking_size(self.prune * count))

    def _pruned(
        self, index: torch.Tensor, chosen: torch.Tensor, scores: torch.Tensor, run: Run, steps: int
    ) -> torch.Tensor:
        """Reduce a choice to its diverse part.

        Args:
            index: int64 (M,), the pool's samples.
            chosen: int64 (k,), positions in the pool.
            scores: (M,), r; only those chosen matter.
            run: where training stands.
            steps: selection steps before this one; lambda has decayed as often.

        Returns:
            int64 (k',), positions in the pool, ascending.
        """
        size = self._pruned_size(chosen.numel())
        if size >= chosen.numel():
            return chosen
        r = scores[chosen]
        if self.rescale:
            r = r / r.abs().mean().clamp(min=torch.finfo(r.dtype).tiny)
        weight = self.diversity * self.diversity_decay**steps
        kept = facility_location(
            self.feature_rows(index[chosen]),
            size,
            scores=r,
            diversity=weight,
            greedy=self.greedy,
            generator=run.generator("pruning"),
        )
        return chosen[kept.to(chosen.device).sort().values]
