"""``observed=dict(losses=..., rows=...)``: only these rows of a batch are remembered."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradatim as gr


class Remembers(gr.Method):
    """Losses and logits, as they are observed."""

    wants = ("logits",)

    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss", fill=-1.0)
        self.logit = gr.Table("logit", fill=-1.0)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.loss.write(batch.index, batch.losses)
        self.logit.write(batch.index, batch.signals["logits"])


def started(size: int = 4) -> tuple[gr.Curriculum, Remembers, torch.Tensor]:
    method = Remembers()
    curriculum = gr.Curriculum(method, seed=0)
    (batch,) = curriculum.loader(torch.arange(size), size)
    return curriculum, method, batch


@pytest.mark.parametrize("kept", [[0, 2], [3], []])
def test_only_the_rows_are_remembered(kept: list[int]) -> None:
    """The loss to train on is still that of all."""
    curriculum, method, index = started()
    losses = index.float() + 1
    loss = curriculum(
        losses, logits=10 * losses, observed={"losses": losses, "rows": torch.tensor(kept).long()}
    )
    assert float(loss) == 2.5
    expected = torch.full((4,), -1.0)
    chosen = index[kept]
    expected[chosen] = chosen + 1.0
    assert torch.equal(method.loss.values, expected)
    assert torch.equal(method.logit.values, torch.where(expected > 0, 10 * expected, -1.0))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1], "int64 and one-dimensional"),
        (torch.tensor([0.0]), "int64 and one-dimensional"),
        (torch.tensor([4]), r"positions in \[0, 4\)"),
        (torch.tensor([-1]), r"positions in \[0, 4\)"),
    ],
)
def test_rows_that_are_no_positions(rows: Any, message: str) -> None:
    curriculum, _, index = started()
    losses = index.float()
    with pytest.raises(ValueError, match=f"observed rows must be .*{message}"):
        curriculum(losses, logits=losses, observed={"losses": losses, "rows": rows})
    assert curriculum.step == 0


def test_a_survey_may_leave_rows_out() -> None:
    method = Remembers()
    curriculum = gr.Curriculum(method, seed=0)
    data = torch.arange(5)
    loader = curriculum.loader(data, 2)

    def forward(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        even = (batch % 2 == 0).nonzero().squeeze(1)
        return {"losses": batch + 1.0, "logits": batch + 0.5, "rows": even}

    curriculum.survey(data, forward, batch_size=2)
    assert method.loss.values.tolist() == [1.0, -1.0, 3.0, -1.0, 5.0]
    assert len(loader) == 3
