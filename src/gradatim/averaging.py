"""An exponential moving average of a model's weights, as the papers' programs keep one."""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel

from gradatim.validation import check_number, refusal

__all__ = ["ema_model"]


class _Average:
    """Averages the tensors of one device and dtype; a class, so that models can be pickled."""

    def __init__(self, cap: float) -> None:
        self.cap = cap

    @torch.no_grad()
    def __call__(
        self,
        averaged: list[torch.Tensor] | tuple[torch.Tensor, ...],
        current: list[torch.Tensor] | tuple[torch.Tensor, ...],
        count: torch.Tensor | int,
    ) -> None:
        """Update ``averaged`` in place; ``count`` is the number of updates before, at least 1."""
        new = 1 - min(1 - 1 / (int(count) + 1), self.cap)
        if averaged[0].is_floating_point() or averaged[0].is_complex():
            # One kernel for all tensors, as torch's own averages do it; torch has no public one.
            torch._foreach_lerp_(averaged, current, new)  # pyright: ignore[reportPrivateImportUsage]
        else:
            for old, value in zip(averaged, current, strict=True):
                old.copy_(value)  # counters: a mean of them would count nothing


def ema_model(model: torch.nn.Module, *, cap: float = 0.999) -> AveragedModel:
    """Keep a copy of a model whose weights are a moving average of the model's.

    ``theta_ema <- beta theta_ema + (1 - beta) theta`` with ``beta = min(1 - 1 / (t + 1), cap)`` at
    update t = 0, 1, ...: the first update copies, and until the cap is reached theta_ema is the
    plain mean of all weights so far. Floating-point buffers (running statistics) are averaged the
    same way; others, such as BatchNorm's counter, are copied.

    Args:
        model: a module on its device, without a wrapper for several processes or compilation; it
            is copied and not changed.
        cap: the largest beta, in [0, 1); .999 looks back over about 1,000 updates.

    Returns:
        torch's own `AveragedModel`: call ``update_parameters(model)`` after each optimizer step
        and evaluate the result like any module (``.eval()`` first; ``.module`` is the copy).

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``cap`` outside its range.

    State: ``n_averaged``, the weights and the buffers, in ``state_dict``; the cap is not in it.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> average = ema_model(model)
        >>> for value in (1.0, 2.0, 6.0):
        ...     _ = torch.nn.init.constant_(model.weight, value)
        ...     average.update_parameters(model)
        >>> round(average.module.weight.item(), 6)
        3.0

    Differences from the paper: it does not say which beta; the ramp is that of the authors'
    program, whose cap is .9, and whose counter of updates starts again with each episode.

    Caveats: half-precision weights lose updates of a thousandth: keep the model in float32, as
    automatic mixed precision does. Tensors are averaged in their own precision.

    References:
        Zhou et al., Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021
        [zhou2021docl]; Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(str(refusal("model", "a torch.nn.Module", repr(model))))
    check_number("cap", cap, at_least=0, below=1)
    return AveragedModel(model, multi_avg_fn=_Average(cap), use_buffers=True)
