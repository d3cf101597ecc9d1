"""Loader overhead: an epoch of batches that carry their index, against torch's DataLoader."""

from __future__ import annotations

from functools import partial

import torch
from timing import interleaved

import gradatim as gr


def _epoch(loader: torch.utils.data.DataLoader) -> None:
    for _ in loader:
        pass


def _curriculum_epoch(loader: gr.CurriculumLoader) -> None:
    for _ in loader:
        loader.curriculum.skip()


def run(*, samples: int = 25_600, batch: int = 128) -> list[dict]:
    """Microseconds per batch of ours and of a shuffling DataLoader, with 0 and 2 workers."""
    images = torch.rand(samples, 1, 16, 16)
    data = torch.utils.data.TensorDataset(images, torch.arange(samples))
    rows = []
    for workers in (0, 2):
        options = {"num_workers": workers, "persistent_workers": workers > 0}
        plain = torch.utils.data.DataLoader(data, batch, shuffle=True, **options)
        curriculum = gr.Curriculum(gr.Uniform(), seed=0)
        ours = curriculum.loader(data, batch, **options)

        steps = -(-samples // batch)
        best = interleaved(
            {"plain": partial(_epoch, plain), "ours": partial(_curriculum_epoch, ours)},
            rounds=7,
            repeats=1,
        )
        plain_us, ours_us = (best[name] / steps * 1e6 for name in ("plain", "ours"))
        rows.append(
            {
                "workers": workers,
                "plain_us": plain_us,
                "ours_us": ours_us,
                "added_us": ours_us - plain_us,
                "ratio": ours_us / plain_us,
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
