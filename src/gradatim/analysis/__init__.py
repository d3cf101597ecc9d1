"""Analysis: what a recorded run says about its samples.

Pure functions of recorded values, one row per moment and one column per sample, whoever recorded
them: a curriculum's `scores()`, a survey, another library.
"""

from gradatim.analysis.agreement import Agreement, agreement, overlap, overlap_matrix
from gradatim.analysis.forgetting import forgetting_events
from gradatim.analysis.groups import GroupDynamics, group_dynamics, separation

__all__ = [
    "Agreement",
    "GroupDynamics",
    "agreement",
    "forgetting_events",
    "group_dynamics",
    "overlap",
    "overlap_matrix",
    "separation",
]
