"""The models of a comparison, with initial weights that depend on a seed and on nothing else.

`build_model` makes one: a small default for tables, images, spectrograms or texts, a user's own,
or a pretrained transformer, which `Pretrained` wraps.
"""

from gradatim.compare.models.build import build_model, tokenizer_for
from gradatim.compare.models.networks import ConvNet, TextNet, perceptron
from gradatim.compare.models.pretrained import Pretrained

__all__ = ["ConvNet", "Pretrained", "TextNet", "build_model", "perceptron", "tokenizer_for"]
