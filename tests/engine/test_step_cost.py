"""What makes a step cheap changes nothing: the short ways give what the long ones do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gradatim as gr
from gradatim.clock import Moment
from gradatim.dynamics import outputs as dynamics
from gradatim.log import Log
from gradatim.methods.output_signals import OutputSignals
from gradatim.selection.candidates import hardest


def stable(scores: torch.Tensor, k: int) -> list[int]:
    """The k largest by a plain stable sort, NaN last."""
    known = [-float("inf") if value != value else value for value in scores.tolist()]
    return sorted(sorted(range(len(known)), key=lambda i: -known[i])[:k])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_hardest_are_those_of_a_stable_sort_with_ties_nan_and_infinities(
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(0)
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.5])
    for trial in range(120):
        scores = torch.rand(23, generator=generator)
        if trial % 2:
            scores = (scores * 5).round() / 5
        if trial % 3 == 0:
            scores[torch.randperm(23, generator=generator)[:6]] = odd[trial // 3 % 4]
        scores = scores.to(dtype)
        for k in (0, 1, 7, 22, 23):
            assert hardest(scores, k).tolist() == stable(scores, k)


def test_what_is_kept_of_a_call_does_not_change_with_its_tensors() -> None:
    watch = gr.Dynamics(normalize=False)  # reads losses; the other two do not
    curriculum = gr.Curriculum(
        gr.DoCL(episodes=(4, 5), batch_mul=1), gr.DIHCL("flip"), watch, learning_rate=lambda: 1.0
    )
    loader = curriculum.loader(range(8), batch_size=4)
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    kept, right = logits.clone(), logits.argmax(1) == targets
    for number, _ in enumerate(loader):
        if number:
            break
        losses = curriculum.criterion(logits, targets)
        curriculum(losses, logits=logits, targets=targets)
        before = losses.clone()
        for tensor in (losses, logits, targets):
            tensor.fill_(1)
        rows = curriculum.epochs.log.rows()
        assert torch.equal(rows["losses"], before)
        assert torch.equal(rows["columns"]["0.logits"], kept)
        assert rows["columns"]["0.targets"].tolist() == [0, 1, 2, 0]
        assert torch.equal(rows["columns"]["1.correct"], right)


def flips(*others: gr.Method) -> tuple[gr.Curriculum, torch.Tensor]:
    """Three epochs of DIHCL by flips beside other methods; its hardness."""
    curriculum = gr.Curriculum(gr.DIHCL("flip"), *others, seed=0, learning_rate=lambda: 0.5)
    loader = curriculum.loader(range(6), batch_size=4)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for index in loader:
            logits = torch.randn(len(index), 3, generator=generator)
            targets = index % 3
            losses = F.cross_entropy(logits, targets, reduction="none")
            curriculum(losses, logits=logits, targets=targets)
    return curriculum, curriculum.scores()["DIHCL.dih"]


def test_losses_that_nobody_reads_are_not_kept_and_change_nothing() -> None:
    alone, watched = flips(), flips(gr.Dynamics(normalize=False))
    assert alone[1].unique().numel() > 1
    assert torch.equal(alone[1], watched[1])
    log = Log()
    log.append(torch.arange(2), None, {}, step=0)
    assert log.rows()["losses"].tolist() == [0, 0]
    log.append(torch.arange(3), torch.ones(3), {}, step=1)
    assert log.rows()["losses"].tolist() == [0, 0, 1, 1, 1]
    assert log.bytes == 12 * 5
    log.to(torch.device("cpu"))
    assert log.rows()["losses"].tolist() == [0, 0, 1, 1, 1]


def test_a_method_that_reads_what_it_said_it_would_not_finds_nothing() -> None:
    class Reads(gr.DIHCL):
        def observe(self, batch: gr.Batch, run: gr.Run) -> None:
            super().observe(batch, run)
            found.append(batch.losses)

    found: list[torch.Tensor] = []
    for reads in (False, True):
        method = Reads("flip", normalize=False)
        method.reads_losses = reads
        curriculum = gr.Curriculum(method, seed=0)
        for index in curriculum.loader(range(4), batch_size=4):
            logits = torch.zeros(4, 2)
            curriculum(torch.ones(4), logits=logits, targets=index % 2)
    assert found[0].isnan().all()
    assert found[1].tolist() == [1] * 4


@pytest.mark.parametrize("hardness", ["loss", "loss_change"])
def test_losses_that_one_method_reads_are_kept_beside_those_that_read_none(hardness: Any) -> None:
    method = gr.DIHCL(hardness, normalize=False)
    curriculum = gr.Curriculum(
        gr.DoCL(batch_mul=1), method, gr.DIHCL("flip"), learning_rate=lambda: 1.0
    )
    for number, index in enumerate(curriculum.loader(range(4), batch_size=2)):
        logits, targets = torch.randn(2, 3), index % 3
        curriculum(curriculum.criterion(logits, targets), logits=logits, targets=targets)
        assert (curriculum.epochs.log.rows()["losses"] > 0).all() if not number else True


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_losses_that_decide_what_is_skipped_are_kept(nonfinite: Any) -> None:
    curriculum = gr.Curriculum(gr.DIHCL("flip", normalize=False), seed=0, nonfinite=nonfinite)
    loader = curriculum.loader(range(4), batch_size=4)
    for epoch, bad in enumerate((1.0, float("nan") if nonfinite == "skip" else 1.0)):
        for index in loader:
            logits = torch.tensor([[1.0, 0.0]]).repeat(4, 1) * (1 - 2 * epoch)  # all flip
            losses = torch.where(index == 2, bad, 1.0)
            curriculum(losses, logits=logits, targets=torch.zeros(4, dtype=torch.int64))
    visits = curriculum.scores()["DIHCL.visits"].tolist()
    assert visits == ([1, 1, 0, 1] if nonfinite == "skip" else [1, 1, 1, 1])


@pytest.mark.parametrize("rates", [[0.1, 0.1, 0.1], [0.1, 0.2, 0.1], [0.0, 0.0, 0.0]])
def test_the_log_spreads_constant_and_changing_rates_alike(rates: list[float]) -> None:
    log, rows = Log(), (2, 1, 3)
    for step, (rate, size) in enumerate(zip(rates, rows, strict=True)):
        index = torch.arange(size)
        log.append(index, index.float(), {}, step=step, now=Moment(rate, rate, step * rate))
    found = log.rows()
    wide = [rate for rate, size in zip(rates, rows, strict=True) for _ in range(size)]
    assert found["learning_rate"].tolist() == found["previous_rate"].tolist() == wide
    assert found["step"].tolist() == [0, 0, 1, 2, 2, 2]
    assert found["clock"].tolist() == [
        step * rate for step, rate in enumerate(rates) for _ in range(rows[step])
    ]
    assert found["clock"].dtype == torch.float64


def test_residuals_are_the_same_with_and_without_a_graph() -> None:
    """Eq. 12: onehot(y) - p."""
    logits, targets = torch.randn(50, 7) * 20, torch.arange(50) % 7
    given = logits.clone()
    plain = dynamics.residuals(logits, targets)
    grown = dynamics.residuals(logits.clone().requires_grad_(), targets)
    assert torch.equal(plain, grown.detach())
    assert torch.equal(plain, F.one_hot(targets, 7) - logits.softmax(1))
    assert torch.equal(logits, given)


def test_another_kind_of_signals_is_checked_again() -> None:
    signals = OutputSignals("classification")

    def columns(logits: Any, targets: Any) -> dict[str, torch.Tensor]:
        batch = gr.Batch(torch.arange(2), torch.zeros(2), {"logits": logits, "targets": targets})
        return signals.columns(batch, 2, torch.float32)

    logits, labels = torch.randn(2, 3), torch.tensor([0, 2])
    for _ in range(2):
        assert columns(logits, labels)["logits"] is not None
    with pytest.raises(ValueError, match="logits must be of 3 values per sample"):
        columns(torch.randn(2, 4), labels)
    with pytest.raises(ValueError, match="targets must be labels"):
        columns(logits, torch.tensor([[0], [2]]))
    with pytest.raises(TypeError, match="targets must be a tensor"):
        columns(logits, [0, 2])
    assert columns(logits.half(), labels)["logits"].dtype == torch.float32


def test_negative_losses_are_refused_in_the_call_whether_or_not_the_mean_is_used() -> None:
    for method in (gr.DIHCL("loss"), gr.SPL("linear")):
        curriculum = gr.Curriculum(method, learning_rate=lambda: 1.0)
        loader = curriculum.loader(range(4), batch_size=2)
        iterator = iter(loader)
        next(iterator)
        curriculum(torch.tensor([1.0, 2.0]))
        next(iterator)
        if not method.nonnegative:
            continue
        with pytest.raises(ValueError, match="losses must be at least 0"):
            curriculum(torch.tensor([5.0, -0.5]))
        with pytest.raises(ValueError, match="losses must be finite"):
            curriculum(torch.tensor([5.0, float("inf")]))
        assert float(curriculum(torch.tensor([5.0, 1.0]))) >= 0


def data_parameters(change: str) -> torch.Tensor:
    """What two steps leave; ``change`` says what happens between criterion and call."""
    curriculum = gr.Curriculum(gr.DataParameters("both", decay=0.1), seed=0)
    loader = curriculum.loader(range(6), batch_size=3)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    for index in loader:
        z, y = logits[index].requires_grad_(), targets[index]
        losses = curriculum.criterion(z, y)
        if change == "copied":  # other tensors of the same values: calculated anew
            z, y = z.detach().clone().requires_grad_(), y.clone()
        elif change == "written":
            with torch.no_grad():
                z.mul_(2)
        curriculum(losses, logits=z, targets=y).backward()
    return curriculum.scores()["DataParameters.log_sigma"]


def test_what_the_criterion_calculated_is_used_for_the_rows_it_saw_alone() -> None:
    seen, anew = data_parameters("same"), data_parameters("copied")
    torch.testing.assert_close(seen, anew)
    assert not torch.allclose(data_parameters("written"), seen)
    assert torch.equal(seen, data_parameters("same"))


@pytest.mark.parametrize("wrong", [-100, -1, 4])
def test_ignored_classes_are_no_classes(wrong: int) -> None:
    for level in ("instance", "both"):
        curriculum = gr.Curriculum(gr.DataParameters(level), seed=0)
        next(iter(curriculum.loader(range(2), batch_size=2)))
        with pytest.raises(ValueError, match=r"targets must be class numbers in \[0, 4\)"):
            curriculum.criterion(torch.randn(2, 4), torch.tensor([0, wrong]))
