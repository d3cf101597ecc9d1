import copy
import json
import math
import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest

from gradatim.compare import judge
from gradatim.compare.report import render, write_report
from gradatim.compare.report_words import Numbers, sentence

POINTS = {"name": "accuracy", "title": "accuracy", "unit": "points", "scale": 100}
NUMBERS = Numbers.of({**POINTS, "higher_is_better": True}, [0.9])
VOID = {"meta", "br", "link", "img", "input", "hr"}
BASE = np.array([0.90, 0.91, 0.92, 0.93])
WOBBLE = np.array([1, -1, 1, -1]) / 1000
SCORES = {
    "uniform": BASE,
    "paced_random": BASE + 30 * WOBBLE,
    "up": BASE + 0.02 + WOBBLE,
    "down": BASE - 0.02 + WOBBLE,
    "same": BASE + WOBBLE,
    "open": BASE + 31 * WOBBLE,
}


class Outline(HTMLParser):
    """Collects text and tags, and notes what is not closed or closed twice."""

    def __init__(self):
        super().__init__()
        self.stack, self.wrong, self.links, self.words, self.tags = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("style", "title"):
            self.words.append(data)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.wrong == []
    assert parser.stack == []
    return parser


def text(page):
    return " ".join(" ".join(outline(page).words).split())


def cell(setting, name, seed, score):
    steps = [5, 10, 15]
    curve = [score - 0.2, score - 0.05, score]
    return {
        "setting": setting,
        "curriculum": name,
        "seed": seed,
        "method": f"Method({name!r})",
        "sees": ["labels of the training part"] if name == "up" else [],
        "steps": 15,
        "samples": {"forward": 960, "backward": 960, "survey": 40, "evaluation": 30},
        "seconds": {"forward": 0.5, "backward": 1.0, "survey": 0.25, "own": 0.125},
        "epochs": [{"first_step": 0, "samples": 64}, {"first_step": 5, "samples": 128}],
        "curve": {
            "steps": steps,
            "samples": [64 * step for step in steps],
            "seconds": [0.1 * step + 0.01 * seed for step in steps],
            "validation_score": curve,
        },
        "scores": {"accuracy": score, "macro_f1": score - 0.1, "cross_entropy": 0.25},
        "by_class": {"cat": score, "dog": 0.5},
        "by_frequency": {"many": score, "few": 0.25},
    }


def content(settings=("clean", "noisy"), scores=SCORES, metric=POINTS):
    """What results.json holds, for four seeds."""
    pairs = {name: (values, scores["uniform"]) for name, values in scores.items()}
    pairs.pop("uniform")
    found = judge(pairs, alpha=0.05, margin=0.01)
    rows = {
        name: {
            "curriculum": name,
            "seeds": [0, 1, 2, 3],
            "scores": list(values),
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)),
            "samples": {"forward": 960.0, "backward": 960.0, "survey": 40.0},
            "comparison": asdict(found[name]) if name in found else None,
            "mcnemar": {},
        }
        for name, values in scores.items()
    }
    return {
        "command": "gradatim compare --seeds 4",
        "versions": {"gradatim": "0.1.0"},
        "plan": {"data": "toys", "seeds": [0, 1, 2, 3], "alpha": 0.05, "margin": 0.01},
        "settings": {"clean": "clean", "noisy": "30 % of the training labels flipped"},
        "metric": {"higher_is_better": True, **metric},
        "task": {"kind": "classification", "sizes": {"training": 1200}},
        "baseline": "uniform",
        "smallest_sign_flip_p": 0.125,
        "statistics": {setting: {metric["name"]: copy.deepcopy(rows)} for setting in settings},
        "failures": [],
        "cells": [
            cell(setting, name, seed, float(score))
            for setting in settings
            for name, values in scores.items()
            for seed, score in enumerate(values)
        ],
    }


def test_the_page_is_whole_and_needs_nothing_from_elsewhere():
    page = render(content())
    found = outline(page)
    assert all(link.startswith("#") for link in found.links)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert "http" not in page
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert page.startswith("<!doctype html>")
    assert "width=device-width" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_ids_are_unique_and_every_reference_has_its_target():
    page = render({**content(), "failures": ["one"]})
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_every_verdict_is_a_sentence_in_every_setting():
    given = content()
    words = text(render(given))
    for family in given["statistics"].values():
        for name, row in family["accuracy"].items():
            if row["comparison"]:
                assert words.count(f"{name} {sentence(row['comparison'], NUMBERS)}") == 2
    assert "up helps: +2.0 points (95 % interval +1.8 to +2.2; p < .001 after Holm)." in words
    assert "down hurts: \u22122.0 points" in words
    assert "same equivalent to plain training within 1 point: +0.0 points" in words
    assert "open not enough evidence: +0.0 points" in words


def test_sections_come_in_order():
    words = text(render({**content(), "failures": ["up, clean, seed 9: out of memory"]}))
    headings = [
        "Does a curriculum help on toys?",
        "toys, clean",
        "Scores on the test set",
        "What it cost",
        "How they learned",
        "Score over steps",
        "Score over time",
        "Samples in the epoch",
        "By class",
        "toys, 30 % of the training labels flipped",
        "What each method saw",
        "Runs that failed",
        "How to read this",
        "To run it again",
    ]
    places = [words.index(heading) for heading in headings]
    assert places == sorted(places)


def test_the_tables_hold_the_numbers():
    words = text(render(content(settings=("clean",))))
    assert "uniform 91.5 ± 1.3 4 plain training" in words
    assert "up 93.5 ± 1.2 +2.0 [+1.8, +2.2] <.001 .125 <.001 0.4 4 helps" in words
    # Samples; until plain's final score in samples, steps and seconds; the area in points:
    # (up - 20 + up - 5) / 2 and (up - 5 + up) / 2 average to up - 7.5.
    assert "up 960 960 40 960 15 1.52 86.0" in words
    assert "up 0.50 1.00 0.25 0.12 1.88" in words
    assert "macro F1 ↑" in words
    assert "cross-entropy ↓" in words
    assert "rare classes" in words
    assert "labels of the training part" in words
    assert "gradatim compare --seeds 4" in words
    assert "sizes training: 1 200" in words


def test_the_total_leaves_out_loading():
    given = content(settings=("clean",))
    for run in given["cells"]:
        run["seconds"] = {"loading": 9.0, "forward": 1.0, "backward": 2.0}
    words = text(render(given))
    assert "seconds per run loading forward backward all but loading" in words
    assert "up 9.00 1.00 2.00 3.00" in words


def test_cost_until_plains_final_score_by_hand():
    given = content(settings=("clean",))
    for run in given["cells"]:
        # Plain ends at .8. "up" is there at step 10, but for one of four seeds, which never is.
        run["curve"]["validation_score"] = [0.5, 0.6, 0.8]
        if run["curriculum"] == "up":
            run["curve"]["validation_score"] = [0.5, 0.8, 0.7] if run["seed"] else [0.5, 0.6, 0.7]
        if run["curriculum"] == "down":
            run["curve"]["validation_score"] = [0.5, 0.6, 0.7]
    words = text(render(given))
    assert "uniform 960 960 40 960 15 1.52 62.5" in words
    assert "up 960 960 40 640 (3 of 4) 10 (3 of 4)" in words
    assert "down 960 960 40 never never never 60.0" in words


HOSTILE = "<script>alert('&\"')</script>"


def test_everything_a_user_names_is_escaped():
    scores = {**SCORES, HOSTILE: BASE + 0.01}
    given = content(scores=scores)
    given["command"] = given["plan"]["data"] = HOSTILE
    given["settings"]["clean"] = HOSTILE
    given["task"] = {HOSTILE: HOSTILE}
    given["versions"] = {HOSTILE: HOSTILE}
    given["failures"] = [HOSTILE]
    given["metric"]["title"] = HOSTILE
    for run in given["cells"]:
        run["method"] = HOSTILE
        run["sees"] = [HOSTILE]
        run["by_class"] = {HOSTILE: 0.5}
        run["scores"][HOSTILE] = 0.5
    page = render(given)
    assert "<script" not in page
    assert "</script" not in page
    assert page.count("&lt;script&gt;") > 20
    assert HOSTILE in text(page)


def test_an_ampersand_in_a_name_reads_as_one():
    given = content(scores={**SCORES, "a&lt;b": BASE + 0.01})
    assert "a&lt;b" in text(render(given))


def test_failures_are_counted_at_the_top_and_listed():
    failures = ["spl, clean, seed 1: ValueError: losses <must> be finite", "spl, clean, seed 2: x"]
    page = render({**content(), "failures": failures})
    words = text(page)
    assert "2 runs did not finish and are missing" in words
    assert words.index("2 runs did not finish") < words.index("toys, clean")
    assert all(failure in words for failure in failures)
    assert "1 run did not finish and is missing" in text(render({**content(), "failures": ["x"]}))
    assert "did not finish" not in text(render(content()))


OPTIONAL = ("metric", "task", "failures", "cells", "settings", "versions", "command", "plan")


@pytest.mark.parametrize("name", [*OPTIONAL, "smallest_sign_flip_p", "baseline"])
def test_missing_top_level_fields_are_tolerated(name):
    given = content()
    del given[name]
    words = text(render(given))
    assert "up helps: +2.0 points" in words


@pytest.mark.parametrize(
    "name", ["curve", "seconds", "epochs", "scores", "by_class", "by_frequency", "sees", "method"]
)
def test_missing_fields_of_cells_are_tolerated(name):
    given = content()
    for number, run in enumerate(given["cells"]):
        if name != "epochs" or number % 2:
            del run[name]
    assert "up helps: +2.0 points" in text(render(given))


def test_an_empty_comparison_is_a_page_too():
    words = text(render({}))
    assert "No answer: no curriculum has two finished runs" in words
    assert "No answer" in text(render({"statistics": {"clean": {"accuracy": {}}}}))


def test_old_results_can_be_rendered():
    given = content()
    for name in ("metric", "settings", "task"):
        del given[name]
    given["statistics"] = {
        setting: {"test_accuracy": family["accuracy"]}
        for setting, family in given["statistics"].items()
    }
    for run in given["cells"]:
        curve = run["curve"]
        run["curve"] = {
            "steps": curve["steps"],
            "validation_accuracy": curve["validation_score"],
            "validation_loss": [0.3, 0.2, 0.1],
        }
        run["seconds"] = {"preparation": 0.1, "training": 0.5}
    words = text(render(given))
    assert "up helps: +2.0 points" in words
    assert "Score over steps" in words
    assert "Score over time" not in words
    assert "toys, noisy" in words


def test_json_and_memory_give_the_same_page(tmp_path):
    given = content()
    path = write_report(given, tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text() == render(json.loads(json.dumps(given)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_curriculum_with_one_run_says_so():
    given = content(settings=("clean",))
    row = given["statistics"]["clean"]["accuracy"]["up"]
    row.update(comparison=None, seeds=[0], scores=[0.92], mean=0.92, deviation=math.nan)
    given["cells"] = [c for c in given["cells"] if c["curriculum"] != "up" or c["seed"] == 0]
    words = text(render(given))
    assert "up 92.0 1 too few runs" in words
    row["deviation"] = None  # as JSON has it
    assert text(render(given)) == words


def test_the_interval_over_items_is_shown_where_there_is_one():
    given = content(settings=("clean",))
    found = given["statistics"]["clean"]["accuracy"]["up"]["comparison"]
    found["item_interval"] = [0.005, 0.035]
    words = text(render(given))
    assert "up helps: +2.0 points (95 % interval +0.5 to +3.5" in words
    assert "+2.0 [+0.5, +3.5]" in words
    assert "Since all seeds share one test set" in words
    assert "Since all seeds share one test set" not in text(render(content()))


def test_a_metric_without_points_has_its_own_digits():
    scores = {name: 50 - 100 * (values - 0.9) for name, values in SCORES.items()}
    metric = {"name": "rmse", "title": "RMSE", "unit": "", "scale": 1, "higher_is_better": False}
    given = content(scores=scores, metric=metric)
    words = text(render(given))
    assert "judged by RMSE" in words
    assert "positive is better: a lower RMSE" in words
    assert "48.5 ± 1.3" in words
    assert "points" not in words.split("How to read this")[0]


def test_subset_sizes_of_seeds_with_other_epochs_are_averaged():
    given = content(settings=("clean",), scores={name: SCORES[name] for name in ("uniform", "up")})
    for run in given["cells"]:
        if run["seed"] == 0:
            run["epochs"] = [{"first_step": 0, "samples": 64}, {"first_step": 10, "samples": 128}]
    page = render(given)
    sizes = page[page.index('id="sizes-0"') :]
    # 64 up to step 5, then (3 * 128 + 64) / 4 = 112 up to step 10, then 128: three heights.
    heights = set(re.findall(r"[ML][\d.]+ ([\d.]+)", sizes[: sizes.index("</svg>")]))
    assert len(heights) == 3


def test_only_the_worst_of_many_classes_are_listed():
    given = content(settings=("clean",))
    for run in given["cells"]:
        run["by_class"] = {f"class {k:02d}": k / 100 for k in range(60)}
    words = text(render(given))
    assert "The 20 of 60 classes that uniform does worst on." in words
    assert "class 19" in words
    assert "class 20" not in words


def test_facts_of_each_setting_are_told_apart():
    given = content()
    given["task"] = {
        "clean": {"kind": "classification", "sizes": {"training": 1200}, "stress": {"x": 1}},
        "noisy": {"kind": "classification", "sizes": {"training": 600}, "stress": {"x": 2}},
    }
    words = text(render(given))
    assert words.count("kind classification") == 1
    assert "Data, clean sizes training: 1 200" in words
    assert "Data, 30 % of the training labels flipped sizes training: 600" in words


def test_curricula_of_equal_subset_sizes_are_named_together():
    words = text(render(content(settings=("clean",))))
    assert "One line each: uniform, paced_random, up, down, same and open." in words
