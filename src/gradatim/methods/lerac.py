"""Learning-rate curriculum: layers near the input learn at full rate first, the others catch up."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch

from gradatim.layers import LayerGroup, ScaledSteps, layer_groups
from gradatim.layers.groups import Layers, check_layers
from gradatim.layers.rates import (
    decade_factor,
    decade_start,
    decades_below,
    exponentially,
    initial_factors,
    linearly,
)
from gradatim.layers.scaled_steps import check_splits
from gradatim.method import Method, Run
from gradatim.validation import check_choice, check_count, check_flag, check_number, refusal

__all__ = ["LeRaC"]


class _OnClassToo:
    """A method that on the class itself works with the default settings."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        return types.MethodType(self.function, owner() if instance is None else instance)


class LeRaC(Method):
    """Learning-rate curriculum: each layer has its own rate for the first epochs.

    Layers j = 1 ... n from the input to the output start at rates
    ``eta >= eta_1(0) >= ... >= eta_n(0)`` (Eq. 6), spaced geometrically, and rise to the
    optimizer's own rate eta, all at the same time k (Eq. 7):
    ``eta_j(l) = eta_j(0) c^{(l/k)(log_c eta - log_c eta_j(0))}`` (Eq. 8), whatever c. From then on
    training is as usual. No example is scored, and no pass over the data is added.

    Rates are multiples of whatever rate the optimizer has just then, and they are scaled within
    ``optimizer.step()`` only: every scheduler goes on undisturbed and ends where it would have, and
    checkpoints hold the optimizer's own groups. Hand over both with
    ``curriculum.attach(model=model, optimizer=optimizer)``.

    Args:
        epochs: k, at least 0, the paper's 2 to 9; 0 is plain training.
        first: initial rate of the layers nearest to the input over eta, in (0, 1].
        last: of those nearest to the output, in (0, first]. The paper's 1e-1 to 1e-8 at
            eta = 1e-1 is ``last=1e-7``.
        increase: ``"exponential"`` (Eq. 8) or ``"linear"``.
        mode: ``"paper"``, or ``"decade"``, as in the authors' code: each layer starts at a tenth
            of the one before, the head at ``last``, and every rate is raised tenfold, as often per
            epoch as it takes to be done by k, until it reaches eta; layers arrive one by one.
        unit: ``"epoch"``: rates change between epochs; ``"step"``: with every batch.
        anti: reverse the order of the layers (anti-LeRaC).
        layers: the layers by hand, as of `gradatim.layers.layer_groups`; None finds them.

    Raises:
        ValueError: a parameter outside its range, or rates out of order; in ``attach``: no model,
            no optimizer, no trainable parameter, one in two layers or in none, or one of the
            optimizer's that the model does not have.
        RuntimeError: attached twice, or trained without being attached; the model or the
            optimizer has other parameters than when it was attached.

    Example:
        >>> import gradatim as gr
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...     torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> print(gr.LeRaC.describe(model))
        layer     tensors  parameters  initial rate
        0               2          40  1 x eta
        2               2          72  0.001 x eta
        4               2          18  1e-06 x eta
        in all          6         130
        >>> [f"{rate:.0e}" for rate in gr.LeRaC(epochs=2).rates(1, layers=3)]
        ['1e+00', '3e-02', '1e-03']

    Differences from the paper:
        The paper switches its scheduler off until k; here it goes on and is multiplied. To have
        the paper's form, start a scheduler at epoch k: it finds every group at eta. ``last`` is
        1e-6, the middle of what the paper uses (3 to 7 decades). ``unit="epoch"`` follows the
        tables; Eq. 8 speaks of iterations.

    Caveats:
        Layers are counted over the trainable parameters that the optimizer has; where some are
        frozen or unfrozen, the rest is counted anew. Weight decay that an optimizer couples to its
        rate is scaled with it. Gradient clipping sees unscaled gradients. One rate for all
        (LBFGS) cannot be divided.

    References:
        Croitoru, Ristea, Ionescu and Sebe, Learning Rate Curriculum, IJCV 2025
        (arXiv:2205.09180) [croitoru2025lerac].
    """

    references: ClassVar[tuple[str, ...]] = ("croitoru2025lerac",)

    def __init__(
        self,
        epochs: int = 5,
        *,
        first: float = 1.0,
        last: float = 1e-6,
        increase: Literal["exponential", "linear"] = "exponential",
        mode: Literal["paper", "decade"] = "paper",
        unit: Literal["epoch", "step"] = "epoch",
        anti: bool = False,
        layers: Layers | None = None,
    ) -> None:
        self.epochs = check_count("epochs", epochs)
        self.first = check_number("first", first, above=0, at_most=1)
        self.last = check_number("last", last, above=0)
        initial_factors(2, first=self.first, last=self.last)  # refuses rates out of order
        self.increase = check_choice("increase", increase, ("exponential", "linear"))
        self.mode = check_choice("mode", mode, ("paper", "decade"))
        if mode == "decade" and increase != "exponential":
            raise refusal("increase", "'exponential' in mode 'decade'", repr(increase))
        self.unit = check_choice("unit", unit, ("epoch", "step"))
        self.anti = check_flag("anti", anti)
        self.layers = layers if layers is None else check_layers(layers)
        self._handed_over: bool | None = None  # None: not yet; False: given back
        self._run: Run | None = None
        self._epoch = 0
        self._forget()

    def _forget(self) -> None:
        # Not where training stands: whoever attaches again within an epoch goes on from there.
        self._model: torch.nn.Module | None = None
        self._steps: ScaledSteps | None = None
        self._known: set[int] = set()
        self._groups: list[LayerGroup] = []
        self._initial: list[float] = []
        self._factors: list[float] | None = None

    # ------------------------------------------------------------------ rates

    def initial_rates(self, count: int) -> list[float]:
        """Rates at the start over eta, from the input to the output.

        Args:
            count: n, layers.

        Returns:
            n factors; with ``anti`` they rise.
        """
        start = decade_start if self.mode == "decade" else initial_factors
        factors = start(count, first=self.first, last=self.last)
        return factors[::-1] if self.anti else factors

    def rates(self, epoch: float, *, layers: int | None = None) -> list[float]:
        """Rates over eta, from the input to the output.

        Args:
            epoch: l, at least 0; with ``unit="step"`` fractions count.
            layers: how many; None takes those of the attached model.

        Returns:
            One factor per layer; all are 1 from k on.

        Raises:
            RuntimeError: nothing is attached, and ``layers`` is not given.
        """
        epoch = check_number("epoch", epoch, at_least=0)
        if layers is None and not self._groups:
            raise RuntimeError("layers must be known: attach a model first, or pass layers=.")
        return self._at(epoch, self._initial if layers is None else self.initial_rates(layers))

    def _at(self, epoch: float, initial: list[float]) -> list[float]:
        if epoch >= self.epochs:
            return [1.0] * len(initial)
        if self.unit == "epoch":
            epoch = int(epoch)
        if self.mode == "decade":
            per_epoch = -(-decades_below(min(initial)) // self.epochs)
            raises = int(epoch * per_epoch + 1e-9)
            return [decade_factor(factor, raises) for factor in initial]
        rise = linearly if self.increase == "linear" else exponentially
        return [rise(factor, epoch / self.epochs) for factor in initial]

    # ------------------------------------------------------------------ model and optimizer

    def attach(self, model: torch.nn.Module | None, optimizer: Any | None) -> None:
        if self._steps is not None:
            raise RuntimeError("LeRaC attaches once: call detach() before attaching again.")
        for name, given in (("model", model), ("optimizer", optimizer)):
            if given is None:
                cause = "Call curriculum.attach(model=model, optimizer=optimizer)."
                raise refusal(name, "given to LeRaC", None, cause)
        assert model is not None
        self._forget()
        groups = self._find(model, optimizer)
        known = {id(parameter) for parameter in model.parameters()}
        if self.epochs:
            check_splits(optimizer, len(groups))
        steps = ScaledSteps(self._layer_of, self._now)
        steps.attach(optimizer)
        self._model, self._steps, self._known = model, steps, known
        self._take(groups)
        self._handed_over = True

    def detach(self) -> None:
        if self._steps is not None:
            self._steps.detach()
            self._handed_over = False
        self._forget()

    def _find(self, model: torch.nn.Module, optimizer: Any) -> list[LayerGroup]:
        among = [value for group in optimizer.param_groups for value in group["params"]]
        known = {id(parameter) for parameter in model.parameters()}
        strange = [value for value in among if id(value) not in known]
        if strange:
            shapes = ", ".join(str(tuple(value.shape)) for value in strange[:5])
            got = f"{len(strange)} that it does not have, of shapes {shapes}"
            cause = "Was the optimizer built for another model, or for one wrapped since?"
            raise refusal("optimizer", "one of the model's parameters", got, cause)
        return layer_groups(model, self.layers, among=among)

    def _take(self, groups: list[LayerGroup]) -> None:
        self._groups = groups
        self._initial = self.initial_rates(len(groups))
        self._factors = self._constant(self._epoch)

    def _layer_of(self) -> dict[int, int]:
        """Called within a step whose parameters, or which of them are frozen, are others."""
        model, steps = self._model, self._steps
        assert model is not None
        assert steps is not None
        self._check_unchanged()
        self._take(self._find(model, steps.optimizer))
        named = dict(model.named_parameters(remove_duplicate=False))
        return {
            id(named[name]): number
            for number, group in enumerate(self._groups)
            for name in group.parameters
        }

    def _check_unchanged(self) -> None:
        assert self._model is not None
        assert self._steps is not None
        found = {id(parameter) for parameter in self._model.parameters()}
        # No optimizer: it is gone, and so are its steps.
        groups = getattr(self._steps.optimizer, "param_groups", [])
        mine = {id(parameter) for group in groups for parameter in group["params"]}
        for what, ids in (("model", found), ("optimizer", mine)):
            if ids - self._known:
                raise RuntimeError(
                    f"{what} must have the parameters it was attached with. Got "
                    f"{len(ids - self._known)} new ones. Was the {what} changed? Call detach() "
                    "before and attach(model=model, optimizer=optimizer) afterwards."
                )

    # ------------------------------------------------------------------ steps

    def start_epoch(self, run: Run) -> None:
        self._run, self._epoch = run, run.epoch
        if self._steps is None:
            if self._handed_over is None and run.epoch < self.epochs:
                raise RuntimeError(
                    "LeRaC must be attached before training: call "
                    "curriculum.attach(model=model, optimizer=optimizer)."
                )
            return
        self._steps.restore()
        if run.epoch < self.epochs:
            self._check_unchanged()  # a model may change without the optimizer's knowing
        self._factors = self._constant(run.epoch)

    def _constant(self, epoch: int) -> list[float] | None:
        """The factors of a whole epoch; None once the curriculum is over."""
        return None if epoch >= self.epochs else self._at(float(epoch), self._initial)

    def _now(self) -> list[float] | None:
        """The factors of the step at hand."""
        run = self._run
        if self._factors is None or self.unit == "epoch" or run is None or not run.epoch_steps:
            return self._factors
        # The call of this batch has been counted, and may have ended the epoch; but a closure
        # makes it only within the step.
        called = 0 if self._steps is not None and self._steps.with_closure else 1
        batch = min(max(run.step - called - run.first_step, 0), run.epoch_steps - 1)
        return self._at(self._epoch + batch / run.epoch_steps, self._initial)

    # ------------------------------------------------------------------ for people

    @_OnClassToo
    def describe(self, model: torch.nn.Module, optimizer: Any | None = None) -> str:
        """Write down which layer gets which initial rate; on the class, at the defaults.

        Args:
            model: any module.
            optimizer: whose parameters count; its rates are then shown beside. None: all of the
                model's.

        Returns:
            A table, one line per layer, from the input to the output.

        Raises:
            ValueError: as of `attach`.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if optimizer is None:
            groups = layer_groups(model, self.layers)
        else:
            groups = self._find(model, optimizer)
        known = dict(model.named_parameters(remove_duplicate=False))
        rows = [("layer", "tensors", "parameters", "initial rate")]
        for group, factor in zip(groups, self.initial_rates(len(groups)), strict=True):
            own = [known[name] for name in group.parameters]
            shown = f"{factor:.4g} x eta"
            if optimizer is not None:
                shown += f" = {_scaled(optimizer, own, factor)}"
            size = sum(value.numel() for value in own)
            rows.append((group.name, f"{len(own):,}", f"{size:,}", shown))
        total = [known[name] for group in groups for name in group.parameters]
        size = sum(value.numel() for value in total)
        rows.append(("in all", f"{len(total):,}", f"{size:,}", ""))
        widths = [max(8, *(len(row[column]) for row in rows)) for column in range(3)]
        return "\n".join(
            f"{name:<{widths[0]}}  {tensors:>{widths[1] - 1}}  {size:>{widths[2]}}  {rate}".rstrip()
            for name, tensors, size, rate in rows
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy is attached to nothing."""
        fresh = LeRaC.__new__(type(self))
        fresh._forget()
        handed_over = None if self._handed_over else self._handed_over
        return {**vars(self), **vars(fresh), "_handed_over": handed_over}


def _scaled(optimizer: Any, own: list[torch.nn.Parameter], factor: float) -> str:
    """The initial rates of a layer's parameters in numbers, one for each rate that they have."""
    ids = {id(value) for value in own}
    rates = {
        float(group["lr"]) * factor
        for group in optimizer.param_groups
        if any(id(value) in ids for value in group["params"])
    }
    return ", ".join(f"{rate:.4g}" for rate in sorted(rates, reverse=True))
