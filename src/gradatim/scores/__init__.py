"""Difficulty scores: one number per sample, higher is harder, always.

From a model's outputs: `loss`, `confidence`, `margin`, `entropy`; over a whole data set
`from_model`, and, with nobody judging what they have learnt by heart, `out_of_fold`. From people:
`human`, `annotator_agreement`. From the data: `length`, `word_rarity`, `grey_entropy`,
`gradient_magnitude`, `compressed_bits`, `annotation_complexity`. From hidden
states: `nuclear_norm`. On one scale: `rank`, `cdf`.
"""

from __future__ import annotations

from gradatim.scores.held_out import out_of_fold, stratified_folds
from gradatim.scores.images import (
    annotation_complexity,
    compressed_bits,
    gradient_magnitude,
    grey_entropy,
)
from gradatim.scores.nuclear import nuclear_norm
from gradatim.scores.outputs import confidence, entropy, loss, margin
from gradatim.scores.people import annotator_agreement, human
from gradatim.scores.ranks import cdf, rank
from gradatim.scores.teacher import from_model
from gradatim.scores.texts import length, word_rarity

__all__ = [
    "annotation_complexity",
    "annotator_agreement",
    "cdf",
    "compressed_bits",
    "confidence",
    "entropy",
    "from_model",
    "gradient_magnitude",
    "grey_entropy",
    "human",
    "length",
    "loss",
    "margin",
    "nuclear_norm",
    "out_of_fold",
    "rank",
    "stratified_folds",
    "word_rarity",
]
