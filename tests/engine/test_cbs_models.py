"""Curriculum by smoothing in models: which layers, when, and that nothing of it stays behind."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim.layers import smooth, smooth_tokens
from gradatim.layers.smoothed import Smoothing


class Block(nn.Module):
    """A residual block as in ResNet-18, whose shortcut is called otherwise if you like."""

    def __init__(self, width: int, out: int, stride: int, shortcut: str = "downsample") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut_name = shortcut if stride > 1 or width != out else ""
        if self.shortcut_name:
            projection = nn.Conv2d(width, out, 1, stride, bias=False)
            self.add_module(shortcut, nn.Sequential(projection, nn.BatchNorm2d(out)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (getattr(self, self.shortcut_name)(x) if self.shortcut_name else x))


class ResNet(nn.Module):
    """ResNet-18 with few channels: 17 convolutions on the main path, 3 projections."""

    def __init__(self, width: int = 4, shortcut: str = "downsample") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for number in range(4):
            out = width * 2**number
            stride = 1 if number == 0 else 2
            stage = [Block(before, out, stride, shortcut), Block(out, out, 1, shortcut)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            before = out
        self.fc = nn.Linear(before, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
    )


def images(count: int = 2, channels: int = 3, side: int = 8) -> torch.Tensor:
    shape = (count, channels, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def started(model: nn.Module, epoch: int = 0, **settings: Any) -> gr.CBS:
    """Attached, and in an epoch."""
    method = gr.CBS(settings.pop("planned_epochs", 9), **settings)
    method.attach(model, None)
    begin(method, epoch)
    return method


def begin(method: gr.CBS, epoch: int) -> None:
    method.start_epoch(gr.Run(size=1, seed=0, epoch=epoch))


def hooks(model: nn.Module) -> list[Any]:
    """Everything a forward hook leaves on modules."""
    return [
        (name, list(kind))
        for name, module in model.named_modules()
        for kind in (
            module._forward_hooks,
            module._forward_hooks_with_kwargs,
            module._forward_hooks_always_called,
            module._forward_pre_hooks,
        )
    ]


# ---------------------------------------------------------------------------------- which layers


@pytest.mark.parametrize("shortcut", ["downsample", "shortcut", "skip_path", "proj", "anything"])
def test_d14_all_17_convolutions_of_the_main_path_of_a_resnet_are_smoothed(shortcut: str) -> None:
    model = ResNet(shortcut=shortcut)
    method = started(model)
    convolutions = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 20
    assert len(method.smoothed) == 17
    assert not [name for name in method.smoothed if shortcut in name]
    ran: list[int] = []
    for module in model.modules():
        for hook in module._forward_hooks.values():
            assert isinstance(hook, Smoothing)
            ran.append(id(hook))
    assert len(set(ran)) == 17


def test_a_projection_without_stride_is_known_by_its_name_and_pointwise_layers_stay() -> None:
    model = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(4, 4, 1),
            "downsample": nn.Conv2d(4, 8, 1),
            "down": nn.Conv2d(4, 8, 1, stride=2),
            "proj": nn.Conv2d(3, 8, 4, stride=4),
            "up": nn.ConvTranspose2d(8, 4, 2),
            "line": nn.Conv1d(1, 1, 3),
            "room": nn.Conv3d(1, 1, 3),
        }
    )
    assert started(model).smoothed == ["conv1", "proj", "line", "room"]


def test_layers_are_named_by_modules_names_and_patterns() -> None:
    model = ResNet()
    given = [model.conv1, "layer2.*", "layer3.0.downsample.0"]
    method = started(model, layers=given)
    blocks = [f"layer2.{block}.conv{number}" for block in (0, 1) for number in (1, 2)]
    assert method.smoothed == ["conv1", *blocks, "layer3.0.downsample.0"]
    transposed = nn.Sequential(nn.ConvTranspose2d(1, 1, 2))
    assert started(transposed, layers=["0"]).smoothed == ["0"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer9.*"], "layers must be a convolution of the model. Got 'layer9"),
        (["conv"], "Did you mean 'conv1'?"),
        (["bn1"], "layers must be convolutions. Got 'bn1', a BatchNorm2d"),
        (["layer1"], "Did you mean 'layer1.*'?"),
        ([nn.Conv2d(1, 1, 1)], "layers must be a convolution of the model. Got Conv2d. Does it"),
    ],
)
def test_layers_that_name_nothing_are_refused(layers: Any, message: str) -> None:
    model = ResNet()
    before = hooks(model)
    with pytest.raises(ValueError, match="layers must be") as refused:
        gr.CBS(9, layers=layers).attach(model, None)
    assert message in str(refused.value)
    assert hooks(model) == before


def test_a_model_without_convolutions_is_refused_and_told_what_to_pass() -> None:
    with pytest.raises(ValueError, match=r"Pass layers= .* or tokens=True"):
        gr.CBS(9).attach(nn.Linear(2, 2), None)
    with pytest.raises(ValueError, match=r"tokens=\['encoder"):
        gr.CBS(9, tokens=True).attach(nn.Linear(2, 2), None)
    with pytest.raises(ValueError, match="model must be given, since CBS blurs its layers"):
        gr.Curriculum(gr.CBS(9)).attach()


def test_attaching_twice_is_refused_and_so_is_a_layer_of_another_cbs() -> None:
    model = small()
    method = started(model)
    with pytest.raises(RuntimeError, match="attached already"):
        method.attach(model, None)
    with pytest.raises(ValueError, match="model must be blurred by no other CBS"):
        gr.CBS(9).attach(model, None)
    assert sum(len(module._forward_hooks) for module in model.modules()) == 2
    halves = [gr.CBS(9, layers=["0"]), gr.CBS(9, sigma=0.5, layers=["3"])]
    with pytest.raises(ValueError, match="blurred by no other CBS"):
        halves[0].attach(model, None)
    fresh = small()
    for half in halves:
        half.attach(fresh, None)
    assert [half.smoothed for half in halves] == [["0"], ["3"]]


def test_an_epoch_that_is_to_be_blurred_needs_a_model() -> None:
    with pytest.raises(RuntimeError, match=r"Call curriculum.attach\(model=model\)"):
        begin(gr.CBS(9), 0)
    late = gr.CBS(9)
    begin(late, 6)
    assert late.current_sigma == 0


@pytest.mark.parametrize("change", ["replaced", "added"])
def test_other_layers_than_when_it_was_attached_are_a_named_error(change: str) -> None:
    model = small()
    method = started(model)
    if change == "replaced":
        model[0] = nn.Conv2d(3, 4, 3, padding=1)
    else:
        model.add_module("late", nn.Conv2d(3, 4, 3))
    name = "0" if change == "replaced" else "late"
    with pytest.raises(
        RuntimeError, match=rf"model must have the layers .* others at \['{name}'\]"
    ):
        begin(method, 1)
    with pytest.warns(UserWarning, match="detached while it still blurs"):
        method.detach()
    method.attach(model, None)
    begin(method, 1)
    assert name in method.smoothed


# ---------------------------------------------------------------------------------- what it does


def test_d14b_keys_stay_and_load_into_the_plain_net_and_back() -> None:
    plain = ResNet()
    model = copy.deepcopy(plain)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    started(model)
    assert list(model.state_dict()) == list(before)
    assert [name for name, _ in model.named_parameters()] == [
        n for n, _ in plain.named_parameters()
    ]
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(plain.state_dict())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_d14b_the_global_generators_are_neither_read_nor_moved(watch_global_rng: Any) -> None:
    model = ResNet()
    moved = watch_global_rng()
    method = started(model)
    begin(method, 1)
    model(images())
    begin(method, 8)
    method.detach()
    assert moved() == []


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("size", [3, 5, 7, 9, 17])
def test_d14b_maps_of_8_by_8_keep_their_size_under_any_odd_kernel(size: int, padding: Any) -> None:
    model = small()
    started(model, size=size, padding=padding)
    assert model(images()).shape == (2, 4, 8, 8)


def test_d14b_evaluation_is_blurred_as_training_is_until_the_end() -> None:
    """Epochs 0 to 5 of 9; a network blurred in training alone would be another one."""
    model = small().eval()
    plain = copy.deepcopy(model)
    method = started(model)
    with torch.no_grad():
        first = smooth(plain[0](images()), 1.0)
        expected = smooth(plain[3](plain[2](plain[1](first))), 1.0)
        torch.testing.assert_close(model(images()), expected)
        begin(method, 5)
        assert not model(images()).equal(expected)
        begin(method, 6)
        assert model(images()).equal(plain(images()))


def test_other_hooks_see_what_the_next_layer_sees_and_stay_where_they_were() -> None:
    model = small()
    seen: list[torch.Tensor] = []
    model[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    before = hooks(model)
    method = started(model)
    model.eval()
    assert seen == []
    output = model(images())
    assert seen[0].equal(output)
    begin(method, 7)
    assert hooks(model) == before


def test_maps_of_one_position_and_unbatched_maps() -> None:
    """A squeeze-and-excitation has nothing to blend with; it would only be scaled."""
    layer = nn.Conv2d(3, 4, 1)
    pooled = images(side=1)
    plain = layer(pooled)
    one = layer(images())[0]
    started(nn.Sequential(layer))
    assert layer(pooled).equal(plain)
    assert layer(images()[0]).shape == (4, 8, 8)
    torch.testing.assert_close(layer(images()[0]), smooth(one.unsqueeze(0), 1.0)[0])


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(dims: int) -> None:
    layer = (nn.Conv1d, nn.Conv3d)[dims // 3](2, 3, 3, padding=1)
    given = images(2, 2, 6).flatten(2) if dims == 1 else torch.ones(1, 2, 4, 5, 6)
    plain = layer(given)
    started(nn.Sequential(layer), sigma=0.7)
    torch.testing.assert_close(layer(given), smooth(plain, 0.7))


def test_gradients_pass_the_blur() -> None:
    model = small()
    started(model)
    model(images()).square().mean().backward()
    assert all(float(value.grad.abs().sum()) > 0 for value in model[3].parameters())


# ---------------------------------------------------------------------------------- its end


@pytest.mark.filterwarnings("ignore:CBS was detached while it still blurs")
@pytest.mark.parametrize("epoch", [0, 8])
def test_removal_is_exact(epoch: int) -> None:
    """Hook dicts, keys and outputs are those of a model that was never touched."""
    model = ResNet().eval()
    twin = copy.deepcopy(model)
    before = hooks(model)
    tree = [(name, type(module)) for name, module in model.named_modules()]
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    method = started(model, epoch)
    model(images())
    method.detach()
    assert hooks(model) == before
    assert [(name, type(module)) for name, module in model.named_modules()] == tree
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert model(images()).equal(twin(images()))
    assert b"gradatim" not in pickle.dumps(small_after(method))


def small_after(method: gr.CBS) -> nn.Module:
    """A model that was attached and let go again, without training."""
    model = small()
    method.attach(model, None)
    method.detach()
    return model


def test_a_model_that_is_gone_is_detached_in_silence() -> None:
    method = started(small(), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.detach()
    assert method.smoothed == []


def test_detaching_while_it_acts_warns_but_not_before_training_and_not_at_its_end() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untrained = gr.CBS(9)
        untrained.attach(small(), None)
        untrained.detach()
        ended = started(small(), 6)
        ended.detach()
        ended.detach()
    model = small()
    method = started(model, 5)
    with pytest.warns(UserWarning, match=r"still blurs \(sigma 0\.9\): the model has learnt"):
        method.detach()


def test_at_the_end_hooks_are_gone_and_an_earlier_epoch_puts_them_back() -> None:
    model = small()
    untouched = hooks(model)
    method = started(model)
    blurred = hooks(model)
    assert blurred != untouched
    begin(method, 6)
    assert hooks(model) == untouched
    assert method.smoothed == []
    begin(method, 2)
    assert method.smoothed == ["0", "3"]
    begin(method, 2)
    assert sum(len(module._forward_hooks) for module in model.modules()) == 2


# ---------------------------------------------------------------------------------- checkpoints


def trained(epochs: int, planned: int = 6) -> tuple[Any, nn.Module, gr.CBS]:
    method = gr.CBS(planned, every=1)
    curriculum = gr.Curriculum(method, seed=0)
    data = TensorDataset(images(6), torch.arange(6) % 4)
    loader = curriculum.loader(data, batch_size=3)
    model = nn.Sequential(small(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    curriculum.attach(model=model, optimizer=optimizer)
    for _ in range(epochs):
        for x, y in loader:
            loss = curriculum(F.cross_entropy(model(x), y, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return curriculum, model, method


def test_evaluation_right_after_a_resume_is_blurred_as_before() -> None:
    curriculum, model, method = trained(2)
    saved = {"curriculum": curriculum.state_dict(), "model": model.state_dict()}
    other, fresh, resumed = trained(0)
    other.load_state_dict(saved["curriculum"])
    fresh.load_state_dict(saved["model"])
    assert resumed.current_sigma == method.current_sigma == 0.9
    assert fresh.eval()(images()).equal(model.eval()(images()))


def test_a_checkpoint_chosen_while_it_blurred_is_evaluated_with_that_blur() -> None:
    """Chosen after epoch 1, evaluated after the end, also in the very same curriculum."""
    _, model, method = trained(2)
    model.eval()
    output = model(images())
    state, weights = method.state_dict(), copy.deepcopy(model.state_dict())
    assert state == {"sigma": 0.9}
    begin(method, 5)
    assert not model(images()).equal(output)
    method.load_state_dict(state)
    model.load_state_dict(weights)
    assert model(images()).equal(output)
    early = gr.CBS(6)
    early.load_state_dict(state)
    plain = nn.Sequential(small(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    plain.load_state_dict(weights)
    early.attach(plain, None)
    assert plain(images()).equal(output)


def test_a_state_without_a_width_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma must be a finite number, at least 0"):
        gr.CBS(9).load_state_dict({"sigma": -1.0})


# ---------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_keeps_the_blur_of_its_moment_whatever_the_curriculum_does(how: str) -> None:
    model = small().eval()
    plain = copy.deepcopy(model)
    method = started(model)
    if how == "deepcopy":
        twin = copy.deepcopy(model)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    blurred = model(images())
    assert twin(images()).equal(blurred)
    begin(method, 5)
    assert not model(images()).equal(blurred)
    begin(method, 6)
    assert model(images()).equal(plain(images()))
    assert twin(images()).equal(blurred)


def test_a_copy_can_be_attached_in_its_own_right_and_is_not_blurred_twice() -> None:
    model = small().eval()
    method = started(model)
    twin = copy.deepcopy(model)
    started(twin)
    assert twin(images()).equal(model(images()))
    assert sum(len(module._forward_hooks) for module in twin.modules()) == 2
    assert len(method.smoothed) == 2


def test_averages_of_weights_and_other_copies_follow_by_apply_to() -> None:
    model = small().eval()
    early = gr.ema_model(model).eval()
    method = started(model)
    late = gr.ema_model(model).eval()
    for epoch in (0, 5, 6):
        begin(method, epoch)
        for average in (early, late):
            average.update_parameters(model)
            assert method.apply_to(average) is average
            assert average(images()).equal(model(images()))
    assert hooks(late.module) == hooks(small())
    with pytest.raises(ValueError, match="with the layer '0'"):
        method.apply_to(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="another copy than the attached one"):
        method.apply_to(model)
    method.detach()
    with pytest.raises(RuntimeError, match="needs an attached model"):
        method.apply_to(early)


def test_the_method_itself_is_copied_without_its_model() -> None:
    method = started(small(), 5)
    for twin in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
        assert (repr(twin), twin.current_sigma, twin.smoothed) == (repr(method), 0.9, [])
        twin.attach(small(), None)
        assert twin.smoothed == ["0", "3"]


def test_neither_the_curriculum_nor_the_model_keeps_the_other_alive() -> None:
    import gc
    import weakref

    model = small()
    method = started(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    begin(method, 1)
    assert method.current_sigma == 1.0


# ---------------------------------------------------------------------------------- ways to run


def test_a_compiled_model_sees_every_change_and_is_compiled_twice_in_all() -> None:
    """The kernel is a tensor written in place; only its end is another graph."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    model = small().eval()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    plain = compiled(images())
    method = gr.CBS(30, decay=0.95, every=1)
    gr.Curriculum(method).attach(model=compiled)
    attached = counter.frame_count
    for epoch in (0, 1, 2, 15, 19, 20, 25):
        begin(method, epoch)
        with torch.no_grad():
            torch.testing.assert_close(compiled(images()), model(images()))
        assert compiled(images()).allclose(plain) == (epoch >= 20)
    assert counter.frame_count <= attached + 4  # with and without gradient
    begin(method, 3)
    torch.testing.assert_close(compiled(images()), model(images()))
    assert not compiled(images()).allclose(plain)
    with pytest.warns(UserWarning, match="still blurs"):
        method.detach()
    torch.testing.assert_close(compiled(images()), plain)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_gradients_of_a_compiled_model(backend: str) -> None:
    torch._dynamo.reset()
    model = small()
    twin = copy.deepcopy(model)
    for net in (model, twin):
        started(net, padding="reflect" if backend == "eager" else "zero")
    torch.compile(model, backend=backend, fullgraph=True)(images()).square().mean().backward()
    twin(images()).square().mean().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_autocast_blurs_in_half_precision_what_came_in_it() -> None:
    model = small().eval()
    started(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(images())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(images()), atol=0.05, rtol=0.05)


def test_channels_last_stays_and_double_precision_works() -> None:
    model = small().eval()
    started(model)
    expected = model(images())
    last = model(images().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model.double()(images().double()).float(), expected)


def test_inference_mode_at_the_start_does_not_spoil_training() -> None:
    model = small()
    with torch.inference_mode():
        method = started(model)
        begin(method, 5)
    model(images()).sum().backward()
    assert model[0].weight.grad is not None


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model = small().eval()
    started(model)
    given = images().requires_grad_()
    checkpoint(model, given, use_reentrant=False).square().sum().backward()
    found = given.grad
    given.grad = None
    model(given).square().sum().backward()
    assert found is not None
    torch.testing.assert_close(found, given.grad)


def test_a_wrapped_model_is_smoothed_inside() -> None:
    model = small()
    method = gr.CBS(9)
    gr.Curriculum(method).attach(model=nn.DataParallel(model))
    assert method.smoothed == ["0", "3"]


def test_a_layer_used_twice_is_blurred_at_each_use_and_hooked_once() -> None:
    layer = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(layer, layer)
    plain = copy.deepcopy(layer)
    method = started(model)
    expected = smooth(plain(smooth(plain(images()), 1.0)), 1.0)
    torch.testing.assert_close(model(images()), expected)
    assert method.smoothed == ["0"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_on_a_cuda_device_is_blurred_there() -> None:
    model = small().eval()
    method = started(model)
    expected = model(images())
    moved = model.cuda()
    found = moved(images().cuda())  # moved after the start: the kernel follows
    begin(method, 0)
    assert next(iter(model[0]._forward_hooks.values())).kernel.is_cuda
    torch.testing.assert_close(moved(images().cuda()), found)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)


# ---------------------------------------------------------------------------------- tokens


class Patches(nn.Module):
    """A small ViT of 1 class token and 4 x 4 patches, with blocks in a list."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, 8), x], 1)
        x = x if self.batch_first else x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        return x if self.batch_first else x.transpose(0, 1)


def test_tokens_of_the_blocks_of_a_transformer_are_smoothed_on_their_grid() -> None:
    model = Patches().eval()
    plain = copy.deepcopy(model)
    method = started(model, tokens=True, layers=[], grid=(4, 4), class_tokens=1)
    assert method.smoothed == ["blocks.0", "blocks.1", "blocks.2"]
    x = plain.embed(images()).flatten(2).transpose(1, 2)
    x = torch.cat([plain.token.expand(2, 1, 8), x], 1)
    for block in plain.blocks:
        x = smooth_tokens(block(x), 1.0, grid=(4, 4), class_tokens=1)
    torch.testing.assert_close(model(images()), x)
    assert started(Patches(), tokens=True).smoothed == ["embed", *method.smoothed]


def test_blocks_that_give_the_batch_second_do_not_blend_samples() -> None:
    first, second = Patches().eval(), Patches(batch_first=False).eval()
    second.load_state_dict(first.state_dict())
    for model in (first, second):
        started(model, tokens=True, layers=[])
    torch.testing.assert_close(second(images()), first(images()))


class Tupled(nn.Module):
    """A block that returns more than its tokens, as those of transformers do."""

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, str]:
        return hidden, "attention"


def test_blocks_are_named_and_may_return_tuples() -> None:
    model = nn.Sequential(OrderedDict(layer=nn.ModuleList([Tupled(), Tupled()])))
    method = started(model, tokens=["layer.*"], layers=[])
    hidden = images(2, 5, 3).flatten(2)
    found, rest = model.layer[1](hidden)
    assert (method.smoothed, rest) == (["layer.0", "layer.1"], "attention")
    torch.testing.assert_close(found, smooth_tokens(hidden, 1.0))
    with pytest.raises(ValueError, match="hidden must be a tensor of shape"):
        model.layer[0](images())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_with_the_way_out() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    started(model, tokens=True, layers=[])
    padded = torch.zeros(2, 5, dtype=torch.bool)
    padded[0, 3:] = True
    with torch.no_grad(), pytest.raises(ValueError, match="enable_nested_tensor=False"):
        model(images(2, 5, 8)[..., 0].clone(), src_key_padding_mask=padded)


def test_tokens_that_name_nothing_or_a_layer_that_is_smoothed_already_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tokens must be a module of the model. Got 'block"):
        gr.CBS(9, tokens=["block"]).attach(Patches(), None)
    with pytest.raises(ValueError, match="tokens must be other modules than layers"):
        gr.CBS(9, tokens=["embed"]).attach(Patches(), None)
