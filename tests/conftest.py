"""What every test may rely on: one thread, seeds that nothing moves, small data, ranks."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for its children

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from ranks import Ranks

# Sums of floats depend on how threads cut them; with one thread "to the bit" means something.
torch.set_num_threads(1)

# A deadline in milliseconds measures the machine, not the property. The same examples in every run,
# so that a red one can be repeated; `--hypothesis-profile explore` looks for others.
hypothesis.settings.register_profile("gradatim", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("gradatim")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what measures on real data where the data folder beside the checkout is absent."""
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason="needs the data folder shared/data beside the checkout")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


def _rng_state() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Each test finds the global generators in one state and leaves no trace in them.

    Model initialisers and dropout may draw from them; samples, orders and noise in tests come
    from a generator of the test's own.
    """
    python, numpy, pytorch = _rng_state()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(pytorch)


@pytest.fixture
def watch_global_rng() -> Callable[[], Callable[[], list[str]]]:
    """`moved = watch_global_rng()`: from then on, `moved()` names what was drawn from or seeded.

    Of Python's, NumPy's and torch's global generators; a test ends in `assert moved() == []`.
    """

    def watch() -> Callable[[], list[str]]:
        python, numpy, pytorch = _rng_state()

        def moved() -> list[str]:
            now_python, now_numpy, now_pytorch = _rng_state()
            same = {
                "Python": now_python == python,
                "NumPy": all(map(np.array_equal, now_numpy, numpy)),
                "torch": torch.equal(now_pytorch, pytorch),
            }
            return [library for library, stayed in same.items() if not stayed]

        return moved

    return watch


@pytest.fixture
def generator() -> torch.Generator:
    """This test's own source of random numbers."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def dataset() -> TensorDataset:
    """64 samples: features (4,) float32 from a normal distribution, labels int64 in {0, 1, 2}.

    The label is the largest of the first three features, so a linear model can learn it.
    """
    features = torch.randn(64, 4, generator=torch.Generator().manual_seed(64))
    return TensorDataset(features, features[:, :3].argmax(1))


@functools.cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return torch.tensor(bunch.data / 16, dtype=torch.float32), torch.tensor(bunch.target)


@pytest.fixture
def digits() -> TensorDataset:
    """Scikit-learn's 1,797 digits: features (64,) float32 in [0, 1], labels int64 in 0..9."""
    features, labels = _digits()
    return TensorDataset(features.clone(), labels.clone())


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; its tests bear `@pytest.mark.shared`."""
    return SHARED


@pytest.fixture(scope="session")
def _ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    ranks = Ranks(tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.close()


@pytest.fixture
def run_ranks(_ranks: Ranks) -> Callable[..., list[Any]]:
    """`run_ranks(function, world, *args)`: the results of `function(rank, world, *args)` by rank.

    Each rank is a process in a gloo group; see `ranks.Ranks.run`.
    """
    return _ranks.run
