"""Layers found in any model, in order, or given by hand; each parameter in one group."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from engine.layered_models import (
    LSTM,
    MODELS,
    BertClassifier,
    BertLayer,
    Nested,
    ResNet,
    ViT,
    images,
    mlp,
    words,
)
from gradatim.layers import LayerGroup, layer_groups

RESNET = ["conv1", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"]
EXPECTED = {
    "MLP": ["1", "4", "6"],
    "ResNet": RESNET,
    "LSTM": ["embedding", "lstm layer 0", "lstm layer 1", "fc1, fc2"],
    "BERT": [
        "bert.embeddings",
        *(f"bert.encoder.layer.{number}" for number in range(3)),
        "bert.pooler, classifier",
    ],
    "ViT": ["patch_embed", "blocks.0", "blocks.1", "head"],
    "nested ResNet": [
        "backbone.conv1",
        "backbone.layer1.0",
        "backbone.layer2.0",
        "backbone.fc, head",
    ],
    "nested BERT": [
        "backbone.bert.embeddings",
        *(f"backbone.bert.encoder.layer.{number}" for number in range(3)),
        "backbone.bert.pooler, backbone.classifier, head",
    ],
}


def names(model: nn.Module, layers: Any = None, **options: Any) -> list[str]:
    return [group.name for group in layer_groups(model, layers, **options)]


def where(model: nn.Module, layers: Any = None, **options: Any) -> dict[str, str]:
    groups = layer_groups(model, layers, **options)
    return {name: group.name for group in groups for name in group.parameters}


# ---------------------------------------------------------------------------- found


@pytest.mark.parametrize("name", MODELS)
def test_groups_in_order_from_the_input_to_the_output(name: str) -> None:
    build, _ = MODELS[name]
    assert names(build()) == EXPECTED[name]


@pytest.mark.parametrize("name", MODELS)
def test_every_trainable_parameter_is_in_exactly_one_group(name: str) -> None:
    model = MODELS[name][0]()
    found = [name for group in layer_groups(model) for name in group.parameters]
    assert sorted(found) == sorted(name for name, _ in model.named_parameters())
    sizes = dict(model.named_parameters())
    total = sum(sizes[name].numel() for name in found)
    assert total == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_one_plain_step_over_the_gradient_is_the_rate_of_the_layer(name: str) -> None:
    """Equation 5: change / gradient = -eta_j(l), for every parameter and epoch."""
    build, inputs = MODELS[name]
    model = build().double()
    model.eval()  # batch statistics of four images are no matter here
    x = inputs()
    x = x.double() if x.is_floating_point() else x
    method = gr.LeRaC(3, last=1e-3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    curriculum = gr.Curriculum(method)
    loader = curriculum.loader(torch.utils.data.TensorDataset(x), len(x))
    curriculum.attach(model, optimizer)
    layer = where(model)
    order = names(model)
    for epoch in range(5):
        for (batch,) in loader:
            logits = model(batch)
            curriculum(logits.square().sum(1)).backward()
            for parameter in model.parameters():
                # Where a gradient is 0 the rate would not show.
                parameter.grad = torch.ones_like(parameter) + parameter.grad  # type: ignore[operator]
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            optimizer.step()
        rates = method.rates(epoch)
        assert len(rates) == len(order)
        for name_, parameter in model.named_parameters():
            assert parameter.grad is not None
            rate = (before[name_] - parameter.detach()) / parameter.grad
            expected = torch.full_like(rate, 0.25 * rates[order.index(layer[name_])])
            torch.testing.assert_close(rate, expected, rtol=1e-6, atol=1e-12)
        optimizer.zero_grad()


def test_shortcuts_norms_and_biases_belong_to_their_block() -> None:
    layer = where(ResNet())
    assert layer["bn1.weight"] == layer["conv1.weight"] == "conv1"
    block = {name: group for name, group in layer.items() if name.startswith("layer2.0.")}
    assert any("downsample" in name for name in block)
    assert set(block.values()) == {"layer2.0"}


def test_tokens_and_positions_go_with_the_stem_and_the_last_norm_with_the_last_block() -> None:
    layer = where(ViT())
    assert layer["cls_token"] == layer["pos_embed"] == "patch_embed"
    assert layer["norm.weight"] == layer["norm.bias"] == "blocks.1"


def test_both_directions_of_a_recurrent_layer_are_one_group() -> None:
    layer = where(LSTM(bidirectional=True))
    own = {name for name, group in layer.items() if group == "lstm layer 1"}
    assert own == {
        f"lstm.{kind}_l1{direction}"
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for direction in ("", "_reverse")
    }


def test_a_projected_lstm_in_a_wrapper_is_divided_too() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.rnn = nn.LSTM(4, 6, num_layers=3, proj_size=3)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reader = Reader()
            self.out = nn.Linear(3, 2)

    layer = where(Model())
    assert layer["reader.rnn.weight_hr_l2"] == "reader.rnn layer 2"
    assert list(dict.fromkeys(layer.values())) == [
        "reader.embedding",
        *(f"reader.rnn layer {number}" for number in range(3)),
        "out",
    ]


def test_tied_parameters_belong_to_the_first_use() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(20, 4), nn.Embedding(8, 4)
            self.h = nn.ModuleList(BertLayer(4) for _ in range(2))
            self.ln_f = nn.LayerNorm(4)
            self.lm_head = nn.Linear(4, 20, bias=False)
            self.lm_head.weight = self.wte.weight

    model = Language()
    assert names(model) == ["wte, wpe", "h.0", "h.1"]
    assert where(model)["wte.weight"] == "wte, wpe"
    by_hand = [("input", ["wte", "wpe", "lm_head"]), "h", "ln_f"]
    assert where(model, ["wte", "wpe", "h", "ln_f", "lm_head"])["wte.weight"] == "wte"
    assert layer_groups(model, by_hand)[0].parameters == ("wte.weight", "wpe.weight")
    assert layer_groups(model, groups := layer_groups(model)) == groups


def test_frozen_parameters_are_in_no_group_and_frozen_layers_do_not_count() -> None:
    model = ResNet()
    for stage in ("conv1", "bn1", "layer1", "layer2"):
        getattr(model, stage).requires_grad_(False)
    model.layer3[0].conv1.requires_grad_(False)  # type: ignore[union-attr,operator]
    assert names(model) == RESNET[5:]
    assert "layer3.0.conv1.weight" not in where(model)
    assert gr.LeRaC(last=1e-3).describe(model).splitlines()[1].endswith(" 1 x eta")


@pytest.mark.parametrize("how", ["compiled", "compiled part", "parallel", "wrapped twice"])
def test_wrappers_are_looked_through(how: str) -> None:
    model: nn.Module = ResNet((1, 1))
    if how == "compiled":
        model = torch.compile(model, backend="eager")  # type: ignore[assignment]
    elif how == "compiled part":
        model.layer1[0] = torch.compile(model.layer1[0], backend="eager")  # type: ignore[index,operator]
    elif how == "parallel":
        model = nn.DataParallel(model)
    else:
        model = nn.ModuleDict({"net": nn.ModuleDict({"inner": model})})
    found = [name.replace("_orig_mod", "").split(".") for name in names(model)]
    assert [part[-1] or part[-2] for part in found] == ["conv1", "0", "0", "fc"]
    assert len(where(model)) == len(list(model.parameters()))


def test_a_network_of_the_experiments() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False)
            self.norm2, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False)
            self.shortcut = None

    class WideResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, bias=False)
            self.blocks = nn.Sequential(Block(), Block(), Block())
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 2)

    assert names(WideResNet()) == ["stem", "blocks.0", "blocks.1", "blocks.2", "head"]
    assert where(WideResNet())["norm.weight"] == "blocks.2"


def test_plain_convolutions_are_a_group_each_with_their_norms_and_slopes() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(3),  # before everything: with what follows
        nn.Conv2d(3, 4, 3),
        nn.PReLU(),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4)),
        nn.Flatten(),
        nn.Linear(4, 8),
        nn.Linear(8, 2),
    )
    layer = where(model)
    assert list(dict.fromkeys(layer.values())) == ["1", "3.0", "5", "6"]
    assert layer["0.weight"] == layer["2.weight"] == "1"
    assert layer["3.1.bias"] == "3.0"


def test_branches_and_experts_inside_a_block_do_not_divide_it() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.gate = nn.LayerNorm(4), nn.Linear(4, 2)
            hidden = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2)]
            self.experts = nn.ModuleList([*hidden, Expert()])

    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)

    model = nn.Sequential(nn.Linear(3, 4), Experts(), Experts(), nn.Linear(4, 2))
    assert names(model) == ["0", "1", "2", "3"]


def test_stages_of_blocks_are_opened() -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(BertLayer(4) for _ in range(2))
            self.downsample = nn.Linear(4, 4)

    model = nn.Sequential(nn.Linear(3, 4), nn.ModuleList([Stage(), Stage()]), nn.Linear(4, 2))
    assert names(model)[:4] == ["0", "1.0.blocks.0", "1.0.blocks.1", "1.0.downsample"]
    assert names(model)[-1] == "1.1.downsample, 2"


def test_parametrised_layers_and_a_single_layer_and_lists_of_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    assert names(model) == ["0", "1"]
    assert len(where(model)) == 5
    assert names(nn.Linear(3, 2)) == ["model"]
    prompted = nn.ModuleDict({"net": nn.Linear(3, 2), "tail": nn.Linear(2, 2)})
    prompted["prompts"] = nn.ParameterList([nn.Parameter(torch.ones(2))])  # type: ignore[assignment]
    assert names(prompted) == ["net", "tail"]
    assert where(prompted)["prompts.0"] == "tail"


# ---------------------------------------------------------------------------- by use


class Backwards(nn.Module):
    """Registers its layers from the output to the input, as D30's name prefixes would miss."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.dropout = nn.Dropout(0.5)
        self.second = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        self.calls = self.calls + 1  # another tensor in its place
        x = self.norm(self.first(x * scale))
        return self.head(self.dropout(F.relu(self.second(x))))


@pytest.mark.parametrize(
    "inputs", [torch.ones(2, 6), (torch.ones(2, 6), 2.0), {"x": torch.ones(2, 6)}]
)
def test_d30_with_inputs_the_order_is_that_of_use(inputs: Any) -> None:
    model = Backwards()
    assert names(model) == ["head", "second", "first"]
    layer = where(model, example_inputs=inputs)
    assert list(dict.fromkeys(layer.values())) == ["first", "second", "head"]
    assert layer["norm.weight"] == "first"


@pytest.mark.parametrize("name", MODELS)
def test_with_inputs_a_model_registered_in_order_has_the_same_groups(name: str) -> None:
    build, inputs = MODELS[name]
    model = build()
    assert layer_groups(model, example_inputs=inputs()) == layer_groups(model)


def test_looking_at_the_order_leaves_no_trace(watch_global_rng: Any) -> None:
    model = Backwards()
    model.norm.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    moved = watch_global_rng()
    layer_groups(model, example_inputs=torch.ones(2, 6))
    assert moved() == []
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        layer_groups(model, example_inputs=torch.ones(2, 5))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_groups_found_by_use_serve_as_layers() -> None:
    model = Backwards()
    groups = layer_groups(model, example_inputs=torch.ones(2, 6))
    method = gr.LeRaC(layers=groups)
    method.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    again = layer_groups(model, groups)
    assert [group.name for group in again] == ["first", "second", "head"]
    for one, other in zip(again, groups, strict=True):
        assert set(one.parameters) == set(other.parameters)
    assert eval(repr(method.layers), {"LayerGroup": LayerGroup}) == groups


# ---------------------------------------------------------------------------- by hand


def test_modules_lists_patterns_and_pairs() -> None:
    model = ResNet((1, 1))
    by_module = [[model.conv1, model.bn1], model.layer1, model.layer2, model.fc]
    by_name = [["conv1", "bn1"], "layer1", "layer2.*", ("classifier", "fc")]
    assert names(model, by_module) == ["conv1, bn1", "layer1", "layer2", "fc"]
    assert names(model, by_name) == ["conv1, bn1", "layer1", "layer2.*", "classifier"]
    for groups in (by_module, by_name):
        parameters = [group.parameters for group in layer_groups(model, groups)]
        assert [len(own) for own in parameters] == [3, 6, 9, 2]


def test_a_prefix_ends_at_a_dot_and_globs_choose_among_blocks() -> None:
    model = nn.ModuleDict({"layer": nn.ModuleList(nn.Linear(2, 2) for _ in range(12))})
    found = layer_groups(model, ["layer.1", "layer.[02-9]", "layer.1[01]"])
    assert [len(group.parameters) for group in found] == [2, 18, 4]
    assert len(layer_groups(model, ["*.weight", "*.bias"])) == 2


def test_a_parameter_may_stand_for_itself() -> None:
    model = ViT()
    layers = [["patch_embed", model.cls_token, model.pos_embed], "blocks", ["norm", "head"]]
    assert where(model, layers)["pos_embed"] == "patch_embed, cls_token, pos_embed"
    assert len(where(model, layers)) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        (["conv1", "bn1", "layer1", "layer2"], ValueError, "2 in no entry: 'fc.weight', 'fc.bias'"),
        (["*", "fc"], ValueError, r"'fc.\w+' in entries 0 and 1"),
        (["*", "encodr"], ValueError, r"layers\[1\] must be a pattern .* 'encodr'. The model's"),
        (["*", nn.Linear(2, 2)], ValueError, r"layers\[1\] must be a part .* another model"),
        ([], ValueError, "layers must be at least one group"),
        ("conv1", TypeError, "layers must be a list of modules"),
        ([3], TypeError, r"layers\[0\] must be one of modules"),
        ([("a", "b", "c")], TypeError, "a pair of a name and layers"),
        ([[]], ValueError, r"layers\[0\] must be at least one module"),
    ],
)
def test_wrong_layers_are_refused_by_name(layers: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        layer_groups(ResNet((1, 1)), layers)


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="It has no parameters at all"):
        layer_groups(nn.ReLU())
    with pytest.raises(ValueError, match="Are all frozen"):
        layer_groups(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ValueError, match="that the optimizer has"):
        layer_groups(nn.Linear(2, 2), among=[])
    with pytest.raises(ValueError, match="initialised in all parameters"):
        layer_groups(nn.LazyLinear(2))
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        layer_groups([nn.Linear(2, 2)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="example_inputs must be None where layers are given"):
        layer_groups(mlp(), ["*"], example_inputs=images())


# ---------------------------------------------------------------------------- described


def test_describe_shows_layers_sizes_and_rates() -> None:
    model = BertClassifier()
    lines = gr.LeRaC.describe(model).splitlines()
    assert lines[0].split() == ["layer", "tensors", "parameters", "initial", "rate"]
    assert len(lines) == 7
    assert lines[1].split() == ["bert.embeddings", "4", "152", "1", "x", "eta"]
    total = sum(parameter.numel() for parameter in model.parameters())
    assert lines[-1].split() == ["in", "all", str(len(list(model.parameters()))), str(total)]
    rates = [float(line.split()[-3]) for line in lines[1:-1]]
    assert rates == pytest.approx(gr.LeRaC().initial_rates(5), rel=1e-3)


def test_describe_with_settings_and_an_optimizer_shows_its_rates() -> None:
    model = Nested(LSTM())
    groups = [
        {"params": list(model.backbone.embedding.parameters()), "lr": 0.5},  # type: ignore[union-attr]
        {"params": list(model.head.parameters())},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    shown = gr.LeRaC(last=1e-2).describe(model, optimizer)
    assert "1 x eta = 0.5" in shown
    assert "0.01 x eta = 0.001" in shown
    assert "lstm" not in shown
    method = gr.LeRaC(layers=[("all", "*")])
    assert method.describe(model).splitlines()[1].startswith("all ")
    assert words().shape == (4, 7)
