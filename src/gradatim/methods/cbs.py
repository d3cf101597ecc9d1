"""Curriculum by smoothing: feature maps are blurred at first, and ever less."""

from __future__ import annotations

import copy
import sys
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from gradatim.layers.main_path import (
    Layers,
    check_names,
    main_path_convolutions,
    named_convolutions,
    token_blocks,
)
from gradatim.layers.smoothed import Smoothing, TokenSmoothing
from gradatim.layers.smoothing import check_size, is_identity
from gradatim.method import Method, Run
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["CBS"]


@dataclass
class _Smoothed:
    """A layer with its hook, which is on it where there is a handle."""

    name: str
    layer: weakref.ref[nn.Module]
    hook: Smoothing
    handle: Any = None

    def put(self, sigma: float) -> bool:
        """Blur by ``sigma``, and say whether a hook came on that was not there."""
        layer = self.layer()
        if layer is None:  # the model is gone
            self.take_off()
            return False
        self.hook.set(sigma, _device_of(layer))
        if self.hook.kernel is None:
            self.take_off()
        elif self.handle is None:
            # First of all hooks: the others see what the next layer sees.
            self.handle = layer.register_forward_hook(self.hook, prepend=True)
            self.hook.attached = True
            return True
        return False

    def take_off(self) -> None:
        if self.handle is not None:
            self.handle.remove()
        self.handle = None
        self.hook.attached = False


class CBS(Method):
    """Curriculum by smoothing: blur what each convolution gives with a Gaussian that shrinks.

    After each convolution of the main path, before norm and activation, every channel is blurred
    by ``exp(-|u|^2 / (2 s_e^2))`` of sum 1, with ``s_e = s_0 d^floor(e / u)`` in epoch e. So
    information grows during training. Attach the model: ``curriculum.attach(model=model)``.

    The blur is part of the network while it lasts, in training *and* in evaluation. It is gone,
    hooks and all, in the layers whose kernel has a centre above .999 (s below about .24), and
    everywhere from epoch ``floor(2 planned_epochs / 3)`` on.

    Args:
        planned_epochs: length of the training that you plan, at least 1; None leaves the end to
            the threshold alone, which with the other defaults is reached in epoch 70.
        sigma: s_0 in positions, above 0; the paper takes 1, for audio .8.
        decay: d, in (0, 1].
        every: u, epochs between two decays.
        size: of the kernel along each axis, odd.
        padding: ``"zero"`` (darkens borders, as in the paper) or ``"reflect"``.
        layers: which convolutions instead: modules, names as in ``model.named_modules()`` and
            patterns (``"layer1.*"``, without projections of shortcuts); empty for none. None
            takes all but these projections, which are kernels over one position that skip
            positions or are called shortcut, downsample, skip, identity, proj or projection.
        tokens: blur the outputs of transformer blocks: True finds them (in a list, with attention
            inside), or name them as in ``layers``.
        grid: of tokens that are image patches, (height, width); None blurs along the sequence.
        class_tokens: leading tokens that are left alone.

    State:
        sigma: the current width, 0 from the end on. `load_state_dict` applies it to the attached
        model at once, so evaluation right after a resume is blurred as before.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a value outside its range; from `attach`: no model, no convolution found, a
            name that fits no module or one that is no convolution.
        RuntimeError: attached twice; an epoch that is to be blurred begins without a model, or
            with one that has other layers to blur than when it was attached.

    Example:
        >>> import torch, gradatim as gr
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(128, 2))
        >>> method = gr.CBS(planned_epochs=30)
        >>> curriculum = gr.Curriculum(method).attach(model=model)
        >>> method.smoothed, method.current_sigma, round(method.sigma_at(10), 4)
        (['0'], 1.0, 0.81)
        >>> sorted(model.state_dict())
        ['0.bias', '0.weight', '2.bias', '2.weight']

    Differences from the paper:
        The end by two thirds of the plan is ours; with the authors' decay every 5 epochs a run of
        100 is blurred until epoch 70. Below the threshold nothing is convolved. Maps of a single
        position, as in squeeze-and-excitation, are left alone. Modules are not rebuilt, and
        kernels of any odd size keep the shape; the authors' program pads for 3 and 5 only.

    Caveats:
        A network trained under blur is of no use without it (25 to 41 % where it has 84 %): a
        checkpoint chosen while it lasted needs the blur of that moment. Keep
        ``curriculum.state_dict()`` with the weights and load both; or give any other copy of the
        model (an average of weights, one just loaded) the current blur by `apply_to`. A deep or
        pickled copy keeps the blur that it was copied with. Detaching while it lasts warns.
        Along a sequence tokens blend with their neighbours: in a causal model the future leaks,
        and padding blends into the last tokens. Blocks that give the batch second are recognised
        by their ``nn.MultiheadAttention`` alone.
        Convolutions called without their module (by weights alone) are not blurred.

    References:
        Sinha, Garg and Larochelle, Curriculum by Smoothing, NeurIPS 2020 [sinha2020cbs].
    """

    references = ("sinha2020cbs",)

    def __init__(
        self,
        planned_epochs: int | None,
        *,
        sigma: float = 1.0,
        decay: float = 0.9,
        every: int = 5,
        size: int = 3,
        padding: Literal["zero", "reflect"] = "zero",
        layers: Layers | None = None,
        tokens: bool | Layers = False,
        grid: Sequence[int] | None = None,
        class_tokens: int = 0,
    ) -> None:
        if planned_epochs is not None:
            planned_epochs = check_count("planned_epochs", planned_epochs, at_least=1)
        self.planned_epochs = planned_epochs
        self.sigma = check_number("sigma", sigma, above=0)
        self.decay = check_number("decay", decay, above=0, at_most=1)
        self.every = check_count("every", every, at_least=1)
        self.size = check_size(size)
        check_choice("padding", padding, ("zero", "reflect"))
        self.padding: Literal["zero", "reflect"] = padding
        if planned_epochs is None and self.decay == 1:
            cause = "Else the blur never ends. Pass planned_epochs, too."
            raise refusal("decay", "below 1 without planned_epochs", decay, cause)
        if layers is not None:
            check_names("layers", layers)
        if not isinstance(tokens, bool):
            check_names("tokens", tokens)
        if layers is not None and len(layers) == 0 and not tokens:
            raise refusal("layers", "at least one convolution without tokens", layers)
        self.layers = layers
        self.tokens = tokens
        self.grid = None if grid is None else _checked_grid(grid, tokens)
        self.class_tokens = check_count("class_tokens", class_tokens)
        if self.class_tokens and not tokens:
            raise refusal("class_tokens", "0 without tokens", class_tokens)
        self._current = self.sigma_at(0)
        self._layers: list[_Smoothed] | None = None
        self._model: weakref.ref[nn.Module] | None = None
        self._trained = False  # whether a network that is still blurred has learnt under it

    # ------------------------------------------------------------------ the schedule

    def sigma_at(self, epoch: int) -> float:
        """s_e, the width in an epoch: ``s_0 d^floor(e / u)``, 0 from two thirds of the plan on."""
        epoch = check_count("epoch", epoch)
        if self.planned_epochs is not None and epoch >= 2 * self.planned_epochs // 3:
            return 0.0
        return self.sigma * self.decay ** (epoch // self.every)

    @property
    def current_sigma(self) -> float:
        """The width now."""
        return self._current

    @property
    def smoothed(self) -> list[str]:
        """Names of the layers that are blurred now, of the attached model."""
        return [part.name for part in self._layers or () if part.handle is not None]

    def start_epoch(self, run: Run) -> None:
        sigma = self.sigma_at(run.epoch)
        if self._layers is None and not is_identity(sigma, self.size, 1):
            raise RuntimeError(
                f"{self} blurs the layers of a model and has none. Call "
                "curriculum.attach(model=model) before training."
            )
        if self.smoothed:
            self._check_unchanged()
        self._put(sigma)
        self._trained = bool(self.smoothed)

    def _check_unchanged(self) -> None:
        model = None if self._model is None else self._model()
        if model is None:
            return
        mine = {part.name: part.layer() for part in self._layers or ()}
        now = {part.name: part.layer() for part in self._found(model)}
        other = sorted(name for name in {**mine, **now} if mine.get(name) is not now.get(name))
        if other:
            raise RuntimeError(
                f"model must have the layers it was attached with. Got others at {other}. Was the "
                "model changed? Call detach() before and attach(model=model) afterwards."
            )

    def _put(self, sigma: float) -> None:
        self._current = sigma
        came_on = [part.put(sigma) for part in self._layers or ()]
        if any(came_on):
            _forget_compiled()

    # ------------------------------------------------------------------ the model

    def attach(self, model: nn.Module | None, optimizer: Any | None) -> None:
        if self._layers is not None:
            raise RuntimeError("CBS is attached already: detach() it before attaching again.")
        if model is None:
            cause = "Call curriculum.attach(model=model)."
            raise refusal("model", "given, since CBS blurs its layers", None, cause)
        found = self._found(model)
        for part in found:
            layer = part.layer()
            if layer is not None and any(hook.attached for hook in _hooks_of(layer).values()):
                cause = "Detach that first, or give each its own layers."
                raise refusal("model", "blurred by no other CBS", f"{part.name!r} blurred", cause)
        for module in model.modules():
            _clear(module)
        self._layers, self._model = found, weakref.ref(model)
        self._trained = False
        self._put(self._current)

    def detach(self) -> None:
        if self._layers is None:
            return
        acting = any(part.handle is not None and part.layer() is not None for part in self._layers)
        warn = acting and self._trained
        for part in self._layers:
            part.take_off()
        self._layers, self._model, self._trained = None, None, False
        if warn:
            warnings.warn(
                f"CBS was detached while it still blurs (sigma {self._current:.3g}): the model "
                "has learnt with blurred maps and gets sharp ones from now on, which can cost "
                "half of its accuracy. Train until the blur ends, or evaluate before detaching.",
                stacklevel=3,
            )

    def apply_to(self, model: nn.Module) -> nn.Module:
        """Give another copy of the attached model the current blur, instead of what it has.

        For an average of weights, or a network that was built anew and loaded: call it again when
        the blur has changed, before evaluating. With no blur left it takes the hooks off.

        Args:
            model: with modules of the same names; wrapped or not.

        Returns:
            The same model.

        Raises:
            RuntimeError: nothing is attached.
            ValueError: a layer is missing, or it is the attached model itself.

        Example:
            >>> import copy, torch, gradatim as gr
            >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))
            >>> average = copy.deepcopy(model)
            >>> method = gr.CBS(planned_epochs=9)
            >>> method.attach(model, None)
            >>> method.apply_to(average) is average
            True
            >>> maps = torch.ones(1, 1, 4, 4)
            >>> bool(average(maps).equal(model(maps)))
            True
        """
        if self._layers is None:
            raise RuntimeError("apply_to needs an attached model, of which this one is a copy.")
        bare = _bare(model)
        modules = dict(bare.named_modules())
        ours = {id(part.layer()) for part in self._layers}
        for part in self._layers:
            if part.name not in modules:
                cause = "Is it a copy of the attached one?"
                raise refusal("model", f"one with the layer {part.name!r}", type(bare), cause)
            if id(modules[part.name]) in ours:
                raise refusal("model", "another copy than the attached one", type(bare))
        for module in modules.values():
            _clear(module)
        for part in self._layers:
            layer = modules[part.name]
            hook = copy.deepcopy(part.hook)
            hook.set(self._current, _device_of(layer))
            if hook.kernel is not None:
                layer.register_forward_hook(hook, prepend=True)
        _forget_compiled()
        return model

    def _found(self, model: nn.Module) -> list[_Smoothed]:
        if self.layers is not None:
            convolutions = named_convolutions(model, self.layers)
        else:
            convolutions = main_path_convolutions(model)
        blocks: dict[str, nn.Module] = {}
        if self.tokens is not False:
            blocks = token_blocks(model, None if self.tokens is True else self.tokens)
        elif not convolutions:
            cause = (
                "Pass layers= with the convolutions to blur, or tokens=True to blur the tokens "
                "of a transformer."
            )
            rule = "one with convolutions on its main path"
            raise refusal("model", rule, type(model).__name__, cause)
        both = sorted(set(convolutions) & set(blocks))
        if both:
            raise refusal("tokens", "other modules than layers", both)
        return [
            _Smoothed(name, weakref.ref(layer), self._hook(layer))
            for name, layer in convolutions.items()
        ] + [
            _Smoothed(name, weakref.ref(block), self._token_hook(block))
            for name, block in blocks.items()
        ]

    def _hook(self, layer: nn.Module) -> Smoothing:
        assert isinstance(layer, nn.modules.conv._ConvNd)
        return Smoothing(len(layer.kernel_size), self.size, self.padding)

    def _token_hook(self, block: nn.Module) -> TokenSmoothing:
        attention = [part for part in block.modules() if isinstance(part, nn.MultiheadAttention)]
        batch_first = all(part.batch_first for part in attention)
        return TokenSmoothing(self.size, self.padding, self.grid, self.class_tokens, batch_first)

    # ------------------------------------------------------------------ checkpoints and copies

    def state_dict(self) -> dict[str, Any]:
        return {"sigma": self._current}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._put(check_number("sigma", state["sigma"], at_least=0))
        self._trained = bool(self.smoothed)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is attached to no model.
        return {**vars(self), "_layers": None, "_model": None, "_trained": False}


def _checked_grid(grid: Any, tokens: Any) -> tuple[int, ...]:
    rule = "one to three lengths, such as (height, width)"
    if isinstance(grid, str) or not isinstance(grid, Sequence):
        raise TypeError(str(refusal("grid", rule, repr(grid))))
    if not 1 <= len(grid) <= 3:
        raise refusal("grid", rule, repr(grid))
    if not tokens:
        raise refusal("grid", "None without tokens", repr(grid))
    return tuple(check_count("grid", length, at_least=1) for length in grid)


def _device_of(layer: nn.Module) -> torch.device:
    found = next(layer.parameters(), None)
    return torch.device("cpu") if found is None or found.is_meta else found.device


def _bare(model: Any) -> nn.Module:
    """The module under an average of weights, several processes and compilation."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__.endswith(("DataParallel", "AveragedModel")):
            inner = getattr(model, "module", None)
        if inner is None:
            return model
        model = inner


def _hooks_of(module: nn.Module) -> dict[int, Smoothing]:
    return {
        number: hook
        for number, hook in module._forward_hooks.items()
        if isinstance(hook, Smoothing)
    }


def _clear(module: nn.Module) -> None:
    """Take off the hooks a copy brought along; their handles stayed with what it is a copy of."""
    for number, hook in _hooks_of(module).items():
        if not hook.attached:
            del module._forward_hooks[number]


def _forget_compiled() -> None:
    """Let compiled models trace again: they do not look for hooks that came on later."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
