"""Selection: which samples, given what is known about each of them.

Scores and weights in, positions out. Every draw takes a `torch.Generator`; none touches the global
random state. Functions that choose a set return it as increasing int64 positions, unless they say
otherwise: an order costs more than the choice, and whoever trains on the set shuffles it anyway.
"""

from gradatim.selection.candidates import keep_chances, rank_weights, systematic_draw
from gradatim.selection.coverage import coverage_gains, coverage_value, feature_coverage
from gradatim.selection.draws import inclusion_probabilities, weighted_draw
from gradatim.selection.facility import facility_location
from gradatim.selection.orders import balanced_prefix, highest, lowest, order_by
from gradatim.selection.schedules import check_curriculum
from gradatim.selection.sizes import prefix_size, share_sizes, shrinking_size

__all__ = [
    "balanced_prefix",
    "check_curriculum",
    "coverage_gains",
    "coverage_value",
    "facility_location",
    "feature_coverage",
    "highest",
    "inclusion_probabilities",
    "keep_chances",
    "lowest",
    "order_by",
    "prefix_size",
    "rank_weights",
    "share_sizes",
    "shrinking_size",
    "systematic_draw",
    "weighted_draw",
]
