"""A training run small enough to do hundreds of times: stopped, saved, resumed, on any rank.

`train` records what must not differ between two runs that are the same: the order, the weights,
the scores, the parameters. Losses are float64, so that sums cut differently by ranks agree in the
float32 that tables keep.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

import gradatim as gr
from gradatim.loader import INDEX_KEY
from gradatim.method import overrides

CLASSES = 3
Saved = dict[str, Any]


class Toy(Dataset):
    """`size` samples of 5 features and a label; with `noise`, augmented from the global state."""

    def __init__(self, size: int, *, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(3)
        self.features = torch.randn(size, 5, generator=generator, dtype=torch.float64)
        labels = self.features[:, :CLASSES].argmax(1)
        flipped = torch.rand(size, generator=generator) < 0.2
        self.labels = torch.where(flipped, (labels + 1) % CLASSES, labels)
        self.noise = noise

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features[index]
        if self.noise:
            features = features + self.noise * torch.randn(5, dtype=torch.float64)
        return features, self.labels[index]


class Keyed(Toy):
    """The same samples as dicts."""

    def __getitem__(self, index: int) -> Any:
        features, label = super().__getitem__(index)
        return {"features": features, "label": label}


# ---------------------------------------------------------------------------- methods of our own


class Everything(gr.Method):
    """Every kind of state a method may declare, and a plan that hangs on it."""

    wants = ("logits", "targets")

    def __init__(self) -> None:
        self.history: list[float] = []

    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss", fill=math.nan)
        self.half = gr.Table("half", dtype=torch.bfloat16)
        self.wrong = gr.Table("wrong", dtype=torch.bool)
        self.step = gr.Table("step", dtype=torch.int16, fill=-1)
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")
        self.total = gr.Table("total", dtype=torch.float64, merge="sum")
        self.logits = gr.Table("logits", shape=(CLASSES,))
        self.votes = gr.Table("votes", shape=(CLASSES,), dtype=torch.int64, merge="sum")
        self.matrix = gr.Table("matrix", shape=(2, CLASSES))
        self.rows = gr.Scalar("rows", merge="sum")
        self.last = gr.Scalar("last")
        self.unused = gr.Table("unused")

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        if run.epoch == 0:
            return pool
        count = pool.index.numel()
        score = self.loss.values[pool.index].double().nan_to_num(9.0)
        score = score + 0.01 * self.visits.values[pool.index] + self.logits.values[pool.index, 0]
        easiest = torch.argsort(score, stable=True)[: max(1, round(0.8 * count))]
        pool = pool.keep(easiest)
        return pool.weigh(1.0 + self.wrong.values[pool.index]).prefer(-score[easiest])

    def record(self, batch: gr.Batch, run: gr.Run) -> dict[str, torch.Tensor]:
        logits = batch.signals["logits"]
        return {"logits": logits, "wrong": logits.argmax(1) != batch.signals["targets"]}

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        assert isinstance(batch.step, torch.Tensor)
        logits = batch.signals["logits"]
        self.loss.write(batch.index, batch.losses)
        self.half.write(batch.index, batch.losses)
        self.wrong.write(batch.index, batch.signals["wrong"])
        self.step.write(batch.index, batch.step)
        self.visits.add(batch.index, torch.ones_like(batch.index))
        # Multiples of 1/8: sums that ranks cut differently are still exact.
        self.total.add(batch.index, (batch.losses * 8).round() / 8)
        self.logits.write(batch.index, logits)
        self.votes.add(batch.index, F.one_hot(logits.argmax(1), CLASSES))
        self.matrix.write(batch.index, torch.stack([logits, -logits], dim=1))
        self.rows.add(float(batch.size))

    def start_epoch(self, run: gr.Run) -> None:
        self.last.write(float(run.epoch))

    def end_epoch(self, run: gr.Run) -> None:
        # Alike on every rank, of merged values.
        self.history.append(float(self.visits.values.sum()))
        everyone = torch.arange(run.size)
        self.visits.add(everyone, torch.full_like(everyone, 100))
        self.rows.add(0.5)
        self.half.write(everyone[:2], torch.tensor([float(run.epoch)] * 2)[: run.size])

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = state["history"]


class WeightedMean(gr.Method):
    """Weights by the loss of this very batch, divided by their sum over all ranks."""

    reduction = "weighted_mean"

    def __init__(self, quiet_epochs: int = 0) -> None:
        self.quiet_epochs = quiet_epochs

    def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor | None:
        return None if run.epoch < self.quiet_epochs else 0.1 + batch.losses


class Visits(gr.Method):
    """Counts visits and the steps of the last one."""

    def setup(self, run: gr.Run) -> None:
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")
        self.step = gr.Table("step", dtype=torch.int64, fill=-1)
        self.loss = gr.Table("loss", fill=math.nan)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        assert isinstance(batch.step, torch.Tensor)
        self.visits.add(batch.index, torch.ones_like(batch.index))
        self.step.write(batch.index, batch.step)
        self.loss.write(batch.index, batch.losses)


class Clocked(gr.Method):
    """Remembers the learning rate and the clock of each sample's last visit."""

    wants = ("learning_rate",)

    def setup(self, run: gr.Run) -> None:
        self.rate = gr.Table("rate", dtype=torch.float64)
        self.clock = gr.Table("clock", dtype=torch.float64)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        assert isinstance(batch.learning_rate, torch.Tensor)
        assert isinstance(batch.clock, torch.Tensor)
        self.rate.write(batch.index, batch.learning_rate)
        self.clock.write(batch.index, batch.clock)


def _pace(start: float = 0.4, epochs: float = 3) -> Any:
    return gr.pacing.Linear(start_fraction=start, epochs=epochs)


def _score(size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(8))


METHODS: dict[str, Callable[[int], list[gr.Method]]] = {
    "none": lambda size: [],
    "Uniform": lambda size: [gr.Uniform()],
    "Predefined subset": lambda size: [gr.Predefined(_score(size), pace=_pace())],
    "Predefined soft": lambda size: [gr.Predefined(_score(size), pace=_pace(), mode="soft")],
    "Predefined window": lambda size: [
        gr.Predefined(_score(size), pace=_pace(), mode="window", width=0.3, order="anti")
    ],
    "Predefined balanced": lambda size: [
        gr.Predefined(_score(size), pace=_pace(), balanced=Toy(size).labels)
    ],
    "PacedRandom": lambda size: [gr.PacedRandom(pace=_pace())],
    "SPL hard": lambda size: [gr.SPL(pace=_pace())],
    "SPL linear": lambda size: [gr.SPL("linear", pace=_pace())],
    "SPL logarithmic": lambda size: [gr.SPL("logarithmic", pace=_pace())],
    "SPL mixture": lambda size: [gr.SPL("mixture", pace=_pace())],
    "SPL by value": lambda size: [gr.SPL("linear", growth=1.2)],
    "SPL surveyed": lambda size: [gr.SPL(pace=_pace(), warmup_epochs=0, survey_every_epochs=1)],
    "SPLD": lambda size: [gr.SPLD(Toy(size).labels, pace=_pace(), gamma=0.3)],
    "SPCL": lambda size: [gr.SPCL(_score(size), pace=_pace())],
    "Focal": lambda size: [gr.Focal(gamma=2.0)],
    "SuperLoss": lambda size: [gr.SuperLoss()],
    "SuperLoss mean": lambda size: [gr.SuperLoss(tau="mean")],
    "SuperLoss log_classes": lambda size: [gr.SuperLoss(tau="log_classes")],
    "InfoBatch": lambda size: [gr.InfoBatch(4)],
    "InfoBatch fixed": lambda size: [gr.InfoBatch(None, ratio=0.7, unbiased="step", mode="fixed")],
    "InfoBatch quantile": lambda size: [gr.InfoBatch(4, threshold=0.8)],
    "DataParameters": lambda size: [gr.DataParameters()],
    "DataParameters class": lambda size: [gr.DataParameters("class", class_decay=0.1)],
    "DataParameters both": lambda size: [
        gr.DataParameters("both", decay=0.1),
        gr.InfoBatch(4),
    ],
    "Dynamics": lambda size: [gr.Dynamics()],
    "DIHCL exp": lambda size: [gr.DIHCL("loss", "exp", warmup_epochs=1, gamma_k=0.7)],
    "DIHCL rand": lambda size: [gr.DIHCL("loss_change", "rand", warmup_epochs=2, gamma_k=0.7)],
    "DIHCL beta": lambda size: [gr.DIHCL("flip", "beta", warmup_epochs=2, gamma_k=0.7)],
    "DIHCL pruned": lambda size: [
        gr.DIHCL("loss", "rand", warmup_epochs=1, gamma_k=0.8, prune=0.7)
    ],
    "DoCL": lambda size: [gr.DoCL(episodes=(1, 3), batch_mul=2, gamma_k=0.6)],
    "DoCL exp3": lambda size: [
        gr.DoCL(episodes=(1, 4), batch_mul=2, gamma_k=0.6, exp3=True, dtype="float16")
    ],
    "DoCL pruned": lambda size: [gr.DoCL(episodes=(1, 4), batch_mul=2, prune=0.6)],
    "DoCL-NR": lambda size: [gr.DoCL(episodes=(1, 3), score="norm", k_min=0.4)],
    "DoCLBaseline": lambda size: [
        gr.DoCLBaseline(1, episodes=(1, 2), batch_mul=2, flow_size=24, fraction=0.4)
    ],
    "MCL facility": lambda size: [
        gr.MCL(start_fraction=0.4, growth=0.3, inner_epochs=1, function="facility", greedy="lazy")
    ],
    "MCL reuse": lambda size: [
        gr.MCL(
            start_fraction=0.4,
            inner_epochs=2,
            reuse=True,
            reuse_share=0.4,
            features=Toy(size).features.abs(),
        )
    ],
    "MCL clusters": lambda size: [
        gr.MCL(start_fraction=0.4, inner_epochs=1, clusters=8, features=Toy(size).features.abs())
    ],
    "SPDCL": lambda size: [gr.SPDCL(min(3, size))],
    "SPDCL reviewed": lambda size: [gr.SPDCL(min(4, size), change="abs", review=0.5, tie="index")],
    "SPDCL from training": lambda size: [gr.SPDCL(min(5, size), measure="training")],
    "SPDCL fixed": lambda size: [gr.SPDCL(min(4, size), change="none", norm="word")],
    "CBS": lambda size: [gr.CBS(3, decay=0.8, every=1)],
    "LeRaC": lambda size: [gr.LeRaC(2, last=0.05, layers=["weight", "bias"])],
    "LeRaC by step": lambda size: [
        gr.LeRaC(2, first=0.5, last=0.05, unit="step", layers=["weight", "bias"]),
        gr.Predefined(_score(size), pace=_pace()),
    ],
    "DIHCL with SuperLoss": lambda size: [
        gr.DIHCL("loss_change", "exp", warmup_epochs=2, gamma_k=0.7),
        gr.SuperLoss(),
    ],
    "pipeline": lambda size: [
        gr.Predefined(_score(size), pace=_pace(0.6), mode="soft"),
        gr.SPL("linear", pace=_pace(0.6)),
        gr.SuperLoss(),
        gr.Focal(gamma=0.5),
    ],
    "LossProportional": lambda size: [gr.LossProportional(keep=0.6, power=0.7)],
    "Everything": lambda size: [Everything()],
    "WeightedMean": lambda size: [WeightedMean()],
    "WeightedMean quiet": lambda size: [WeightedMean(quiet_epochs=1), gr.SPL(pace=_pace())],
    "Visits": lambda size: [Visits()],
    "Clocked": lambda size: [Clocked()],
}


# Each rank chooses from its own candidates, so that two of them do not equal one.
BY_RANK: dict[str, Callable[[int], list[gr.Method]]] = {
    "ImportanceSampling": lambda size: [gr.ImportanceSampling(threshold=1.05, momentum=0.5)],
    "ImportanceSampling loss": lambda size: [
        gr.ImportanceSampling("loss", threshold=0, power=0.5),
        gr.SPL(pace=_pace()),
    ],
    "RHOLoss": lambda size: [gr.RHOLoss(_score(size))],
    "SelectiveBackprop": lambda size: [gr.SelectiveBackprop(history=11)],
    "SelectiveBackprop stale": lambda size: [
        gr.SelectiveBackprop(2.0, history=100, stale_epochs=1)
    ],
    "SelectiveBackprop rank": lambda size: [gr.SelectiveBackprop(draw="rank")],
    "OHEM": lambda size: [gr.OHEM(keep=0.6)],
}
METHODS |= BY_RANK


# ---------------------------------------------------------------------------- a run


@dataclass
class Trace:
    """What two equal runs have in common, step by step and at the end.

    `codes` are this rank's rows, padding as ~index; `saved` holds bytes by step.
    """

    codes: list[list[int]] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    features: list[torch.Tensor] = field(default_factory=list)
    saved: dict[int, bytes] = field(default_factory=dict)
    parameters: list[torch.Tensor] = field(default_factory=list)
    scores: dict[str, torch.Tensor] = field(default_factory=dict)
    final: Saved = field(default_factory=dict)

    def real(self) -> list[list[int]]:
        """The rows of every step that count."""
        return [[code for code in codes if code >= 0] for codes in self.codes]


def flat(lists: Iterable[list[int]]) -> list[int]:
    """All entries, in order."""
    return list(itertools.chain.from_iterable(lists))


def dump(state: Any) -> bytes:
    """As `torch.save` to a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def restore(saved: bytes) -> Any:
    """As a careful user loads a file."""
    return torch.load(io.BytesIO(saved), weights_only=True)


def network(name: str) -> nn.Module:
    """A linear model, or one that convolves for methods that blur."""
    if not name.startswith("CBS"):
        return nn.Linear(5, CLASSES, dtype=torch.float64)
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)),
        nn.Conv1d(1, 2, 3, padding=1),
        nn.Flatten(),
        nn.Linear(10, CLASSES),
    ).double()


def states_of(x: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Texts of one or two tokens, of which the model makes the first."""
    hidden = torch.stack([logits, x[:, :CLASSES]], 1)
    mask = torch.stack([torch.ones_like(x[:, 0]), (x[:, 4] > 0).to(x.dtype)], 1)
    return {"hidden": hidden, "mask": mask}


def train(
    name: str,
    size: int = 35,
    *,
    batch_size: int = 8,
    epochs: int = 3,
    state: bytes | None = None,
    stop: int | None = None,
    save_at: Any = (),
    break_at: Any = (),
    early: bool = False,
    seed: int = 0,
    call: bool = False,
    noise: float = 0.0,
    poison: tuple[int, ...] = (),
    log_limit_bytes: int | None = None,
    curriculum_options: dict[str, Any] | None = None,
    **loader_options: Any,
) -> Trace:
    """Train a linear model and record what happened.

    Args:
        name: key of `METHODS`.
        size: N.
        batch_size: per rank.
        epochs: trained in all, those before a resume included.
        state: a checkpoint to go on from.
        stop: leave after this step, saving nothing but the final state.
        save_at: steps after which a checkpoint is taken, on this rank; all call `collect`.
        break_at: steps after which the epoch is broken out of.
        early: load the checkpoint before the loader is made.
        seed: of the curriculum.
        call: use the call, and record its loss in place of the weights.
        noise: of the augmentation.
        poison: samples whose loss is NaN.
        log_limit_bytes: apply observations within the epoch.
        curriculum_options: of `Curriculum`.
        loader_options: of `Curriculum.loader`.
    """
    keyed = loader_options.get("carry") == "key"
    dataset = (Keyed if keyed else Toy)(size, noise=noise)
    net = network(name)
    start = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=start))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    methods = METHODS[name](size)
    curriculum = gr.Curriculum(*methods, seed=seed, **(curriculum_options or {}))
    loaded = None if state is None else restore(state)
    if loaded is not None and early:
        curriculum.load_state_dict(loaded["curriculum"])
    loader = curriculum.loader(dataset, batch_size, **loader_options)
    curriculum.attach(net, optimizer)
    if log_limit_bytes is not None:
        curriculum.epochs.log_limit_bytes = log_limit_bytes
    if loaded is not None:
        if not early:
            curriculum.load_state_dict(loaded["curriculum"])
        net.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])
    world = dist.get_world_size() if dist.is_initialized() else 1
    model: nn.Module = DistributedDataParallel(net) if world > 1 else net

    def everything() -> Saved:
        return {
            "curriculum": curriculum.state_dict(),
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict(),
        }

    trace = Trace()

    def choose(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = net(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        if isinstance(methods[0], gr.SelectiveBackprop):
            stored = methods[0].stored(curriculum.index)
            losses = losses if stored is None else stored.to(losses.dtype)
        return curriculum.select(losses, -(-len(y) // 2), logits=logits, targets=y)

    def epoch() -> None:
        for batch in loader:
            x, y = (batch["features"], batch["label"]) if keyed else batch
            codes = batch[INDEX_KEY] if keyed else curriculum.epochs._pending[0]
            trace.codes.append(codes.tolist())
            trace.lengths.append(len(loader))
            if noise:
                trace.features.append(x)
            if any(overrides(method, "select") for method in methods):
                kept = choose(x, y)
                x, y, codes = x[kept], y[kept], codes[kept]
                trace.codes[-1] = codes.tolist()
            logits = model(x)
            losses = curriculum.criterion(logits, y)
            rows = torch.where(codes < 0, ~codes, codes)
            bad = torch.isin(rows, torch.tensor(poison, dtype=torch.int64))
            losses = torch.where(bad, math.nan, losses) if poison else losses
            given = {"index": codes if keyed else None, "logits": logits, "targets": y}
            given |= states_of(x, logits)
            if call:
                loss = curriculum(losses, **given)
                trace.weights.append([float(loss.detach())])
            else:
                weights, scale = curriculum.weigh(losses, **given)
                trace.weights.append((weights.detach() * scale).tolist())
                loss = (weights * torch.where(bad, 0.0, losses)).sum() * scale
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= 0.99
            trace.steps.append(curriculum.step)
            if curriculum.step in save_at:
                curriculum.collect()
                trace.saved[curriculum.step] = dump(everything())
            if curriculum.step == stop or curriculum.step in break_at:
                return

    def survey(batch: Any) -> dict[str, torch.Tensor]:
        logits = net(batch[0])
        losses = F.cross_entropy(logits, batch[1], reduction="none")
        known = {"losses": losses, "logits": logits, "targets": batch[1]}
        return known | states_of(batch[0], logits)

    while curriculum.epoch < epochs and (stop is None or curriculum.step < stop):
        if curriculum.survey_due:
            curriculum.survey(dataset, survey, batch_size=4)
        epoch()
    curriculum.collect()
    trace.parameters = [parameter.detach().clone() for parameter in net.parameters()]
    trace.scores = curriculum.scores()
    trace.final = copy.deepcopy(everything())
    return trace


# ---------------------------------------------------------------------------- comparing


def differences(left: Any, right: Any, at: str = "") -> list[str]:
    """Where two nested states are not the same to the bit; NaN equals NaN."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        if left.shape != right.shape or left.dtype != right.dtype:
            return [f"{at}: {left.dtype} {tuple(left.shape)}, {right.dtype} {tuple(right.shape)}"]
        raw = [values.contiguous().reshape(-1).view(torch.uint8) for values in (left, right)]
        return [] if torch.equal(*raw) else [f"{at}: {left} != {right}"]
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [f"{at}: keys {sorted(left)} != {sorted(right)}"]
        return [
            found for key in left for found in differences(left[key], right[key], f"{at}/{key}")
        ]
    if isinstance(left, (list, tuple)) and type(left) is type(right):
        if len(left) != len(right):
            return [f"{at}: {len(left)} entries != {len(right)}"]
        pairs = enumerate(zip(left, right, strict=True))
        return [found for number, pair in pairs for found in differences(*pair, f"{at}/{number}")]
    same = left == right or (left != left and right != right)
    return [] if same else [f"{at}: {left!r} != {right!r}"]


def train_all(rank: int, world: int, runs: list[dict[str, Any]]) -> list[Trace]:
    """One trace per run, for `run_ranks`: starting ranks costs more than all of these runs."""
    return [train(**run) for run in runs]


def tables(trace: Trace) -> dict[str, torch.Tensor]:
    """Every table and scalar of every method as the run left it."""
    return {
        f"{number}.{saved['class']}.{name}": values
        for number, saved in enumerate(trace.final["curriculum"]["methods"])
        for name, values in saved["tables"].items()
    }


def assert_equal_one(ranks: list[Trace], one: Trace, *, after: int = 0) -> None:
    """Several processes did what one did: rows, weights, tables, parameters.

    `after`: the ranks resumed after this step of `one`.
    """
    world = len(ranks)
    for trace in ranks:
        assert trace.steps == one.steps[after:]
        assert differences(tables(trace), tables(ranks[0])) == [], "ranks differ"
        assert differences(trace.parameters, ranks[0].parameters) == [], "ranks differ"
    for step, rows in enumerate(one.codes[after:]):
        weights = torch.tensor(one.weights[after + step], dtype=torch.float64)
        assert len({len(trace.codes[step]) for trace in ranks}) == 1, "batches of equal length"
        for rank, trace in enumerate(ranks):
            # The plan in strides, so that any prefix of it is what all ranks saw together.
            assert trace.real()[step] == rows[rank::world], f"step {step} of rank {rank}"
            real = len(trace.real()[step])
            own = torch.tensor(trace.weights[step], dtype=torch.float64)
            if len(own) == len(trace.codes[step]):
                assert own[real:].eq(0).all(), "padding has weight 0"
                # Gradients are averaged over ranks, hence the world.
                torch.testing.assert_close(own[:real] / world, weights[rank::world])
    for name, values in tables(one).items():
        found = tables(ranks[0])[name]
        if name.endswith("SuperLoss.tau"):  # means over ranks, rounded otherwise
            torch.testing.assert_close(found, values, rtol=1e-12, atol=0)
        else:
            assert differences(found, values, name) == []
    for found, values in zip(ranks[0].parameters, one.parameters, strict=True):
        torch.testing.assert_close(found, values, rtol=1e-9, atol=1e-12)
    for key in ("seen", "previous", "epoch", "step"):
        left, right = (trace.final["curriculum"][key] for trace in (ranks[0], one))
        assert differences(left, right, key) == []
