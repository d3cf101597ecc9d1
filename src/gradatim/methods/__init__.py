"""The papers' curricula, assembled from parts: one file each, no engine code."""

from gradatim.methods.uniform import Uniform

__all__ = ["Uniform"]
