"""Single faults in the core of a comparison that would make its results wrong or unfair."""

import csv
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import gradatim as gr
from gradatim.compare import cells as cells_module
from gradatim.compare import command, judge, runner
from gradatim.compare import training as training_module
from gradatim.compare.budget import Budget
from gradatim.compare.cells import run_cell, task_of
from gradatim.compare.defaults import resolve
from gradatim.compare.models import perceptron
from gradatim.compare.objectives import Objective
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.results import summarise
from gradatim.compare.runner import finished_cells, run_cells
from gradatim.compare.settings import Training
from gradatim.compare.stopwatch import Stopwatch
from gradatim.compare.training import train

IRIS, _ = resolve(Plan("iris", curricula="spl", seeds=3, epochs=2, evaluations=3))


class SeenError(Exception):
    """Raised where a test has seen what it came for."""


@pytest.fixture
def handed_over(monkeypatch):
    """What `run_cell` hands to the training loop and to the curriculum, without training."""

    def see(plan, cell, **options):
        seen = SimpleNamespace()
        build = cells_module.curricula.build

        def record_build(spec, context):
            seen.context = context
            time.sleep(0.02)
            return build(spec, context)

        def record(fabric, model, method, training, validation, settings, **others):
            seen.fabric, seen.training, seen.settings = fabric, training, settings
            seen.weights = [parameter.detach().clone() for parameter in model.parameters()]
            vars(seen).update(others)
            raise SeenError

        with monkeypatch.context() as patch:
            patch.setattr(cells_module, "train", record)
            patch.setattr(cells_module.curricula, "build", record_build)
            with pytest.raises(SeenError):
                run_cell(plan, cell, **options)
        return seen

    return see


# ---------------------------------------------------------------- what a cell is made of


def test_another_seed_is_another_split_other_weights_and_another_order(handed_over):
    one, two = (handed_over(IRIS, Cell("clean", "uniform", seed)) for seed in (1, 2))
    assert not torch.equal(one.training.features, two.training.features)
    assert not torch.equal(one.weights[0], two.weights[0])
    assert (one.seed, two.seed) == (1, 2)
    assert (one.context.seed, two.context.seed) == (1, 2)


def test_paces_are_made_for_the_budget_that_is_given(handed_over):
    given = handed_over(IRIS.with_values(amount=33.0), Cell("clean", "spl", 0))
    # 33 steps of 8 samples, of the 90 that training has.
    assert given.context.budget_epochs == pytest.approx(33 * 8 / 90)
    assert given.settings.budget == Budget("steps", 33)


def test_what_preparation_took_is_handed_to_the_budget(handed_over):
    assert handed_over(IRIS, Cell("clean", "spl", 0)).prepared >= 0.02


def test_targets_are_standardised_by_the_training_part(handed_over):
    plan, _ = resolve(Plan("diabetes", curricula="super_loss", seeds=2))
    seen = handed_over(plan, Cell("clean", "uniform", 0))
    assert seen.objective.center.item() == pytest.approx(float(seen.training.labels.mean()))
    assert seen.objective.scale.item() == pytest.approx(float(seen.training.labels.std()))


def test_the_precision_asked_for_is_the_one_used(handed_over):
    for precision, mixed in (("32", False), ("bf16", True)):
        seen = handed_over(IRIS.with_values(precision=precision), Cell("clean", "uniform", 0))
        with seen.fabric.autocast():
            assert torch.is_autocast_enabled("cpu") == mixed


def test_the_frequency_of_classes_is_the_training_parts(monkeypatch):
    plan, _ = resolve(Plan("iris", curricula="spl", seeds=2, epochs=1, imbalance=5))
    cell, seen = Cell("imbalance-5", "uniform", 0), []

    def record(kind, outputs, targets, counts):
        seen.extend(counts)
        return {}

    monkeypatch.setattr(cells_module, "by_frequency", record)
    run_cell(plan, cell)
    assert seen == torch.bincount(task_of(plan, cell).training.labels).tolist()
    assert max(seen) == 5 * min(seen)


def test_loggers_get_the_steps_of_the_evaluations(tmp_path):
    result = run_cell(IRIS, Cell("clean", "uniform", 0), loggers=("csv",), log_folder=str(tmp_path))
    text = next(tmp_path.rglob("metrics.csv")).read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    assert [int(line["step"]) for line in lines] == result["curve"]["steps"]
    found = [float(line["validation_loss"]) for line in lines]
    assert found == pytest.approx(result["curve"]["validation_loss"])


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizers_take_rate_and_decay(optimizer):
    settings = Training(
        Budget("steps", 1), optimizer=optimizer, learning_rate=0.3, weight_decay=0.7
    )
    group = settings.make_optimizer(torch.nn.Linear(2, 2)).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.7)


def scripted(monkeypatch, *, settings, seconds=0.0):
    """Train on iris where validation always says the same, after so many seconds."""
    task = task_of(IRIS, Cell("clean", "uniform", 0))

    def same(model, samples, *rest):
        time.sleep(seconds)
        return torch.zeros(len(samples), 3), 1.0

    monkeypatch.setattr(training_module, "predict", same)
    return train(
        Fabric(accelerator="cpu", devices=1),
        perceptron(4, 3, seed=0),
        gr.Uniform(),
        task.training,
        task.validation,
        settings,
        objective=Objective("classification"),
        score=lambda outputs, targets: 0.5,
        seed=0,
    )


def test_curves_count_the_seconds_of_training_without_evaluation(monkeypatch):
    settings = Training(Budget("steps", 8), batch_size=8, evaluations=4)
    done = scripted(monkeypatch, settings=settings, seconds=0.05)
    assert done.seconds["evaluation"] >= 0.2
    trained = sum(value for name, value in done.seconds.items() if name != "evaluation")
    assert done.curve["seconds"][-1] == pytest.approx(trained, abs=0.002)


@pytest.mark.parametrize(("steps", "early"), [(7, False), (8, True)])
def test_a_plateau_that_ends_with_the_budget_is_not_early(monkeypatch, steps, early):
    """The best is the first look; patience of 2 ends at looks 3 and 5, and for good at 7."""
    budget = Budget("steps", steps)
    settings = Training(budget, batch_size=8, evaluations=steps, patience=2, regime="plateau")
    done = scripted(monkeypatch, settings=settings)
    assert (done.steps, done.stopped_early) == (7, early)


def test_a_stopwatch_adds_up_what_it_measured():
    watch = Stopwatch(torch.device("cpu"))
    for seconds in (0.03, 0.0):
        with watch("forward"):
            time.sleep(seconds)
    assert watch.read()["forward"] >= 0.03


# ---------------------------------------------------------------- what data decide


def test_the_batch_fits_the_smallest_setting():
    plan, _ = resolve(Plan(label_noise=0, train_fraction=(1, 0.2), seeds=2))
    assert plan.batch_size == 16  # 215 samples make a dozen batches of 16, and 1,078 of 64


def test_margins_of_errors_are_in_the_targets_units():
    for metric in ("rmse", "mae"):
        plan, _ = resolve(Plan("diabetes", curricula="super_loss", seeds=2, metric=metric))
        assert 1 < plan.margin < 2  # a fiftieth of a deviation of about 77


# ---------------------------------------------------------------- running


def test_each_setting_is_trained_at_its_own_tuned_rate(tmp_path, monkeypatch):
    plan = IRIS.with_values(label_noise=(0, 0.2), tune=2)
    best = {"clean": 0, "noise-0.2": 1}
    used = []

    def fake(plan, cell, *, learning_rate, **options):
        used.append((cell.setting, cell.trial, learning_rate))
        return {
            "learning_rate": learning_rate,
            "validation_score": best[cell.setting] == cell.trial,
        }

    monkeypatch.setattr(runner, "run_cell", fake)
    assert set(run_cells(plan, tmp_path, jobs=1, trials=True)) == {None}
    used.clear()
    assert set(run_cells(plan, tmp_path, jobs=1)) == {None}
    expected = {(name, None, plan.trial_rate(trial)) for name, trial in best.items()}
    assert set(used) == expected
    assert len({rate for _, _, rate in expected}) == 2


def test_trials_come_before_the_runs_that_they_tune(tmp_path, monkeypatch):
    order = []

    def fake(plan, out, *, trials, **options):
        order.append(trials)
        if len(order) == 2:
            raise SeenError
        return iter(())

    monkeypatch.setattr(command, "run_cells", fake)
    with pytest.raises(SeenError):
        command.compare(IRIS.with_values(tune=1), tmp_path / "out", jobs=1)
    assert order == [True, False]


def test_a_cell_whose_predictions_cannot_be_written_is_not_finished(tmp_path, monkeypatch):
    write = runner.replace_file

    def full_disk(path, content):
        if path.suffix == ".npz":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(runner, "replace_file", full_disk)
    monkeypatch.setattr(runner, "run_cell", lambda plan, cell, **options: {"items": np.ones(3)})
    ends = list(run_cells(IRIS, tmp_path, jobs=1))
    assert all("No space left" in end.reason for end in ends)
    assert finished_cells(IRIS, tmp_path) == {}


def test_a_label_never_leads_out_of_its_folder():
    label = "../../a: b?"
    plan = Plan("iris", curricula=[{"name": "spl", "label": label}], seeds=2, tune=1)
    for cell in [*plan.cells(), *plan.trials()]:
        top, setting, name, _ = cell.folder.parts
        assert (top, setting) == ("cells", "clean")
        assert not set("/\\: ?") & set(name)
        assert (name == cell.curriculum) == (cell.curriculum != label)


# ---------------------------------------------------------------- judging


def result(score, *, items=None, metric="accuracy", reached=1):
    curve = {"steps": [1, 2, 3], "validation_score": [0.2, 0.2, 0.2]}
    curve["validation_score"][reached - 1 :] = [0.5] * (4 - reached)
    return {
        "scores": {metric: score},
        "items": [0.0, 1.0] if items is None else items,
        "curve": curve,
        "samples": {"forward": 8},
        "seconds": {"forward": 0.1},
    }


def judged(plan, cells):
    return {
        setting: {row.curriculum: row for row in rows}
        for setting, rows in summarise(plan, cells).items()
    }


def test_a_family_is_one_setting():
    """The same numbers give the same verdict, however many settings stand beside them."""
    plan = Plan("iris", curricula="spl", seeds=4, metric="accuracy", margin=0.01)
    both = plan.with_values(label_noise=(0, 0.2))
    # Gains in percent: mean 3, deviation 1.29, t = 4.65 on 3 degrees of freedom, p = .019.
    gains = {"uniform": [0, 0, 0, 0], "paced_random": [1, -1, 1, -1], "spl": [1.5, 2.5, 3.5, 4.5]}
    cells = {cell: result(0.5 + gains[cell.curriculum][cell.seed] / 100) for cell in both.cells()}
    alone = judged(plan, {cell: run for cell, run in cells.items() if cell.setting == "clean"})
    beside = judged(both, cells)
    for name in ("paced_random", "spl"):
        expected = alone["clean"][name].comparison
        assert beside["clean"][name].comparison == expected
        assert beside["noise-0.2"][name].comparison == expected
    spl, paced = (alone["clean"][name].comparison for name in ("spl", "paced_random"))
    assert spl.p_holm == pytest.approx(2 * 0.0188, abs=1e-4)
    assert spl.verdict == "helps"
    assert paced.p_holm == pytest.approx(paced.t_test.p_value)


def test_items_of_errors_gain_where_they_fall():
    plan = Plan("diabetes", curricula="spl", seeds=4, metric="mae", margin=1.0, test="test.csv")
    rng = np.random.default_rng(0)
    base = rng.uniform(50, 60, size=(4, 40))
    cells = {}
    for cell in plan.cells():
        items = base[cell.seed] - (5 + cell.seed / 10 if cell.curriculum == "spl" else 0)
        run = result(items.mean(), items=items, metric="mae")
        cells[cell] = {**run, "shared_test": True}
    found = judged(plan, cells)["clean"]["spl"].comparison
    assert found.t_test.difference == pytest.approx(5.15)
    low, high = found.item_interval
    assert 4 < low < 5.15 < high < 6
    assert found.verdict == "helps"


def test_an_interval_that_touches_zero_does_not_leave_it_out():
    base = np.array([0.90, 0.91, 0.92, 0.93])
    gains = np.array([0.021, 0.019, 0.021, 0.019])
    for touching in ((0.0, 0.04), (-0.01, 0.0)):
        found = judge({"a": (base + gains, base)}, alpha=0.05, margin=0.001,
                      intervals={"a": touching})["a"]  # fmt: skip
        assert found.verdict == "not enough evidence"


def test_equivalence_is_judged_at_the_level_itself():
    """Gains of plus and minus .866 points: t = 1 / (.866 / sqrt 3) = 2, 3 freedoms, p = .070."""
    base = np.array([0.90, 0.91, 0.92, 0.93])
    pairs = {"a": (base + 0.00866 * np.array([1, -1, 1, -1]), base)}
    strict, lax = (judge(pairs, alpha=alpha, margin=0.01)["a"] for alpha in (0.05, 0.08))
    assert strict.equivalence.p_value == pytest.approx(0.0697, abs=1e-3)
    assert (strict.verdict, lax.verdict) == ("not enough evidence", "equivalent")


def test_reach_is_the_median_seed():
    plan = Plan("iris", curricula="spl", seeds=3, metric="accuracy", margin=0.01)
    reached = {"spl": [1, 1, 3]}
    cells = {
        cell: result(0.5, reached=reached.get(cell.curriculum, [3, 3, 3])[cell.seed])
        for cell in plan.cells()
    }
    rows = judged(plan, cells)["clean"]
    assert rows["spl"].reach["steps"] == 1
    assert rows["uniform"].reach["steps"] == 3


def test_mcnemar_counts_each_seed_against_its_own_baseline():
    plan = Plan("iris", curricula="spl", seeds=2, metric="accuracy", margin=0.01)
    items = {
        ("uniform", 0): [1, 1, 0, 0], ("uniform", 1): [0, 0, 1, 1],
        ("spl", 0): [1, 1, 1, 0], ("spl", 1): [0, 0, 1, 0],
    }  # fmt: skip
    cells = {
        cell: result(0.5, items=items.get((cell.curriculum, cell.seed))) for cell in plan.cells()
    }
    cells |= {
        cell: result(0.5, items=[0.0] * 4)
        for cell in plan.cells()
        if cell.curriculum == "paced_random"
    }
    found = judged(plan, cells)["clean"]["spl"].mcnemar
    assert [(found[seed].only_a, found[seed].only_b) for seed in (0, 1)] == [(1, 0), (0, 1)]
