"""Curriculum learning for PyTorch: what a model trains on next, and whether it helped."""

from gradatim import analysis, dynamics, layers, pacing, scores, selection, weighting
from gradatim.averaging import ema_model
from gradatim.citations import cite
from gradatim.curriculum import Curriculum
from gradatim.loader import CurriculumLoader
from gradatim.method import Batch, Method, Pool, Run
from gradatim.methods import (
    CBS,
    DIHCL,
    MCL,
    SPCL,
    SPDCL,
    SPL,
    SPLD,
    DoCL,
    DoCLBaseline,
    Dynamics,
    Focal,
    LeRaC,
    PacedRandom,
    Predefined,
    SuperLoss,
    Uniform,
)
from gradatim.schedules import CyclicCosine
from gradatim.table import Scalar, Table

__version__ = "0.1.0"

__all__ = [
    "CBS",
    "DIHCL",
    "MCL",
    "SPCL",
    "SPDCL",
    "SPL",
    "SPLD",
    "Batch",
    "Curriculum",
    "CurriculumLoader",
    "CyclicCosine",
    "DoCL",
    "DoCLBaseline",
    "Dynamics",
    "Focal",
    "LeRaC",
    "Method",
    "PacedRandom",
    "Pool",
    "Predefined",
    "Run",
    "Scalar",
    "SuperLoss",
    "Table",
    "Uniform",
    "analysis",
    "cite",
    "dynamics",
    "ema_model",
    "layers",
    "pacing",
    "scores",
    "selection",
    "weighting",
]
