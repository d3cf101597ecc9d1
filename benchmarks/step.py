"""Step bookkeeping: what one call of the curriculum adds to ``losses.mean()``, at any N."""

from __future__ import annotations

import torch
from timing import interleaved

import gradatim as gr


class Samples(torch.utils.data.Dataset):
    """N samples that cost nothing."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


def curriculum_call(method: gr.Method, size: int, batch: int):
    """The call alone, on batches in a random order; the loader has its own benchmark."""
    curriculum = gr.Curriculum(method, seed=0)
    loader = curriculum.loader(Samples(size), batch_size=batch)
    curriculum.epochs.begin()
    plan = curriculum.epochs.plan().index
    batches = [part.clone() for part in plan[: 2048 * batch].split(batch)][: len(loader) - 1]
    losses = torch.rand(batch, requires_grad=True).exp()
    state = {"next": 0}

    def call() -> None:
        index = batches[state["next"] % len(batches)]
        state["next"] += 1
        curriculum.epochs.hand_out(index)
        curriculum(losses)
        if state["next"] % len(batches) == 0:
            # Applying the log, as at the end of an epoch, is part of the cost.
            curriculum.epochs.apply_log()
            curriculum.epochs.batch_in_epoch = 0

    call.loader = loader  # keep it alive
    return call


METHODS = {
    "Uniform": lambda size: gr.Uniform(),
    "Predefined": lambda size: gr.Predefined(torch.rand(size)),
    "SPL": lambda size: gr.SPL(),
    "SPL linear": lambda size: gr.SPL("linear"),
    "Focal": lambda size: gr.Focal(),
    "SuperLoss": lambda size: gr.SuperLoss(),
}


def run(*, sizes: tuple[int, ...] = (50_000, 10_000_000)) -> list[dict[str, float | str]]:
    """Microseconds per step above the plain loop, for every method, batch size and N."""
    rows: list[dict[str, float | str]] = []
    for batch in (128, 1024):
        losses = torch.rand(batch, requires_grad=True).exp()
        contestants = {"plain": lambda losses=losses: losses.mean()}
        for size in sizes:
            for name, build in METHODS.items():
                contestants[f"{name}|{size}"] = curriculum_call(build(size), size, batch)
        medians = interleaved(contestants, rounds=15, repeats=300)
        plain = medians.pop("plain")
        for name, seconds in medians.items():
            method, size = name.split("|")
            rows.append(
                {
                    "method": method,
                    "batch": batch,
                    "N": int(size),
                    "plain_us": plain * 1e6,
                    "added_us": (seconds - plain) * 1e6,
                }
            )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
