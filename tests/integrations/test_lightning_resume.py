"""Lightning checkpoints taken anywhere, resumed, in one process and two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ddp.toy import differences
from integrations.lightning_toy import CHATTER, Trace, train, train_ranks

pytestmark = [pytest.mark.filterwarnings(line) for line in CHATTER]

EVERY_STEP = {"every_n_train_steps": 1, "save_top_k": -1, "filename": "{step}"}
EVERY_EPOCH = {"every_n_epochs": 1, "save_top_k": -1, "filename": "{step}"}
EPOCH_END = {**EVERY_EPOCH, "save_on_train_epoch_end": True}
# Where checkpoints are taken: after batches, after the validation, after that.
SAVES = {"steps": EVERY_STEP, "validation": EVERY_EPOCH, "epoch": EPOCH_END}


def saved(folder: Path) -> dict[int, str]:
    """The checkpoints of a run by the optimizer steps before them."""
    found = {int(path.stem.partition("=")[2]): str(path) for path in folder.glob("*.ckpt")}
    return dict(sorted(found.items()))


def assert_goes_on(trace: Trace, whole: Trace, after: int) -> None:
    """A run resumed after `after` optimizer steps did what the uninterrupted one did."""
    done = len(whole.codes) - len(trace.codes)
    assert trace.codes == whole.codes[done:], "order"
    assert trace.losses == whole.losses[done:], "losses"
    assert trace.rates == whole.rates[done:], "learning rates"
    assert trace.validated == [step for step in whole.validated if step > after], "validation"
    assert differences(trace.parameters, whole.parameters) == [], "parameters"
    assert differences(trace.curriculum, whole.curriculum) == [], "curriculum"


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Uniform", {}),
        ("zigzag", {}),
        ("growing", {"accumulate_grad_batches": 2}),
        ("zigzag", {"max_steps": 9}),
        ("shrinking", {"limit_train_batches": 2}),
        ("growing", {"val_check_interval": 2}),
    ],
    ids=str,
)
def test_resumes_from_any_checkpoint(
    name: str, options: dict[str, Any], save: str, tmp_path: Path
) -> None:
    """Order, losses, rates, validation, parameters and curriculum, to the bit."""
    whole = train(name, tmp_path, save=SAVES[save], **options)
    checkpoints = saved(tmp_path)
    assert len(checkpoints) >= 3
    for after, path in list(checkpoints.items())[1::2]:
        resumed = train(name, tmp_path, save=SAVES[save], resume=path, **options)
        assert_goes_on(resumed, whole, after)


def test_two_processes_equal_one_and_resume(run_ranks: Any, tmp_path: Path) -> None:
    """Two processes with batches of 4 do what one does with batches of 8, resumed or not."""
    one = train("growing", size=37)  # one sample more than two processes share evenly
    plain = {"name": "growing", "size": 37, "batch_size": 4, "folder": tmp_path / "ckpt"}
    plain |= {"save": {**EVERY_STEP, "every_n_train_steps": 5}}
    (whole,), (other,) = ranks = run_ranks(train_ranks, 2, plain)
    assert_ranks_equal_one([whole, other], one)
    checkpoints = saved(tmp_path / "ckpt")
    assert sorted(checkpoints) == [5, 10]  # after an epoch, and within one
    runs = [{**plain, "resume": path} for path in checkpoints.values()]
    resumed = run_ranks(train_ranks, 2, *runs)
    for number, after in enumerate(checkpoints):
        for rank in range(2):
            assert_goes_on(resumed[rank][number], ranks[rank][0], after)
    # As many processes as you have: what two saved one goes on with.
    alone = train("growing", tmp_path / "ckpt", size=37, resume=checkpoints[10], save=plain["save"])
    for found, value in zip(alone.parameters, one.parameters, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-12)


def assert_ranks_equal_one(ranks: list[Trace], one: Trace) -> None:
    """Rows, losses over all ranks, and parameters."""
    for trace in ranks:
        assert trace.validated == one.validated
        assert trace.lengths == one.lengths
        for found, value in zip(trace.parameters, one.parameters, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-12)
    for step, rows in enumerate(one.codes):
        for rank, trace in enumerate(ranks):
            real = [code for code in trace.codes[step] if code >= 0]
            assert real == rows[rank :: len(ranks)], f"step {step} of rank {rank}"
        losses = [trace.losses[step] for trace in ranks]
        assert sum(losses) / len(ranks) == pytest.approx(one.losses[step], rel=1e-9)
