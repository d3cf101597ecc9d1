"""Curriculum learning for PyTorch: what a model trains on next, and whether it helped."""

from gradatim.curriculum import Curriculum
from gradatim.loader import CurriculumLoader
from gradatim.method import Batch, Method, Pool, Run
from gradatim.methods import Uniform
from gradatim.table import Scalar, Table

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Curriculum",
    "CurriculumLoader",
    "Method",
    "Pool",
    "Run",
    "Scalar",
    "Table",
    "Uniform",
]
