"""The pieces of a model from input to output, as its modules were registered.

A piece is what moves together for certain: a layer, a residual or transformer block, a norm. What
belongs to one group of layers is decided in `gradatim.layers.groups`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn
from torch.nn.utils import parametrize

from gradatim.undisturbed import undisturbed

__all__ = ["Piece", "order_by_use", "pieces_of"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_RECURRENT_LAYER = re.compile(r"_l(\d+)(_reverse)?$")


@dataclass
class Piece:
    """Parameters that stay together.

    Args:
        name: of the module, as in ``named_modules``.
        kind: ``"layer"`` has weights; ``"block"`` is made of layers; an ``"embedding"`` takes the
            input; a ``"companion"`` (a norm, a scale) goes with the layer before it; ``"loose"``
            parameters belong to no layer (a class token, positions).
        parameters: by name.
        modules: whose first call tells when the piece is used; for loose ones none.
        owner: of loose parameters: the module they are registered on.
        stacked: the piece is one of a list of pieces, or of a recurrent module.
    """

    name: str
    kind: Literal["layer", "block", "embedding", "companion", "loose"]
    parameters: dict[str, nn.Parameter]
    modules: list[nn.Module] = field(default_factory=list)
    owner: str = ""
    stacked: bool = False


def pieces_of(model: nn.Module) -> list[Piece]:
    """Take a model apart in the order of registration, without running it.

    The model itself, lists and sequences are opened, and modules that hold a stack of blocks
    somewhere inside (an encoder, a backbone); any other module with parts is one block.

    Args:
        model: any module.

    Returns:
        Its pieces; tied parameters stand in the first piece that has them only.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> [(piece.name, piece.kind) for piece in pieces_of(model)]
        [('0', 'layer'), ('1', 'companion')]
    """
    seen: set[int] = set()
    found = []
    prefix, root = _bare(model)
    while (only := _only_child(root)) is not None:
        prefix, root = _joined(prefix, only[0]), only[1]
    for piece in _opened(prefix, root) if _children(root) else _leaf(prefix, root, stacked=False):
        own = {name: value for name, value in piece.parameters.items() if id(value) not in seen}
        seen.update(id(value) for value in own.values())
        if own:
            piece.parameters = own
            found.append(piece)
    return found


def order_by_use(
    pieces: list[Piece], model: nn.Module, forward: Callable[[], Any]
) -> tuple[list[Piece], bool]:
    """Order pieces by the first call of a module of theirs.

    Args:
        pieces: of ``model``; loose parameters, and what is never called, stay behind the piece
            before them.
        model: evaluated without gradient; mode, buffers and random state are as before afterwards.
        forward: runs the model once.

    Returns:
        The pieces in the order of use, and whether any was used at all.

    Example:
        >>> import torch
        >>> class Swapped(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.head, self.stem = nn.Linear(3, 2), nn.Linear(4, 3)
        ...     def forward(self, x):
        ...         return self.head(self.stem(x))
        >>> model = Swapped()
        >>> pieces, used = order_by_use(pieces_of(model), model, lambda: model(torch.ones(1, 4)))
        >>> [piece.name for piece in pieces]
        ['stem', 'head']
    """
    order: dict[int, int] = {}

    def note(module: nn.Module, inputs: Any) -> None:
        order.setdefault(id(module), len(order))

    handles = [
        module.register_forward_pre_hook(note) for piece in pieces for module in piece.modules
    ]
    try:
        with undisturbed(model):
            forward()
    finally:
        for handle in handles:
            handle.remove()
    last, keyed = -1, []
    for piece in pieces:
        called = [order[id(module)] for module in piece.modules if id(module) in order]
        if called:
            last = min(called)
        keyed.append((last, piece))
    return [piece for _, piece in sorted(keyed, key=lambda pair: pair[0])], bool(order)


def _bare(module: nn.Module) -> tuple[str, nn.Module]:
    """The module under torch.compile, and what that adds to its name."""
    prefix = ""
    while isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
        prefix, module = _joined(prefix, "_orig_mod"), inner
    return prefix, module


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children that have parameters; a parametrised layer or a list of parameters has none."""
    if isinstance(module, (nn.ParameterList, nn.ParameterDict)) or parametrize.is_parametrized(
        module
    ):
        return []
    return [
        (_joined(name, under), child)
        for name, given in module.named_children()
        for under, child in [_bare(given)]
        if next(child.parameters(), None) is not None
    ]


def _only_child(module: nn.Module) -> tuple[str, nn.Module] | None:
    """The one part of a module that is nothing but a wrapper of it."""
    under, bare = _bare(module)
    if under:
        return under, bare
    children = _children(module)
    if len(children) != 1 or next(module.parameters(recurse=False), None) is not None:
        return None
    return None if isinstance(children[0][1], _LISTS) else children[0]


def _opened(prefix: str, module: nn.Module) -> Iterator[Piece]:
    """Yield the pieces of a module that is opened."""
    own = {_joined(prefix, name): value for name, value in module.named_parameters(recurse=False)}
    if own:
        yield Piece(prefix, "loose", own, owner=prefix)
    stacked = isinstance(module, _CONTAINERS)
    for name, child in _children(module):
        path = _joined(prefix, name)
        if isinstance(child, _LISTS):
            yield Piece(path, "loose", dict(child.named_parameters(path)), owner=prefix)
        elif not _children(child):
            yield from _leaf(path, child, stacked=stacked)
        elif isinstance(child, _CONTAINERS) or _holds_stack(child):
            yield from _opened(path, child)
        else:
            modules = list(child.modules())
            yield Piece(path, "block", dict(child.named_parameters(path)), modules, stacked=stacked)


_LISTS = (nn.ParameterList, nn.ParameterDict)


def _leaf(path: str, module: nn.Module, *, stacked: bool) -> Iterator[Piece]:
    """Yield a layer, or the layers of a recurrent module."""
    parameters = dict(module.named_parameters(path))
    if isinstance(module, nn.RNNBase) and module.num_layers > 1:
        for number in range(module.num_layers):
            part = {
                name: value
                for name, value in parameters.items()
                if (match := _RECURRENT_LAYER.search(name)) and int(match[1]) == number
            }
            yield Piece(f"{path} layer {number}", "block", part, [module], stacked=True)
        return
    if isinstance(module, _EMBEDDINGS):
        yield Piece(path, "embedding", parameters, [module])
    elif isinstance(module, nn.RNNBase):
        yield Piece(path, "block", parameters, [module], stacked=True)
    else:
        kind = "companion" if _is_companion(module) else "layer"
        yield Piece(path, kind, parameters, [module], stacked=stacked)


def _is_companion(module: nn.Module) -> bool:
    """Whether a module without parts is a norm, or scales and shifts what a layer gives."""
    if "norm" in type(module).__name__.lower():
        return True
    return all(value.ndim <= 1 for value in module.parameters())


def _holds_stack(module: nn.Module) -> bool:
    """Whether blocks are listed somewhere inside, which makes a module an encoder, a backbone.

    Listed parts that are no blocks (the layers of a shortcut, branches, experts) do not.
    """
    for part in module.modules():
        if isinstance(part, nn.RNNBase) and part.num_layers > 1:
            return True
        if isinstance(part, _CONTAINERS) and any(is_block(child) for child in part.children()):
            return True
    return False


def is_block(module: nn.Module) -> bool:
    """Whether a module that is no list has two layers or more and a norm."""
    if isinstance(module, _CONTAINERS) or not _children(module):
        return False
    leaves = [part for part in module.modules() if not _children(part) and _has_own(part)]
    norms = sum("norm" in type(part).__name__.lower() for part in leaves)
    return norms > 0 and sum(not _is_companion(part) for part in leaves) > 1


def _has_own(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name
