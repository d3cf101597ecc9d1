"""The figures of the DIHCL, DoCL, LeRaC and SPDCL papers, from recordings of one's own runs.

`gradatim.analysis` has what they show as arrays; the command is `gradatim figure`.
"""

from gradatim.figures.catalogue import FIGURES, draw
from gradatim.figures.layers import activation_maps
from gradatim.figures.panels import save

__all__ = ["FIGURES", "activation_maps", "draw", "save"]
