import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn

import gradatim as gr
from gradatim.compare import training as training_module
from gradatim.compare.budget import Budget
from gradatim.compare.curricula import CURRICULA, Context, build, check_all
from gradatim.compare.data import Samples, Source, Stress, load, make_task
from gradatim.compare.models import perceptron
from gradatim.compare.objectives import Objective
from gradatim.compare.settings import Training
from gradatim.compare.specs import parse_curricula
from gradatim.compare.training import predict, train

TASK = make_task(load(Source()), Stress(label_noise=0.3), seed=0)
CPU = torch.device("cpu")


def accuracy(outputs, targets):
    return float((outputs.argmax(1) == targets).double().mean())


def run(method=None, *, model=None, task=TASK, score=accuracy, seed=0, **options):
    budget = Budget(options.pop("budget", "steps"), options.pop("amount", 20))
    prepared = options.pop("prepared", 0.0)
    options = {"learning_rate": 0.1, "evaluations": 5, **options}
    model = perceptron(64, 10, seed=0) if model is None else model
    done = train(
        Fabric(accelerator="cpu", devices=1),
        model,
        method or gr.Uniform(),
        task.training,
        task.validation,
        Training(budget, **options),
        objective=Objective("classification"),
        score=score,
        seed=seed,
        prepared=prepared,
    )
    return done, model


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


# ---------------------------------------------------------------- the budget audit


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("importance_sampling", 3),
        ("rho_loss", 10),
        ("selective_backprop", 2),
        ("selective_backprop(beta=2)", 3),
        ("ohem", 1),
    ],
)
def test_candidates_are_scored_and_counted(name, candidates):
    """16 of each 16 x candidates rows are trained on; all that were scored count as forward."""
    model = perceptron(64, 10, seed=0)
    counter = Counter(model)
    context = Context(TASK.training, seed=0, budget_epochs=4)
    (spec,) = check_all(parse_curricula(name))
    done, _ = run(build(spec, context), model=model, batch_size=16, budget="samples", amount=3000)
    scored = 16 * candidates * (candidates > 1)
    assert done.steps == math.ceil(3000 / (16 + scored))
    assert done.samples["backward"] == counter.backward == done.steps * 16
    assert done.samples["forward"] == done.steps * (16 + scored)
    assert done.samples["forward"] + done.samples["evaluation"] == counter.forward
    assert done.curve["validation_score"][-1] > 0.2  # ten classes


def test_what_is_trained_on_is_what_the_method_took():
    class Last(gr.Method):
        def select(self, batch, k, run):
            assert batch.size == 2 * k  # where a method does not say how many
            return torch.arange(batch.size - k, batch.size)

    seen = []
    model = perceptron(64, 10, seed=0)
    model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
    run(Last(), model=model, batch_size=16, amount=3, evaluations=1)
    for scored, trained in zip(seen[0:6:2], seen[1:6:2], strict=True):
        assert torch.equal(scored[16:], trained)


@pytest.mark.parametrize("name", [*CURRICULA, "info_batch"])
@pytest.mark.parametrize(
    ("budget", "amount"), [("steps", 64), ("samples", 6000), ("epochs", 4), ("seconds", 0.05)]
)
def test_counts_equal_the_models_own_hooks(name, budget, amount):
    """The audit: forward and backward rows in the results are those that went through the model."""
    model = perceptron(64, 10, seed=0)
    counter = Counter(model)
    context = Context(TASK.training, seed=0, budget_epochs=4, budget=budget)
    (spec,) = check_all(parse_curricula(name))
    done, _ = run(build(spec, context), model=model, budget=budget, amount=amount)
    assert counter.passes == done.steps
    assert done.samples["backward"] == done.samples["forward"] == counter.backward
    assert counter.backward == done.steps * 64
    seen = done.samples["forward"] + done.samples["survey"] + done.samples["evaluation"]
    assert seen == counter.forward
    surveys = done.samples["survey"] / 1078
    assert surveys == int(surveys)
    if budget == "steps":
        assert done.steps == 64
        assert done.curve["steps"] == [13, 26, 39, 52, 64]
        assert done.samples["evaluation"] == 5 * 359
        assert (surveys > 0) == (name in ("spl", "spld"))
    elif budget == "samples":
        used = done.samples["forward"] + done.samples["survey"]
        assert 6000 <= used < 6000 + 64 + 1078  # it ends with the step that spends the rest
        assert done.curve["samples"][-1] == used
    elif budget == "epochs":
        assert len(done.epochs) == 4
        sizes = [epoch["samples"] // 64 for epoch in done.epochs]
        assert done.steps == sum(sizes)
    else:
        used = sum(value for part, value in done.seconds.items() if part != "evaluation")
        assert used < 5
        # The whole, rounded once; the sum of rounded parts may come out below it.
        assert done.curve["seconds"][-1] >= 0.05
        assert done.curve["seconds"][-1] == pytest.approx(used, abs=0.01)


@pytest.mark.parametrize(
    ("budget", "amount"), [("epochs", 16), ("samples", 16 * 1078), ("steps", 16 * 1078 // 64)]
)
def test_pruning_ends_within_the_budget_and_leaves_whole_epochs_for_its_end(budget, amount):
    """InfoBatch of 16 epochs. Counted in its own, the first and the last two are whole.

    Otherwise its epochs are shorter: the plan is for 16 / (1 - .875 / 4) = 20, of which 17 are
    pruned, and the budget ends with more than an eighth of it in whole ones, but less than a half.
    """
    context = Context(TASK.training, seed=0, budget_epochs=16, budget=budget)
    (spec,) = check_all(parse_curricula("info_batch"))
    (method,) = build(spec, context)
    assert method.planned_epochs == (16 if budget == "epochs" else 20)
    done, _ = run(method, budget=budget, amount=amount)
    sizes = [epoch["samples"] for epoch in done.epochs]
    first, last = sizes[0], method.planned_epochs * 7 // 8
    last += budget != "epochs"  # 17.5
    assert all(size < 0.9 * first for size in sizes[1:last])
    assert len(sizes) > last
    assert set(sizes[last:]) == {first}
    trained = done.samples["backward"]
    if budget == "epochs":
        assert len(sizes) == 16
        assert trained < 0.8 * 16 * 1078
    else:
        whole = trained - 64 * sum(size // 64 for size in sizes[:last])
        assert 1 / 8 < whole / trained < 1 / 2


@given(st.integers(1, 60), st.integers(1, 25))
@settings(max_examples=15, deadline=None)
def test_evaluations_are_spread_evenly_and_end_with_the_budget(steps, evaluations):
    task = make_task(load(Source("iris")), Stress(), seed=0)
    done, _ = run(
        model=perceptron(4, 3, seed=0), task=task, amount=steps, evaluations=evaluations,
        batch_size=8,
    )  # fmt: skip
    due = done.curve["steps"]
    assert due[-1] == done.steps == steps
    assert len(set(due)) == len(due) == min(steps, evaluations)
    gaps = np.diff([0, *due])
    assert gaps.max() - gaps.min() <= 1


def test_seconds_pay_for_preparation_too():
    done, _ = run(budget="seconds", amount=1000, prepared=999.999)
    assert done.steps < 100


def test_diversity_is_told_from_the_rest_of_selection():
    class Diverse(gr.Method):
        def plan(self, pool, run):
            features = TASK.training.features[pool.index]
            kept = gr.selection.facility_location(features, 512, generator=run.generator("kept"))
            return pool.keep(kept)

    done, _ = run(Diverse(), amount=16)
    assert done.seconds["diversity"] > 0.01  # 512 greedy steps, twice
    assert 0 <= done.seconds["selection"] < done.seconds["diversity"]


def test_seconds_name_where_they_went():
    method = gr.SPL(survey_every_epochs=1, pace=gr.pacing.Linear(start_fraction=0.5, epochs=4))
    done, _ = run(method, amount=60)
    assert set(done.seconds) == {
        "data", "selection", "forward", "backward", "survey", "evaluation",
    }  # fmt: skip
    assert all(value > 0 for value in done.seconds.values())
    assert done.curve["seconds"] == sorted(done.curve["seconds"])


def test_an_epoch_that_fills_no_batch_is_named():
    with pytest.raises(RuntimeError, match="epoch 0 has fewer than 600 samples"):
        run(gr.PacedRandom(pace=gr.pacing.Linear(start_fraction=0.5, epochs=9)), batch_size=600)


# ---------------------------------------------------------------- learning rates


def rates(**options):
    seen = []

    class Watching(gr.Method):
        wants = ("learning_rate",)

        def weigh(self, batch, run):
            seen.append(batch.learning_rate)

    done, _ = run(Watching(), learning_rate=1.0, **options)
    return done, seen


def test_the_cosine_covers_the_budget_whatever_it_is_made_of():
    _, steps = rates(amount=20)
    expected = [0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert steps == pytest.approx(expected)
    _, samples = rates(budget="samples", amount=20 * 64)
    assert samples == pytest.approx(expected)
    _, epochs = rates(budget="epochs", amount=2)
    assert epochs == pytest.approx([0.5 * (1 + math.cos(math.pi * s / 32)) for s in range(32)])


def test_constant_is_constant():
    assert rates(amount=10, regime="constant")[1] == [1.0] * 10
    # A hundredth after the whole budget: a factor of .01^(1/10) from step to step.
    falling = rates(amount=10, regime="exponential")[1]
    assert falling == pytest.approx([0.01 ** (step / 10) for step in range(10)])


def test_the_plateau_divides_by_ten_twice_and_then_stops():
    """Validation never improves after the first look, so patience runs out every 2 evaluations."""
    done, seen = rates(
        amount=100, evaluations=50, patience=2, regime="plateau", score=lambda outputs, targets: 0.5
    )
    # The loss falls, so a tie in score is broken by it: give it no better loss to find.
    assert done.steps <= 100
    values = sorted(set(seen), reverse=True)
    assert values == pytest.approx([1.0, 0.1, 0.01][: len(values)])


def test_the_plateau_by_hand(monkeypatch):
    script = iter([(0.5, 1.0), (0.6, 1.0), *[(0.6, 1.0)] * 50])
    monkeypatch.setattr(
        training_module, "predict", lambda *arguments: (torch.tensor(0.0), next(losses))
    )
    scores, losses = [], iter([1.0] * 60)

    def score(outputs, targets):
        scores.append(next(script)[0])
        return scores[-1]

    done, seen = rates(amount=100, evaluations=50, patience=2, regime="plateau", score=score)
    # A look every 2 steps: best at 4, a tenth from 8 on, a hundredth from 12 on, the end at 16.
    assert seen == pytest.approx([1.0] * 8 + [0.1] * 4 + [0.01] * 4)
    assert done.steps == 16
    assert done.stopped_early
    assert done.checkpoint_step == 4


# ---------------------------------------------------------------- the checkpoint


def test_the_checkpoint_is_the_best_on_validation_and_is_what_is_left():
    done, model = run(amount=400, learning_rate=0.3, evaluations=20, seed=3)
    curve = done.curve
    best = max(curve["validation_score"])
    ties = [k for k, value in enumerate(curve["validation_score"]) if value == best]
    chosen = min(ties, key=lambda k: curve["validation_loss"][k])
    assert done.checkpoint_step == curve["steps"][chosen]
    assert done.checkpoint_step < 400  # it learns flipped labels by heart later on
    outputs, loss = predict(model, TASK.validation, Objective("classification"), CPU)
    assert accuracy(outputs, TASK.validation.labels) == best
    assert loss == pytest.approx(curve["validation_loss"][chosen])


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_step(monkeypatch):
    script = iter([(0.5, 0.1), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (0.8, 0.2)])

    def scripted(*arguments):
        score, loss = next(script)
        return torch.tensor(score), loss

    monkeypatch.setattr(training_module, "predict", scripted)
    done, _ = run(amount=10, score=lambda outputs, targets: float(outputs))
    assert done.curve["steps"] == [2, 4, 6, 8, 10]
    assert done.checkpoint_step == 6


def test_uniform_is_plain_training():
    """Losses, rates and order are those of a loop without any of this."""
    _, model = run(amount=20, evaluations=1, seed=5)
    plain = perceptron(64, 10, seed=0)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9, nesterov=True)
    curriculum = gr.Curriculum(seed=5)
    loader = curriculum.loader(TASK.training, batch_size=64, drop_last=True)
    step = 0
    while step < 20:
        for x, y in loader:
            curriculum.skip()
            optimizer.param_groups[0]["lr"] = 0.1 * (0.5 * (1 + math.cos(math.pi * step / 20)))
            nn.functional.cross_entropy(plain(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == 20:
                break
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_prediction_leaves_the_model_in_its_mode():
    model = nn.Sequential(nn.Dropout(0.9), perceptron(64, 10, seed=0)).train()
    state = torch.get_rng_state()
    one, two = (predict(model, TASK.validation, Objective("classification"), CPU) for _ in "ab")
    assert torch.equal(one[0], two[0])
    assert one[1] == two[1]
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    predict(model.eval(), TASK.validation, Objective("classification"), CPU)
    assert not model.training


def test_many_batches_predict_as_one(monkeypatch):
    model = perceptron(64, 10, seed=0)
    whole = predict(model, TASK.validation, Objective("classification"), CPU)
    monkeypatch.setattr(training_module, "EVALUATION_BATCH", 50)
    parts = predict(model, TASK.validation, Objective("classification"), CPU)
    torch.testing.assert_close(whole[0], parts[0])
    assert whole[1] == pytest.approx(parts[1])


def test_both_optimizers_learn():
    samples = Samples(torch.eye(4).repeat(16, 1), torch.arange(4).repeat(16))
    for optimizer in ("sgd", "adamw"):
        model = nn.Linear(4, 4)
        made = Training(Budget("steps", 1), optimizer=optimizer, learning_rate=0.1)
        step = made.make_optimizer(model)
        for _ in range(50):
            nn.functional.cross_entropy(model(samples.features), samples.labels).backward()
            step.step()
            step.zero_grad()
        assert accuracy(model(samples.features), samples.labels) == 1.0


@pytest.mark.parametrize("budget", [6, 20, 30])
def test_paces_show_everything_when_half_of_the_budget_is_spent(budget):
    pace = Context(TASK.training, seed=0, budget_epochs=budget).pace()
    shown = [pace(epoch) for epoch in range(budget)]
    spent = sum(fraction for fraction in shown if fraction < 1)
    assert spent == pytest.approx(budget / 2, abs=1)
    assert shown[0] == 0.5


# ---------------------------------------------------------------- methods that shape the model


class Scaling(gr.Method):
    """Multiplies the model's outputs by a number that grows from epoch to epoch."""

    shapes_model = True

    def __init__(self):
        self.factor, self.hook = 1.0, None

    def attach(self, model, optimizer):
        self.hook = model.register_forward_hook(lambda module, inputs, out: out * self.factor)

    def detach(self):
        self.hook.remove()

    def start_epoch(self, run):
        self.factor = 1.0 + run.epoch

    def state_dict(self):
        return {"factor": self.factor}

    def load_state_dict(self, state):
        self.factor = state["factor"]


def test_a_checkpoint_is_judged_with_what_methods_did_to_the_model_then():
    seen = []

    def worse_each_time(outputs, targets):
        seen.append(outputs)
        return -float(len(seen))

    method = Scaling()
    done, model = run(method, score=worse_each_time, budget="epochs", amount=4, evaluations=4)
    assert len(seen) == 4
    assert done.checkpoint_step == done.curve["steps"][0]
    assert method.factor == 1.0
    now, _ = predict(model, TASK.validation, Objective("classification"), CPU)
    assert torch.equal(now, seen[0])


def test_methods_that_shape_nothing_are_detached_at_the_end():
    class Watching(Scaling):
        shapes_model = False
        removed = False

        def attach(self, model, optimizer):
            pass

        def detach(self):
            self.removed = True

    method = Watching()
    run(method)
    assert method.removed


def test_several_methods_train_together():
    scaling, paced = Scaling(), gr.PacedRandom(pace=gr.pacing.Linear(start_fraction=0.5, epochs=4))
    done, _ = run((scaling, paced), budget="epochs", amount=3)
    assert done.epochs[0]["samples"] < len(TASK.training)
    assert scaling.factor > 1
