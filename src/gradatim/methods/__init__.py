"""The papers' curricula, assembled from parts: one file each, no engine code."""

from gradatim.methods.cbs import CBS
from gradatim.methods.data_parameters import DataParameters
from gradatim.methods.dihcl import DIHCL
from gradatim.methods.docl import DoCL
from gradatim.methods.docl_baselines import DoCLBaseline
from gradatim.methods.dynamics import Dynamics
from gradatim.methods.importance import ImportanceSampling, LossProportional
from gradatim.methods.infobatch import InfoBatch
from gradatim.methods.lerac import LeRaC
from gradatim.methods.loss_shaping import Focal, SuperLoss
from gradatim.methods.mcl import MCL
from gradatim.methods.ohem import OHEM
from gradatim.methods.predefined import PacedRandom, Predefined
from gradatim.methods.rho_loss import RHOLoss
from gradatim.methods.selective_backprop import SelectiveBackprop
from gradatim.methods.spcl import SPCL
from gradatim.methods.spdcl import SPDCL
from gradatim.methods.spl import SPL
from gradatim.methods.spld import SPLD
from gradatim.methods.uniform import Uniform

__all__ = [
    "CBS",
    "DIHCL",
    "MCL",
    "OHEM",
    "SPCL",
    "SPDCL",
    "SPL",
    "SPLD",
    "DataParameters",
    "DoCL",
    "DoCLBaseline",
    "Dynamics",
    "Focal",
    "ImportanceSampling",
    "InfoBatch",
    "LeRaC",
    "LossProportional",
    "PacedRandom",
    "Predefined",
    "RHOLoss",
    "SelectiveBackprop",
    "SuperLoss",
    "Uniform",
]
