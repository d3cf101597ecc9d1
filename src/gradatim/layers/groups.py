"""Which parameters of a model move together, from its input to its output."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from gradatim.layers.walk import Piece, is_block, order_by_use, pieces_of
from gradatim.validation import refusal

__all__ = ["LayerGroup", "Layers", "check_layers", "layer_groups"]


@dataclass(frozen=True)
class LayerGroup:
    """One group of layers.

    Args:
        name: for people.
        parameters: names, as in ``named_parameters``.

    Example:
        >>> LayerGroup("head", ("fc.weight", "fc.bias"))
        LayerGroup(name='head', parameters=('fc.weight', 'fc.bias'))
    """

    name: str
    parameters: tuple[str, ...]


Part: TypeAlias = "str | nn.Module | nn.Parameter"
Layers: TypeAlias = Sequence["Part | list[Part] | tuple[str, Part | list[Part]] | LayerGroup"]

_KINDS = "modules, lists of modules, name patterns, or pairs of a name and one of these"


def layer_groups(
    model: nn.Module,
    layers: Layers | None = None,
    *,
    among: Iterable[nn.Parameter] | None = None,
    example_inputs: Any = None,
) -> list[LayerGroup]:
    """Put every trainable parameter of a model into one group, from the input to the output.

    By itself it finds: the stem (first layer and its norm; embeddings, class tokens and positions
    with it); each residual or transformer block with its shortcut, norms and biases; each layer of
    a recurrent module; each single layer in between; and the head, which is all that follows the
    last block (a pooler, a classifier of several layers). A norm between two layers goes with the
    one before. Tied parameters belong to the first of their layers, frozen ones to none.

    Args:
        model: any module; also wrapped by DistributedDataParallel or torch.compile.
        layers: groups by hand, in order, instead: modules, lists of modules, patterns for names of
            parameters (``"encoder.layer.0"`` takes all below it, ``"encoder.layer.[0-3]"`` and
            ``"*.bias"`` are globs), or pairs of a name and one of these.
        among: leave out all parameters but these (those of an optimizer); None takes all.
        example_inputs: run the model on them once, and go by the order in which layers are used
            instead of the order in which they were registered: a tensor, a tuple of arguments or a
            dict of them. In evaluation mode without gradient; modes, buffers and random state are
            as before afterwards.

    Returns:
        The groups, none of them empty.

    Raises:
        TypeError: ``model`` or an entry of ``layers`` is of another kind.
        ValueError: no trainable parameter; one in two entries of ``layers`` or in none; an entry
            that names nothing.

    Example:
        >>> model = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Flatten(),
        ...     nn.Linear(8, 2))
        >>> [group.name for group in layer_groups(model)]
        ['0', '2', '4']
        >>> layer_groups(model, ["[0-2]", ("head", model[4])])[1]
        LayerGroup(name='head', parameters=('4.weight', '4.bias'))

    Caveats:
        Without ``example_inputs`` the order is that of registration, usually that of ``forward``.
        A module that calls layers of its own, without a list of blocks inside, is one group: a
        small backbone written so is divided by ``layers``. Parameters directly on the model count
        as input (class tokens, positions), also where they scale the output.

    References:
        Croitoru et al., Learning rate curriculum, IJCV 2025, section 3.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(str(refusal("model", "a torch.nn.Module", repr(model))))
    kept = None if among is None else {id(parameter) for parameter in among}
    known: dict[str, nn.Parameter] = dict(model.named_parameters(remove_duplicate=False))
    if any(isinstance(value, nn.UninitializedParameter) for value in known.values()):
        cause = "Lazy modules get theirs in a first forward pass."
        raise refusal("model", "initialised in all parameters", type(model).__name__, cause)
    wanted = {
        id(value)
        for value in known.values()
        if value.requires_grad and (kept is None or id(value) in kept)
    }
    if not wanted:
        whose = "" if kept is None else " that the optimizer has"
        cause = "Are all frozen?" if known else "It has no parameters at all."
        raise refusal("model", f"with trainable parameters{whose}", type(model).__name__, cause)
    if layers is None:
        found = _automatic(model, example_inputs)
    elif example_inputs is not None:
        raise refusal("example_inputs", "None where layers are given", "both", "Layers are ordered")
    else:
        found = _given(model, check_layers(layers), known, wanted)
    groups, seen = [], set[int]()
    for name, names in found:
        own: list[str] = []
        for path in names:
            if id(known[path]) in wanted and id(known[path]) not in seen:
                seen.add(id(known[path]))
                own.append(path)
        if own:
            groups.append(LayerGroup(name, tuple(own)))
    return groups


# ---------------------------------------------------------------------------- by themselves


@dataclass
class _Draft:
    pieces: list[Piece]
    opened: bool  # no layer in it yet: the next one joins

    @property
    def last_of_body(self) -> bool:
        """Whether a head may begin after it."""
        return any(
            piece.kind == "block" and (piece.stacked or is_block(piece.modules[0]))
            for piece in self.pieces
        )

    @property
    def convolves(self) -> bool:
        return any(
            isinstance(module, nn.modules.conv._ConvNd)
            for piece in self.pieces
            for module in piece.modules
        )


def _automatic(model: nn.Module, example_inputs: Any) -> Iterator[tuple[str, list[str]]]:
    pieces = pieces_of(model)
    if example_inputs is not None:
        pieces, used = order_by_use(pieces, model, _call(model, example_inputs))
        if not used:
            cause = "Does its forward call no module?"
            raise refusal("model", "one that uses its layers", type(model).__name__, cause)
    drafts: list[_Draft] = []
    waiting: list[Piece] = []
    for piece in pieces:
        if piece.kind in ("layer", "block"):
            if drafts and drafts[-1].opened:
                drafts[-1].pieces.append(piece)
                drafts[-1].opened = False
            else:
                drafts.append(_Draft([piece], False))
            drafts[-1].pieces += waiting
            waiting = []
        elif piece.kind == "loose" and len(drafts) > 1:
            waiting.append(piece)  # parameters of a later part of the model: with its first layer
        elif not drafts:
            drafts.append(_Draft([piece], piece.kind != "embedding"))
        elif piece.kind == "companion":
            drafts[-1].pieces.append(piece)
        else:
            drafts[0].pieces.append(piece)
            drafts[0].opened &= piece.kind != "embedding"
    drafts[-1].pieces += waiting
    for draft in _with_head(drafts):
        weighty = [piece for piece in draft.pieces if piece.kind not in ("companion", "loose")]
        names = dict.fromkeys(piece.name for piece in weighty or draft.pieces)
        parameters = [name for piece in draft.pieces for name in piece.parameters]
        yield ", ".join(name or "model" for name in names), parameters


def _with_head(drafts: list[_Draft]) -> list[_Draft]:
    """What follows the last block is one group, but for convolutions."""
    blocks = [number for number, draft in enumerate(drafts) if draft.last_of_body]
    if not blocks:
        return drafts
    body = blocks[-1] + 1
    while body < len(drafts) and drafts[body].convolves:
        body += 1
    head = [piece for draft in drafts[body:] for piece in draft.pieces]
    return [*drafts[:body], _Draft(head, False)] if head else drafts


def _call(model: nn.Module, example_inputs: Any) -> Callable[[], Any]:
    if isinstance(example_inputs, dict):
        return lambda: model(**example_inputs)
    if isinstance(example_inputs, tuple):
        return lambda: model(*example_inputs)
    return lambda: model(example_inputs)


# ---------------------------------------------------------------------------- by hand


def check_layers(layers: Any) -> Layers:
    """Refuse what cannot be a list of layers, before there is a model.

    Args:
        layers: a sequence of entries, as of `layer_groups`.

    Returns:
        The same.

    Raises:
        TypeError: another kind, or an entry of another kind.
        ValueError: no entry, or an empty one.

    Example:
        >>> check_layers("encoder")
        Traceback (most recent call last):
        TypeError: layers must be a list of modules, lists of modules, name patterns, ... Got ...
    """
    if not isinstance(layers, (list, tuple, nn.ModuleList)):
        raise TypeError(str(refusal("layers", f"a list of {_KINDS}", repr(layers))))
    if len(layers) == 0:
        raise refusal("layers", "at least one group", "none")
    for number, entry in enumerate(layers):
        where = f"layers[{number}]"
        for part in _parts(where, entry):
            if isinstance(part, str):
                if not part:
                    raise refusal(where, "a pattern for names", repr(part))
            elif not isinstance(part, (nn.Module, nn.Parameter)):
                raise TypeError(str(refusal(where, f"one of {_KINDS}", repr(part))))
    return list(layers)


def _parts(where: str, entry: Any) -> list[Any]:
    """What an entry names, one by one."""
    if isinstance(entry, LayerGroup):
        return list(entry.parameters)
    if isinstance(entry, tuple):
        if len(entry) != 2 or not isinstance(entry[0], str) or isinstance(entry[1], tuple):
            cause = "Several patterns for one group stand in a list."
            raise TypeError(str(refusal(where, "a pair of a name and layers", repr(entry), cause)))
        entry = entry[1]
    if isinstance(entry, list):
        if not entry:
            raise refusal(where, "at least one module or pattern", "none")
        return entry
    return [entry]


def _title(number: int, entry: Any, paths: dict[int, str]) -> str:
    if isinstance(entry, LayerGroup):
        return entry.name
    if isinstance(entry, tuple):
        return entry[0]
    parts = entry if isinstance(entry, list) else [entry]
    names = [part if isinstance(part, str) else paths.get(id(part), "") for part in parts]
    return ", ".join(name for name in names if name) or f"layer {number}"


def _given(
    model: nn.Module, layers: Layers, known: dict[str, nn.Parameter], wanted: set[int]
) -> list[tuple[str, list[str]]]:
    """The groups by hand, with every wanted parameter in exactly one of them."""
    paths: dict[int, str] = {}
    for name, part in [*model.named_modules(remove_duplicate=False), *known.items()]:
        paths.setdefault(id(part), name)
    entries: dict[str, list[int]] = {name: [] for name in known}
    for number, entry in enumerate(layers):
        names: set[str] = set()
        for part in _parts(f"layers[{number}]", entry):
            names.update(_matching(number, part, known, paths))
        for name in names:
            entries[name].append(number)
    twice = {name: found for name, found in entries.items() if len(found) > 1}
    twice = {name: found for name, found in twice.items() if id(known[name]) in wanted}
    if twice:
        name, found = next(iter(twice.items()))
        rule = "lists in which each parameter stands once"
        raise refusal("layers", rule, f"{name!r} in entries {found[0]} and {found[1]}")
    first: dict[int, int] = {}  # a tied parameter belongs to the shallowest of its entries
    for name, found in entries.items():
        if found:
            key = id(known[name])
            first[key] = min(found[0], first.get(key, found[0]))
    missing = [
        name for name, value in known.items() if id(value) in wanted and id(value) not in first
    ]
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        rule = "lists in which every trainable parameter stands"
        raise refusal("layers", rule, f"{len(missing)} in no entry: {shown}")
    return [
        (
            _title(number, entry, paths),
            [name for name, value in known.items() if first.get(id(value)) == number],
        )
        for number, entry in enumerate(layers)
    ]


def _matching(
    number: int, part: Part, known: dict[str, nn.Parameter], paths: dict[int, str]
) -> list[str]:
    if isinstance(part, str):
        found = [
            name
            for name in known
            if name == part
            or name.startswith(f"{part}.")
            or fnmatch.fnmatchcase(name, part)
            or fnmatch.fnmatchcase(name, f"{part}.*")
        ]
        if not found:
            top = ", ".join(dict.fromkeys(name.split(".")[0] for name in known))
            cause = f"The model's own parts are {top}."
            raise refusal(f"layers[{number}]", "a pattern that fits a parameter", repr(part), cause)
        return found
    inside = {id(part)} if isinstance(part, nn.Parameter) else {id(v) for v in part.parameters()}
    known_ids = {id(value) for value in known.values()}
    if not inside <= known_ids or (isinstance(part, nn.Module) and id(part) not in paths):
        got = type(part).__name__ if isinstance(part, nn.Module) else part
        cause = "Does it belong to another model, or to a copy?"
        raise refusal(f"layers[{number}]", "a part of the model", got, cause)
    if isinstance(part, torch.Tensor):
        return [name for name, value in known.items() if id(value) in inside]
    prefix = paths[id(part)]
    return [name for name in known if not prefix or name.startswith(f"{prefix}.")]
