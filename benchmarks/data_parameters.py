"""Data parameters: what a parameter per sample adds to a step, against a dense optimizer of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from step import _outputs, curriculum_step, plain_step
from timing import interleaved

import gradatim as gr

BAR_US = 150.0


def ours(
    size: int, batch: int, *, level: Literal["instance", "both"] = "instance"
) -> Callable[[], None]:
    """A step with `gradatim.DataParameters`: reads and writes the rows of the batch."""
    return curriculum_step(gr.DataParameters(level), size, batch, criterion=True)


def dense(size: int, batch: int) -> Callable[[], None]:
    """The same with all parameters in an optimizer of torch, decayed and clamped, as published."""
    logits, targets = _outputs(batch)
    sigma = torch.zeros(size, requires_grad=True)
    model = torch.optim.SGD([logits], lr=1e-9)
    optimizer = torch.optim.SGD([sigma], lr=0.1, weight_decay=1e-4)
    order = torch.randperm(size)[: batch * min(2048, size // batch)].split(batch)
    done = 0

    def step() -> None:
        nonlocal done
        index = order[done % len(order)]
        tempered = logits / sigma[index].exp().unsqueeze(1)
        F.cross_entropy(tempered, targets, reduction="none").mean().backward()
        model.step()
        optimizer.step()
        with torch.no_grad():
            sigma.clamp_(-3.0, 3.0)
        optimizer.zero_grad()
        done += 1

    return step


def run(*, sizes: tuple[int, ...] = (50_000, 10_000_000)) -> list[dict[str, float | str]]:
    """Microseconds per step above the plain loop, ours and the dense optimizer's, in turns."""
    rows: list[dict[str, float | str]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # operations on a batch are too small to share
    for batch in (128, 1024):
        fast = {"plain": plain_step(batch)}
        for size in sizes:
            fast[f"instance|{size}"] = ours(size, batch)
            fast[f"both|{size}"] = ours(size, batch, level="both")
        best = interleaved(fast, rounds=15, repeats=300)  # a turn holds a move of waiting samples
        plain = best.pop("plain")
        for name, seconds in best.items():
            level, size = name.split("|")
            slow = {} if level == "both" else {"dense": dense(int(size), batch)}
            opponent = interleaved(slow, rounds=3, repeats=3).get("dense")
            rows.append(
                {
                    "level": level,
                    "batch": batch,
                    "N": int(size),
                    "plain_us": plain * 1e6,
                    "added_us": (seconds - plain) * 1e6,
                    "dense_added_us": "" if opponent is None else (opponent - plain) * 1e6,
                    "within_bar": "yes" if (seconds - plain) * 1e6 <= BAR_US else "no",
                }
            )
    torch.set_num_threads(threads)
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
