"""Curricula in the trainers that people use: the Hugging Face Trainer, Accelerate, Lightning.

Nothing here is imported before it is asked for, so that none of them needs the others.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradatim.integrations.accelerate import AcceleratedLoader, accelerated
    from gradatim.integrations.lightning import CurriculumCallback
    from gradatim.integrations.trainer import CurriculumTrainerMixin
    from gradatim.integrations.trainer_callback import CurriculumTrainerCallback

__all__ = [
    "AcceleratedLoader",
    "CurriculumCallback",
    "CurriculumTrainerCallback",
    "CurriculumTrainerMixin",
    "accelerated",
]

_HOMES = {
    "AcceleratedLoader": "accelerate",
    "CurriculumCallback": "lightning",
    "CurriculumTrainerCallback": "trainer_callback",
    "CurriculumTrainerMixin": "trainer",
    "accelerated": "accelerate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
