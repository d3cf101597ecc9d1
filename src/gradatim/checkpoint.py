"""Saving and resuming a curriculum, exactly, at any step and with any number of processes.

A checkpoint within an epoch holds the plan (tables may have moved on since it was made), the
position in samples of the global plan, the observations that are not applied yet, and what each
rank wrote since the last merge.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from gradatim import distributed
from gradatim.plan import Plan
from gradatim.table import Table, last_of_each
from gradatim.validation import refusal

if TYPE_CHECKING:
    from gradatim.curriculum import Curriculum

__all__ = ["check", "collect", "load", "save"]

VERSION = 1
_KEYS = (
    *("version", "size", "seed", "epoch", "step", "world", "clock", "previous_rate", "seen"),
    *("previous", "methods", "position", "unmerged"),
)
_METHOD_KEYS = ("class", "tables", "state")
_POSITION_KEYS = ("consumed", "batch_in_epoch", "plan", "weights", "batch_scale")
_UNMERGED_KEYS = ("log", "local")


def _within_epoch(curriculum: Curriculum) -> bool:
    epochs = curriculum.epochs
    return epochs.plan_cached is not None and epochs.begun


def _unmerged(curriculum: Curriculum) -> dict[str, Any]:
    """All ranks' log rows and local table rows (collective)."""
    epochs = curriculum.epochs
    # Whether a rank's log is empty is the same everywhere but under uneven padding; the columns
    # of an empty log are unknown, so ranks exchange names and shapes first.
    rows = epochs.log.rows() if len(epochs.log) else None
    layouts = distributed.gather_objects(
        None
        if rows is None
        else {
            name: (tuple(column.shape[1:]), str(column.dtype).removeprefix("torch."))
            for name, column in rows["columns"].items()
        }
    )
    layout = next((found for found in layouts if found is not None), None)
    log = None
    if layout is not None:
        if rows is None:
            empty = torch.zeros(0)
            rows = {
                "index": empty.long(),
                "losses": empty,
                "step": empty.long(),
                "learning_rate": empty.double(),
                "previous_rate": empty.double(),
                "clock": empty.double(),
                "columns": {
                    name: torch.zeros((0, *shape), dtype=getattr(torch, dtype))
                    for name, (shape, dtype) in layout.items()
                },
            }
        flat = {**{k: v for k, v in rows.items() if k != "columns"}}
        flat.update({f"column:{name}": column for name, column in rows["columns"].items()})
        flat["rank"] = torch.full_like(rows["index"], epochs.run.rank)
        names = list(flat)
        gathered = distributed.gather_rows([flat[name].cpu() for name in names])
        log = dict(zip(names, gathered, strict=True))
    local = [
        {name: _local(table) for name, table in method.tables().items()}
        for method in curriculum.methods
    ]
    return {"log": log, "local": local}


def _local(table: Table) -> dict[str, torch.Tensor] | None:
    """Every rank's value of each row that any rank wrote since the merge (collective)."""
    table.agree_on_shape()
    index, _, _ = table.local_rows()
    (union,) = distributed.gather_rows([index.cpu()])
    union = torch.unique(union)
    if union.numel() == 0:
        return None
    added, written = table._added, table._written
    where = union.to(table.storage.device)
    rows = table.storage[where] if added is None else added[where]
    steps = torch.zeros_like(where) if written is None else written[where]
    world = distributed.world_and_rank()[0]
    assert table.shape is not None
    rows, steps = distributed.gather_rows([rows.cpu(), steps.cpu()])
    return {
        "index": union,
        "rows": rows.reshape(world, union.numel(), *table.shape),
        "steps": steps.reshape(world, union.numel()),
    }


def collect(curriculum: Curriculum) -> None:
    """See `Curriculum.collect`."""
    curriculum.epochs.look_up_world()
    curriculum._collected = (curriculum.step, curriculum.epoch, _unmerged(curriculum))


def save(curriculum: Curriculum) -> dict[str, Any]:
    """See `Curriculum.state_dict`."""
    epochs = curriculum.epochs
    if not epochs.bound:
        raise RuntimeError(
            "state_dict needs the data set's size: call curriculum.loader(...) first."
        )
    run = epochs.run
    position = unmerged = None
    if _within_epoch(curriculum):
        plan = epochs.plan()
        position = {
            "consumed": epochs.consumed(),
            "batch_in_epoch": epochs.batch_in_epoch,
            "plan": plan.index.clone(),
            "weights": None if plan.weights is None else plan.weights.clone(),
            "batch_scale": plan.batch_scale,
        }
    if position is not None or len(epochs.log):
        if run.world == 1:
            unmerged = _unmerged(curriculum)
        else:
            step, epoch, unmerged = curriculum._collected or (-1, -1, {})
            if (step, epoch) != (run.step, run.epoch):
                raise RuntimeError(
                    "state_dict within an epoch must follow collect() on every rank, at the same "
                    "step. Then any rank may call it."
                )
    return {
        "version": VERSION,
        "size": run.size,
        "seed": curriculum.seed,
        "epoch": run.epoch,
        "step": run.step,
        "world": run.world,
        "clock": float(curriculum.clock.time),
        "previous_rate": None
        if curriculum.clock.previous is None
        else float(curriculum.clock.previous),
        "seen": epochs.seen.clone(),
        "previous": None if epochs.previous is None else epochs.previous.clone(),
        "methods": [
            {
                "class": type(method).__name__,
                "tables": {
                    # clone(): .cpu() of a CPU tensor is the live table itself.
                    name: table.storage.detach().clone().cpu() if table.allocated else None
                    for name, table in method.tables().items()
                },
                "state": copy.deepcopy(method.state_dict()),
            }
            for method in curriculum.methods
        ],
        "position": position,
        "unmerged": unmerged,
    }


def check(curriculum: Curriculum, state: Any) -> None:
    """Refuse a state that does not fit, before anything changes."""
    if not isinstance(state, dict):
        raise TypeError(f"state must be a dict from state_dict(). Got {type(state).__name__}.")
    if state.get("version", VERSION) != VERSION:
        raise refusal("state", f"of version {VERSION}", f"version {state['version']}")
    _require(_KEYS, state, "one")
    for saved in state["methods"]:
        _require(_METHOD_KEYS, saved, "a method")
    for name, keys in (("position", _POSITION_KEYS), ("unmerged", _UNMERGED_KEYS)):
        if state[name] is not None:
            _require(keys, state[name], f"a {name!r}")
    theirs = [saved["class"] for saved in state["methods"]]
    ours = [type(method).__name__ for method in curriculum.methods]
    if theirs != ours:
        raise refusal("state", f"of the methods {ours}", theirs, "Is it from another curriculum?")
    if not curriculum.epochs.bound:
        return
    if state["size"] != curriculum.run.size:
        cause = "Is it from another data set?"
        raise refusal("state", f"of {curriculum.run.size} samples", state["size"], cause)
    for method, saved in zip(curriculum.methods, state["methods"], strict=True):
        tables = method.tables()
        if set(saved["tables"]) != set(tables):
            found = sorted(saved["tables"])
            raise refusal("state", f"with the tables {sorted(tables)} of {method!r}", found)
        lost = sorted(set(method.state_dict()) - set(saved["state"]))
        if lost:
            raise refusal("state", f"with {lost} of {method!r}", sorted(saved["state"]))
        for name, table in tables.items():
            values = saved["tables"][name]
            if not table.takes(values, state["size"] if table.per_sample else 1):
                rule = f"with {name!r} of {method!r} of {table.expected}"
                raise refusal("state", rule, values)


def _require(keys: tuple[str, ...], found: dict[str, Any], what: str) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        raise refusal("state", "a dict from Curriculum.state_dict()", f"{what} without {missing}")


def load(curriculum: Curriculum, state: dict[str, Any]) -> None:
    """See `Curriculum.load_state_dict`."""
    check(curriculum, state)
    epochs = curriculum.epochs
    epochs.forget_stream()
    epochs.plan_cached = None
    epochs.batch_in_epoch = epochs.resumed_at = epochs.start = 0
    epochs.look_up_world()
    run = epochs.run
    curriculum.seed = epochs.seed = run.seed = state["seed"]
    run.epoch, run.step = state["epoch"], state["step"]
    curriculum.clock.time, curriculum.clock.previous = state["clock"], state["previous_rate"]
    epochs.seen = state["seen"].clone()
    epochs.previous = None if state["previous"] is None else state["previous"].clone()
    epochs.log.clear()
    curriculum._collected = None
    epochs.reset_tracking()
    for method, saved in zip(curriculum.methods, state["methods"], strict=True):
        for name, table in method.tables().items():
            table.restore(saved["tables"][name])
        method.load_state_dict(copy.deepcopy(saved["state"]))
    epochs.track()

    position, unmerged = state["position"], state["unmerged"]
    if position is not None:
        weights = position["weights"]
        epochs.plan_cached = Plan(
            position["plan"].clone(),
            None if weights is None else weights.clone(),
            position["batch_scale"],
        )
        epochs.batch_in_epoch = epochs.resumed_at = position["batch_in_epoch"]
        epochs.start = position["consumed"]
    if unmerged is None:
        return
    same_world = run.world == state["world"]
    if unmerged["log"] is not None:
        epochs.log.restore(_own_rows(unmerged["log"], run, same_world), epochs.device or _CPU)
    for method, local in zip(curriculum.methods, unmerged["local"], strict=True):
        for name, table in method.tables().items():
            if local[name] is not None:
                _restore_local(table, local[name], run.rank, same_world)


_CPU = torch.device("cpu")


def _own_rows(log: dict[str, torch.Tensor], run: Any, same_world: bool) -> dict[str, Any]:
    """This rank's log; with another number of processes the first rank takes all of it."""
    if same_world:
        keep = (log["rank"] == run.rank).nonzero().squeeze(1)
    elif run.rank == 0:
        keep = torch.argsort(log["step"], stable=True)
    else:
        keep = torch.zeros(0, dtype=torch.int64)
    rows: dict[str, Any] = {"columns": {}}
    for name, values in log.items():
        if name.startswith("column:"):
            rows["columns"][name.removeprefix("column:")] = values[keep]
        else:
            rows[name] = values[keep]
    return rows


def _restore_local(
    table: Table, local: dict[str, torch.Tensor], rank: int, same_world: bool
) -> None:
    index, rows, steps = local["index"], local["rows"], local["steps"]
    if same_world:
        table.restore_rows(index, rows[rank], steps[rank])
        return
    if table.merge == "sum":
        if rank == 0:
            table.restore_rows(index, rows.sum(0), steps[0])
        return
    world = rows.shape[0]
    everyone = index.repeat(world)
    flat = steps.reshape(-1)
    order = torch.argsort(flat, stable=True)
    winner = order[last_of_each(everyone[order])]
    chosen = rows.flatten(0, 1)[winner]
    # All ranks hold the row; only the first counts as its writer.
    when = flat[winner] if rank == 0 else torch.full_like(flat[winner], -1)
    table.restore_rows(everyone[winner], chosen, when)
