"""What a curriculum tells of itself: the steps to come, numbers for a logger, scores."""

from __future__ import annotations

import torch

from gradatim.epochs import Epochs
from gradatim.validation import check_count

__all__ = ["metrics", "planned_lengths", "planned_steps", "scores"]


def planned_steps(epochs: Epochs, count: int) -> int | None:
    """See `Curriculum.planned_steps`; ``count`` epochs to come."""
    lengths = planned_lengths(epochs, count)
    return None if lengths is None else sum(lengths)


def planned_lengths(epochs: Epochs, count: int) -> list[int] | None:
    """Batches of each of the next ``count`` epochs; None where it depends on the data."""
    check_count("epochs", count)
    if not epochs.bound:
        raise RuntimeError("curriculum must have a loader: call curriculum.loader(...) first.")
    epochs.look_up_world()
    layout, run = epochs.layout, epochs.run
    if layout.steps_per_epoch is not None:
        return [layout.steps_per_epoch] * count
    lengths = []
    for epoch in range(run.epoch, run.epoch + count):
        size: int | None = run.size
        scale = 1
        for method in epochs.methods:
            size = method.planned_size(size, epoch)
            scale *= method.planned_scale(epoch)
            if size is None:
                return None
        if layout.drop_last:
            batch = layout.batch_size * scale * run.world
            size = size // batch * batch
        lengths.append(layout.steps(size, run.world, scale))
    return lengths


def metrics(epochs: Epochs) -> dict[str, float]:
    """See `Curriculum.metrics`."""
    plan = epochs.plan()
    members = torch.zeros(epochs.run.size, dtype=torch.bool)
    members[plan.index] = True
    size = int(members.count_nonzero())
    effective = float(size)
    if plan.weights is not None:
        weights = plan.weights[members].double()
        effective = float(weights.sum() ** 2 / (weights**2).sum().clamp(min=1e-300))
    overlap = float("nan")
    if epochs.previous is not None:
        overlap = float((members & epochs.previous).count_nonzero()) / size
    seen = epochs.seen | epochs.members()
    return {
        "epoch": float(epochs.run.epoch),
        "subset_size": float(size),
        "coverage": float(seen.count_nonzero()) / epochs.run.size,
        "overlap": overlap,
        "effective_size": effective,
    }


def scores(epochs: Epochs) -> dict[str, torch.Tensor]:
    """See `Curriculum.scores`."""
    found: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    for method in epochs.methods:
        name = type(method).__name__
        counts[name] = counts.get(name, 0) + 1
        owner = name if counts[name] == 1 else f"{name}#{counts[name]}"
        for key, table in method.tables().items():
            if table.per_sample and table.shape == ():
                found[f"{owner}.{key}"] = table.values.clone()
    return found
