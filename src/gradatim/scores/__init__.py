"""Difficulty scores: one number per sample, higher is harder, always.

From a model's outputs: `loss`, `confidence`, `margin`, `entropy`, `el2n`; from its gradients:
`gradient_norm`; over a whole data set `from_model`, and, with nobody judging what they have learnt
by heart, `out_of_fold` and `irreducible_loss`. From people: `human`, `annotator_agreement`. From
the data: `length`, `word_rarity`, `grey_entropy`, `gradient_magnitude`, `compressed_bits`,
`annotation_complexity`. From hidden states: `nuclear_norm`, `word_norm`, `l1_norm`, `l2_norm`. On
one scale: `rank`, `cdf`.
"""

from __future__ import annotations

from gradatim.scores.gradients import el2n, gradient_norm
from gradatim.scores.held_out import out_of_fold, stratified_folds
from gradatim.scores.images import (
    annotation_complexity,
    compressed_bits,
    gradient_magnitude,
    grey_entropy,
)
from gradatim.scores.irreducible import irreducible_loss
from gradatim.scores.nuclear import nuclear_norm
from gradatim.scores.outputs import confidence, entropy, loss, margin
from gradatim.scores.people import annotator_agreement, human
from gradatim.scores.ranks import cdf, rank
from gradatim.scores.teacher import from_model
from gradatim.scores.texts import length, word_rarity
from gradatim.scores.token_norms import l1_norm, l2_norm, word_norm

__all__ = [
    "annotation_complexity",
    "annotator_agreement",
    "cdf",
    "compressed_bits",
    "confidence",
    "el2n",
    "entropy",
    "from_model",
    "gradient_magnitude",
    "gradient_norm",
    "grey_entropy",
    "human",
    "irreducible_loss",
    "l1_norm",
    "l2_norm",
    "length",
    "loss",
    "margin",
    "nuclear_norm",
    "out_of_fold",
    "rank",
    "stratified_folds",
    "word_norm",
    "word_rarity",
]
