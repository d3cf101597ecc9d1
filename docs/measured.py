"""Tables of what was measured, from the committed results of `experiments/`."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradatim.compare.calls import Call
from gradatim.compare.report_words import Numbers, interval_of
from gradatim.compare.specs import read_curricula
from gradatim.compare.verdicts import probability

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"

FAMILIES = {
    "control": ("paced_random",),
    "predefined": ("predefined", "anti"),
    "self-paced": ("spl", "spld", "spcl"),
    "weights": ("super_loss", "focal", "data_parameters"),
    "dynamics": ("dihcl", "mcl", "docl", "doclbaseline"),
    "texts": ("spdcl",),
    "models": ("lerac", "cbs"),
    "batches": (
        "rho_loss",
        "selective_backprop",
        "ohem",
        "importance_sampling",
        "loss_proportional",
        "info_batch",
    ),
}
TITLES = {
    "control": "control: fewer samples at first, at random",
    "predefined": "predefined order",
    "self-paced": "self-paced",
    "weights": "weights: SuperLoss, focal, data parameters",
    "dynamics": "training dynamics: DIHCL, MCL, DoCL",
    "texts": "texts: SPDCL",
    "models": "model level: LeRaC, CBS",
    "batches": "selection within batches, pruning",
}
BY_PEOPLE = "cifar10n_worse"  # data whose labels people got wrong: nothing is flipped there
RANDOM = 0.9  # of ten classes' labels flipped, all are random
VERDICTS = ("helps", "equivalent", "not enough evidence", "hurts")
NONE_YET = "No comparison of these is committed yet."


@dataclass(frozen=True)
class Line:
    """One curriculum against plain training in one setting of one experiment."""

    experiment: str
    labels: str
    family: str
    curriculum: str
    found: dict[str, Any]
    numbers: Numbers
    samples: float  # through the network, surveys included; plain training is 1


@functools.cache
def experiments() -> dict[str, dict[str, Any]]:
    """By name, the results of the experiments all of whose runs are there."""
    found = {}
    for path in sorted((EXPERIMENTS / "results").glob("*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        plan = results["plan"]
        runs = len(plan["seeds"]) * len(plan["curricula"]) * len(results["settings"])
        if len(results["cells"]) == runs and not results["failures"]:
            found[path.parent.name] = results
    return found


def labels(results: dict[str, Any], setting: str) -> str:
    """Whose labels a setting trains on."""
    stress = results["task"][setting]["stress"]
    noise = stress["label_noise"]
    if noise:
        return "random" if noise >= RANDOM else f"{noise:.0%} flipped".replace("%", " %")
    by_people = Path(results["plan"]["data"]).stem.startswith(BY_PEOPLE)
    return "by people, 40 % wrong" if by_people else str(stress["title"])


def family(names: list[str]) -> str:
    """The family of a curriculum, by its methods' names."""
    for title, members in FAMILIES.items():
        if set(names) <= set(members):
            return title
    raise KeyError(f"docs/measured.py knows no family of {' + '.join(names)}: add it to FAMILIES")


@functools.cache
def lines() -> tuple[Line, ...]:
    """Every committed comparison, in the order of experiments and of their plans."""
    return tuple(itertools.chain.from_iterable(map(of_experiment, experiments())))


def of_experiment(name: str) -> Iterator[Line]:
    """The comparisons of one experiment."""
    results = experiments()[name]
    metric = results["metric"]
    for spec in read_curricula(results["plan"]["curricula"]):
        calls = (Call(spec.name, spec.parameters), *spec.also)
        for setting, scores in results["statistics"].items():
            rows = scores[metric["name"]]
            found = rows[spec.label]["comparison"]
            if found is None:  # the baseline itself
                continue
            plain, here = (rows[label]["samples"] for label in (results["baseline"], spec.label))
            yield Line(
                name,
                labels(results, setting),
                family([call.name for call in calls]),
                " + ".join(f"`{call}`" if call.parameters else call.name for call in calls),
                found,
                Numbers.of(metric, [row["mean"] for row in rows.values()]),
                (here["forward"] + here["survey"]) / plain["forward"],
            )


def comparisons(chosen: Callable[[Line], bool]) -> list[tuple[str, ...]]:
    """The rows of those that are chosen."""
    return [
        (
            f"`{line.experiment}`, {line.labels}",
            line.curriculum,
            line.numbers.signed(line.found["t_test"]["difference"])
            + f" ({line.numbers.interval(interval_of(line.found))})",
            f"{bold(line.found['verdict'])} ({probability(line.found['p_holm'])})",
            f"{line.samples:.0%}".replace("%", " %"),
        )
        for line in lines()
        if chosen(line)
    ]


def bold(verdict: str) -> str:
    """A verdict; those that say a difference stand out."""
    return f"**{verdict}**" if verdict in ("helps", "hurts") else verdict


def verdicts() -> list[tuple[str, ...]]:
    """For each family, and clean or wrong labels: how often which verdict was given."""
    rows = []
    for name, title in TITLES.items():
        for kind in ("clean", "wrong"):
            chosen = [
                line
                for line in lines()
                if line.family == name
                and line.labels != "random"
                and (kind == "wrong") == ("flipped" in line.labels or "wrong" in line.labels)
            ]
            if not chosen:
                continue
            counted = Counter(line.found["verdict"] for line in chosen)
            points = [line for line in chosen if line.numbers.unit == "points"]
            gains = [line.found["t_test"]["difference"] for line in points]
            rows.append(
                (
                    title,
                    kind,
                    str(len(chosen)),
                    ", ".join(f"{name} {counted[name]}" for name in VERDICTS if counted[name]),
                    points[0].numbers.interval((min(gains), max(gains))) if gains else "",
                )
            )
    return rows


def described() -> list[tuple[str, ...]]:
    """What each experiment is, in the words of its own file."""
    rows = []
    for name, results in experiments().items():
        text = (EXPERIMENTS / f"{name}.toml").read_text(encoding="utf-8")
        comment = re.match(r"(?:#.*\n)+", text)
        said = re.sub(r"^# ?", "", comment[0] if comment else "", flags=re.MULTILINE)
        metric = results["metric"]
        plain = [
            scores[metric["name"]][results["baseline"]]["mean"]
            for scores in results["statistics"].values()
        ]
        numbers = Numbers.of(metric, plain)
        unit = " %" if numbers.unit == "points" else ""
        rows.append(
            (
                f"`{name}`",
                " ".join(said.split()),
                results["plan"]["budget"],
                str(len(results["plan"]["seeds"])),
                f"{metric['title']} {', '.join(map(numbers.value, plain))}{unit}",
            )
        )
    return rows


def parts(table: Callable[..., str]) -> dict[str, Callable[[], str]]:
    """The generated parts, given how a table is written."""
    head = (
        *("Experiment, labels", "Curriculum", "Gain (95 % interval)", "Verdict (p after Holm)"),
        "Samples",
    )

    def compared(chosen: Callable[[Line], bool]) -> str:
        rows = comparisons(chosen)
        return table(head, rows) if rows else f"{NONE_YET}\n"

    def of_family(name: str) -> str:
        return compared(lambda line: line.family == name)

    return {
        "experiments": lambda: table(
            ("Experiment", "What it is", "Equal for all", "Seeds", "Plain training"), described()
        ),
        "verdicts": lambda: table(
            ("Family", "Labels", "Compared", "Verdicts", "Gains, in points"), verdicts()
        ),
        "helped": lambda: compared(lambda line: line.found["verdict"] == "helps"),
        **{f"measured-{name}": functools.partial(of_family, name) for name in FAMILIES},
    }
