import random

import numpy as np
import pytest
import torch

import gradatim as gr
from gradatim.compare import catalogue
from gradatim.compare import cells as cells_module
from gradatim.compare import training as training_module
from gradatim.compare.cells import run_cell
from gradatim.compare.curricula import CURRICULA
from gradatim.compare.data import Source, Stress, load, make_task
from gradatim.compare.defaults import resolve
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.training import predict, train

PLAN, _ = resolve(Plan(seeds=2, epochs=4, evaluations=5))
SHORT, _ = resolve(Plan(seeds=2, epochs=1, evaluations=2))
NOISY = "noise-0.3"


def settled(result):
    """A result without what is measured by a clock."""
    kept = {name: value for name, value in result.items() if name != "seconds"}
    kept |= {name: kept[name].tolist() for name in cells_module.ARRAYS if name in kept}
    kept["curve"] = {name: v for name, v in result["curve"].items() if name != "seconds"}
    return kept


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


@pytest.mark.parametrize(
    ("name", "scored"),
    [
        ("importance_sampling", 3),
        ("loss_proportional", 0),
        ("rho_loss", 10),
        ("selective_backprop", 2),
        ("ohem", 0),
        ("info_batch", 0),
        ("data_parameters", 0),
    ],
)
def test_what_selects_prunes_or_learns_weights_is_listed_and_runs(name, scored):
    """Two epochs of each on a bundled set; scoring counts, and what is left out does not."""
    assert name in {entry.name for entry in catalogue.methods()}
    wanted = Plan("iris", curricula=[name], seeds=2, budget="epochs", epochs=2, evaluations=2)
    plan, _ = resolve(wanted)
    result = run_cell(plan, Cell("clean", name, 0))
    samples, size = result["samples"], plan.batch_size
    assert len(result["epochs"]) == 2
    assert samples["backward"] == size * result["steps"] > 0
    assert samples["forward"] == samples["backward"] * (1 + scored)
    assert result["curve"]["steps"][-1] == result["steps"]


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


@pytest.mark.parametrize("name", CURRICULA)
def test_a_cell_depends_on_the_plan_and_the_cell_alone(name):
    state = torch.get_rng_state()
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    py_state = random.getstate()
    threads = torch.get_num_threads()
    one = run_cell(SHORT, Cell(NOISY, name, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
    assert random.getstate() == py_state
    assert torch.get_num_threads() == threads
    again, other = (run_cell(SHORT, Cell(NOISY, name, seed)) for seed in (1, 0))
    assert settled(one) == settled(again)
    assert one["curve"] != other["curve"]


def test_all_curricula_of_a_seed_start_from_the_same_weights(monkeypatch):
    starts = []

    def record(fabric, model, *arguments, **options):
        starts.append([parameter.clone() for parameter in model.parameters()])
        return train(fabric, model, *arguments, **options)

    monkeypatch.setattr(cells_module, "train", record)
    for name in ("uniform", "spl", "super_loss"):
        run_cell(SHORT, Cell(NOISY, name, 1))
    assert len(starts) == 3
    for other in starts[1:]:
        assert all(torch.equal(a, b) for a, b in zip(starts[0], other, strict=True))


def test_the_test_set_is_opened_once_and_after_training(monkeypatch):
    opened = []

    def record(model, samples, *rest):
        opened.append(len(samples))
        return predict(model, samples, *rest)

    monkeypatch.setattr(cells_module, "predict", record)
    monkeypatch.setattr(training_module, "predict", record)
    run_cell(PLAN, Cell("clean", "uniform", 0))
    assert opened == [359] * 5 + [360]


def test_a_tuning_trial_never_opens_the_test_set(monkeypatch):
    monkeypatch.setattr(cells_module, "predict", pytest.fail)
    result = run_cell(SHORT, Cell("clean", "uniform", 0, trial=1), learning_rate=0.01)
    assert "scores" not in result
    assert result["learning_rate"] == 0.01


def test_scores_by_hand():
    result = run_cell(SHORT, Cell("clean", "uniform", 0))
    pairs = list(zip(result["test_predictions"], result["test_labels"], strict=True))
    assert result["scores"]["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / 360)
    assert result["items"].tolist() == [float(a == b) for a, b in pairs]
    truth = make_task(load(Source()), Stress(), seed=0).test.labels.tolist()
    assert result["test_labels"].tolist() == truth
    zeros = [a == b for a, b in pairs if b == 0]
    assert result["by_class"]["0"] == pytest.approx(sum(zeros) / len(zeros))
    assert result["by_frequency"] == {}  # digits are about equally frequent


def test_what_a_run_was_made_of_is_recorded():
    result = run_cell(SHORT, Cell(NOISY, "predefined", 0))
    assert result["corrupted_labels"] == 323
    assert result["sees"] == ["training labels, through a 5-fold teacher"]
    assert result["method"].startswith("Predefined(score=<(1078,) tensor ")
    assert result["learning_rate"] == 0.15
    assert result["seconds"]["preparation"] > 0
    assert not result["stopped_early"]


def test_regression_is_scored_in_its_own_units():
    plan, _ = resolve(
        Plan("diabetes", curricula="super_loss", seeds=2, epochs=30, metric="rmse", budget="epochs")
    )
    result = run_cell(plan, Cell("clean", "uniform", 0))
    assert 40 < result["scores"]["rmse"] < 77  # the targets' deviation is 77
    assert result["scores"]["r2"] > 0.2
    # Lower is better: the checkpoint has the lowest error, and curves hold errors.
    curve = result["curve"]["validation_score"]
    assert result["validation_score"] == min(curve)
    assert 30 < min(curve) < 100
    squares = [
        (found - wanted) ** 2
        for found, wanted in zip(result["test_predictions"], result["test_labels"], strict=True)
    ]
    assert result["scores"]["rmse"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-4)


@pytest.mark.parametrize("metric", ["mae", "spearman", "rmse", "r2"])
def test_validation_is_scored_as_the_test_part_is(metric):
    plan, _ = resolve(Plan("diabetes", curricula="super_loss", seeds=2, epochs=20, metric=metric))
    result = run_cell(plan, Cell("clean", "uniform", 0))
    assert result["validation_score"] == pytest.approx(result["scores"][metric], rel=0.35)


def test_a_trial_that_diverges_is_an_answer_and_a_judged_run_a_failure(tmp_path):
    plan, _ = resolve(Plan("diabetes", curricula="super_loss", seeds=2, optimizer="sgd", epochs=9))
    trial = run_cell(plan, Cell("clean", "uniform", 0, trial=1), learning_rate=1e6)
    assert (trial["learning_rate"], trial["validation_score"]) == (1e6, None)
    with pytest.raises(ValueError, match="finite"):
        run_cell(plan, Cell("clean", "uniform", 0), learning_rate=1e6)


def test_a_test_part_that_data_bring_along_is_shared_by_all_seeds(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    plan, _ = resolve(Plan(str(tmp_path / "d.npz"), seeds=2, epochs=1, limit=100))
    first, second = (run_cell(plan, Cell("clean", "uniform", seed)) for seed in (0, 1))
    assert first["shared_test"]
    assert (first["test_labels"] == second["test_labels"]).all()
    assert not run_cell(SHORT, Cell("clean", "uniform", 0))["shared_test"]


def test_several_labels_per_sample(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    y = (x[:, :3] > 0).astype(np.float32)
    np.savez(tmp_path / "labels.npz", x=x, y=y)
    plan, _ = resolve(Plan(str(tmp_path / "labels.npz"), seeds=2, epochs=30, task="multilabel"))
    assert plan.metric == "micro_f1"
    result = run_cell(plan, Cell("clean", "uniform", 0))
    assert result["scores"]["micro_f1"] > 0.9
    assert result["scores"]["hamming_loss"] < 0.1
    assert len(result["by_class"]) == 3


def test_images_go_through_the_convolutional_default(tmp_path):
    task = make_task(load(Source()), Stress(), seed=0)
    x = (task.training.features.reshape(-1, 8, 8) * 255).to(torch.uint8).numpy()
    np.savez(tmp_path / "images.npz", x=x, y=task.training.labels.numpy())
    plan, _ = resolve(Plan(str(tmp_path / "images.npz"), seeds=2, epochs=4, curricula="spl"))
    assert plan.optimizer == "sgd"
    assert run_cell(plan, Cell("clean", "spl", 0))["scores"]["accuracy"] > 0.5


def test_a_model_of_ones_own(monkeypatch):
    import sys
    import types

    module = types.ModuleType("mine")
    module.build = lambda shape, outputs: torch.nn.Linear(shape[0], outputs)
    module.Halve = type("Halve", (gr.Method,), {"weigh": lambda self, b, run: b.losses * 0 + 0.5})
    monkeypatch.setitem(sys.modules, "mine", module)
    plan, _ = resolve(SHORT.with_values(model="mine:build", curricula="mine:Halve"))
    result = run_cell(plan, Cell("clean", "mine:Halve", 0))
    assert result["method"] == "Halve()"
    assert result["scores"]["accuracy"] > 0.2


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_trains(precision):
    result = run_cell(SHORT.with_values(precision=precision), Cell("clean", "super_loss", 0))
    assert result["scores"]["accuracy"] > 0.3


def test_two_devices_equal_one():
    """Two processes on the CPU: the same batches, gradients averaged, one result."""
    one = run_cell(SHORT, Cell("clean", "spl", 0))
    two = run_cell(SHORT.with_values(devices=2), Cell("clean", "spl", 0))
    assert two["samples"]["forward"] == one["samples"]["forward"]
    assert two["epochs"] == one["epochs"]
    assert two["curve"]["validation_loss"] == pytest.approx(one["curve"]["validation_loss"], 1e-4)
    assert (two["test_predictions"] == one["test_predictions"]).all()


def test_a_curriculum_of_layers_that_cannot_work_on_the_model_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"able to work on the model\. Got cbs: model must"):
        resolve(Plan("iris", curricula="spl,cbs", seeds=2, epochs=2))
    plan, _ = resolve(Plan("iris", curricula="lerac+spl", seeds=2, epochs=2))
    assert [spec.label for spec in plan.specs][-1] == "lerac+spl"
