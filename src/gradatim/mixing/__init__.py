"""Mixing: from which task or source the next batch comes.

A policy says how often each of K sources is drawn: `Exp3S` learns it from progress,
`OnlineDataMixing` from losses, `DoReMi` from a small proxy model, `StagedMix` follows a plan. All
have ``probabilities()``, ``state_dict()`` and ``load_state_dict()``, live on the CPU in float64 and
draw from generators keyed by a seed and a step: given the same updates, every rank holds the same.
`MixtureLoader` makes batches from any list of data sets by such a policy or by fixed weights.

Example:
    A bandit draws the task of every batch, and learns from how much the batch taught the model:

    >>> import torch
    >>> from gradatim.mixing import Exp3S, MixtureLoader, RewardScale, prediction_gain
    >>> tasks = [[(torch.ones(1), torch.full((1,), goal))] * 8 for goal in (0.0, 2.0)]
    >>> bandit, reward, model = Exp3S(2, eta=0.05), RewardScale(), torch.nn.Linear(1, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> for (x, y), sources in MixtureLoader(tasks, 4, weights=bandit, allocation="one", steps=20):
    ...     before = torch.nn.functional.mse_loss(model(x), y)
    ...     optimizer.zero_grad(); before.backward(); _ = optimizer.step()
    ...     with torch.no_grad():
    ...         after = torch.nn.functional.mse_loss(model(x), y)
    ...     bandit.update(int(sources[0]), reward(prediction_gain(before, after)))
    >>> bandit.t
    22
"""

from gradatim.mixing.allocation import (
    RunningAllocation,
    largest_remainder,
    multinomial,
    temperature_weights,
)
from gradatim.mixing.bandit import Exp3S, RewardScale
from gradatim.mixing.doremi import DoReMi, domain_excess
from gradatim.mixing.loader import Interleaved, MixedBatch, MixtureLoader, interleave
from gradatim.mixing.online import OnlineDataMixing
from gradatim.mixing.policy import Policy
from gradatim.mixing.progress import (
    complexity_gain,
    evaluated_task,
    gaussian_kl,
    gradient_complexity_gain,
    gradient_norm_gain,
    gradient_prediction_gain,
    norm_gain,
    prediction_gain,
)
from gradatim.mixing.staged import Stage, StagedMix

__all__ = [
    "DoReMi",
    "Exp3S",
    "Interleaved",
    "MixedBatch",
    "MixtureLoader",
    "OnlineDataMixing",
    "Policy",
    "RewardScale",
    "RunningAllocation",
    "Stage",
    "StagedMix",
    "complexity_gain",
    "domain_excess",
    "evaluated_task",
    "gaussian_kl",
    "gradient_complexity_gain",
    "gradient_norm_gain",
    "gradient_prediction_gain",
    "interleave",
    "largest_remainder",
    "multinomial",
    "norm_gain",
    "prediction_gain",
    "temperature_weights",
]
