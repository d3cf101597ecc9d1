import math
import re
from dataclasses import asdict
from xml.etree import ElementTree

import numpy as np
import pytest

from gradatim import plots
from gradatim.compare import judge
from gradatim.compare.report_charts import Series, line_chart, merge_equal, ticks
from gradatim.compare.report_words import Numbers, headline, sentence

NUMBERS = Numbers.of(
    {"title": "accuracy", "unit": "points", "scale": 100, "higher_is_better": True}, [0.9]
)


# ---------------------------------------------------------------- the headline


def rows(**verdicts):
    return {
        name: {
            "comparison": {"verdict": verdict, "t_test": {"difference": difference}}
            if verdict
            else None
        }
        for name, (verdict, difference) in {"uniform": (None, 0), **verdicts}.items()
    }


UNCLEAR = ("not enough evidence", 0.001)


@pytest.mark.parametrize(
    ("settings", "answer", "words"),
    [
        (
            {"clean": rows(a=("helps", 0.02), b=UNCLEAR)},
            "Yes",
            "a (+2.0 points) improved accuracy over plain training.",
        ),
        (
            {"clean": rows(a=UNCLEAR, b=("hurts", -0.1)), "noisy": rows(a=("helps", 0.03))},
            "Partly",
            "noisy: a (+3.0 points) improved accuracy over plain training; clean: none did.",
        ),
        (
            {"clean": rows(a=UNCLEAR, b=("hurts", -0.1))},
            "Not shown",
            "none of the 2 curricula improved accuracy over plain training by more than chance "
            "can explain; b made it worse.",
        ),
        (
            {"clean": rows(a=("equivalent", 0.0)), "noisy": rows(a=("hurts", -0.1))},
            "No",
            "a has not improved accuracy over plain training, in either setting; "
            "a made it worse (noisy).",
        ),
        (
            {"clean": rows(a=UNCLEAR)},
            "Not shown",
            "a is not known to have improved accuracy over plain training.",
        ),
        (
            {"clean": rows(a=("equivalent", 0.0), b=("hurts", -0.1))},
            "No",
            "none of the 2 curricula improved accuracy over plain training; b made it worse.",
        ),
        # What the control gains is no curriculum's merit.
        (
            {"clean": rows(paced_random=("helps", 0.1), a=("equivalent", 0.0))},
            "No",
            "a has not improved accuracy over plain training.",
        ),
    ],
)
def test_the_headline_answers(settings, answer, words):
    assert headline(settings, NUMBERS, ["uniform", "paced_random"]) == (answer, words)


def test_long_names_are_cut_in_the_headline_alone():
    name = "package.module:Curriculum(" + "x" * 80 + ")"
    _, words = headline({"clean": rows(**{name: ("helps", 0.02)})}, NUMBERS, ["uniform"])
    assert words.startswith(f"{name[:37]}... (+2.0 points) improved")


def test_the_headline_names_three_and_counts_the_rest():
    best = {name: ("helps", 0.01 * size) for size, name in enumerate("abcde", start=1)}
    _, words = headline({"clean": rows(**best)}, NUMBERS, ["uniform"])
    assert words.startswith("e (+5.0 points), d (+4.0 points), c (+3.0 points) and 2 more improved")


def test_equal_differences_do_not_claim_that_nothing_could_be_found():
    base = np.array([0.90, 0.91, 0.92])
    found = judge({"a": (base - 0.003, base)}, alpha=0.05, margin=0.01)["a"]
    assert found.verdict == "not enough evidence"
    words = sentence(asdict(found), NUMBERS)
    assert words.endswith("All 3 pairs differ by the same amount: too few to judge.")


# ---------------------------------------------------------------- numbers and charts


def test_numbers_are_written_in_their_unit():
    assert NUMBERS.value(0.9) == "90.0"
    assert NUMBERS.value(None) == NUMBERS.value(math.nan) == ""
    assert NUMBERS.signed(-0.0001) == "+0.0"
    assert NUMBERS.change(-0.021) == "\u22122.1 points"
    assert (NUMBERS.size(0.01), NUMBERS.size(0.025)) == ("1 point", "2.5 points")
    r2 = Numbers.of({"title": "R²", "scale": 1}, [0.87, None])
    assert (r2.value(0.8712), r2.change(0.0123)) == ("0.871", "+0.012")
    large = Numbers.of({"title": "RMSE", "scale": 1}, [12_345.6])
    assert large.value(12_345.6) == "12346"
    assert [Numbers.amount(v) for v in (0, 3.14159, 999.4, 9999, 12_345, 999_900, 2.5e6)] == [
        "0",
        "3.14",
        "999",
        "9999",
        "12.3k",
        "1000k",
        "2.5M",
    ]
    assert [Numbers.seconds(v) for v in (0.044, 9.994, 12.34, 950.2)] == [
        "0.04",
        "9.99",
        "12.3",
        "950",
    ]


def test_ticks_are_round():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(71.3, 92) == [75, 80, 85, 90]
    assert ticks(-13, 1, about=4) == [-10, -5, 0]
    assert ticks(3, 3) == [3]


def line(name, y, *, number=0, spread=0.0):
    values = np.array(y, dtype=float)
    return Series((name,), number, np.arange(1.0, len(y) + 1), values, np.full(len(y), spread))


def test_charts_draw_a_line_and_a_band_per_curriculum():
    picture = line_chart(
        [line("a", [1, 2, 3], spread=0.5), line("b", [1, 1, 1], number=9)],
        chart="c",
        xlabel="steps",
        ylabel="accuracy",
    )
    ElementTree.fromstring(picture)  # closed and quoted as it should be
    assert picture.count('class="line"') == 2
    assert picture.count('class="band"') == 1
    assert "s1 again" in picture
    assert "nan" not in picture
    # The baseline comes last and so lies on top.
    assert picture.index("<title>b") < picture.index("<title>a")


def test_a_single_evaluation_is_a_dot():
    assert 'class="dot"' in line_chart([line("a", [1])], chart="c", xlabel="x", ylabel="y")


def test_the_frame_follows_the_second_half_and_not_the_start():
    picture = line_chart([line("a", [0, 0, 90, 91])], chart="c", xlabel="x", ylabel="y")
    labels = re.findall(r'class="end"[^>]*>([^<]+)<', picture)
    assert labels
    assert all(float(label) > 85 for label in labels)
    loss = line_chart(
        [line("a", [1000, 2, 1, 1])], chart="c", xlabel="x", ylabel="y", lower_is_better=True
    )
    assert all(float(v) < 3 for v in re.findall(r'class="end"[^>]*>([^<]+)<', loss))


def test_equal_lines_become_one_with_all_names():
    merged = merge_equal([line("a", [1, 2]), line("b", [2, 2]), line("c", [1, 2])])
    assert [entry.names for entry in merged] == [("a", "c"), ("b",)]


# ---------------------------------------------------------------- pictures


def test_pictures_are_drawn_over_seconds_with_one_seed():
    curve = ([0.5, 1.5], [[50.0, 60.0]])
    figure = plots.learning_curves({"clean": {"uniform": curve}}, xlabel="seconds", ylabel="RMSE")
    assert figure.axes[0].get_xlabel() == "seconds"
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.5, 1.5]
    sizes = plots.subset_sizes({"clean": {"uniform": curve}}, xlabel="seconds")
    assert sizes.axes[0].get_xlabel() == "seconds"


def test_pictures_cut_the_side_where_curves_begin():
    curves = {"clean": {"uniform": ([1, 2, 3, 4], [[900.0, 4.0, 3.0, 2.0]])}}
    assert plots.learning_curves(curves, lower_is_better=True).axes[0].get_ylim()[1] == 3
    assert plots.learning_curves(curves).axes[0].get_ylim()[0] == 2


def test_pictures_take_names_as_they_are(tmp_path):
    names = {"a$b$": ([1, 2], [[1.0, 2.0]]), "_hidden": ([1, 2], [[1.0, 3.0]])}
    figure = plots.learning_curves({"$\\notamacro$": names})
    plots.save(figure, tmp_path / "curves.png")
    labels = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert labels == [r"a\$b\$", "\u200b_hidden"]
    assert (tmp_path / "curves.png").stat().st_size > 1000
