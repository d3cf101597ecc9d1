"""What a comparison will do, fixed before it starts: cells, budget and the rules of judgement."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import gradatim
from gradatim.compare.curricula import CONTROLS, CURRICULA
from gradatim.compare.data import SETTINGS
from gradatim.compare.extras import needs_extra
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["Cell", "Plan", "versions"]


@dataclass(frozen=True)
class Cell:
    """One run: a curriculum in a setting with a seed.

    Example:
        >>> Cell("noisy", "spl", 3).folder.as_posix()
        'cells/noisy/spl/seed-3'
    """

    setting: str
    curriculum: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where its result lies, inside the results folder."""
        return Path("cells", self.setting, self.curriculum, f"seed-{self.seed}")

    def __str__(self) -> str:
        """Name the cell in messages."""
        return f"{self.curriculum}, {self.setting}, seed {self.seed}"


def versions() -> dict[str, str]:
    """Name what numbers can depend on.

    Returns:
        Versions by package.

    Raises:
        ImportError: one of them is missing.

    Example:
        >>> sorted(versions())
        ['gradatim', 'numpy', 'scikit-learn', 'scipy', 'torch']
    """
    found = {"gradatim": gradatim.__version__}
    with needs_extra("gradatim compare"):
        for name in ("numpy", "scikit-learn", "scipy", "torch"):
            found[name] = importlib.metadata.version(name)
    return found


@dataclass(frozen=True)
class Plan:
    """Everything that decides the results, and how they will be judged.

    It is written to the results folder before the first run. A folder of another plan is refused:
    seeds added until a difference is significant, or a level chosen afterwards, would turn chance
    into findings.

    Attributes:
        curricula: names in `CURRICULA`; the controls always run, first.
        settings: names in `SETTINGS`.
        seeds: 0 ... seeds - 1 are run; at least 2.
        epochs: the budget in epochs of plain training; every curriculum takes as many steps.
        batch_size: samples per step; an epoch's last batch is dropped if it is short, so that
            equal steps are equal numbers of samples.
        learning_rate: of SGD with Nesterov momentum 0.9, decayed by a cosine over the budget.
        evaluations: on the validation part, at equal intervals of steps.
        alpha: family-wise level of "helps" and "hurts".
        margin: difference in accuracy that does not matter.
        data: name of the data set.
        versions: of the packages that numbers can depend on.

    Raises:
        ValueError: an unknown or repeated name, or a number outside its range.

    Example:
        >>> plan = Plan(curricula=("spl",), seeds=2)
        >>> plan.curricula
        ('uniform', 'paced_random', 'spl')
        >>> len(plan.cells()), str(plan.cells()[0])
        (12, 'uniform, clean, seed 0')
    """

    curricula: Sequence[str] = tuple(CURRICULA)
    settings: Sequence[str] = tuple(SETTINGS)
    seeds: int = 8
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.15
    evaluations: int = 20
    alpha: float = 0.05
    margin: float = 0.01
    data: str = "digits"
    versions: dict[str, str] = field(default_factory=versions)

    def __post_init__(self) -> None:
        for name, known in (("curricula", CURRICULA), ("settings", SETTINGS)):
            chosen = tuple(getattr(self, name))
            for entry in chosen:
                check_choice(name, entry, known)
            if not chosen or len(set(chosen)) < len(chosen):
                raise refusal(name, "one or more different names", ",".join(chosen) or "none")
            object.__setattr__(self, name, chosen)
        others = tuple(name for name in self.curricula if name not in CONTROLS)
        object.__setattr__(self, "curricula", (*CONTROLS, *others))
        check_count("seeds", self.seeds, at_least=2)
        check_count("epochs", self.epochs, at_least=1)
        check_count("batch_size", self.batch_size, at_least=1)
        check_count("evaluations", self.evaluations, at_least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("alpha", self.alpha, above=0, below=0.5)
        check_number("margin", self.margin, above=0)

    def cells(self) -> list[Cell]:
        """List all runs, seed by seed, so that a killed comparison leaves complete pairs."""
        return [
            Cell(setting, curriculum, seed)
            for seed in range(self.seeds)
            for setting in self.settings
            for curriculum in self.curricula
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds of the plan."""
        plain = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Name what another plan, read from JSON, does otherwise: "seeds = 4, not 8".

        Args:
            other: what `as_dict` gave.

        Returns:
            One phrase per entry that differs, other's value first; empty if none does.

        Example:
            >>> Plan(seeds=8).differences(Plan(seeds=4).as_dict())
            ['seeds = 4, not 8']
        """
        mine = self.as_dict()
        names = [entry.name for entry in fields(self)]
        names += [name for name in other if name not in mine]
        return [
            f"{name} = {_shown(other.get(name))}, not {_shown(mine.get(name))}"
            for name in names
            if other.get(name) != mine.get(name)
        ]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {entry}" for name, entry in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
