"""Tables of what was measured hold every committed comparison, and the page's words fit them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs import measured

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "which-curriculum.md").read_text(encoding="utf-8")


def verdict(experiment: str, labels: str, curriculum: str) -> str:
    found = [
        line.found["verdict"]
        for line in measured.lines()
        if (line.experiment, line.labels, line.curriculum) == (experiment, labels, curriculum)
    ]
    assert len(found) == 1, f"{curriculum} is not one line of {experiment}"
    return found[0]


def test_every_complete_result_is_in_the_tables_once() -> None:
    for path in sorted((ROOT / "experiments" / "results").glob("*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        compared = (len(results["plan"]["curricula"]) - 1) * len(results["settings"])
        name = path.parent.name
        listed = [line for line in measured.lines() if line.experiment == name]
        assert len(listed) == (compared if name in measured.experiments() else 0), name
        assert PAGE.count(f"\n| `{name}`, ") >= len(listed)


def test_a_row_is_what_the_results_say() -> None:
    path = ROOT / "experiments" / "results" / "fashion_mnist_noise" / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    found = results["statistics"]["noise-0.4"]["accuracy"]["super_loss"]["comparison"]
    assert 100 * found["t_test"]["difference"] == pytest.approx(1.73, abs=0.005)
    assert [100 * bound for bound in found["item_interval"]] == pytest.approx(
        [1.39, 2.05], abs=0.005
    )
    row = "| `fashion_mnist_noise`, 40 % flipped | super_loss | +1.7 (+1.4 to +2.1) |"
    assert f"{row} **helps** (<.001) | 100 % |" in PAGE


def test_samples_count_surveys() -> None:
    spl = [
        line
        for line in measured.lines()
        if line.experiment == "cifar10n" and line.family == "self-paced"
    ]
    assert [round(line.samples, 2) for line in spl] == [1.67]


@pytest.mark.parametrize(
    ("experiment", "labels", "curriculum", "said"),
    [
        ("fashion_mnist", "clean", "anti", "helps"),
        ("fashion_mnist", "clean", "predefined", "hurts"),
        ("fashion_mnist", "clean", "super_loss", "hurts"),
        ("fashion_mnist_noise", "40 % flipped", "super_loss", "helps"),
        ("fashion_mnist_noise", "40 % flipped", "predefined", "helps"),
        ("fashion_mnist_noise", "40 % flipped", "anti", "hurts"),
        ("fashion_mnist_noise", "40 % flipped", "spl", "equivalent"),
        ("cifar10n", "by people, 40 % wrong", "super_loss", "equivalent"),
        ("cifar10n", "by people, 40 % wrong", "predefined", "not enough evidence"),
        ("cola", "clean", "`predefined(score=length)`", "not enough evidence"),
        ("infobatch_fashion", "clean", "info_batch", "equivalent"),
        ("selection_cifar10n_steps", "by people, 40 % wrong", "super_loss", "helps"),
        ("selection_cifar10n_steps", "by people, 40 % wrong", "rho_loss", "not enough evidence"),
        ("selection_cifar10n_samples", "by people, 40 % wrong", "rho_loss", "hurts"),
        ("selection_cifar10n_samples", "by people, 40 % wrong", "importance_sampling", "hurts"),
        ("selection_cifar10n_samples", "by people, 40 % wrong", "selective_backprop", "hurts"),
        ("selection_fashion_samples", "clean", "selective_backprop", "hurts"),
        ("spdcl_cola", "clean", "spdcl", "not enough evidence"),
        *[
            (f"spdcl_{name}", "clean", curriculum, "equivalent")
            for name in ("mrpc", "goemotions", "aapd")
            for curriculum in ("spdcl", "`spdcl(change=abs)`")
        ],
        *[
            ("dynamics_fashion_epochs", "40 % flipped", f"`dihcl({kind})`", "equivalent")
            for kind in (
                "hardness=loss_change,selection=rand",
                "hardness=loss_change,selection=exp",
                "hardness=flip,selection=beta",
            )
        ],
    ],
)
def test_the_pages_words_fit(experiment: str, labels: str, curriculum: str, said: str) -> None:
    assert verdict(experiment, labels, curriculum) == said


def test_the_page_names_every_experiment_that_found_a_gain() -> None:
    prose = PAGE.partition("## How often it helped")[0]
    helped = {line.experiment for line in measured.lines() if line.found["verdict"] == "helps"}
    assert {name for name in helped if f"`{name}`" not in prose} == set()
    families = {line.family for line in measured.lines() if line.found["verdict"] == "helps"}
    assert families <= {"predefined", "weights"}, "the sections of others say that nothing helped"


def test_a_curriculum_of_no_family_is_an_error_that_says_what_to_do() -> None:
    assert measured.family(["lerac", "cbs"]) == "models"
    with pytest.raises(KeyError, match="add it to FAMILIES"):
        measured.family(["lerac", "spl"])


def test_results_that_are_not_finished_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ROOT / "experiments" / "results" / "fashion_mnist" / "results.json"
    results = json.loads(source.read_text(encoding="utf-8"))
    for name, cells in (("whole", results["cells"]), ("half", results["cells"][:20])):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(results | {"cells": cells}), "utf-8")
    monkeypatch.setattr(measured, "EXPERIMENTS", tmp_path)
    assert list(measured.experiments.__wrapped__()) == ["whole"]
