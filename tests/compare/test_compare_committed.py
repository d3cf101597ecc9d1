"""Results that are in the repository stay what they are, whatever `gradatim compare` learns."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pytest

from gradatim.compare.plan_file import differences, from_table
from gradatim.compare.results import write_results
from gradatim.compare.runner import finished_cells

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"
PLANS = sorted(RESULTS.glob("*/plan.toml"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_a_committed_plan_is_read_as_it_was_written(path):
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    plan = from_table(table).with_values(versions=table["versions"])
    assert differences(plan, table) == []


def test_committed_runs_make_the_committed_table(tmp_path):
    folder = RESULTS / "cola"
    plan = from_table(tomllib.loads((folder / "plan.toml").read_text(encoding="utf-8")))
    cells = finished_cells(plan, folder)
    write_results(plan, cells, {}, tmp_path, command="")
    assert (tmp_path / "results.csv").read_text() == (folder / "results.csv").read_text()


def test_a_run_from_before_a_metric_was_known_has_no_value_for_it(tmp_path):
    folder = RESULTS / "cola"
    plan = from_table(tomllib.loads((folder / "plan.toml").read_text(encoding="utf-8")))
    cells = dict(list(finished_cells(plan, folder).items())[:2])
    new, old = cells.values()
    new["scores"]["f1"] = 0.5
    write_results(plan, cells, {}, tmp_path, command="")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["test_f1"] for row in rows] == ["0.5", ""]
    assert rows[1]["test_mcc"] == str(old["scores"]["mcc"])
