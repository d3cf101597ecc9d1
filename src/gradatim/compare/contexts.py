"""What a curriculum may be built from: the training part, and what can be derived from it.

Nothing here may see clean labels where training labels are noisy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import gradatim as gr
from gradatim.compare.data import Samples, Task
from gradatim.compare.teachers import MODALITIES, teacher_scores
from gradatim.episodes import PAPER_EPISODES
from gradatim.validation import check_choice, refusal

__all__ = ["SCORES", "START_FRACTION", "Context"]

START_FRACTION = 0.5  # where Kumar et al. (2010) start self-paced learning
GROUPS = 5  # of a regression's targets

SCORES: dict[str, tuple[tuple[str, ...], str]] = {
    "teacher": (MODALITIES, "training labels, through a 5-fold teacher"),
    "length": (("text",), "lengths of the training texts"),
    "rarity": (("text",), "words of the training texts"),
    "complexity": (("image",), "compressed sizes of the training images"),
    "grey_entropy": (("image",), "grey levels of the training images"),
    "gradient_magnitude": (("image",), "gradients of the training images"),
}
"""By name: which modalities have the score, and what it looks at."""


@dataclass(frozen=True)
class Context:
    """What a curriculum may be built from.

    Attributes:
        training: the training part, labels as the setting left them.
        seed: the run's seed.
        budget_epochs: the budget in epochs of plain training.
        kind: classification, multilabel or regression.
        modality: table, image, spectrogram or text.
        outputs: columns of the model's output; None takes the classes that the labels show.
        texts: the training texts as strings, where they are kept; scores of texts then count
            words, and token ids otherwise.
        budget: what the budget is made of: steps, samples, epochs (the curriculum's own, short or
            long) or seconds.

    Example:
        >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> Context(samples, seed=0, budget_epochs=30).pace()
        Linear(start_fraction=0.5, epochs=20.0)
    """

    training: Samples
    seed: int
    budget_epochs: float
    kind: str = "classification"
    modality: str = "table"
    outputs: int | None = None
    texts: Sequence[str] | None = None
    budget: str = "steps"

    @classmethod
    def of(cls, task: Task, *, seed: int, budget_epochs: float, budget: str = "steps") -> Context:
        """Take what a curriculum may see from a task: its training part.

        Args:
            task: the task.
            seed: the run's seed.
            budget_epochs: the budget in epochs of plain training.
            budget: what it is made of.

        Example:
            >>> from gradatim.compare.data import digits
            >>> Context.of(digits("clean", seed=0), seed=0, budget_epochs=5).classes
            10
        """
        return cls(
            task.training,
            seed,
            budget_epochs,
            kind=task.kind,
            modality=task.modality,
            outputs=task.outputs,
            texts=task.texts,
            budget=budget,
        )

    def pace(self) -> gr.pacing.Linear:
        """Make the pace that shows everything when half of the step budget is spent.

        An epoch that shows a fraction c costs c epochs of the budget E. A line from c0 to 1 over T
        epochs costs T (c0 + 1) / 2, which is E / 2 at T = E / (1 + c0).
        """
        epochs = self.budget_epochs / (1 + START_FRACTION)
        return gr.pacing.Linear(start_fraction=START_FRACTION, epochs=epochs)

    def epochs_at(self, cost: float) -> int:
        """Epochs of which the budget pays, at least 1.

        Args:
            cost: of one, as a share of an epoch of plain training. A budget that is counted in
                epochs pays the same number of any.

        Example:
            >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
            >>> Context(samples, seed=0, budget_epochs=20).epochs_at(0.8)
            25
            >>> Context(samples, seed=0, budget_epochs=20, budget="epochs").epochs_at(0.8)
            20
        """
        found = self.budget_epochs if self.budget == "epochs" else self.budget_epochs / cost
        return max(1, round(found))

    @property
    def warmup_epochs(self) -> int:
        """Epochs on all data before a selection: a seventh of the budget, from 2 to 5."""
        return min(5, max(2, round(self.budget_epochs / 7)))

    @property
    def first_epochs(self) -> int:
        """Epochs of a curriculum of the model: a sixth of the budget, from 1 to the usual 5."""
        return min(5, max(1, round(self.budget_epochs / 6)))

    @property
    def episodes(self) -> tuple[int, ...]:
        """Ends of episodes, in the paper's proportions from the warm-up on."""
        return tuple(end // 5 * self.warmup_epochs for end in PAPER_EPISODES)

    @property
    def shares(self) -> int:
        """Shares of an order that grows by one of them an epoch, from 2 to the usual 6.

        K shares cost (K - 1) / 2 epochs until everything is shown: half of the budget E at
        K = E + 1.
        """
        return min(6, max(2, round(self.budget_epochs) + 1))

    @functools.cached_property
    def scores(self) -> torch.Tensor:
        """Difficulty (N,) by `teacher_scores`."""
        return teacher_scores(self.training, seed=self.seed, kind=self.kind, modality=self.modality)

    @functools.cached_property
    def groups(self) -> torch.Tensor:
        """A group of each sample, int64 (N,).

        Classes; of several labels the rarest that a sample has; fifths of a regression's targets,
        by their standardised mean.
        """
        labels = self.training.labels
        if self.kind == "classification":
            return labels
        values = labels.reshape(len(labels), -1).double()
        if self.kind == "multilabel":
            frequency = values.sum(0)
            rarest = torch.where(values > 0, frequency, torch.inf).min(1)
            return torch.where(rarest.values.isinf(), values.shape[1], rarest.indices)
        values = ((values - values.mean(0)) / values.std(0).clamp(min=1e-12)).mean(1)
        bounds = torch.quantile(values, torch.arange(1, GROUPS, dtype=torch.float64) / GROUPS)
        return torch.bucketize(values, bounds)

    @property
    def classes(self) -> int:
        """How many outputs the model has."""
        return int(self.groups.max()) + 1 if self.outputs is None else self.outputs

    def score(self, name: str) -> torch.Tensor:
        """Score the training samples.

        Args:
            name: one of `SCORES`.

        Returns:
            Difficulty, higher is harder, (N,).

        Raises:
            ValueError: an unknown name, or one that data of this modality do not have.

        Example:
            >>> ids = torch.tensor([[5, 6, 0], [5, 0, 0]])
            >>> samples = Samples(ids, torch.tensor([0, 1]))
            >>> Context(samples, seed=0, budget_epochs=1, modality="text").score("length")
            tensor([2., 1.], dtype=torch.float64)
        """
        self.check_score(name)
        if name == "teacher":
            return self.scores
        features: Any = self.training.features
        if name == "length":
            if self.texts is not None:
                return gr.scores.length(self.texts)
            return gr.scores.length(features, features != 0)
        if name == "rarity":
            if self.texts is not None:
                return gr.scores.word_rarity(self.texts)
            return gr.scores.word_rarity([row[row != 0].tolist() for row in features])
        measure = {
            "complexity": gr.scores.compressed_bits,
            "grey_entropy": gr.scores.grey_entropy,
            "gradient_magnitude": gr.scores.gradient_magnitude,
        }[name]
        return measure(features, channels="first")

    def check_score(self, name: str) -> None:
        """Refuse a score that data of this modality do not have.

        Args:
            name: one of `SCORES`.

        Raises:
            ValueError: an unknown name, or one for other data.

        Example:
            >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
            >>> Context(samples, seed=0, budget_epochs=1).check_score("length")
            Traceback (most recent call last):
            ValueError: score must be one that data of kind 'table' have: teacher. Got 'length'.
        """
        check_choice("score", name, SCORES)
        if self.modality not in SCORES[name][0]:
            known = [
                score for score, (modalities, _) in SCORES.items() if self.modality in modalities
            ]
            rule = f"one that data of kind {self.modality!r} have: {', '.join(known)}"
            raise refusal("score", rule, repr(name))
