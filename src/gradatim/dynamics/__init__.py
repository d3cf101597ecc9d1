"""Training dynamics: what two looks at a sample tell, with the learning rate in between.

Values of a batch in, one value per sample out; the classes that remember them are the methods'.
"""

from gradatim.dynamics.hardness import (
    change_hardness,
    flip_hardness,
    loss_hardness,
    running_hardness,
)
from gradatim.dynamics.outputs import (
    alignment,
    movement,
    residuals,
    running_score,
    speed,
    squared_error,
)

__all__ = [
    "alignment",
    "change_hardness",
    "flip_hardness",
    "loss_hardness",
    "movement",
    "residuals",
    "running_hardness",
    "running_score",
    "speed",
    "squared_error",
]
