"""Facility location at 64 dimensions against apricot's stochastic optimizer, in one run.

python benchmarks/facility.py --opponent apricot/bin/python     # the comparison, about a minute
python benchmarks/facility.py --large                           # also N = 50,000 and 1 M

apricot wants an environment of its own:

    python -m venv apricot
    apricot/bin/pip install apricot-select==0.6.1 scikit-learn==1.9.1 numba==0.68.1 numpy==2.4.6

Both get the same features and the same scale s, look at m / k log(10) candidates per step
(epsilon = .1; apricot rounds down, we round up), and take turns, each with its own seed per round.
apricot works on the whole matrix of similarities, so it has three times here: ``greedy_s``, its
optimizer alone, on a matrix given for free and with its loops compiled already; ``fit_s``, a call
of its ``fit`` on that matrix, which compiles the loops anew each time; and ``apricot_s``, what it
takes from features to the choice: matrix and ``fit``. Ours goes from features to the choice too.
Both objectives are our `facility_value`. Other work on the machine stretches the times of
several threads many times over: ``--threads 1`` and the ``cpu_s`` of both are for such a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

EPSILON = 0.1
COLUMNS = 64
ROUNDS = 3
POOLS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
MISSING = "skipped: --opponent PYTHON, of an environment made as the docstring of facility.py says"


class Child:
    """This script in another process, which answers each line of JSON with one."""

    def __init__(self, python: str, role: str, *arguments: str, threads: int | None) -> None:
        count = {} if threads is None else {f"{pool}_NUM_THREADS": str(threads) for pool in POOLS}
        self.process = subprocess.Popen(
            [python, __file__, "--role", role, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | count,
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process ended with status {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def _answers(call: Any) -> None:
    for line in sys.stdin:
        print(json.dumps(call(**json.loads(line))), flush=True)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _load() -> float:
    return os.getloadavg()[0]


def _opponent(path: str) -> None:
    """Answer with apricot's choice; runs in its environment, without torch and gradatim."""
    from apricot import FacilityLocationSelection
    from apricot.functions import facilityLocation as module  # noqa: N813

    with np.load(path) as data:
        z, scale, k = data["z"], float(data["scale"]), int(data["k"])
    compiled: dict[tuple, Any] = {}
    build_loop, build_sieve = module.calculate_gains, module.calculate_gains_sieve

    def keep(build: Any) -> Any:
        def kept(*given: Any) -> Any:
            if (build, given) not in compiled:
                compiled[build, given] = build(*given)
            return compiled[build, given]

        return kept

    def matrix() -> np.ndarray:
        # float32 products and exponentials are quicker; the result is float64, which fit asks for.
        found = np.empty((len(z), len(z)))
        norms = (z**2).sum(1)
        for start in range(0, len(z), 128):
            part = z[start : start + 128] @ z.T
            part *= 2
            part -= norms
            part -= norms[start : start + 128, None]
            np.minimum(part, 0, out=part)
            part *= np.float32(0.5 / scale**2)
            np.exp(part, out=found[start : start + 128], dtype=np.float32)
        return found

    def fit(similarities: np.ndarray, seed: int) -> tuple[float, list[int]]:
        start = time.perf_counter()
        selection = FacilityLocationSelection(
            k,
            metric="precomputed",
            optimizer="stochastic",
            optimizer_kwds={"epsilon": EPSILON},
            random_state=seed,
        ).fit(similarities)
        return time.perf_counter() - start, [int(i) for i in selection.ranking]

    def answer(seed: int) -> dict[str, Any]:
        start, cpu = time.perf_counter(), time.process_time()
        similarities = matrix()
        build = time.perf_counter() - start
        module.calculate_gains, module.calculate_gains_sieve = build_loop, build_sieve
        whole, chosen = fit(similarities, seed)
        cpu = time.process_time() - cpu
        module.calculate_gains, module.calculate_gains_sieve = keep(build_loop), keep(build_sieve)
        if not compiled:
            fit(similarities, seed)
        greedy, again = fit(similarities, seed)
        assert again == chosen
        times = {"matrix_s": build, "fit_s": whole, "greedy_s": greedy, "cpu_s": cpu}
        return times | {"chosen": chosen}

    _answers(answer)


def _ours(path: str) -> None:
    """Answer with our choice."""
    import torch

    from gradatim.selection import facility_location

    with np.load(path) as data:
        z, scale, k = torch.from_numpy(data["z"]), float(data["scale"]), int(data["k"])

    def answer(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        start, cpu = time.perf_counter(), time.process_time()
        found = facility_location(z, k, epsilon=EPSILON, scale=scale, generator=generator)
        times = {"ours_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        return times | {"chosen": found.tolist()}

    _answers(answer)


def _alone() -> None:
    """Answer with time and memory of one large choice, scale included."""
    import torch

    from gradatim.selection import facility_location

    def answer(size: int, k: int, reference: int | None) -> dict[str, Any]:
        draws = torch.Generator().manual_seed(0)
        z = torch.randn(size, COLUMNS, generator=draws)
        rows = None if reference is None else z[torch.randperm(size, generator=draws)[:reference]]
        facility_location(z[:1000], 10, generator=draws)  # what is loaded on first use
        before, start = _peak_mib(), time.perf_counter()
        cpu = time.process_time()
        facility_location(z, k, epsilon=EPSILON, reference=rows, generator=draws)
        return {
            "ours_s": time.perf_counter() - start,
            "cpu_s": time.process_time() - cpu,
            "more_MiB": _peak_mib() - before,
            "process_MiB": _peak_mib(),
        }

    _answers(answer)


def run(
    *,
    opponent: str | None = None,
    size: int = 10_000,
    k: int = 1_000,
    rounds: int = ROUNDS,
    threads: int | None = None,
) -> list[dict]:
    """Best of ``rounds`` turns of each, and the mean objective of as many choices of each."""
    import torch

    from gradatim.selection.facility import facility_value, mean_distance

    z = torch.randn(size, COLUMNS, generator=torch.Generator().manual_seed(0))
    scale = mean_distance(z, generator=torch.Generator().manual_seed(0))
    row: dict[str, Any] = {"N": size, "k": k}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "features.npz")
        np.savez(path, z=z.numpy(), scale=scale, k=k)
        contestants = {"ours": Child(sys.executable, "ours", path, threads=threads)}
        if opponent is not None:
            contestants["apricot"] = Child(opponent, "opponent", path, threads=threads)
        taken: dict[str, list[dict]] = {name: [] for name in contestants}
        loads = []
        for seed in range(rounds):
            for name, child in contestants.items():
                loads.append(_load())
                taken[name].append(child.ask(seed=seed))
        for child in contestants.values():
            child.close()
    values = {
        name: [facility_value(z, turn["chosen"], scale=scale) for turn in turns]
        for name, turns in taken.items()
    }
    row["ours_s"] = ours = min(turn["ours_s"] for turn in taken["ours"])
    row["ours_cpu_s"] = min(turn["cpu_s"] for turn in taken["ours"])
    row["ours_value"] = float(np.mean(values["ours"]))
    if opponent is None:
        row["apricot"] = MISSING
    else:
        turns = taken["apricot"]
        row["apricot_s"] = min(turn["matrix_s"] + turn["fit_s"] for turn in turns)
        row["ratio"] = row["apricot_s"] / ours
        row["apricot_cpu_s"] = min(turn["cpu_s"] for turn in turns)
        for name in ("matrix_s", "fit_s", "greedy_s"):
            row[name] = min(turn[name] for turn in turns)
        row["apricot_value"] = float(np.mean(values["apricot"]))
        row["value_ratio"] = row["ours_value"] / row["apricot_value"]
    row["load"] = max(loads)
    return [row]


def run_large(
    *,
    threads: int | None = None,
    cases: tuple[tuple[int, int, int | None], ...] = (
        (50_000, 500, None),
        (1_000_000, 1_000, 2_000),
    ),
) -> list[dict]:
    """Seconds with the scale, and MiB above the process with its data, of (N, k, reference)."""
    rows = []
    for size, k, reference in cases:
        load = _load()
        child = Child(sys.executable, "alone", threads=threads)
        row = {"N": size, "k": k, "reference": size if reference is None else reference}
        rows.append(row | child.ask(size=size, k=k, reference=reference) | {"load": load})
        child.close()
    return rows


def main() -> None:
    """Run, or play a part of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--opponent", help="the interpreter of an environment with apricot")
    parser.add_argument("--large", action="store_true", help="also N = 50,000 and 1 M")
    parser.add_argument("--threads", type=int, help="of each; as many as it takes if left out")
    parser.add_argument("--role", choices=["ours", "opponent", "alone"], help=argparse.SUPPRESS)
    parser.add_argument("path", nargs="?", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role is not None:
        part = {"ours": _ours, "opponent": _opponent, "alone": lambda _: _alone()}
        part[arguments.role](arguments.path)
        return
    rows = run(opponent=arguments.opponent, threads=arguments.threads)
    if arguments.large:
        rows += run_large(threads=arguments.threads)
    for row in rows:
        print({name: round(v, 3) if isinstance(v, float) else v for name, v in row.items()})


if __name__ == "__main__":
    main()
