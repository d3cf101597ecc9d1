"""RHO-Loss: what choosing 128 of 1,280 candidates costs, without the model, against plain NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from step import Samples
from timing import interleaved

import gradatim as gr

BAR_US = 150.0
KEEP, CANDIDATES = 128, 1280


def _losses(batch: int) -> torch.Tensor:
    return torch.rand(batch, generator=torch.Generator().manual_seed(0))


def ours(size: int, batch: int, keep: int, *, call: bool = True) -> Callable[[], None]:
    """`Curriculum.select` on losses that are at hand, and the call about what it chose."""
    irreducible = torch.rand(size, generator=torch.Generator().manual_seed(1))
    curriculum = gr.Curriculum(gr.RHOLoss(irreducible), seed=0)
    loader = curriculum.loader(Samples(size), batch_size=batch)
    epochs = curriculum.epochs
    epochs.begin()
    steps = min(2048, len(loader) - 1)
    batches = [part.clone() for part in epochs.plan().index[: steps * batch].split(batch)]
    losses, chosen, done = _losses(batch), _losses(keep), 0

    def step() -> None:
        nonlocal done
        epochs.hand_out(batches[done])
        curriculum.select(losses, keep)
        if call:
            curriculum(chosen)
        else:
            curriculum.skip()
        done += 1
        if done == steps:
            epochs.apply_log()
            epochs.batch_in_epoch = done = 0

    step.loader = loader  # type: ignore[attr-defined] # the curriculum holds it weakly
    return step


def plain(size: int, batch: int, keep: int, *, history: int | None = None) -> Callable[[], None]:
    """The same by NumPy: look the samples up in a dict, sort the differences, keep the largest.

    Args:
        size: N.
        batch: candidates.
        keep: how many of them.
        history: with it every step also appends what it chose to an array of all that was chosen
            so far, of this length, which copies the array: as the authors' code does.
    """
    drawn = np.random.default_rng(1).random(size, dtype=np.float32)
    irreducible = dict(enumerate(drawn.tolist()))
    order = np.random.default_rng(0).permutation(size)
    steps = min(2048, size // batch)
    batches = [torch.from_numpy(part) for part in np.split(order[: steps * batch], steps)]
    losses, chosen, done = _losses(batch), _losses(keep), 0
    before = None if history is None else np.zeros(history, dtype=np.int64)

    def step() -> None:
        nonlocal done
        index = batches[done % steps].numpy()
        known = np.array([irreducible[i] for i in index.tolist()], dtype=np.float32)
        kept = np.argsort(losses.numpy() - known)[-keep:]
        if before is not None:
            np.append(before, index[kept])
        chosen.mean()
        done += 1

    return step


def run(*, sizes: tuple[int, ...] = (50_000, 1_000_000)) -> list[dict[str, float | str]]:
    """Microseconds per step, ours and the opponents', in turns."""
    rows: list[dict[str, float | str]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # operations on a batch are too small to share
    for size in sizes:
        contestants = {
            "select": ours(size, CANDIDATES, KEEP, call=False),
            "step": ours(size, CANDIDATES, KEEP),
            "plain": plain(size, CANDIDATES, KEEP),
            "appending": plain(size, CANDIDATES, KEEP, history=1_000_000),
        }
        best = interleaved(contestants, rounds=30, repeats=30)
        rows.append(
            {
                "N": size,
                "candidates": CANDIDATES,
                "kept": KEEP,
                "select_us": best["select"] * 1e6,
                "with_call_us": best["step"] * 1e6,
                "plain_us": best["plain"] * 1e6,
                "plain_1M_history_us": best["appending"] * 1e6,
                "within_bar": "yes" if best["select"] * 1e6 <= BAR_US else "no",
                "call_within_bar": "yes" if best["step"] * 1e6 <= BAR_US else "no",
            }
        )
    torch.set_num_threads(threads)
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
