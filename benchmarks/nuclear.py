"""The nuclear norm of a batch of token representations, against singular values in the same run."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from timing import interleaved

import gradatim as gr

TEXTS, LONGEST, WIDTH = 25, 250, 768

# Lengths of the texts, and what the batch is padded to.
BATCHES: dict[str, tuple[int, int, int]] = {
    "full length": (LONGEST, LONGEST, LONGEST),
    "lengths 10-60, padded to 60": (10, 60, 60),
    "lengths 10-60, padded to 250": (10, 60, LONGEST),
    "lengths 10-250": (10, LONGEST, LONGEST),
}


def batch(shortest: int, longest: int, padded: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (25, padded, 768) in float32, and their mask."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TEXTS, padded, WIDTH, generator=generator)
    lengths = torch.randint(shortest, longest + 1, (TEXTS,), generator=generator)
    lengths[0] = longest
    return hidden, (torch.arange(padded) < lengths.unsqueeze(1)).long()


def by_singular_values(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What one would write: masked rows to zero, then all texts at once."""
    return torch.linalg.svdvals(hidden * mask.unsqueeze(2)).sum(1)


def contestants(hidden: torch.Tensor, mask: torch.Tensor) -> dict[str, Callable[[], None]]:
    """Both ways to the norms of one batch."""

    def ours() -> None:
        gr.scores.nuclear_norm(hidden, mask)

    def theirs() -> None:
        by_singular_values(hidden, mask)

    return {"ours": ours, "svdvals": theirs}


def run(
    *, names: tuple[str, ...] = tuple(BATCHES), rounds: int = 3
) -> list[dict[str, float | str]]:
    """Milliseconds per batch, how many times faster, and the largest relative difference."""
    rows: list[dict[str, float | str]] = []
    for name in names:
        hidden, mask = batch(*BATCHES[name])
        best = interleaved(contestants(hidden, mask), rounds=rounds, repeats=1)
        ours, theirs = gr.scores.nuclear_norm(hidden, mask), by_singular_values(hidden, mask)
        rows.append(
            {
                "batch": name,
                "ms": best["ours"] * 1e3,
                "svdvals ms": best["svdvals"] * 1e3,
                "times faster": best["svdvals"] / best["ours"],
                "difference": f"{float((ours / theirs - 1).abs().max()):.0e}",
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", nargs="+", choices=list(BATCHES), default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for row in run(names=tuple(arguments.names), rounds=arguments.rounds):
        print(row)
