"""Analysis: what a recorded run says about its samples, and what a model's layers say of it.

Pure functions of recorded values, one row per moment and one column per sample, whoever recorded
them: a curriculum's `scores()`, a survey, another library. Those of layers take activations and
snapshots of parameters.
"""

from gradatim.analysis.activations import (
    UpdateSize,
    activation_entropy,
    activations,
    feature_distance,
    update_sizes,
)
from gradatim.analysis.agreement import Agreement, agreement, overlap, overlap_matrix
from gradatim.analysis.forgetting import forgetting_events
from gradatim.analysis.groups import GroupDynamics, group_dynamics, separation
from gradatim.analysis.hardness_figures import (
    AgreementCurves,
    Band,
    Extremes,
    Overlaps,
    agreement_curves,
    band,
    event_counts,
    extremes,
    flips,
    groups_from,
    observed_samples,
    overlaps,
    separation_curve,
)
from gradatim.analysis.recording import Recording
from gradatim.analysis.selection_figures import SelectionDynamics, selection_dynamics
from gradatim.analysis.text_labels import (
    group_means,
    label_f1,
    label_frequencies,
    label_groups,
)
from gradatim.analysis.text_norms import (
    LengthBins,
    NormsAt,
    first_norms,
    length_and_norm,
    norms_by_epoch,
)

__all__ = [
    "Agreement",
    "AgreementCurves",
    "Band",
    "Extremes",
    "GroupDynamics",
    "LengthBins",
    "NormsAt",
    "Overlaps",
    "Recording",
    "SelectionDynamics",
    "UpdateSize",
    "activation_entropy",
    "activations",
    "agreement",
    "agreement_curves",
    "band",
    "event_counts",
    "extremes",
    "feature_distance",
    "first_norms",
    "flips",
    "forgetting_events",
    "group_dynamics",
    "group_means",
    "groups_from",
    "label_f1",
    "label_frequencies",
    "label_groups",
    "length_and_norm",
    "norms_by_epoch",
    "observed_samples",
    "overlap",
    "overlap_matrix",
    "overlaps",
    "selection_dynamics",
    "separation",
    "separation_curve",
    "update_sizes",
]
