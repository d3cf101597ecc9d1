"""The digits by short names, clean and noisy: what `gradatim compare` shows when asked nothing."""

from __future__ import annotations

from gradatim.compare.data.loading import load
from gradatim.compare.data.source import Source
from gradatim.compare.data.stress import Stress
from gradatim.compare.data.task import Task, make_task
from gradatim.validation import check_choice

__all__ = ["SETTINGS", "Setting", "digits"]

Setting = Stress

SETTINGS = {"clean": Stress(), "noisy": Stress(label_noise=0.3)}


def digits(setting: str, *, seed: int) -> Task:
    """Load scikit-learn's 1,797 handwritten digits, split and put under a setting.

    Args:
        setting: a name in `SETTINGS`.
        seed: of the split and of the label noise.

    Returns:
        8 x 8 grey values in [0, 1] as (N, 64) float32, ten classes.

    Raises:
        ValueError: an unknown setting.

    Example:
        >>> digits("clean", seed=0).training.features.shape
        torch.Size([1078, 64])

    References:
        Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """
    stress = SETTINGS[check_choice("setting", setting, SETTINGS)]
    return make_task(load(Source("digits")), stress, seed=seed)
