import csv
import io
import json
import math

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from rich.console import Console

from gradatim import plots
from gradatim.compare import paired_t_test
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.results import summarise, write_results
from gradatim.compare.terminal import progress, show_plan, show_results, table

SCORES = {
    "uniform": [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.90, 0.91],
    "paced_random": [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.90, 0.92],
    "spl": [0.80, 0.82, 0.83, 0.84, 0.83, 0.85, 0.81, 0.81],
    "super_loss": [0.94, 0.955, 0.96, 0.975, 0.98, 0.995, 0.945, 0.95],
    "anti": [0.97, 0.85, 0.99, 0.88, 0.99, 0.91, 0.86, 0.99],
}
PLAN = Plan(
    curricula=["spl", "super_loss", "anti"],
    label_noise=0,
    seeds=8,
    metric="accuracy",
    margin=0.01,
    epochs=2,
    batch_size=64,
)


def cell(score, seed):
    right = round(360 * score)
    return {
        "scores": {"accuracy": score, "macro_f1": score / 2},
        "validation_score": score,
        "learning_rate": 0.1,
        "checkpoint_step": 32,
        "steps": 32,
        "corrupted_labels": 0,
        "shared_test": False,
        "samples": {"forward": 2048, "backward": 2048, "survey": 1000 * seed, "evaluation": 359},
        "seconds": {"preparation": 0.1, "forward": 0.5},
        "epochs": [{"first_step": 0, "samples": 1024}, {"first_step": 16, "samples": 1024}],
        "curve": {"steps": [16, 32], "seconds": [1, 2], "validation_score": [0.5, score]},
        "items": [1.0] * right + [0.0] * (360 - right),
        "test_labels": [1] * 360,
        "test_predictions": [1] * right + [0] * (360 - right),
    }


@pytest.fixture
def cells():
    return {entry: cell(SCORES[entry.curriculum][entry.seed], entry.seed) for entry in PLAN.cells()}


def rows(summary):
    return {row.curriculum: row for row in summary["clean"]}


def test_pairs_are_formed_by_seed(cells):
    shuffled = dict(sorted(cells.items(), key=lambda item: (-item[0].seed, item[0].curriculum)))
    found = rows(summarise(PLAN, shuffled))
    expected = paired_t_test(SCORES["spl"], SCORES["uniform"])
    assert found["spl"].comparison.t_test.p_value == pytest.approx(expected.p_value)
    assert found["spl"].comparison.t_test.difference == pytest.approx(expected.difference)
    assert found["uniform"].comparison is None
    assert {name: row.comparison.verdict for name, row in found.items() if row.comparison} == {
        "paced_random": "equivalent",
        "spl": "hurts",
        "super_loss": "helps",
        "anti": "not enough evidence",
    }


def test_rows_by_hand(cells):
    row = rows(summarise(PLAN, cells))["uniform"]
    assert row.mean == pytest.approx(0.92)
    # Distances from .92 in hundredths: 2 1 0 1 2 3 2 1, squares 24, over 7.
    assert row.deviation == pytest.approx(0.01 * math.sqrt(24 / 7))
    assert row.samples["survey"] == 3500
    assert row.seconds == {"preparation": pytest.approx(0.1), "forward": 0.5}
    assert row.area == pytest.approx((0.5 + 0.92) / 2)  # straight from .5 to each score
    assert row.reach == {"steps": 32, "seconds": 2}


def test_better_curricula_reach_plain_trainings_score_and_worse_ones_never(cells):
    found = rows(summarise(PLAN, cells))
    assert found["super_loss"].reach["steps"] == 32
    assert found["spl"].reach["steps"] == math.inf


def test_mcnemar_stays_within_a_seed(cells):
    found = rows(summarise(PLAN, cells))["super_loss"].mcnemar
    assert list(found) == list(range(8))
    # The first run is right on 338 samples, plain training on 324 of these.
    assert (found[0].only_a, found[0].only_b) == (14, 0)
    assert found[0].p_value == pytest.approx(2 * 0.5**14)


def test_a_failed_cell_takes_its_pair_out_and_no_other(cells):
    del cells[Cell("clean", "uniform", 2)], cells[Cell("clean", "spl", 5)]
    found = rows(summarise(PLAN, cells))
    assert found["spl"].seeds == [0, 1, 2, 3, 4, 6, 7]
    assert found["spl"].comparison.t_test.pairs == 6
    assert found["anti"].comparison.t_test.pairs == 7
    seeds = [0, 1, 3, 4, 6, 7]
    expected = paired_t_test(*([SCORES[name][k] for k in seeds] for name in ("spl", "uniform")))
    assert found["spl"].comparison.t_test.difference == pytest.approx(expected.difference)


def test_failed_curricula_make_no_verdict_easier(cells):
    """Holm multiplies by the planned family, whatever finished."""
    whole = rows(summarise(PLAN, cells))["spl"].comparison
    for entry in [entry for entry in cells if entry.curriculum in ("anti", "super_loss")]:
        del cells[entry]
    summary = summarise(PLAN, cells)
    part = rows(summary)["spl"].comparison
    assert part.p_holm == pytest.approx(4 * part.t_test.p_value)
    assert part.detectable == whole.detectable
    text = shown(lambda screen: screen.print(table(PLAN, "clean", summary["clean"])))
    assert sum("failed" in line for line in text.splitlines()) == 2


def test_too_few_pairs_give_no_verdict(cells):
    for seed in range(1, 8):
        del cells[Cell("clean", "spl", seed)]
    found = rows(summarise(PLAN, cells))
    assert found["spl"].comparison is None
    assert math.isnan(found["spl"].deviation)
    # The family is what could be compared.
    p = [row.comparison for row in found.values() if row.comparison]
    assert len(p) == 3


def test_results_json_is_strict_and_holds_everything(cells, tmp_path):
    del cells[Cell("clean", "spl", 5)]
    summary = summarise(PLAN, cells)
    failures = ["spl, clean, seed 5: ValueError: no"]
    write_results(PLAN, cells, summary, tmp_path, command="gradatim compare", failures=failures)
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert read["command"] == "gradatim compare"
    assert read["failures"] == failures
    assert read["versions"] == PLAN.versions
    assert read["plan"]["seeds"] == list(range(8))
    assert read["metric"]["scale"] == 100
    assert read["settings"] == {"clean": "clean"}
    assert read["smallest_sign_flip_p"] == 2**-7
    assert len(read["cells"]) == len(cells)
    assert not {"test_predictions", "test_labels", "items"} & read["cells"][0].keys()
    spl = read["statistics"]["clean"]["accuracy"]["spl"]
    assert spl["comparison"]["verdict"] == "hurts"
    assert spl["comparison"]["t_test"]["pairs"] == 7
    assert spl["mcnemar"]["0"]["only_b"] == 36


def test_results_csv_has_a_line_per_cell(cells, tmp_path):
    write_results(PLAN, cells, summarise(PLAN, cells), tmp_path, command="")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert len(lines) == len(cells)
    line = next(x for x in lines if (x["curriculum"], x["seed"]) == ("spl", "3"))
    assert float(line["test_accuracy"]) == 0.84
    assert (line["epochs"], line["survey_samples"], line["setting"]) == ("2", "3000", "clean")


# ---------------------------------------------------------------- terminal


def shown(draw, width=100):
    text = io.StringIO()
    draw(Console(file=text, width=width))
    return text.getvalue()


def test_the_table_fits_100_columns_without_folding(cells):
    summary = summarise(PLAN, cells)
    text = shown(lambda screen: screen.print(table(PLAN, "clean", summary["clean"])))
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 100
    assert "…" not in text
    for name, verdict in (
        ("anti", "not enough evidence"),
        ("paced_random", "equivalent within 1"),
        ("super_loss", "helps"),
        ("spl", "hurts"),
    ):
        line = next(line for line in lines if line.strip().startswith(f"{name} "))
        assert verdict in line
    line = next(line for line in lines if line.strip().startswith("spl "))
    assert "-9.6 [-10.2, -9.0]" in line
    assert "82.4 ± 1.7" in line
    assert line.endswith("6k/2k")


def test_narrow_terminals_lose_no_words(cells):
    summary = summarise(PLAN, cells)
    text = shown(lambda screen: show_results(PLAN, summary, screen), width=80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_every_curriculum_gets_a_sentence(cells):
    summary = summarise(PLAN, cells)
    text = " ".join(shown(lambda screen: show_results(PLAN, summary, screen)).split())
    assert "super_loss helps: +4.2 points, from " in text
    assert "spl hurts: -9.6 points, from -10.2 to -9.0 (p < .001 after Holm)." in text
    assert "paced_random is equivalent within 1 point: +0.1 points" in text
    assert "anti: not enough evidence: +1.0 points" in text
    assert "uniform is" not in text


def test_a_plan_that_cannot_succeed_says_so_before_it_runs():
    plan = Plan(seeds=5, metric="accuracy", epochs=20, batch_size=64)
    few = shown(lambda screen: show_plan(plan, screen, finished=3))
    assert "70 runs, 3 of them finished before" in few
    assert "cannot go below p = .062" in few
    assert "20 epochs' worth of steps for everybody" in " ".join(few.split())
    # 7 curricula, 8 seeds: alpha / 6 asks for 1.6 deviations at power .8 (tests of `power`).
    more = shown(lambda screen: show_plan(plan.with_values(seeds=8), screen, finished=0))
    assert "cannot" not in more
    assert "a difference of 1.6 standard deviations" in " ".join(more.split())
    timed = plan.with_values(seeds=8, budget="seconds", amount=30.0, tune=2)
    words = " ".join(shown(lambda screen: show_plan(timed, screen, finished=0)).split())
    assert "140 runs (28 of them tune)" in words
    assert "30 seconds for everybody" in words


# ---------------------------------------------------------------- other metrics, fixed test sets


def test_for_errors_a_fall_is_a_gain(cells):
    plan = PLAN.with_values(metric="rmse", margin=1.0, data="diabetes")
    for entry, result in cells.items():
        error = 100 * (1 - SCORES[entry.curriculum][entry.seed])
        result["scores"] = {"rmse": error}
        result["items"] = None
        result["curve"]["validation_score"] = [50, error]
    found = rows(summarise(plan, cells))
    assert found["super_loss"].comparison.verdict == "helps"
    assert found["super_loss"].comparison.t_test.difference == pytest.approx(4.2, abs=0.1)
    assert found["super_loss"].reach["steps"] == 32
    assert found["super_loss"].mcnemar == {}
    text = " ".join(
        shown(lambda screen: show_results(plan, {"clean": found.values()}, screen)).split()
    )
    assert "super_loss helps: +4.2" in text
    assert "points" not in text


def test_a_fixed_test_set_must_hold_over_its_items_too(cells):
    """Eight seeds agree that one of 360 items is won: certain for these items, not for others."""
    plan = PLAN
    base = [1.0] * 300 + [0.0] * 60
    for entry, result in cells.items():
        items = list(base)
        if entry.curriculum == "super_loss":
            items[300] = 1.0
            items[302] = float(entry.seed % 2)  # a little spread, or there is no t-test
        result["items"] = items
        result["shared_test"] = True
        result["scores"] = {"accuracy": sum(items) / 360}
    found = rows(summarise(plan, cells))["super_loss"].comparison
    assert found.p_holm < 0.001
    low, high = found.item_interval
    assert low < 0 < high
    assert found.verdict != "helps"
    for result in cells.values():
        result["shared_test"] = False
    drawn = rows(summarise(PLAN, cells))["super_loss"].comparison
    assert drawn.item_interval is None
    assert drawn.verdict == "helps"


def test_progress_counts_what_was_there_before():
    text = io.StringIO()
    screen = Console(file=text, force_terminal=True, width=100)
    with progress(screen, total=4, finished=3) as advance:
        advance()
    assert "4/4" in text.getvalue()


# ---------------------------------------------------------------- figures

CURVES = {
    "clean": {
        "uniform": ([1, 2, 3], [[50, 60, 70], [54, 64, 78]]),
        "spl": ([1, 2, 3], [[10, 62, 71], [12, 66, 79]]),
    },
    "noisy": {"uniform": ([1, 2, 3], [[50, 55, 52]])},
}


def test_learning_curves_show_means_and_bands():
    figure = plots.learning_curves(CURVES)
    clean, noisy = figure.axes
    assert [line.get_label() for line in clean.lines] == ["uniform", "spl"]
    assert clean.lines[0].get_ydata().tolist() == [52, 62, 74]
    band = clean.collections[0].get_paths()[0].vertices
    spread = np.std([70, 78], ddof=1)
    assert band[:, 1].max() == pytest.approx(74 + spread)
    assert (clean.get_title(loc="left"), noisy.get_title(loc="left")) == ("clean", "noisy")
    # A curriculum that starts low does not flatten what differs at the end.
    assert clean.get_ylim()[0] > 40
    assert [text.get_text() for text in figure.legends[0].texts] == ["uniform", "spl"]


def test_equal_subset_sizes_share_a_line():
    curve, other = ([0, 1, 2], [[4, 4, 8], [4, 4, 8]]), ([0, 1, 2], [[8, 8, 8]])
    figure = plots.subset_sizes({"clean": {"spl": curve, "uniform": other, "anti": curve}})
    labels = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert labels == {"spl, anti": [4, 4, 8], "uniform": [8, 8, 8]}
    assert figure.axes[0].lines[0].get_drawstyle() == "steps-post"


def test_figures_touch_no_global_setting(tmp_path):
    settings, backend = dict(matplotlib.rcParams), matplotlib.rcParams._get_backend_or_none()
    plots.save(plots.learning_curves(CURVES), tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == settings
    assert matplotlib.rcParams._get_backend_or_none() == backend
    picture = image.imread(tmp_path / "curves.png")
    assert picture.shape[0] > 300
    assert picture[..., :3].min() < 0.1
    assert len(list(tmp_path.iterdir())) == 1


def test_empty_panels_are_drawn_empty(tmp_path):
    for draw in (plots.learning_curves, plots.subset_sizes):
        plots.save(draw({"clean": {}}), tmp_path / "empty.png")
        plots.save(draw({}), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").exists()
