"""Which layers of a model curriculum by smoothing blurs: convolutions, or blocks of tokens."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Sequence

from torch import nn

from gradatim.validation import refusal

__all__ = ["check_names", "main_path_convolutions", "named_convolutions", "token_blocks"]

_Convolution = nn.modules.conv._ConvNd
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SHORTCUT = re.compile(r"shortcut|downsample|skip|identity|(^|\.)proj(ection)?(\.|$)")

Layers = Sequence["str | nn.Module"]


def is_shortcut(name: str, layer: _Convolution) -> bool:
    """Whether a convolution projects the shortcut of a residual block.

    Its kernel covers one position, and either it skips positions (a stride above 1), or its name
    says so: shortcut, downsample, skip, identity, or a part called proj or projection.

    Example:
        >>> is_shortcut("layer2.0.downsample.0", nn.Conv2d(8, 8, 1))
        True
        >>> is_shortcut("patch_embed.proj", nn.Conv2d(3, 8, 4, stride=4))
        False
    """
    if any(length > 1 for length in layer.kernel_size):
        return False
    return any(step > 1 for step in layer.stride) or bool(_SHORTCUT.search(name.lower()))


def main_path_convolutions(model: nn.Module) -> dict[str, nn.Module]:
    """Find the convolutions of a model that no shortcut bypasses its blocks with.

    All of `nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d`, also of attention and patch embeddings, but
    for the projections of shortcuts, and for transposed convolutions.

    Args:
        model: any module.

    Returns:
        Modules by name, in the order of registration.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3))
        >>> list(main_path_convolutions(model))
        ['0']
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, _CONVOLUTIONS) and not is_shortcut(name, layer)
    }


def check_names(name: str, layers: Layers) -> None:
    """Refuse what cannot be a list of modules and names, before there is a model.

    Raises:
        TypeError: another kind, or an entry of another kind.

    Example:
        >>> check_names("layers", "conv1")
        Traceback (most recent call last):
        TypeError: layers must be a list of modules and names. Got 'conv1'. Put it into a list.
    """
    rule = "a list of modules and names"
    if isinstance(layers, str) or not isinstance(layers, (list, tuple)):
        cause = "Put it into a list." if isinstance(layers, (str, nn.Module)) else ""
        raise TypeError(str(refusal(name, rule, repr(layers), cause)))
    for entry in layers:
        if not isinstance(entry, (str, nn.Module)):
            raise TypeError(str(refusal(name, rule, repr(entry))))


def named_convolutions(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """Look up convolutions by hand.

    Args:
        model: any module.
        layers: modules of it, names as in ``named_modules``, or patterns such as ``"layer1.*"``,
            which take the convolutions that they fit, but for projections of shortcuts.

    Raises:
        ValueError: an entry that names nothing, or no convolution.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        >>> list(named_convolutions(model, ["[1-2]"]))
        ['2']
    """
    main_path = main_path_convolutions(model)

    def fitting(pattern: str) -> list[str]:
        return fnmatch.filter(main_path, pattern)

    found = _looked_up("layers", "a convolution of the model", model, layers, fitting)
    for name, layer in found.items():
        if not isinstance(layer, _Convolution):
            cause = f"Did you mean {name + '.*'!r}?" if next(layer.children(), None) else ""
            got = f"{name!r}, a {type(layer).__name__}"
            raise refusal("layers", "convolutions", got, cause)
    return found


def token_blocks(model: nn.Module, layers: Layers | None = None) -> dict[str, nn.Module]:
    """Find the blocks of a transformer: what stands in a list and has attention inside.

    Args:
        model: any module.
        layers: modules, names or patterns by hand instead; of what a pattern fits, the outermost.

    Raises:
        ValueError: there is none, or an entry names nothing.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> list(token_blocks(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)))
        ['layers.0', 'layers.1']
    """
    every = dict(model.named_modules())
    if layers is not None:

        def fitting(pattern: str) -> list[str]:
            return _outermost(fnmatch.filter(every, pattern))

        return _looked_up("tokens", "a module of the model", model, layers, fitting)
    lists = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
    found = {
        name: part
        for name, part in every.items()
        if not isinstance(part, lists)
        and isinstance(every.get(name.rpartition(".")[0] if name else "?"), lists)
        and any(_attends(inner) for inner in part.modules())
        and not _attends(part)
    }
    inner = {name for name in found if not any(o.startswith(f"{name}.") for o in found)}
    if not inner:
        cause = "Name them: tokens=['encoder.layer.*']."
        raise refusal("model", "one with a list of attention blocks", type(model).__name__, cause)
    return {name: found[name] for name in found if name in inner}


def _attends(module: nn.Module) -> bool:
    kind = type(module).__name__.lower()
    return isinstance(module, nn.MultiheadAttention) or kind.endswith(("attention", "attn"))


def _outermost(names: list[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def _looked_up(
    argument: str,
    rule: str,
    model: nn.Module,
    layers: Layers,
    fitting: Callable[[str], list[str]],
) -> dict[str, nn.Module]:
    every = dict(model.named_modules(remove_duplicate=False))
    paths: dict[int, str] = {}
    for name, part in every.items():
        paths.setdefault(id(part), name)
    found: dict[str, nn.Module] = {}
    for entry in layers:
        if isinstance(entry, nn.Module):
            if id(entry) not in paths:
                cause = "Does it belong to another model, or to a copy?"
                raise refusal(argument, rule, type(entry).__name__, cause)
            names = [paths[id(entry)]]
        else:
            names = [paths[id(every[entry])]] if entry in every else fitting(entry)
        if not names:
            near = difflib.get_close_matches(str(entry), every, n=1)
            cause = f"Did you mean {near[0]!r}?" if near else ""
            raise refusal(argument, rule, repr(entry), cause)
        found |= {name: every[name] for name in names}
    return found
