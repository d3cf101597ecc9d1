"""The curricula of `gradatim compare`: by name, how to build each for one training set.

All that are paced share one pace, so that the paced random control has the same subset sizes and
only membership differs. Nothing here may see clean labels where training labels are noisy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

import gradatim as gr
from gradatim.compare.data import Samples
from gradatim.compare.extras import needs_extra

__all__ = ["BASELINE", "CONTROLS", "CURRICULA", "Context", "Recipe", "teacher_scores"]

BASELINE = "uniform"
CONTROLS = (BASELINE, "paced_random")
START_FRACTION = 0.5  # where Kumar et al. (2010) start self-paced learning


@dataclass(frozen=True)
class Context:
    """What a curriculum may be built from.

    Attributes:
        training: the training part, labels as the setting left them.
        seed: the run's seed.
        budget_epochs: the budget in epochs of plain training.

    Example:
        >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> Context(samples, seed=0, budget_epochs=30).pace()
        Linear(start_fraction=0.5, epochs=20.0)
    """

    training: Samples
    seed: int
    budget_epochs: int

    def pace(self) -> gr.pacing.Linear:
        """Make the pace that shows everything when half of the step budget is spent.

        An epoch that shows a fraction c costs c epochs of the budget E. A line from c0 to 1 over T
        epochs costs T (c0 + 1) / 2, which is E / 2 at T = E / (1 + c0).
        """
        epochs = self.budget_epochs / (1 + START_FRACTION)
        return gr.pacing.Linear(start_fraction=START_FRACTION, epochs=epochs)

    @functools.cached_property
    def scores(self) -> torch.Tensor:
        """Difficulty (N,) by `teacher_scores`."""
        return teacher_scores(self.training, seed=self.seed)


def teacher_scores(training: Samples, *, seed: int, folds: int = 5) -> torch.Tensor:
    """Score each sample by a small classifier that was trained without it: 1 - p(y).

    A teacher that had seen the sample would have learnt its label by heart, right or wrong; one
    trained on clean labels would know what no user knows.

    Args:
        training: features (N, ...) and the labels that a user would have.
        seed: of the folds.
        folds: number of parts, each scored by a model of the others.

    Returns:
        Difficulty in [0, 1], higher is harder, (N,).

    Raises:
        ValueError: a class with fewer members than folds.

    Example:
        The last sample lies among the zeros and is called a one.

        >>> features = torch.tensor([0.0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2, 5.3, 0.15])[:, None]
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
        >>> int(teacher_scores(Samples(features, labels), seed=0, folds=4).argmax())
        8
    """
    with needs_extra("gradatim compare"):
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits
    features = training.features.flatten(1).numpy()
    labels = training.labels.numpy()

    def fit_predict(train: torch.Tensor, held_out: torch.Tensor) -> torch.Tensor:
        model = LogisticRegression(max_iter=1000).fit(features[train], labels[train])
        return torch.from_numpy(model.predict_proba(features[held_out]))

    generator = torch.Generator().manual_seed(seed)
    # Sums in another order would change the last digits: the same with any number of jobs.
    with threadpool_limits(1):
        return gr.scores.out_of_fold(training.labels, fit_predict, folds=folds, generator=generator)


@dataclass(frozen=True)
class Recipe:
    """A curriculum of the comparison.

    Attributes:
        build: from a context to the method.
        sees: what it looks at besides the losses and logits of the batch.

    Example:
        >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> CURRICULA["uniform"].build(Context(samples, seed=0, budget_epochs=1))
        Uniform()
    """

    build: Callable[[Context], gr.Method]
    sees: tuple[str, ...] = ()


TEACHER = ("training labels, through a 5-fold teacher",)
SURVEY = ("losses of the whole training set before an epoch",)

CURRICULA: dict[str, Recipe] = {
    "uniform": Recipe(lambda context: gr.Uniform()),
    "paced_random": Recipe(lambda context: gr.PacedRandom(pace=context.pace())),
    "predefined": Recipe(
        lambda context: gr.Predefined(
            score=context.scores, pace=context.pace(), order="curriculum"
        ),
        TEACHER,
    ),
    "anti": Recipe(
        lambda context: gr.Predefined(score=context.scores, pace=context.pace(), order="anti"),
        TEACHER,
    ),
    "spl": Recipe(lambda context: gr.SPL(pace=context.pace(), survey_every_epochs=1), SURVEY),
    "spld": Recipe(
        lambda context: gr.SPLD(
            context.training.labels, pace=context.pace(), survey_every_epochs=1
        ),
        (*SURVEY, "training labels, as groups"),
    ),
    "super_loss": Recipe(lambda context: gr.SuperLoss()),
}
