"""All benchmarks in one command; each compares with its opponent in the same run.

python benchmarks/run.py            # about four minutes
python benchmarks/run.py --large    # also draws from 100 M, about six minutes and 4 GB
"""

from __future__ import annotations

import argparse

import data_parameters
import facility
import layers
import loader
import nuclear
import selecting
import selection
import step
import torch


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _print(title: str, rows: list[dict]) -> None:
    print(f"\n{title}")
    names = list(rows[0])
    cells = [[_shown(row[name]) for name in names] for row in rows]
    widths = [max(len(n), *(len(c[i]) for c in cells)) for i, n in enumerate(names)]
    for line in [names, *cells]:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def main() -> None:
    """Run and print every benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--large", action="store_true", help="also N = 100 M draws and 1 M in facility location"
    )
    parser.add_argument(
        "--only",
        choices=[
            *("step", "selection", "loader", "facility", "layers", "nuclear", "data_parameters"),
            "selecting",
        ],
    )
    parser.add_argument("--opponent", help="Python with apricot; see facility.py")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if arguments.only in (None, "step"):
        _print(
            "Step bookkeeping: microseconds added to loss, mean and backward of a plain loop",
            step.run(),
        )
    if arguments.only in (None, "loader"):
        _print("Loader: microseconds per batch of 128 samples of 16 x 16", loader.run())
    if arguments.only in (None, "selection"):
        sizes = (1_000_000, 10_000_000) + ((100_000_000,) if arguments.large else ())
        title = "Weighted draw of half without replacement, against numpy Generator.choice"
        _print(title, selection.run(sizes=sizes))
    if arguments.only in (None, "facility"):
        title = "Facility location, 64 dimensions, against apricot's stochastic optimizer"
        _print(title, facility.run(opponent=arguments.opponent))
        if arguments.large:
            _print("Facility location of many samples", facility.run_large())
    if arguments.only in (None, "layers"):
        title = "Model-level methods: a ResNet-18 step, batch 32, against the plain loop"
        _print(title, layers.run(names=("LeRaC", "LeRaC when over", "CBS")))
    if arguments.only in (None, "nuclear"):
        title = "Nuclear norm of 25 x 250 x 768 hidden states, against torch.linalg.svdvals"
        _print(title, nuclear.run())
    if arguments.only in (None, "data_parameters"):
        title = "Data parameters: microseconds added to a plain step, against a dense optimizer"
        _print(title, data_parameters.run())
    if arguments.only in (None, "selecting"):
        title = "RHO-Loss: microseconds to choose 128 of 1,280, without the model, against NumPy"
        _print(title, selecting.run())


if __name__ == "__main__":
    main()
