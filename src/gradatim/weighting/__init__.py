"""Weightings: how much each sample counts, from its loss.

- `self_paced`: hard, linear, logarithmic, polynomial, logistic, mixture, root_mixture
- `thresholds`: the threshold for a fraction, the scale of the losses
- `diversity`: spld, spld_by_count
- `region`: spcl
- `loss_shaping`: focal, focal_loss, super_loss, super_loss_value
- `lambert`: lambert_w
- `importance`: importance_weights, last_layer_bound, sampling_probabilities, variance_reduction,
  worthwhile_reduction
"""

from gradatim.weighting.diversity import spld, spld_by_count
from gradatim.weighting.importance import (
    importance_weights,
    last_layer_bound,
    sampling_probabilities,
    variance_reduction,
    worthwhile_reduction,
)
from gradatim.weighting.lambert import lambert_w
from gradatim.weighting.loss_shaping import focal, focal_loss, super_loss, super_loss_value
from gradatim.weighting.region import spcl
from gradatim.weighting.self_paced import (
    hard,
    linear,
    logarithmic,
    logistic,
    mixture,
    polynomial,
    root_mixture,
)
from gradatim.weighting.thresholds import loss_scale, threshold_for

__all__ = [
    "focal",
    "focal_loss",
    "hard",
    "importance_weights",
    "lambert_w",
    "last_layer_bound",
    "linear",
    "logarithmic",
    "logistic",
    "loss_scale",
    "mixture",
    "polynomial",
    "root_mixture",
    "sampling_probabilities",
    "spcl",
    "spld",
    "spld_by_count",
    "super_loss",
    "super_loss_value",
    "threshold_for",
    "variance_reduction",
    "worthwhile_reduction",
]
