import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradatim as gr
from gradatim.compare import cells as cells_module
from gradatim.compare import training as training_module
from gradatim.compare.cells import run_cell
from gradatim.compare.curricula import CURRICULA, Context
from gradatim.compare.data import digits
from gradatim.compare.models import perceptron
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.training import evaluate, evaluation_steps, train

PLAN = Plan(seeds=2, epochs=4, evaluations=5)


def without_times(result):
    return {name: value for name, value in result.items() if name != "seconds"}


class Counter:
    """Counts rows through a model by its own hooks."""

    def __init__(self, model):
        self.forward = self.backward = self.passes = 0
        model.register_forward_hook(self._forward)
        model[-1].register_full_backward_hook(self._backward)

    def _forward(self, module, inputs, output):
        self.forward += len(output)

    def _backward(self, module, grad_input, grad_output):
        self.backward += len(grad_output[0])
        self.passes += 1


@pytest.mark.parametrize("name", CURRICULA)
def test_every_curriculum_takes_the_same_budget_and_counts_it_right(name):
    task = digits("noisy", seed=0)
    model = perceptron(64, 10, seed=0)
    counter = Counter(model)
    method = CURRICULA[name].build(Context(task.training, seed=0, budget_epochs=4))
    done = train(
        model,
        method,
        task.training,
        task.validation,
        steps=64,
        batch_size=64,
        learning_rate=0.1,
        evaluations=5,
        seed=0,
    )
    assert counter.passes == 64
    assert done.samples["backward"] == done.samples["forward"] == counter.backward == 64 * 64
    seen = done.samples["forward"] + done.samples["survey"] + done.samples["evaluation"]
    assert seen == counter.forward
    assert done.samples["evaluation"] == 5 * 359
    assert done.curve["steps"] == [13, 26, 39, 52, 64]
    surveys = done.samples["survey"] / 1078
    assert surveys == int(surveys)
    assert (surveys > 0) == (name in ("spl", "spld"))


@pytest.mark.parametrize("name", CURRICULA)
def test_recorded_epochs_fill_the_budget(name):
    result = run_cell(PLAN, Cell("clean", name, 0))
    starts = [epoch["first_step"] for epoch in result["epochs"]]
    sizes = [epoch["samples"] for epoch in result["epochs"]]
    lengths = np.diff([*starts, result["steps"]])
    assert result["steps"] == 4 * 16
    assert starts[0] == 0
    # Each epoch but the last, which the budget may cut, is as long as its subset says.
    assert (lengths[:-1] * PLAN.batch_size == sizes[:-1]).all()
    assert lengths[-1] * PLAN.batch_size <= sizes[-1]


def test_controls_and_curricula_share_their_subset_sizes():
    sizes = {name: run_cell(PLAN, Cell("clean", name, 0))["epochs"] for name in CURRICULA}
    assert sizes["paced_random"] == sizes["predefined"] == sizes["anti"]
    assert sizes["spl"] == sizes["spld"]
    # After one epoch of plain training the self-paced ones follow the same pace.
    paced = [epoch["samples"] for epoch in sizes["paced_random"]]
    own = [epoch["samples"] for epoch in sizes["spl"]]
    assert own[0] == 1024
    assert own[1:4] == paced[:3]
    assert sizes["uniform"] == [{"first_step": 16 * k, "samples": 1024} for k in range(4)]
    assert sizes["uniform"] == sizes["super_loss"]


@pytest.mark.parametrize("budget", [6, 20, 30])
def test_paces_show_everything_when_half_of_the_budget_is_spent(budget):
    samples = digits("clean", seed=0).training
    pace = Context(samples, seed=0, budget_epochs=budget).pace()
    shown = [pace(epoch) for epoch in range(budget)]
    spent = sum(fraction for fraction in shown if fraction < 1)
    assert spent == pytest.approx(budget / 2, abs=1)
    assert shown[0] == 0.5


@pytest.mark.parametrize("name", CURRICULA)
def test_a_cell_depends_on_the_plan_and_the_cell_alone(name):
    state = torch.get_rng_state()
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    py_state = random.getstate()
    threads = torch.get_num_threads()
    plan = Plan(seeds=2, epochs=1)
    one = run_cell(plan, Cell("noisy", name, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
    assert random.getstate() == py_state
    assert torch.get_num_threads() == threads
    again, other = (run_cell(plan, Cell("noisy", name, seed)) for seed in (1, 0))
    assert without_times(one) == without_times(again)
    assert one["curve"] != other["curve"]


def test_all_curricula_of_a_seed_start_from_the_same_weights(monkeypatch):
    starts = []

    def record(model, *arguments, **options):
        starts.append([parameter.clone() for parameter in model.parameters()])
        return train(model, *arguments, **options)

    monkeypatch.setattr(cells_module, "train", record)
    plan = Plan(seeds=2, epochs=1)
    for name in ("uniform", "spl", "super_loss"):
        run_cell(plan, Cell("noisy", name, 1))
    assert len(starts) == 3
    for other in starts[1:]:
        assert all(torch.equal(a, b) for a, b in zip(starts[0], other, strict=True))


def test_the_test_set_is_opened_once_and_after_training(monkeypatch):
    opened = []

    def record(model, samples):
        opened.append(len(samples))
        return evaluate(model, samples)

    monkeypatch.setattr(cells_module, "evaluate", record)
    monkeypatch.setattr(training_module, "evaluate", record)
    run_cell(Plan(seeds=2, epochs=2, evaluations=4), Cell("clean", "uniform", 0))
    assert opened == [359] * 4 + [360]


def test_the_checkpoint_is_the_best_on_validation_and_is_what_is_tested():
    task = digits("noisy", seed=3)
    model = perceptron(64, 10, seed=3)
    done = train(
        model,
        gr.Uniform(),
        task.training,
        task.validation,
        steps=400,
        batch_size=64,
        learning_rate=0.3,
        evaluations=20,
        seed=3,
    )
    best = max(done.curve["validation_accuracy"])
    ties = [k for k, value in enumerate(done.curve["validation_accuracy"]) if value == best]
    chosen = min(ties, key=lambda k: done.curve["validation_loss"][k])
    assert done.checkpoint_step == done.curve["steps"][chosen]
    assert done.checkpoint_step < 400  # it learns flipped labels by heart later on
    accuracy, loss, _ = evaluate(model, task.validation)
    assert accuracy == best
    assert loss == pytest.approx(done.curve["validation_loss"][chosen])


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_step(monkeypatch):
    script = iter([(0.5, 0.1), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (0.8, 0.2)])
    monkeypatch.setattr(training_module, "evaluate", lambda model, samples: (*next(script), None))
    task = digits("clean", seed=0)
    done = train(
        perceptron(64, 10, seed=0),
        gr.Uniform(),
        task.training,
        task.validation,
        steps=10,
        batch_size=64,
        learning_rate=0.1,
        evaluations=5,
        seed=0,
    )
    assert done.curve["steps"] == [2, 4, 6, 8, 10]
    assert done.checkpoint_step == 6


def test_uniform_is_plain_training():
    task = digits("clean", seed=0)
    model = perceptron(64, 10, seed=0)
    train(
        model,
        gr.Uniform(),
        task.training,
        task.validation,
        steps=20,
        batch_size=64,
        learning_rate=0.1,
        evaluations=1,
        seed=5,
    )
    plain = perceptron(64, 10, seed=0)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9, nesterov=True)
    curriculum = gr.Curriculum(seed=5)
    loader = curriculum.loader(task.training, batch_size=64, drop_last=True)
    step = 0
    while step < 20:
        for x, y in loader:
            curriculum.skip()
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * step / 20))
            torch.nn.functional.cross_entropy(plain(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == 20:
                break
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # two ways to compute a cosine


@given(st.integers(1, 500), st.integers(1, 40))
def test_evaluations_are_spread_evenly_and_end_with_the_budget(steps, evaluations):
    due = evaluation_steps(steps, evaluations)
    assert due[-1] == steps
    assert len(set(due)) == len(due) == min(steps, evaluations)
    assert due == sorted(due)
    assert due[0] >= 1
    gaps = np.diff([0, *due])
    assert gaps.max() - gaps.min() <= 1


def test_evaluation_leaves_the_model_in_its_mode():
    samples = digits("clean", seed=0).validation
    model = torch.nn.Sequential(torch.nn.Dropout(0.9), perceptron(64, 10, seed=0)).train()
    state = torch.get_rng_state()
    one, two = evaluate(model, samples), evaluate(model, samples)
    assert one[:2] == two[:2]
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert evaluate(model.eval(), samples)[1] == one[1]
    assert not model.training


def test_accuracy_by_hand():
    result = run_cell(Plan(seeds=2, epochs=1), Cell("clean", "uniform", 0))
    pairs = zip(result["test_predictions"], result["test_labels"], strict=True)
    assert result["test_accuracy"] == sum(a == b for a, b in pairs) / 360
    truth = digits("clean", seed=0).test.labels.tolist()
    assert result["test_labels"] == truth
