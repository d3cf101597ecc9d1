"""One pass over the whole data set without gradient, for methods that need every sample's value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader, default_collate

from gradatim.clock import Moment
from gradatim.loader import Carried, IndexedCollate, IndexedDataset, WorkerStart
from gradatim.method import Batch
from gradatim.observations import check_rows
from gradatim.undisturbed import undisturbed
from gradatim.validation import check_count, check_finite, refusal

if TYPE_CHECKING:
    from gradatim.curriculum import Curriculum

__all__ = ["survey"]


def survey(
    curriculum: Curriculum,
    dataset: Any,
    forward: Callable[[Any], dict[str, torch.Tensor]],
    *,
    batch_size: int,
    model: torch.nn.Module | None,
    **dataloader_arguments: Any,
) -> None:
    """Let every method observe every sample, once; see `Curriculum.survey`.

    With an attached model: its modules are in eval mode during the pass and in their own modes
    afterwards, and its buffers are untouched. Ranks share the work.
    """
    epochs = curriculum.epochs
    if not epochs.bound:
        raise RuntimeError("curriculum must have a loader before a survey: call loader(...) first.")
    if epochs.begun:
        raise RuntimeError("survey must run between epochs. This epoch has begun.")
    if len(dataset) != epochs.run.size:
        raise refusal("dataset", f"of {epochs.run.size} samples, as the loader's", len(dataset))
    check_count("batch_size", batch_size, at_least=1)
    epochs.look_up_world()
    run = epochs.run
    collate_fn = dataloader_arguments.pop("collate_fn", None) or default_collate
    loader = DataLoader(
        IndexedDataset(dataset),
        batch_size,
        sampler=range(run.rank, run.size, run.world),
        collate_fn=cast("Any", IndexedCollate(collate_fn)),
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=WorkerStart(dataloader_arguments.pop("worker_init_fn", None)),
        **dataloader_arguments,
    )
    clock = curriculum.clock
    now = clock.now(run.step) if clock.known else Moment()
    try:
        with undisturbed(model):
            for carried in loader:
                assert isinstance(carried, Carried)
                index = carried.index_tensor()
                losses, signals = _answer(forward(carried.batch), index, curriculum)
                rows = signals.pop("rows", None)
                if rows is not None:
                    check_rows(rows, len(losses))
                epochs.place(losses.device)
                epochs.remember(
                    Batch(
                        *(index, losses, signals, run.epoch, run.step, now.rate, now.time),
                        surveyed=True,
                        previous_rate=now.previous,
                    ),
                    rows,
                    now,
                )
                if epochs.log.bytes >= epochs.log_limit_bytes:
                    epochs.track()
                    epochs.apply_log(surveyed=True)
    except BaseException:
        epochs.log.clear()
        raise
    epochs.merge(surveyed=True)
    # An iterator that was begun follows the plan that was made before the survey.
    epochs.forget_stream()
    epochs.forget_plan()


def _answer(
    values: Any, index: torch.Tensor, curriculum: Curriculum
) -> tuple[torch.Tensor, dict[str, Any]]:
    """What ``forward`` returned, checked: losses (B,) and the signals."""
    rule = f'a dict with "losses" of shape ({index.numel()},)'
    if not isinstance(values, Mapping):
        raise refusal("forward(batch)", rule, values)
    signals = dict(values)
    losses = signals.pop("losses", None)
    if not isinstance(losses, torch.Tensor) or losses.shape != (index.numel(),):
        raise refusal("forward(batch)", rule, losses if "losses" in values else sorted(signals))
    if curriculum.epochs.nonfinite == "raise":
        check_finite("losses", losses, index)
    curriculum._steps.demands.check_sign("losses", losses)
    for method in curriculum.methods:
        for name in method.wants:
            if name != "learning_rate" and name not in signals:
                raise ValueError(
                    f"forward(batch) must return {name!r}: {method} needs it. "
                    f"Got {sorted(signals)}."
                )
    return losses, signals
