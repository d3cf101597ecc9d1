"""What the methods share that compare samples by the inputs of the model's last linear layer."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import nn

from gradatim.method import Batch, Method, Run
from gradatim.table import Table
from gradatim.validation import check_finite, refusal

__all__ = ["WithFeatures", "last_linear"]


class _LastInput:
    """A forward hook that keeps what a layer was given last; copies of it keep nothing."""

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.rows = inputs[0].detach() if isinstance(inputs[0], torch.Tensor) else None

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": None}


def last_linear(model: nn.Module, layer: str | None = None) -> nn.Linear:
    """Find the layer whose inputs are the features z of a sample.

    Args:
        model: any module.
        layer: its name, as in ``model.named_modules()``; None is the linear layer registered last.

    Raises:
        ValueError: there is no such linear layer.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> last_linear(model) is model[2], last_linear(model, "0") is model[0]
        (True, True)
    """
    # Attention calls the layers inside it by their weights: a hook on them never runs.
    inside = {
        id(part)
        for outer in model.modules()
        if isinstance(outer, nn.MultiheadAttention)
        for part in outer.modules()
    }
    linear = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and id(part) not in inside
    }
    if layer is not None and layer not in linear:
        raise refusal("layer", f"one of the linear layers {sorted(linear)}", repr(layer))
    if not linear:
        cause = "Pass features= to the method, or to the call of the curriculum."
        raise refusal("model", "a module with a linear layer", type(model).__name__, cause)
    return linear[layer] if layer is not None else next(reversed(linear.values()))


class WithFeatures(Method):
    """A method that knows a feature vector of each sample.

    Features come from the constructor, from the call (``features=``, a row per sample), or from a
    hook on the last linear layer of the attached model, which keeps its inputs in the epochs that
    `collects` names.

    Args:
        features: (N, D), floating, finite; None takes them from the model.
        layer: name of the linear layer; None is the one registered last.
    """

    accepts = ("features",)

    def __init__(self, features: torch.Tensor | None, layer: str | None) -> None:
        if features is not None:
            if not isinstance(features, torch.Tensor) or not features.is_floating_point():
                raise TypeError(str(refusal("features", "a floating tensor (N, D)", features)))
            if features.ndim != 2 or not features.shape[1]:
                raise refusal("features", "of shape (N, D)", features)
            check_finite("features", features)
        if layer is not None and not isinstance(layer, str):
            raise TypeError(str(refusal("layer", "a name or None", repr(layer))))
        self.features = features
        self.layer = layer
        self._hook = _LastInput()
        self._width: torch.Size | None = None  # of the rows, before the table has some
        self._handle: Any = None
        self._hooked: weakref.ref[nn.Module] | None = None

    def collects(self, epoch: int) -> bool:
        """Whether the features of this epoch's forward passes are kept."""
        return False

    def setup(self, run: Run) -> None:
        self._width = None
        if self.features is not None:
            if len(self.features) != run.size:
                raise refusal("features", f"one row per sample: {run.size}", self.features)
        elif self._collecting:
            self.feature_table = Table("features", shape=None, fill=math.nan)

    def attach(self, model: nn.Module | None, optimizer: Any | None) -> None:
        if model is not None and self.features is None and self._collecting:
            layer = last_linear(model, self.layer)
            self._handle = layer.register_forward_pre_hook(self._hook)
            self._hooked = weakref.ref(layer)

    @property
    def _collecting(self) -> bool:
        """Whether any epoch's features are asked for at all."""
        return True

    def detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._hooked = None
        self._hook.rows = None

    def records(self, epoch: int) -> bool:
        signals = set(self.wants) - {"learning_rate"}
        return bool(signals) or (self.features is None and self.collects(epoch))

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        return {**super().record(batch, run), **self.feature_column(batch, run)}

    def feature_column(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        """The part of `record` that is about features: nothing, or a column of that name."""
        rows = batch.signals.get("features")
        seen, self._hook.rows = self._hook.rows, None
        if self.features is not None or not self.collects(run.epoch):
            return {}
        if rows is None:
            rows = seen
        if rows is None:
            raise RuntimeError(self._missing())
        if not isinstance(rows, torch.Tensor):
            raise TypeError(str(refusal("features", "a tensor, a row per sample", rows)))
        # A row that only pads this rank to the others' length is in the forward pass, too.
        surplus = rows.shape[0] - batch.size if rows.ndim > 1 else -1
        if not 0 <= surplus <= (run.world > 1):
            cause = "" if rows is not seen else "Was the model called on another batch since?"
            raise refusal("features", f"one row per sample: {batch.size} of them", rows, cause)
        rows = rows[: batch.size].flatten(1).float()
        known = self.feature_table.shape or self._width
        if known is not None and known != rows.shape[1:]:
            cause = (
                "Are texts of several lengths its inputs? Pad all alike, name another layer=, or "
                "pass features=, a vector of each text, to the method or the call."
            )
            rule = f"of {known[0]} values per sample, as before, for {self}"
            raise refusal("features", rule, rows, cause)
        self._width = rows.shape[1:]
        return {"features": rows}

    def _missing(self) -> str:
        layer = None if self._hooked is None else self._hooked()
        if layer is None:
            return (
                f"features must be given: {self} compares samples by them. Call "
                "curriculum.attach(model=model), whose last linear layer's inputs they are, or "
                "pass features= to the call or to the method."
            )
        return (
            f"features must be seen: {self} reads them from {layer}, which was not called since "
            "the last batch. Name another layer= (see model.named_modules()), attach before a "
            "compiled model's first call, or pass features= to the call."
        )

    def observe(self, batch: Batch, run: Run) -> None:
        if "features" in batch.signals and batch.size:
            check_finite("features", batch.signals["features"], batch.index)
            self.feature_table.write(batch.index, batch.signals["features"])

    def feature_rows(self, index: torch.Tensor) -> torch.Tensor:
        """Features (M, D) of samples; of those that were not seen, the mean of the others.

        Raises:
            RuntimeError: no features were seen.
        """
        if self.features is not None:
            return self.features[index.to(self.features.device)]
        if not self.feature_table.allocated:
            raise RuntimeError(
                f"features must be known: {self} compares samples by them, and saw none. Were "
                "the batches of its epoch all left unobserved? Pass observed=dict(losses=..., "
                "features=...)."
            )
        rows = self.feature_table[index]
        unseen = rows[:, :1].isnan()
        if bool(unseen.any()):
            rows = torch.where(unseen, rows[~unseen.squeeze(1)].mean(0).nan_to_num(), rows)
        return rows

    def __getstate__(self) -> dict[str, Any]:
        # A copy is attached to no model.
        return {**vars(self), "_hook": _LastInput(), "_handle": None, "_hooked": None}
