"""Curricula in a Lightning Trainer: the same training as in a loop of one's own."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import BatchSizeFinder, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import gradatim as gr
from ddp import toy
from ddp.toy import differences
from gradatim.integrations import CurriculumCallback
from gradatim.integrations import lightning as integration
from integrations.lightning_toy import CHATTER, Easiest, Model, train, trainer_options

pytestmark = [pytest.mark.filterwarnings(line) for line in CHATTER]


@pytest.mark.parametrize(
    "name",
    [
        *("SuperLoss", "DIHCL exp", "DoCL", "DoCLBaseline", "SPL surveyed", "SPDCL", "Everything"),
        *("CBS", "LeRaC", "LeRaC by step", "MCL facility", "Clocked", "pipeline", "WeightedMean"),
    ],
)
def test_trains_as_a_plain_loop_does(name: str) -> None:
    """Order, losses, scores and parameters; surveys, clocks, rates and blurs among them."""
    plain = toy.train(name, epochs=4, call=True)
    trace = train(name, callback={"model": "net"}, survey=True)
    assert trace.codes == plain.codes
    assert [[loss] for loss in trace.losses] == plain.weights
    assert differences(trace.parameters, plain.parameters) == []
    assert differences(trace.curriculum, plain.final["curriculum"]) == []


def test_stopped_before_the_surveys_are_over() -> None:
    """No epoch is planned that does not come: its survey would be missing."""
    trace = train("SPDCL reviewed", callback={"model": "net"}, survey=True, max_epochs=1)
    plain = toy.train("SPDCL reviewed", epochs=1, call=True)
    assert trace.codes == plain.codes
    assert trace.curriculum["epoch"] == 1


def test_the_whole_module_is_attached_by_default() -> None:
    plain = toy.train("CBS", epochs=4, call=True)
    assert differences(train("CBS").parameters, plain.parameters) == []


# ---------------------------------------------------------------------------- the stock trainer


class Replay:
    """A batch sampler that repeats the batches another run had, epoch by epoch."""

    def __init__(self, codes: list[list[int]], per_epoch: int) -> None:
        self.epochs = [codes[at : at + per_epoch] for at in range(0, len(codes), per_epoch)]
        self.per_epoch = per_epoch

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Any:
        yield from self.epochs.pop(0)


class Plain(Model):
    """As without a curriculum."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y, reduction="none").mean()
        self.trace.losses.append(float(loss.detach()))
        return loss


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 2},  # the last group of 5 batches is one batch
        {"precision": "bf16-mixed"},
        {"gradient_clip_val": 0.1},
        {"interval": "epoch"},
    ],
    ids=str,
)
def test_uniform_equals_the_stock_trainer(options: dict[str, Any]) -> None:
    """Over the same order: losses and parameters, to the bit."""
    options = {"interval": "step", **options}
    ours = train("Uniform", **options)
    interval = options.pop("interval")
    model = Plain("Uniform", gr.Curriculum(), interval)
    loader = DataLoader(toy.Toy(35), batch_sampler=Replay(ours.codes, 5))
    pl.Trainer(**trainer_options(**options)).fit(model, loader)
    assert ours.losses == model.trace.losses
    assert differences(ours.parameters, [value.detach() for value in model.parameters()]) == []


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_learning_rate_schedules_go_on(interval: str) -> None:
    """ExponentialLR(0.99): multiplied per optimizer step, or per epoch, of whatever length."""
    trace = train("growing", interval=interval)
    assert trace.lengths == [2, 3, 4, 5]
    powers = range(14) if interval == "step" else [0] * 2 + [1] * 3 + [2] * 4 + [3] * 5
    assert trace.rates == pytest.approx([0.3 * 0.99**power for power in powers])


# ---------------------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    ("name", "lengths"), [("growing", [2, 3, 4, 5]), ("shrinking", [5, 3, 3, 2])]
)
def test_epochs_grow_and_shrink(name: str, lengths: list[int]) -> None:
    """Each is trained in full, validated at its end, and of the length the trainer shows."""
    trace = train(name)
    assert trace.lengths == lengths
    assert trace.validated == list(itertools.accumulate(lengths))
    assert (trace.steps, trace.epochs) == (sum(lengths), 4)


def test_the_progress_bar_knows_each_epochs_length(capsys: pytest.CaptureFixture[str]) -> None:
    bar = TQDMProgressBar()
    train("growing", callbacks=[bar], enable_progress_bar=True, validate=False)
    shown = capsys.readouterr().out
    for epoch, length in enumerate([2, 3, 4, 5]):
        assert f"Epoch {epoch}: 100%|██████████| {length}/{length} " in shown


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({"limit_train_batches": 2}, 8, 4),
        ({"limit_train_batches": 0.5}, 6, 4),  # of 2, 3, 4, 5 batches
        ({"max_steps": 7}, 7, 2),  # within the third epoch
        ({"fast_dev_run": True}, 1, 1),
        ({"max_epochs": 0}, 0, 0),
    ],
    ids=str,
)
def test_shorter_trainings(options: dict[str, Any], steps: int, epochs: int) -> None:
    """The curriculum's epochs end with the trainer's, be they cut short."""
    trace = train("growing", **options)
    assert (trace.steps, trace.epochs) == (steps, epochs)


def test_the_users_setting_comes_back() -> None:
    curriculum = gr.Curriculum(Easiest((0.5, 1.0)))
    loader = curriculum.loader(toy.Toy(35), 8)
    options = trainer_options(reload_dataloaders_every_n_epochs=3)
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **options)
    trainer.fit(Model("Uniform", curriculum), loader)
    assert trainer.reload_dataloaders_every_n_epochs == 3
    assert curriculum.step == 3 + 3 * 5


def test_epochs_of_one_length_reload_nothing() -> None:
    """With steps_per_epoch, or where no method plans, loaders are made once."""
    calls = []

    class Asked(Model):
        def val_dataloader(self) -> Any:
            calls.append(self.current_epoch)
            return DataLoader(toy.Toy(8), 4)

    train("growing", module=Asked, validate=False, loader_options={"steps_per_epoch": 3})
    train("SuperLoss", module=Asked, validate=False)
    assert len(calls) == 2


# ---------------------------------------------------------------------------- the right sample


class Numbered(Dataset):
    """Sample k is k."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float(index))


class Numbers(pl.LightningModule):
    """The loss of sample k is k."""

    def __init__(self, curriculum: gr.Curriculum) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.curriculum = curriculum

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        batch = batch["numbers"] if isinstance(batch, dict) else batch
        return self.curriculum(batch + self.weight)


class Seen(gr.Method):
    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss", fill=math.nan)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.loss.write(batch.index, batch.losses)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_loss_lands_on_its_sample(workers: int) -> None:
    curriculum = gr.Curriculum(Seen())
    loader = curriculum.loader(Numbered(), 8, num_workers=workers)
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **trainer_options(max_epochs=2))
    trainer.fit(Numbers(curriculum), loader)
    assert curriculum.scores()["Seen.loss"].tolist() == [float(k) for k in range(50)]


def test_beside_another_loader() -> None:
    """The trainer goes round in the shorter one; an epoch of the curriculum ends where it may."""
    curriculum = gr.Curriculum(Seen())
    loaders = {"numbers": curriculum.loader(Numbered(), 8), "more": DataLoader(toy.Toy(60), 4)}
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **trainer_options(max_epochs=2))
    trainer.fit(Numbers(curriculum), loaders)
    assert curriculum.step == 2 * 15
    assert curriculum.scores()["Seen.loss"].tolist() == [float(k) for k in range(50)]


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter(range(20))


# ---------------------------------------------------------------------------- other ways to train


class Manual(Model):
    """Steps by itself, with two optimizers."""

    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        second = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        return [second, torch.optim.SGD(self.net.parameters(), lr=0.3, momentum=0.9)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()[1]
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.99

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        found = super().optimizers(use_pl_optimizer)
        return Both(found)


class Both(list):
    @property
    def param_groups(self) -> Any:
        return self[1].param_groups


@pytest.mark.parametrize("name", ["LeRaC", "Clocked"])
def test_manual_optimization(name: str) -> None:
    plain = toy.train(name, epochs=4, call=True)
    trace = train(name, module=Manual, callback={"model": "net", "optimizer": 1})
    assert trace.codes == plain.codes
    assert differences(trace.parameters, plain.parameters) == []


class Closure(Model):
    """LBFGS evaluates the loss several times a batch."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.net.parameters(), lr=0.1, max_iter=3)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.index = self.curriculum.index

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        losses = F.cross_entropy(self.net(batch[0]), batch[1], reduction="none")
        return self.curriculum(losses, index=self.index)


def test_closures_count_a_batch_once() -> None:
    trace = train("growing", module=Closure)
    assert (trace.steps, trace.epochs) == (14, 4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_curriculum_forgets_the_learning_rate_finder(tmp_path: Path) -> None:
    """It trains for a while, and puts everything back."""
    curriculum = gr.Curriculum(Easiest((0.4, 0.6, 1.0)))
    loader = curriculum.loader(toy.Toy(35), 8)
    model = Model("Uniform", curriculum)
    model.lr = 0.1  # type: ignore[assignment]
    options = trainer_options(max_epochs=3, default_root_dir=tmp_path)
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **options)
    Tuner(trainer).lr_find(model, loader, num_training=12, update_attr=False)
    assert (curriculum.step, curriculum.epoch) == (0, 0)
    trainer.fit(model, loader)
    assert model.trace.lengths[-3:] == [2, 3, 5]
    assert curriculum.epoch == 3


class Early(Model):
    """Asks for the number of steps before the optimizer is there, and leaves an epoch."""

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches == 20
        return super().configure_optimizers()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if self.current_epoch == 1 and batch_idx == 2 else None


def test_length_asked_for_early_and_an_epoch_left() -> None:
    trace = train("LeRaC", module=Early, callback={"model": "net"})
    assert (trace.steps, trace.epochs) == (17, 4)
    assert [len(codes) for codes in trace.codes[4:8]] == [3, 8, 8, 8]


class OwnLoader(Model):
    """The loader is made in a hook."""

    def train_dataloader(self) -> Any:
        return self.curriculum.loader(toy.Toy(35), 8)


def test_the_loader_may_be_made_in_the_hook() -> None:
    curriculum = gr.Curriculum(gr.SuperLoss())
    model = OwnLoader("Uniform", curriculum)
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **trainer_options(max_epochs=2))
    trainer.fit(model)
    assert curriculum.epoch == 2


def test_other_loops_leave_the_curriculum_alone(tmp_path: Path) -> None:
    """Sanity check, validate, test and predict, with a checkpoint too."""
    curriculum = gr.Curriculum(Easiest((0.5, 1.0)))
    loader = curriculum.loader(toy.Toy(35), 8)
    states = []

    class Tested(Model):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.validation_step(batch, batch_idx)

        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.net(batch[0])

        def on_validation_epoch_end(self) -> None:
            if self.trainer.sanity_checking:
                states.append(self.curriculum.state_dict())

    model = Tested("Uniform", curriculum)
    before = curriculum.state_dict()
    saving = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}")
    options = trainer_options(max_epochs=2, enable_checkpointing=True)
    trainer = pl.Trainer(callbacks=[CurriculumCallback(curriculum), saving], **options)
    others = DataLoader(toy.Toy(8), 4)
    trainer.fit(model, loader, others)
    assert differences(states, [before]) == []
    after = copy.deepcopy(curriculum.state_dict())
    checkpoint = str(tmp_path / "step=3.ckpt")
    for run in (trainer.validate, trainer.test, trainer.predict):
        run(model, others, ckpt_path=checkpoint, weights_only=False)
    assert differences(curriculum.state_dict(), after) == []


def test_numbers_in_the_log() -> None:
    class Listening(Model):
        def on_train_end(self) -> None:
            logged = self.trainer.callback_metrics
            self.trace.validated = {name: float(value) for name, value in logged.items()}

    logged: Any = train("growing", module=Listening, callback={"log": True}).validated
    assert logged["curriculum/subset_size"] == 35
    assert logged["curriculum/overlap"] == pytest.approx(28 / 35)
    assert logged["curriculum/epoch"] == 3


def test_an_exception_leaves_nothing_behind() -> None:
    """Model, optimizer and curriculum can be used again."""
    curriculum = gr.Curriculum(gr.CBS(9), seed=0)
    loader = curriculum.loader(toy.Toy(35), 8)

    class Failing(Model):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                raise KeyError("on purpose")

    model = Failing("CBS", curriculum)
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **trainer_options(max_epochs=2))
    with pytest.raises(KeyError, match="on purpose"):
        trainer.fit(model, loader)
    assert not any(module._forward_hooks for module in model.modules())
    assert not curriculum.epochs.begins_late
    curriculum.attach(model, trainer.optimizers[0]).detach()
    assert len(loader) == 5


def test_fits_again() -> None:
    """The same trainer trains on, and another one does."""
    curriculum = gr.Curriculum(Easiest((0.4, 0.6, 0.8, 1.0)))
    loader = curriculum.loader(toy.Toy(35), 8)
    model = Model("Uniform", curriculum)
    callback = CurriculumCallback(curriculum)
    trainer = pl.Trainer(callbacks=callback, **trainer_options(max_epochs=2))
    trainer.fit(model, loader)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(model, loader)
    pl.Trainer(callbacks=callback, **trainer_options(max_epochs=1)).fit(model, loader)
    assert curriculum.epoch == 4
    assert model.trace.lengths[:4] == [2, 3, 4, 5]


def test_the_other_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pytorch_lightning` is a copy with classes of its own; it may be the only one imported."""
    other = pytest.importorskip("pytorch_lightning")
    both = integration._callback_class()
    assert issubclass(both, pl.Callback)
    assert issubclass(both, other.Callback)
    for name in [name for name in sys.modules if name.startswith("lightning.")]:
        monkeypatch.delitem(sys.modules, name)
    assert integration._callback_class() is other.Callback
    monkeypatch.undo()

    curriculum = gr.Curriculum(Easiest((0.4, 0.6, 0.8, 1.0)))
    loader = curriculum.loader(toy.Toy(35), 8)

    class Module(other.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = toy.network("Uniform")

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return curriculum(F.cross_entropy(self.net(batch[0]), batch[1], reduction="none"))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = other.Trainer(callbacks=[CurriculumCallback(curriculum)], **trainer_options())
    trainer.fit(Module(), loader)
    assert curriculum.step == 2 + 3 + 4 + 5


# ---------------------------------------------------------------------------- bad input


def fit(curriculum: gr.Curriculum, data: Any, *callbacks: Any, **options: Any) -> None:
    trainer = pl.Trainer(callbacks=list(callbacks), **trainer_options(**options))
    trainer.fit(Model("Uniform", curriculum), data)


def test_another_loader_is_refused() -> None:
    curriculum, other = gr.Curriculum(), gr.Curriculum()
    ours, theirs = curriculum.loader(toy.Toy(9), 3), other.loader(toy.Toy(9), 3)
    with pytest.raises(ValueError, match=r"train_dataloaders must be .* Got DataLoader"):
        fit(curriculum, DataLoader(toy.Toy(9), 3), CurriculumCallback(curriculum))
    with pytest.raises(ValueError, match="another curriculum"):
        fit(curriculum, theirs, CurriculumCallback(curriculum))
    fit(curriculum, ours, CurriculumCallback(curriculum))
    assert curriculum.epoch == 4


def test_two_callbacks_are_refused() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(toy.Toy(9), 3)
    callbacks = CurriculumCallback(curriculum), CurriculumCallback(curriculum)
    with pytest.raises(RuntimeError, match=r"more than one .* type `CurriculumCallback`"):
        fit(curriculum, loader, *callbacks)


def test_overfit_batches_is_refused() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(toy.Toy(9), 3)
    with pytest.raises(ValueError, match=r"overfit_batches must be 0 .* Got 2"):
        fit(curriculum, loader, CurriculumCallback(curriculum), overfit_batches=2)


def test_the_batch_size_finder_is_refused() -> None:
    curriculum = gr.Curriculum()
    model = OwnLoader("Uniform", curriculum)
    model.batch_size = 8  # type: ignore[assignment]
    callbacks: Any = [CurriculumCallback(curriculum), BatchSizeFinder()]
    with pytest.raises(ValueError, match=r"callbacks must be .* Got BatchSizeFinder"):
        pl.Trainer(callbacks=callbacks, **trainer_options()).fit(model)


@pytest.mark.parametrize("read_ahead", [False, True])
def test_reading_ahead_is_refused(read_ahead: bool) -> None:
    """Beside a stream without a length the trainer fetches a batch ahead, to know the last."""
    curriculum = gr.Curriculum(Seen())
    numbers = curriculum.loader(Numbered(), 8, read_ahead=read_ahead)
    loaders = {"numbers": numbers, "more": DataLoader(Endless())}
    trainer = pl.Trainer(callbacks=CurriculumCallback(curriculum), **trainer_options())
    with pytest.raises(ValueError, match=r"train_dataloaders must be .*length"):
        trainer.fit(Numbers(curriculum), loaders)
    assert curriculum.step == 0


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_batch_left_out_is_found() -> None:
    class Skipping(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 0 else self.loss(batch)

    with pytest.raises(RuntimeError, match=r"curriculum\.skip\(\)"):
        train("Uniform", module=Skipping)


def test_a_missing_survey_is_refused() -> None:
    with pytest.raises(ValueError, match=r"survey must be given: .*SPDCL"):
        train("SPDCL")


def test_a_checkpoint_without_a_curriculum_is_refused(tmp_path: Path) -> None:
    trainer = pl.Trainer(**trainer_options(max_epochs=1))
    trainer.fit(Plain("Uniform", gr.Curriculum()), DataLoader(toy.Toy(9), 3))
    trainer.save_checkpoint(tmp_path / "stock.ckpt", weights_only=False)
    with pytest.raises(ValueError, match="ckpt_path must be a checkpoint of a training with Curr"):
        train("Uniform", resume=str(tmp_path / "stock.ckpt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": nn.Linear(1, 1)}, "model must be the name of a submodule"),
        ({"survey": 3}, "survey must be callable or None"),
        ({"optimizer": -1}, "optimizer must be"),
        ({"log": 1}, "log must be"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        CurriculumCallback(gr.Curriculum(), **options)


def test_bad_arguments_of_the_trainer() -> None:
    with pytest.raises(TypeError, match=r"curriculum must be a gradatim\.Curriculum"):
        CurriculumCallback(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="optimizer must be below the number of optimizers, 1"):
        train("Uniform", callback={"optimizer": 1})
    with pytest.raises(AttributeError, match="nothing"):
        train("Uniform", callback={"model": "nothing"})
