"""The three baselines of DoCL's section 3 (Algorithm 2 of its appendix) against numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.dynamics.outputs import squared_error
from gradatim.methods.docl_baselines import DoCLBaseline


class Experiment:
    """A linear model without bias, trained through a curriculum; everything it saw is kept."""

    def __init__(
        self, method: DoCLBaseline, x: torch.Tensor, y: torch.Tensor, rate: float = 1e-3
    ) -> None:
        self.x, self.y, self.rate = x, y, rate
        self.model = nn.Linear(x.shape[1], int(y.max()) + 1, bias=False, dtype=x.dtype)
        nn.init.zeros_(self.model.weight)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate)
        self.curriculum = gr.Curriculum(method, seed=1)
        self.loader = self.curriculum.loader(range(len(y)), batch_size=4)
        self.curriculum.attach(self.model, self.optimizer)
        self.outputs: list[torch.Tensor] = []  # of all samples, at each survey
        self.batches: list[list[torch.Tensor]] = []  # of each epoch

    def survey(self) -> None:
        def forward(index: torch.Tensor) -> dict[str, Any]:
            logits = self.model(self.x[index])
            return {
                "losses": self.losses(logits, index),
                "logits": logits,
                "targets": self.y[index],
            }

        self.curriculum.survey(range(len(self.y)), forward)
        self.outputs.append(self.model(self.x).detach())

    def losses(self, logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, self.y[index], reduction="none")

    def epoch(self) -> None:
        self.batches.append([])
        for index in self.loader:
            logits = self.model(self.x[index])
            losses = self.curriculum.criterion(logits, self.y[index])
            self.curriculum(losses, logits=logits, targets=self.y[index]).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.batches[-1].append(index)

    def table(self, name: str) -> torch.Tensor:
        return self.curriculum.scores()[f"DoCLBaseline.{name}"]


X = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])


def test_algorithm_2_two_samples_by_hand() -> None:
    experiment = Experiment(DoCLBaseline(2), X, Y)
    experiment.survey()
    assert experiment.table("score").isnan().all()
    assert experiment.table("true_probability").tolist() == [0.5, 0.5]
    experiment.epoch()
    experiment.survey()
    # The flow of 1/2 ||onehot - p||^2 gives 0 and 1/4 (Eq. 12); a mean over two halves that.
    assert experiment.table("score").tolist() == pytest.approx([0.0, 0.125], abs=1e-3)
    assert experiment.table("objective").isnan().all()
    experiment.epoch()
    assert torch.cat(experiment.batches[1]).tolist() == [1]  # n / 5, at least 1: the higher score
    experiment.survey()
    # Cross-entropy on sample 1 alone: df/dt = (-.5, .5) <x, x_1>, dp/dt = (f - mean f) / 2, so
    # (-.25, .25) of sample 0 against its residual (.5, -.5), and (-.5, .5) along (-.5, .5) of 1.
    assert experiment.table("objective").tolist() == pytest.approx([-0.25, 0.5], abs=1e-3)
    assert experiment.table("score").tolist() == pytest.approx([0.0, 0.125], abs=1e-3)


def test_eq_8_and_eq_10_agree_with_loops_over_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (30,), generator=generator)
    experiment = Experiment(DoCLBaseline(1, flow_size=12, episodes=(1, 2), gamma=0.7), x, y, 0.2)
    average: dict[int, float] = {}
    for epoch in range(8):
        experiment.survey()
        if epoch == 0:
            experiment.epoch()
            continue
        before, now = experiment.outputs[-2:]
        elapsed = 0.2 * len(experiment.batches[-1])
        for i in range(30):
            p, q = now[i].softmax(0), before[i].softmax(0)
            residual = [float(c == y[i]) - float(p[c]) for c in range(3)]
            rates = (now[i] - before[i]) if epoch % 2 else (p - q)
            a = sum(r * float(d) / elapsed for r, d in zip(residual, rates, strict=True))
            if epoch % 2:
                average[i] = 0.7 * average[i] + 0.3 * a if i in average else a
            else:
                assert float(experiment.table("objective")[i]) == pytest.approx(a, abs=1e-4)
            assert float(experiment.table("score")[i]) == pytest.approx(average[i], abs=1e-4)
            assert float(experiment.table("true_probability")[i]) == pytest.approx(float(p[y[i]]))
        experiment.epoch()
    chosen = [torch.cat(batches).sort().values for batches in experiment.batches]
    assert [part.numel() for part in chosen] == [12, 6] * 4
    assert not chosen[0].equal(chosen[2])  # another D in each round


@pytest.mark.parametrize(
    ("which", "highest"),
    [(1, [True, True, False, True, False, True]), (2, [True] * 6), (3, [False] * 6)],
)
def test_baselines_take_the_highest_or_the_lowest_scores_by_episode(
    which: int, highest: list[bool]
) -> None:
    # Episodes of rounds: [0, 2), [2, 3), [3, 4), and so on in ones.
    method = DoCLBaseline(which, episodes=(2, 3))
    run = gr.Run(size=10, seed=0)
    method.setup(run)
    method.scores.allocate(10).write(torch.arange(10), torch.arange(10.0))
    assert [method.takes_highest(epoch) for epoch in range(1, 12, 2)] == highest
    for epoch in range(1, 12, 2):
        run.epoch = epoch
        method.load_state_dict({"surveyed_epoch": epoch})
        plan = method.plan(gr.Pool(torch.arange(10)), run)
        assert plan.index.tolist() == ([8, 9] if highest[epoch // 2] else [0, 1])


def test_the_flow_is_one_large_batch_of_a_uniform_draw_on_the_squared_error() -> None:
    method = DoCLBaseline(flow_size=20, batch_mul=5)
    experiment = Experiment(method, torch.randn(40, 2), torch.arange(40) % 2)
    for epoch in range(4):
        run = experiment.curriculum.run
        logits, targets = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
        losses = method.criterion(logits, targets, run)
        assert method.replaces_criterion(run) is (epoch % 2 == 0)
        if epoch % 2:
            assert losses is None
        else:
            assert losses is not None
            assert losses.equal(squared_error(logits, targets))
        experiment.survey()
        experiment.epoch()
    sizes = [[len(index) for index in batches] for batches in experiment.batches]
    assert sizes == [[20], [4, 4], [20], [4, 4]]
    assert DoCLBaseline().planned_size(50_000, 0) == 2048
    assert DoCLBaseline().planned_size(50_000, 1) == 10_000


def test_every_epoch_needs_its_survey() -> None:
    experiment = Experiment(DoCLBaseline(), X, Y)
    for _ in range(2):
        assert experiment.curriculum.survey_due
        with pytest.raises(RuntimeError, match="survey must run before epoch"):
            experiment.epoch()
        experiment.survey()
        assert not experiment.curriculum.survey_due
        experiment.epoch()


def test_a_second_survey_before_the_same_epoch_changes_nothing() -> None:
    experiment = Experiment(DoCLBaseline(), X, Y)
    for _ in range(3):
        experiment.survey()
        before = experiment.curriculum.scores()
        experiment.survey()
        for name, values in experiment.curriculum.scores().items():
            assert torch.equal(values.nan_to_num(nan=-7.0), before[name].nan_to_num(nan=-7.0))
        experiment.epoch()


def test_what_is_trained_on_is_not_observed() -> None:
    experiment = Experiment(DoCLBaseline(), X, Y)
    experiment.survey()
    before = experiment.table("true_probability")
    experiment.epoch()
    assert experiment.table("true_probability").equal(before)
    assert experiment.table("score").isnan().all()


def test_a_flow_without_a_rate_gives_no_score() -> None:
    experiment = Experiment(DoCLBaseline(2, fraction=0.5), X, Y, rate=0.0)
    experiment.survey()
    experiment.epoch()
    experiment.survey()
    assert experiment.table("score").isnan().all()
    experiment.epoch()
    assert len(torch.cat(experiment.batches[1])) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DoCLBaseline(4), "which must be a whole number, at least 1 and at most 3"),
        (lambda: DoCLBaseline(flow_size=0), "flow_size must be"),
        (lambda: DoCLBaseline(fraction=0.0), "fraction must be"),
        (lambda: DoCLBaseline(episodes=(3, 2)), "episodes must be"),
    ],
)
def test_parameters_out_of_range_are_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_labels_out_of_range_are_refused_in_the_survey() -> None:
    experiment = Experiment(DoCLBaseline(), X, Y)
    experiment.survey()
    experiment.y = torch.tensor([0, 2])
    experiment.losses = lambda logits, index: torch.zeros(len(index))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"targets must be labels in \[0, 2\). Got 2"):
        experiment.survey()
    assert experiment.table("true_probability").tolist() == [0.5, 0.5]
