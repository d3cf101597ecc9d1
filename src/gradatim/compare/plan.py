"""What a comparison will do, fixed before it starts: cells, budget and the rules of judgement."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

import gradatim
from gradatim.compare.budget import BUDGETS, Budget
from gradatim.compare.calls import CurriculumSpec
from gradatim.compare.curricula import BASELINE, CONTROLS
from gradatim.compare.data import Source, Stress
from gradatim.compare.extras import needs_extra
from gradatim.compare.metrics import METRICS, Metric
from gradatim.compare.names import spelling
from gradatim.compare.settings import OPTIMIZERS, REGIMES, Training
from gradatim.compare.specs import read_curricula
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["DEFAULT_CURRICULA", "PRECISIONS", "Cell", "Plan", "slug_of", "versions"]

DEFAULT_CURRICULA = "uniform,paced_random,predefined,anti,spl,spld,super_loss"
PRECISIONS: dict[str, Any] = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
DEVICES = ("auto", "cpu", "cuda", "mps")
STRESSES = ("train_fraction", "imbalance", "label_noise")


@dataclass(frozen=True)
class Cell:
    """One run: a curriculum in a setting with a seed, or a trial that tunes one.

    Attributes:
        setting: slug of the setting.
        curriculum: label of the curriculum.
        seed: of split, noise, initial weights and curriculum.
        trial: number of the tuning trial, or None for a run that is judged.
        fold: the one that is held out, from 1; None for a run without folds, or for all of them.
        slug: the curriculum's name as a folder.

    Example:
        >>> Cell("noise-0.3", "spl", 3).folder.as_posix()
        'cells/noise-0.3/spl/seed-3'
    """

    setting: str
    curriculum: str
    seed: int
    trial: int | None = None
    fold: int | None = None
    slug: str = field(default="", compare=False)

    @property
    def folder(self) -> Path:
        """Where its result lies, inside the results folder."""
        run = f"seed-{self.seed}" if self.trial is None else f"trial-{self.trial}"
        fold = () if self.fold is None else (f"fold-{self.fold}",)
        return Path("cells", self.setting, self.slug or self.curriculum, run, *fold)

    def __str__(self) -> str:
        """Name the cell in messages."""
        run = f"seed {self.seed}" if self.trial is None else f"trial {self.trial}"
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.curriculum}, {self.setting}, {run}{fold}"


def versions() -> dict[str, str]:
    """Name what numbers can depend on.

    Returns:
        Versions by package.

    Raises:
        ImportError: one of them is missing.

    Example:
        >>> sorted(versions())
        ['gradatim', 'lightning-fabric', 'numpy', 'scikit-learn', 'scipy', 'torch']
    """
    found = {"gradatim": gradatim.__version__}
    with needs_extra("gradatim compare"):
        for name in ("lightning-fabric", "numpy", "scikit-learn", "scipy", "torch"):
            found[name] = importlib.metadata.version(name)
    return found


def slug_of(stress: Stress) -> str:
    """Name a setting's folder.

    Example:
        >>> slug_of(Stress()), slug_of(Stress(label_noise=0.3, imbalance=50))
        ('clean', 'noise-0.3,imbalance-50')
    """
    words = []
    if stress.label_noise:
        words.append(f"{'pair-' if stress.noise == 'pair' else ''}noise-{stress.label_noise:g}")
    if stress.imbalance > 1:
        words.append(f"imbalance-{stress.imbalance:g}")
    if stress.train_fraction < 1:
        words.append(f"fraction-{stress.train_fraction:g}")
    return ",".join(words) or "clean"


@dataclass(frozen=True)
class Plan(Source):
    """Everything that decides the results, and how they will be judged.

    It says where data come from, as a `Source` does, and all the rest besides. It is written to
    the results folder before the first run. A folder of another plan is refused: seeds added until
    a difference is significant, or a level chosen afterwards, would turn chance into findings.
    What is None is filled in by `gradatim.compare.defaults.resolve`.

    Attributes:
        data, ..., limit, folds: where data come from; all that a `Source` has.
        label_noise: shares of wrong training labels, one setting each.
        noise: ``"symmetric"`` or ``"pair"``.
        imbalance: ratios of largest to smallest training class, one setting each.
        train_fraction: shares of the training part, one setting each; all three multiply.
        curricula: as for `read_curricula`; the controls always run, first.
        seeds: a number n for 0 ... n - 1, or the seeds themselves; at least 2.
        model: ``"default"``, ``"package.module:function"`` or a transformers name or path.
        metric: that is judged; None is the kind's first: accuracy, micro_f1 or r2.
        budget: what everybody may spend: steps, samples, epochs or seconds.
        amount: of the budget; None is what plain training takes for ``epochs``.
        epochs: of plain training.
        regime, patience, batch_size, optimizer, learning_rate, weight_decay, evaluations: see
            `Training`.
        tune: validation trials per curriculum and setting, plain training included.
        precision: ``"32"``, or mixed with ``"16"`` or ``"bf16"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        devices: processes per run, each with its own device.
        alpha: family-wise level of "helps" and "hurts".
        margin: difference in the metric that does not matter.
        fingerprint: of the data as they were read and of your own code; results of other data or
            other code are never mixed in.
        versions: of the packages that numbers can depend on.

    Raises:
        ValueError: an unknown or repeated name, or a number outside its range.

    Example:
        >>> plan = Plan(curricula="spl", seeds=2)
        >>> [spec.label for spec in plan.specs]
        ['uniform', 'paced_random', 'spl']
        >>> len(plan.cells()), str(plan.cells()[0])
        (12, 'uniform, clean, seed 0')
    """

    label_noise: Sequence[float] | float | None = None
    noise: str = "symmetric"
    imbalance: Sequence[float] | float = (1.0,)
    train_fraction: Sequence[float] | float = (1.0,)
    curricula: Any = DEFAULT_CURRICULA
    seeds: Sequence[int] | int = 8
    model: str = "default"
    metric: str | None = None
    budget: str = "steps"
    amount: float | None = None
    epochs: int | None = None
    regime: str = "cosine"
    patience: int = 3
    batch_size: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    evaluations: int = 20
    tune: int = 0
    precision: str = "32"
    device: str = "auto"
    devices: int = 1
    alpha: float = 0.05
    margin: float | None = None
    fingerprint: str | None = None
    versions: Mapping[str, str] = field(default_factory=versions)

    def __post_init__(self) -> None:
        """Check every value by name."""
        super().__post_init__()
        if self.label_noise is None:
            # The demonstration shows where curricula are known to help; your data stay as they are.
            self._set("label_noise", (0.0, 0.3) if self.data == "digits" else (0.0,))
        for name in STRESSES:
            self._set(name, _numbers(name, getattr(self, name)))
        _ = self.settings
        self._set("curricula", tuple(str(spec) for spec in _with_controls(self.curricula)))
        self._set("seeds", _seeds(self.seeds))
        check_choice("budget", self.budget, BUDGETS)
        check_choice("regime", self.regime, REGIMES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("device", self.device, DEVICES)
        if self.metric is not None:
            check_choice("metric", self.metric, METRICS)
        if self.optimizer is not None:
            check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size", "patience", "evaluations", "devices"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), at_least=1)
        for name in ("amount", "learning_rate", "margin"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0)
        if self.weight_decay is not None:
            check_number("weight_decay", self.weight_decay, at_least=0)
        check_count("tune", self.tune, at_least=0)
        check_number("alpha", self.alpha, above=0, below=0.5)
        if self.amount is not None and self.budget in ("steps", "samples"):
            check_count("amount", _whole(self.amount), at_least=1)
        if self.budget == "seconds" and self.amount is None:
            raise refusal("amount", "given with --budget seconds", None)
        if self.devices > 1 and self.batch_size and self.batch_size % self.devices:
            raise refusal("batch_size", f"a multiple of devices={self.devices}", self.batch_size)

    # ------------------------------------------------------------------ parts of the plan

    @property
    def source(self) -> Source:
        """Where the data come from, and nothing else."""
        return Source(**{entry.name: getattr(self, entry.name) for entry in fields(Source)})

    @property
    def settings(self) -> dict[str, Stress]:
        """What is done to the training part, by slug."""
        every = product(*(_numbers(name, getattr(self, name)) for name in STRESSES))
        stresses = [
            Stress(label_noise=share, noise=self.noise, imbalance=ratio, train_fraction=fraction)
            for fraction, ratio, share in every
        ]
        found = {slug_of(stress): stress for stress in stresses}
        if len(found) < len(stresses):
            raise refusal("settings", "different in their first six digits", ", ".join(found))
        return found

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds one by one, however they were given."""
        return _seeds(self.seeds)

    @property
    def specs(self) -> tuple[CurriculumSpec, ...]:
        """The curricula, controls first."""
        return read_curricula(self.curricula)

    @property
    def score(self) -> Metric:
        """The metric that is judged."""
        assert self.metric is not None, "the plan is not resolved"
        return METRICS[self.metric]

    def training(self, size: int, *, learning_rate: float | None = None) -> Training:
        """How everybody is trained on a training part.

        Args:
            size: of the training part.
            learning_rate: that tuning chose, or None for the plan's own.
        """
        assert self.batch_size is not None, "the plan is not resolved"
        assert self.optimizer is not None
        assert self.weight_decay is not None
        return Training(
            self.allowance(size),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=learning_rate or self.learning_rate or 0.0,
            weight_decay=self.weight_decay,
            regime=self.regime,
            patience=self.patience,
            evaluations=self.evaluations,
        )

    def allowance(self, size: int) -> Budget:
        """What a run may spend on a training part of ``size`` samples."""
        assert self.epochs is not None, "the plan is not resolved"
        assert self.batch_size is not None
        if self.amount is not None:
            return Budget(self.budget, self.amount)
        per_epoch = {
            "steps": size // self.batch_size,
            "samples": size // self.batch_size * self.batch_size,
            "epochs": 1,
        }
        return Budget(self.budget, self.epochs * per_epoch[self.budget])

    def plain_epochs(self, size: int) -> float:
        """How many epochs of plain training the budget amounts to; what paces are made for."""
        assert self.epochs is not None, "the plan is not resolved"
        assert self.batch_size is not None
        if self.amount is None or self.budget == "seconds":
            return self.epochs
        if self.budget == "epochs":
            return self.amount
        rows = self.amount * (self.batch_size if self.budget == "steps" else 1)
        return rows / size

    # ------------------------------------------------------------------ cells

    def cells(self) -> list[Cell]:
        """List all judged runs, seed by seed, so that a killed comparison leaves complete pairs."""
        return [
            Cell(setting, spec.label, seed, slug=spec.slug)
            for seed in self.seed_list
            for setting in self.settings
            for spec in self.specs
        ]

    def trials(self) -> list[Cell]:
        """List the runs that tune: as many for plain training as for any other."""
        first = self.seed_list[0]
        return [
            Cell(setting, spec.label, first, trial=trial, slug=spec.slug)
            for trial in range(self.tune)
            for setting in self.settings
            for spec in self.specs
        ]

    def trial_rate(self, trial: int) -> float:
        """Learning rate of a tuning trial: the plan's own first, then drawn, alike for everybody.

        Drawn rates are log-uniform between a tenth and ten times the plan's.

        Args:
            trial: at least 0.

        Example:
            >>> plan = Plan(learning_rate=0.1)
            >>> plan.trial_rate(0), 0.01 < plan.trial_rate(1) < 1
            (0.1, True)
        """
        assert self.learning_rate is not None, "the plan is not resolved"
        if trial == 0:
            return self.learning_rate
        generator = torch.Generator().manual_seed(trial)
        exponent = 2 * float(torch.rand((), generator=generator, dtype=torch.float64)) - 1
        return float(f"{self.learning_rate * 10**exponent:.3g}")

    def with_values(self, **values: Any) -> Plan:
        """Copy the plan with other values."""
        return replace(self, **values)


def _with_controls(entries: Any) -> tuple[CurriculumSpec, ...]:
    known = {spelling(name): name for name in CONTROLS}
    specs = tuple(
        spec.renamed(known[spelling(spec.name)]) if spelling(spec.name) in known else spec
        for spec in read_curricula(entries)
    )
    for spec in specs:
        # The baseline is plain shuffling, whatever else may be called like it.
        if spec.name == BASELINE and spec.parameters:
            raise refusal("curricula", f"free of parameters for {BASELINE}", str(spec))
        if spec.label in CONTROLS and spec.name != spec.label:
            raise refusal("label", f"another than {spec.label}, a control's own", str(spec))
    controls = {
        name: next((spec for spec in specs if spec.label == name), CurriculumSpec(name))
        for name in CONTROLS
    }
    return (*controls.values(), *(spec for spec in specs if spec.label not in controls))


def _whole(amount: float) -> float:
    return int(amount) if float(amount).is_integer() else amount


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    several = (values,) if isinstance(values, int | float) else tuple(values)
    numbers = tuple(float(check_number(name, value)) for value in several)
    if not numbers or len(set(numbers)) < len(numbers):
        raise refusal(name, "one or more different numbers", list(several))
    return numbers


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        check_count("seeds", seeds, at_least=2)
        return tuple(range(seeds))
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        raise TypeError(str(refusal("seeds", "a number of seeds or a list of them", repr(seeds))))
    found = tuple(check_count("seeds", seed) for seed in seeds)
    twice = sorted({seed for seed in found if found.count(seed) > 1})
    if twice:
        raise refusal("seeds", "different", f"{twice[0]} twice", "The same run is no evidence.")
    if len(found) < 2:
        raise refusal("seeds", "at least 2", len(found))
    return found
