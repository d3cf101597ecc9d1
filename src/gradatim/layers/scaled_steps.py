"""Scale the rates of single parameters within an optimizer's step, and nowhere else.

Schedulers, checkpoints and the clock see the optimizer's own parameter groups: they are replaced
by groups with scaled rates just before the step's work and are back before anyone else looks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradatim.validation import refusal

__all__ = ["ScaledSteps"]

Group = dict[str, Any]
_within: set[int] = set()  # ids of those whose optimizer is in a scaled step
# Hooks swap lists, which a compiled step must do outside its graph; see `gradatim.curriculum`.
_outside_graphs: Any = getattr(torch, "_disable_dynamo", lambda function: function)


class ScaledSteps:
    """Multiplies learning rates within ``optimizer.step()`` by a factor per layer.

    In the step's pre-hook the content of ``optimizer.param_groups`` is replaced: each group falls
    into one per layer that it reaches, with the same options and a rate scaled by the layer's
    factor. In the post-hook the groups are back, the same objects. What the step wrote into the
    options of the parts is kept, from the shallowest of them. State is keyed by parameter and
    stays where it is.

    Args:
        layer_of: gives, at any time, the layer of each parameter by ``id``; parameters that are
            not in it keep their rate.
        factors: gives the factors of this step by layer; None leaves the step as it is.

    Example:
        >>> weight, bias = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
        >>> optimizer = torch.optim.SGD([weight, bias], lr=1.0)
        >>> steps = ScaledSteps(lambda: {id(weight): 0, id(bias): 1}, lambda: [1.0, 0.25])
        >>> steps.attach(optimizer)
        >>> weight.grad, bias.grad = torch.ones(1), torch.ones(1)
        >>> optimizer.step()
        >>> weight.item(), bias.item(), len(optimizer.param_groups)
        (0.0, 0.75, 1)

    Caveats:
        After an exception within the step the parts stand in ``param_groups`` until the next step,
        the next epoch or a call of ``state_dict``, ``load_state_dict`` or `detach`; what a
        scheduler writes into them meanwhile is lost. ``state_dict`` called by a closure ends the
        scaling of that step.
        An optimizer that changes a tensor in a group's options in place does so once per part.
    """

    def __init__(
        self,
        layer_of: Callable[[], dict[int, int]],
        factors: Callable[[], Sequence[float] | None],
    ) -> None:
        self.layer_of = layer_of
        self.factors = factors
        self._optimizer: weakref.ref[Any] | None = None
        self._hooks: list[Any] = []
        self._swapped: _Swapped | None = None
        self._signature: list[list[tuple[int, bool]]] | None = None
        self._shares: list[list[_Share]] = []
        self.with_closure = False  # whether the step at hand evaluates the loss itself

    def attach(self, optimizer: Any) -> None:
        """Scale this optimizer's steps from now on.

        An optimizer that hands its groups on to another (SAM) is scaled where that one steps.

        Raises:
            RuntimeError: it is scaled already.
        """
        optimizer = innermost(optimizer)
        hooks = optimizer._optimizer_step_pre_hooks
        if self._hooks or any(isinstance(hook, _Hook) and hook.alive for hook in hooks.values()):
            raise RuntimeError(
                "an optimizer's rates are scaled by one method at a time: call detach() of the "
                "curriculum that scales them before attaching again."
            )
        self._optimizer = weakref.ref(optimizer)
        self._hooks = [
            optimizer.register_step_pre_hook(_Hook(self, ScaledSteps._before)),
            optimizer.register_step_post_hook(_Hook(self, ScaledSteps._after)),
            optimizer.register_state_dict_pre_hook(_Hook(self, ScaledSteps._after)),
            optimizer.register_load_state_dict_pre_hook(_Hook(self, ScaledSteps._after)),
        ]
        # Other hooks after the step see the groups as they are for everyone.
        optimizer._optimizer_step_post_hooks.move_to_end(self._hooks[1].id, last=False)

    def detach(self) -> None:
        """Leave the optimizer as one that was never scaled."""
        self.restore()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._optimizer = None
        self._signature = None
        self._shares = []

    @property
    def optimizer(self) -> Any:
        """The optimizer whose steps are scaled, or None."""
        return None if self._optimizer is None else self._optimizer()

    def restore(self) -> None:
        """Put the groups back, if a step that failed left them scaled."""
        optimizer = self.optimizer
        if optimizer is not None:
            self._after(optimizer)

    def _before(self, optimizer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._after(optimizer)  # an exception may have ended the last step
        self.with_closure = (*args[1:], options.get("closure"))[0] is not None
        factors = self.factors()
        if factors is None:
            return
        groups: list[Group] = optimizer.param_groups
        signature = [[(id(p), p.requires_grad) for p in group["params"]] for group in groups]
        if signature != self._signature:
            layer_of = self.layer_of()
            self._shares = [_shares(group, layer_of) for group in groups]
            self._signature = signature
            factors = self.factors()  # there may be other layers now
        if factors is None or all(factor == 1 for factor in factors):
            return
        parts = [
            [share.part(group, factors) for share in shares]
            for group, shares in zip(groups, self._shares, strict=True)
        ]
        self._swapped = _Swapped(
            list(groups), parts, [dict(own[0]) if own else {} for own in parts]
        )
        groups[:] = [part for own in parts for part in own]
        _within.add(id(self))

    def _after(self, optimizer: Any, *_: Any) -> None:
        swapped, self._swapped = self._swapped, None
        if swapped is None:
            return
        _within.discard(id(self))
        # In place: a wrapping optimizer may hold the same list.
        optimizer.param_groups[:] = swapped.groups
        for group, parts, before in zip(swapped.groups, swapped.parts, swapped.given, strict=True):
            if parts:
                _keep_written(group, parts[0], before)


class _Share:
    """What one layer has in one of the optimizer's groups."""

    def __init__(self, layer: int | None, group: Group, positions: list[int]) -> None:
        self.layer = layer
        self.lists = {"params": [group["params"][at] for at in positions]}
        if "param_names" in group:
            self.lists["param_names"] = [group["param_names"][at] for at in positions]

    def part(self, group: Group, factors: Sequence[float]) -> Group:
        """A group of this share, with the options of ``group`` as they are now."""
        part = {**group, **self.lists}
        factor = 1.0 if self.layer is None else factors[self.layer]
        if factor != 1.0:
            part["lr"] = group["lr"] * factor
        return part


class _Swapped:
    """What to put back after a step."""

    def __init__(self, groups: list[Group], parts: list[list[Group]], given: list[Group]) -> None:
        self.groups = groups
        self.parts = parts
        self.given = given


def _shares(group: Group, layer_of: dict[int, int]) -> list[_Share]:
    """The layers of a group, the shallowest first; what belongs to none comes last."""
    positions: dict[int | None, list[int]] = {}
    for at, parameter in enumerate(group["params"]):
        positions.setdefault(layer_of.get(id(parameter)), []).append(at)
    order = sorted(positions, key=lambda layer: float("inf") if layer is None else layer)
    return [_Share(layer, group, positions[layer]) for layer in order]


def _keep_written(group: Group, part: Group, before: Group) -> None:
    """Take over options that the step itself wrote (a counter, an estimate), but not the rate."""
    for key, value in part.items():
        if key not in ("params", "param_names", "lr") and (
            key not in before or value is not before[key]
        ):
            group[key] = value


def own_groups(optimizer: Any) -> list[Group]:
    """The optimizer's own groups, also within a step that is scaled.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        >>> own_groups(optimizer)[0]["lr"]
        0.5
    """
    if _within:  # else it is a look-up of an attribute, in every step of every method
        for hook in innermost(optimizer)._optimizer_step_pre_hooks.values():
            if isinstance(hook, _Hook) and (swapped := hook.swapped) is not None:
                return swapped.groups
    groups: list[Group] = optimizer.param_groups
    return groups


def innermost(optimizer: Any) -> Any:
    """The optimizer that does the step: one that wraps another shares its list of groups."""
    while True:
        inner = [
            value
            for value in vars(optimizer).values()
            if isinstance(value, torch.optim.Optimizer)
            and value is not optimizer
            and value.param_groups is optimizer.param_groups
        ]
        if not inner:
            return optimizer
        optimizer = inner[0]


def check_splits(optimizer: Any, layers: int) -> None:
    """Refuse an optimizer that cannot have a group per layer.

    Args:
        optimizer: a `torch.optim.Optimizer`.
        layers: how many groups it would have.

    Raises:
        ValueError: it works on one group only.

    Example:
        >>> check_splits(torch.optim.LBFGS([torch.nn.Parameter(torch.ones(1))]), 2)
        Traceback (most recent call last):
        ValueError: optimizer must be one that takes several parameter groups. Got LBFGS. ...
    """
    if layers > 1 and isinstance(innermost(optimizer), torch.optim.LBFGS):
        cause = "It has one rate for all parameters: layers cannot have their own."
        raise refusal(
            "optimizer", "one that takes several parameter groups", type(optimizer).__name__, cause
        )


class _Hook:
    """An optimizer hook that does not keep its owner alive and survives pickling."""

    def __init__(self, steps: ScaledSteps, action: Callable[..., None]) -> None:
        self._steps: weakref.ref[ScaledSteps] | None = weakref.ref(steps)
        self._action = action

    @property
    def alive(self) -> bool:
        """Whether it still does anything."""
        return self._steps is not None and self._steps() is not None

    @property
    def swapped(self) -> _Swapped | None:
        """What its owner will put back, within a step."""
        steps = None if self._steps is None else self._steps()
        return None if steps is None else steps._swapped

    def __call__(self, optimizer: Any, *args: Any) -> None:
        if torch.compiler.is_compiling():
            self._act_outside_graphs(optimizer, *args)
        else:
            self._act(optimizer, *args)

    def _act(self, optimizer: Any, *args: Any) -> None:
        steps = None if self._steps is None else self._steps()
        if steps is not None:
            self._action(steps, optimizer, *args)

    @_outside_graphs
    def _act_outside_graphs(self, optimizer: Any, *args: Any) -> None:
        self._act(optimizer, *args)

    def __getstate__(self) -> dict[str, Any]:
        # A copied optimizer is not scaled by the original's method.
        return {"_steps": None, "_action": self._action}
