"""What layers give and how far they move: activations, their entropy, distances, update sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from gradatim.undisturbed import undisturbed
from gradatim.validation import check_choice, check_count, check_flag, refusal

__all__ = ["UpdateSize", "activation_entropy", "activations", "feature_distance", "update_sizes"]

Values: TypeAlias = "torch.Tensor | np.ndarray"
Index: TypeAlias = "torch.Tensor | np.ndarray | Sequence[int]"
By: TypeAlias = Literal["parameter", "layer"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FIRST, LAST = "first", "last"


def activation_entropy(activations: Values) -> np.ndarray:
    """Measure how evenly a layer's activation is spread over its units, sample by sample.

    With ``p = |activation| / sum |activation|`` over all units of a sample, the entropy is
    ``-sum p log p / log(units)``: 1 where all units are equally strong, 0 where one is alone.

    Args:
        activations: (B, ...), finite, at least 2 units per sample.

    Returns:
        float64 (B,), in [0, 1]; 0 for a sample whose units are all 0. Its mean is what the paper's
        Table 7 shows.

    Raises:
        ValueError: values that are not finite, or fewer than 2 units.

    Example:
        >>> maps = torch.tensor([[1.0, 1.0, 1.0], [0.0, 5.0, 0.0], [1.0, 1.0, 2.0]])
        >>> activation_entropy(maps).round(6).tolist()
        [1.0, 0.0, 0.946395]

    Differences from the paper:
        The paper computes entropies and does not define them; this is our reading.

    Caveats:
        Large layers of any network have an entropy near 1. What is compared are differences, of
        the same layer on the same inputs.

    References:
        Croitoru et al., Learning Rate Curriculum, IJCV 2024, Table 7.
    """
    rows = _rows("activations", activations).abs()
    if rows.shape[1] < 2:
        raise refusal("activations", "of at least 2 units per sample", tuple(activations.shape))
    # By the largest first: the sum of huge values would overflow, and that of tiny ones underflow.
    largest = rows.amax(1, keepdim=True)
    shares = rows / torch.where(largest > 0, largest, 1.0)
    total = shares.sum(1, keepdim=True)
    shares = shares / torch.where(total > 0, total, 1.0)
    found = torch.xlogy(shares, shares).sum(1).abs() / math.log(rows.shape[1])
    return found.clamp(max=1.0).numpy()


def feature_distance(
    first: Values,
    second: Values,
    *,
    relative: bool = False,
    first_index: Index | None = None,
    second_index: Index | None = None,
) -> float:
    """Measure how far a layer's activations of the same inputs are apart at two checkpoints.

    The Euclidean distance of each sample's activations, ``||first_i - second_i||``, averaged over
    the samples.

    Args:
        first: (B, ...), finite: at one checkpoint.
        second: of the same shape: at the other one, the same inputs in the same order.
        relative: divide by the mean of ``||second_i||``, so that layers of different sizes compare.
        first_index: int (B,), which samples ``first`` has, in order; checked against
            ``second_index`` where both are given.
        second_index: int (B,), likewise.

    Returns:
        At least 0.

    Raises:
        ValueError: different shapes, samples or orders; values that are not finite; a relative
            distance to activations that are all 0.

    Example:
        >>> before = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> after = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
        >>> feature_distance(before, after)
        2.5

    Caveats:
        The plain distance grows with the number of units and with their scale: compare regimes at
        one layer, or take ``relative=True``.

    References:
        Croitoru et al., Learning Rate Curriculum, IJCV 2024, Tables 6 and 8.
    """
    check_flag("relative", relative)
    a, b = _rows("first", first), _rows("second", second)
    if tuple(first.shape) != tuple(second.shape):
        raise refusal("second", f"of shape {tuple(first.shape)}, as first", tuple(second.shape))
    _check_same_order(len(a), first_index, second_index)
    distance = float((a - b).norm(dim=1).mean())
    if not relative:
        return distance
    scale = float(b.norm(dim=1).mean())
    if scale == 0:
        raise refusal("second", "not all 0 where the distance is relative to it", "zeros")
    return distance / scale


@dataclass(frozen=True)
class UpdateSize:
    """How far a parameter or a layer moved between two snapshots.

    Attributes:
        absolute: Euclidean norm of the difference.
        relative: that, divided by the norm before; infinite if that was 0.
        numbers: how many it has.
    """

    absolute: float
    relative: float
    numbers: int


def update_sizes(
    before: Mapping[str, torch.Tensor],
    after: Mapping[str, torch.Tensor],
    *,
    by: By = "parameter",
) -> dict[str, UpdateSize]:
    """Measure how far each parameter, or each layer, moved between two snapshots of a model.

    Args:
        before: by name, such as ``{name: p.detach().clone() for name, p in
            model.named_parameters()}`` or a deep copy of ``model.state_dict()``.
        after: the same names and shapes.
        by: ``"parameter"``, or ``"layer"``: what a module holds itself, together.

    Returns:
        By name, in the order of ``before``; of the layers by the module's name. What is not
        floating (counters of batches) is left out.

    Raises:
        ValueError: other names or shapes; values that are not finite; or snapshots that share
            memory, as two calls of ``state_dict()`` without a copy do.

    Example:
        >>> before = {"0.weight": torch.tensor([3.0, 4.0]), "0.bias": torch.tensor([0.0])}
        >>> after = {"0.weight": torch.tensor([3.0, 5.0]), "0.bias": torch.tensor([0.0])}
        >>> update_sizes(before, after)["0.weight"]
        UpdateSize(absolute=1.0, relative=0.2, numbers=2)
        >>> list(update_sizes(before, after, by="layer"))
        ['0']
    """
    check_choice("by", by, ("parameter", "layer"))
    if list(before) != list(after) and set(before) != set(after):
        odd = sorted(set(before) ^ set(after))
        raise refusal("after", "a snapshot of the same names as before", f"{odd[:5]} in one only")
    sums: dict[str, list[float]] = {}
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape:
            raise refusal(f"after[{name!r}]", f"of shape {tuple(old.shape)}", tuple(new.shape))
        if not old.is_floating_point():
            continue
        if old.numel() and old.data_ptr() == new.data_ptr():
            cause = "A state_dict shares the model's memory: copy it with copy.deepcopy."
            raise refusal("before", "a copy", f"the memory of after, at {name!r}", cause)
        a, b = (values.detach().to("cpu", torch.float64) for values in (old, new))
        for which, values in (("before", a), ("after", b)):
            if not bool(values.isfinite().all()):
                raise refusal(f"{which}[{name!r}]", "finite", "values that are not")
        key = name.rpartition(".")[0] if by == "layer" else name
        entry = sums.setdefault(key, [0.0, 0.0, 0])
        entry[0] += float((b - a).square().sum())
        entry[1] += float(a.square().sum())
        entry[2] += a.numel()
    return {
        key: UpdateSize(math.sqrt(moved), _ratio(moved, norm), int(numbers))
        for key, (moved, norm, numbers) in sums.items()
    }


def activations(
    model: nn.Module,
    inputs: Any,
    layers: Sequence[str] | None = None,
    *,
    batch_size: int = 256,
) -> dict[str, torch.Tensor]:
    """Run a model without a trace, and keep what some of its layers give.

    The model is in evaluation mode and no gradient is kept; afterwards modes, buffers, hooks and
    the random generators are as they were.

    Args:
        model: any module.
        inputs: a tensor (B, ...), a tuple of positional arguments or a mapping of named ones, whose
            tensors have B rows; on the model's device.
        layers: names as in ``model.named_modules()``; None takes the convolution that is called
            first and the one that is called last, by the keys ``"first"`` and ``"last"``.
        batch_size: rows at a time.

    Returns:
        By layer, (B, ...) on the CPU, as the rest of the model sees them: other forward hooks, such
        as those of `gradatim.CBS`, have acted. Of a layer that gives a tuple, as an LSTM does, its
        first tensor; of a layer that is called several times its last call.

    Raises:
        ValueError: a name that the model does not have, a layer that is not called or whose output
            does not have B rows, or a model without convolutions where no layers are named.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 4, 3))
        >>> found = activations(model, torch.zeros(5, 1, 8, 8))
        >>> {name: tuple(values.shape) for name, values in found.items()}
        {'first': (5, 2, 6, 6), 'last': (5, 4, 4, 4)}

    Caveats:
        Everything is kept in memory: B times the size of the layers.
    """
    check_count("batch_size", batch_size, at_least=1)
    model = getattr(model, "_orig_mod", model)  # compiled code does not run hooks that come later
    named = dict(model.named_modules())
    if layers is None:
        watched = {name: part for name, part in named.items() if isinstance(part, CONVOLUTIONS)}
        if not watched:
            cause = "Name the layers."
            raise refusal("model", "one with convolutions", type(model).__name__, cause)
    else:
        if isinstance(layers, str) or not layers:
            raise refusal("layers", "a list of names", repr(layers))
        for name in layers:
            if name not in named:
                raise refusal("layers", "names in model.named_modules()", repr(name))
        watched = {name: named[name] for name in layers}
    kept: dict[str, list[torch.Tensor]] = {}
    seen = _Seen(ends=layers is None)
    handles = [
        part.register_forward_hook(seen.hook(name), with_kwargs=False)
        for name, part in watched.items()
    ]
    try:
        with undisturbed(model):
            for rows, (positional, keywords) in _parts(inputs, batch_size):
                seen.found.clear()
                model(*positional, **keywords)
                for name in (FIRST, LAST) if layers is None else layers:
                    kept.setdefault(name, []).append(_checked(name, seen.found, rows))
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in kept.items()}


class _Seen:
    """What layers gave in one forward pass, by name, or by their place in the order of calls."""

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends
        self.found: dict[str, Any] = {}

    def hook(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) and output else output
            if isinstance(value, torch.Tensor):
                # What follows may change it in place, as nn.ReLU(inplace=True) does.
                value = value.detach().clone()
            if not self.ends:
                self.found[name] = value
                return
            self.found.setdefault(FIRST, value)
            self.found[LAST] = value

        return keep


def _checked(name: str, found: Mapping[str, Any], rows: int) -> torch.Tensor:
    if name not in found:
        what = "a convolution" if name in (FIRST, LAST) else repr(name)
        raise refusal("layers", "called by the model's forward", f"{what}, which is not")
    value = found[name]
    if not isinstance(value, torch.Tensor) or value.ndim == 0 or value.shape[0] != rows:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        rule = f"layers that give a row per input, {rows} of them"
        raise refusal("layers", rule, f"{got} from {name!r}")
    return value.cpu()


def _parts(
    inputs: Any, batch_size: int
) -> Iterator[tuple[int, tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Cut the inputs of a model into batches: positional and named arguments."""
    if isinstance(inputs, Mapping):
        positional, keywords = (), dict(inputs)
    else:
        positional, keywords = (inputs if isinstance(inputs, tuple) else (inputs,)), {}
    tensors = [v for v in (*positional, *keywords.values()) if isinstance(v, torch.Tensor)]
    sizes = {tensor.shape[0] for tensor in tensors if tensor.ndim}
    if len(sizes) != 1 or 0 in sizes:
        got = sorted(sizes) if sizes else type(inputs).__name__
        raise refusal("inputs", "tensors of the same number of rows, at least 1", got)
    (size,) = sizes
    for begin in range(0, size, batch_size):
        rows = slice(begin, begin + batch_size)

        def part(value: Any, rows: slice = rows) -> Any:
            return value[rows] if isinstance(value, torch.Tensor) and value.ndim else value

        yield (
            min(size, begin + batch_size) - begin,
            (tuple(map(part, positional)), {name: part(v) for name, v in keywords.items()}),
        )


def _rows(name: str, values: Values) -> torch.Tensor:
    """The values as float64 (B, units), finite."""
    if not isinstance(values, torch.Tensor | np.ndarray):
        rule = "a tensor or an array (B, ...)"
        raise TypeError(str(refusal(name, rule, type(values).__name__)))
    found = torch.as_tensor(values).detach()
    if found.ndim < 2 or found.numel() == 0:
        raise refusal(name, "of shape (B, ...) with B at least 1, not empty", tuple(found.shape))
    if found.is_complex():
        raise refusal(name, "real numbers", found)
    rows = found.to("cpu", torch.float64).flatten(1)
    finite = rows.isfinite()
    if not bool(finite.all()):
        raise refusal(name, "finite", f"{int((~finite).sum())} values that are not")
    return rows


def _check_same_order(size: int, first: Index | None, second: Index | None) -> None:
    if first is None and second is None:
        return
    if first is None or second is None:
        missing = "first_index" if first is None else "second_index"
        raise refusal(missing, "given where the other one is", None)
    a, b = (torch.as_tensor(index).flatten().tolist() for index in (first, second))
    for name, index in (("first_index", a), ("second_index", b)):
        if len(index) != size:
            raise refusal(name, f"one per sample: {size} of them", len(index))
    if a != b:
        where = next(i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
        got = f"sample {b[where]} instead of {a[where]} in row {where}"
        cause = "Sort both by sample first." if sorted(a) == sorted(b) else "Are they other inputs?"
        raise refusal("second_index", "the same samples in the same order as first", got, cause)


def _ratio(moved: float, norm: float) -> float:
    if moved == 0:
        return 0.0
    return math.sqrt(moved / norm) if norm > 0 else math.inf
