"""Step bookkeeping: what the curriculum adds to the step of a plain loop, at any N."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
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


def plain_step(batch: int) -> Callable[[], None]:
    """Loss, mean, backward pass and optimizer step of a plain loop, on logits that are at hand."""
    logits, targets = _outputs(batch)
    optimizer = torch.optim.SGD([logits], lr=1e-9)

    def step() -> None:
        losses = F.cross_entropy(logits, targets, reduction="none")
        losses.mean().backward()
        optimizer.step()

    return step


def curriculum_step(
    method: gr.Method, size: int, batch: int, *, criterion: bool = False
) -> Callable[[], None]:
    """The same with the curriculum in place of the mean; the loader has its own benchmark.

    With ``criterion`` the curriculum also supplies the losses.
    """
    curriculum = gr.Curriculum(method, seed=0)
    loader = curriculum.loader(Samples(size), batch_size=batch)
    epochs = curriculum.epochs
    epochs.begin()
    epochs.run.epoch = 6  # past every warm-up, where the usual loss is trained on
    steps = min(2048, len(loader) - 1)
    batches = [part.clone() for part in epochs.plan().index[: steps * batch].split(batch)]
    logits, targets = _outputs(batch)
    optimizer = torch.optim.SGD([logits], lr=1e-9)
    curriculum.attach(optimizer=optimizer)
    known = {"logits": logits, "targets": targets}
    wanted = {name: known[name] for name in method.wants if name in known}
    done = 0

    def step() -> None:
        nonlocal done
        epochs.hand_out(batches[done])
        if criterion:
            losses = curriculum.criterion(logits, targets)
        else:
            losses = F.cross_entropy(logits, targets, reduction="none")
        curriculum(losses, **wanted).backward()
        optimizer.step()
        done += 1
        if done == steps:
            # Applying the log, as at the end of an epoch, is part of the cost.
            epochs.apply_log()
            for table in epochs.tables():
                table.settle()
            epochs.batch_in_epoch = done = 0

    step.loader = loader  # type: ignore[attr-defined] # the curriculum holds it weakly
    return step


def _outputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, 10, generator=generator, requires_grad=True)
    return logits, torch.randint(10, (batch,), generator=generator)


METHODS = {
    "Uniform": lambda size: gr.Uniform(),
    "Predefined": lambda size: gr.Predefined(torch.rand(size)),
    "SPL": lambda size: gr.SPL(),
    "SPL linear": lambda size: gr.SPL("linear"),
    "Focal": lambda size: gr.Focal(),
    "SuperLoss": lambda size: gr.SuperLoss(),
    "DIHCL loss": lambda size: gr.DIHCL("loss"),
    "DIHCL loss_change": lambda size: gr.DIHCL("loss_change"),
    "DoCL": lambda size: gr.DoCL(),
    "MCL": lambda size: gr.MCL(),
    "DIHCL flip": lambda size: gr.DIHCL("flip", "beta"),
}


def run(*, sizes: tuple[int, ...] = (50_000, 10_000_000)) -> list[dict[str, float | str]]:
    """Microseconds per step above the plain loop, for every method, batch size and N."""
    rows: list[dict[str, float | str]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # operations on a batch are too small to share
    for batch in (128, 1024):
        contestants = {"plain": plain_step(batch)}
        for size in sizes:
            for name, build in METHODS.items():
                contestants[f"{name}|{size}"] = curriculum_step(build(size), size, batch)
        best = interleaved(contestants, rounds=15, repeats=300)
        plain = best.pop("plain")
        for name, seconds in best.items():
            method, size = name.split("|")
            rows.append(
                {
                    "method": method,
                    "batch": batch,
                    "N": int(size),
                    "plain_us": plain * 1e6,
                    "added_us": (seconds - plain) * 1e6,
                    "ratio": seconds / plain,
                }
            )
    torch.set_num_threads(threads)
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
