"""Curriculum by smoothing: every worked number of the specification, and what must hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

import gradatim as gr
from gradatim.layers import gaussian_kernel, smooth, smooth_tokens
from gradatim.layers.smoothing import is_identity

SHAPES = [(2, 3, 9), (2, 3, 6, 7), (1, 2, 5, 4, 6)]


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def by_numpy(values: torch.Tensor, kernel: torch.Tensor, mode: str) -> torch.Tensor:
    """Another way to blur: one map at a time."""
    found = np.zeros(values.shape)
    for batch, channel in np.ndindex(*values.shape[:2]):
        found[batch, channel] = ndimage.convolve(
            values[batch, channel].double().numpy(), kernel.double().numpy(), mode=mode
        )
    return torch.from_numpy(found)


# ---------------------------------------------------------------------------------- the kernel


@pytest.mark.parametrize(
    ("sigma", "centre", "edge", "corner"),
    [(1.0, 0.204180, 0.123841, 0.075114), (0.8, 0.272496, 0.124758, 0.057118)],
)
def test_the_kernel_is_exp_of_minus_squared_distance_over_2_sigma_squared(
    sigma: float, centre: float, edge: float, corner: float
) -> None:
    expected = [[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]]
    torch.testing.assert_close(gaussian_kernel(sigma), torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0, 1e6])
def test_weights_sum_to_1_and_are_symmetric(sigma: float, size: int, dims: int) -> None:
    kernel = gaussian_kernel(sigma, size, dims)
    assert kernel.shape == (size,) * dims
    assert kernel.dtype == torch.float32
    assert float(kernel.double().sum()) == pytest.approx(1, abs=1e-6)
    for dim in range(dims):
        assert torch.equal(kernel, kernel.flip(dim))
        assert torch.equal(kernel, kernel.transpose(0, dim))


@pytest.mark.parametrize("sigma", [0.0, 5e-324, 1e-200, 1e-30, 0.1])
def test_trap_11_a_width_of_0_or_nearly_0_is_the_identity_and_divides_nothing(sigma: float) -> None:
    one = torch.zeros(3, 3)
    one[1, 1] = 1
    torch.testing.assert_close(gaussian_kernel(sigma), one, atol=1e-6, rtol=0)
    given = maps(1, 2, 5, 5)
    assert smooth(given, sigma) is given
    tokens = maps(1, 4, 2)
    assert smooth_tokens(tokens, sigma) is tokens


def test_the_identity_begins_where_the_centre_weighs_more_than_999_thousandths() -> None:
    for dims in (1, 2, 3):
        for sigma in np.linspace(0.2, 0.3, 41).tolist():
            centre = float(gaussian_kernel(sigma, 3, dims)[(1,) * dims])
            assert is_identity(sigma, 3, dims) == (centre > 1 - 1e-3)
    assert is_identity(0.24)
    assert not is_identity(0.25)


def test_the_global_default_dtype_does_not_change_the_kernel() -> None:
    before = gaussian_kernel(1.0)
    torch.set_default_dtype(torch.float64)
    try:
        assert gaussian_kernel(1.0).equal(before)
    finally:
        torch.set_default_dtype(torch.float32)


# ---------------------------------------------------------------------------------- feature maps


@pytest.mark.parametrize("shape", SHAPES, ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("size", [3, 5, 7, 11])
@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("reflect", "mirror")])
def test_blurring_is_the_convolution_of_each_map_with_the_kernel(
    shape: Any, size: int, padding: Any, mode: str
) -> None:
    """Also where the kernel is larger than the map: no shape ever shrinks (D14b)."""
    values = maps(*shape)
    found = smooth(values, 1.3, size=size, padding=padding)
    expected = by_numpy(values, gaussian_kernel(1.3, size, len(shape) - 2), mode)
    assert found.shape == values.shape
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_reflection_goes_on_where_the_kernel_is_larger_than_the_map(size: int, length: int) -> None:
    values = maps(1, 1, length, length)
    found = smooth(values, 1.0, size=size, padding="reflect")
    expected = by_numpy(values, gaussian_kernel(1.0, size), "mirror")
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_zero_padding_darkens_borders_and_reflection_does_not() -> None:
    ones = torch.ones(1, 1, 8, 8)
    dark = smooth(ones, 1.0)[0, 0]
    assert float(dark[0, 0]) == pytest.approx(0.5270, abs=5e-5)
    assert float(dark[0, 4]) == pytest.approx(0.7259, abs=5e-5)
    torch.testing.assert_close(dark[1:-1, 1:-1], torch.ones(6, 6))
    torch.testing.assert_close(smooth(ones, 1.0, padding="reflect"), ones)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_channels_and_samples_do_not_mix(padding: Any) -> None:
    values = maps(3, 4, 6, 6)
    whole = smooth(values, 1.0, padding=padding)
    for sample in range(3):
        for channel in range(4):
            one = values[sample : sample + 1, channel : channel + 1]
            found = smooth(one, 1.0, padding=padding)
            torch.testing.assert_close(found[0, 0], whole[sample, channel])


def test_layouts_in_memory_stay_and_change_nothing() -> None:
    values = maps(2, 8, 6, 6)
    expected = smooth(values, 1.0)
    last = values.contiguous(memory_format=torch.channels_last)
    for padding in ("zero", "reflect"):
        found = smooth(last, 1.0, padding=padding)  # type: ignore[arg-type]
        torch.testing.assert_close(found, smooth(values, 1.0, padding=padding))  # type: ignore[arg-type]
        assert found.is_contiguous(memory_format=torch.channels_last)
    strided = values.expand(3, 2, 8, 6, 6)[1, :, :, ::1].flip(0).flip(0)
    torch.testing.assert_close(smooth(strided, 1.0), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_the_kernel_is_built_in_single_precision(dtype: torch.dtype) -> None:
    values = maps(2, 3, 6, 6)
    for found, expected in (
        (smooth(values.to(dtype), 1.0), smooth(values, 1.0)),
        (smooth_tokens(values[0].to(dtype), 1.0), smooth_tokens(values[0], 1.0)),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own jvp
@pytest.mark.parametrize("kind", ["maps", "tokens"])
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_gradients_are_right_to_the_second_order_forward_and_backward(
    kind: str, padding: Any
) -> None:
    values = maps(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    if kind == "tokens":
        values = maps(2, 6, 3, dtype=torch.float64).requires_grad_()

    def blur(given: torch.Tensor) -> torch.Tensor:
        make = smooth_tokens if kind == "tokens" else smooth
        return make(given, 0.9, size=5, padding=padding) ** 2

    assert torch.autograd.gradcheck(blur, values, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(blur, values)


@pytest.mark.parametrize("kind", ["maps", "tokens"])
def test_under_zero_padding_the_blur_is_its_own_adjoint(kind: str) -> None:
    """<S x, y> = <x, S y>: the backward pass is the same blur."""
    blur = smooth_tokens if kind == "tokens" else smooth
    shape = (2, 6, 3) if kind == "tokens" else (2, 3, 5, 6)
    x = maps(*shape, dtype=torch.float64)
    y = x.flip(1, 2) ** 2
    left = (blur(x, 1.0, size=5) * y).sum()
    assert float(left) == pytest.approx(float((x * blur(y, 1.0, size=5)).sum()), rel=1e-6)


def test_per_sample_gradients_by_torch_func() -> None:
    values = maps(4, 3, 5, 5)

    def loss(one: torch.Tensor) -> torch.Tensor:
        return (smooth(one.unsqueeze(0), 1.0) ** 3).sum()

    found = torch.func.vmap(torch.func.grad(loss))(values)
    for row in range(4):
        torch.testing.assert_close(found[row], torch.func.grad(loss)(values[row]))


def test_nothing_but_the_kernel_is_kept_for_the_backward_pass() -> None:
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    values = maps(4, 8, 16, 16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        smooth(values * 1.0, 1.0)
        smooth_tokens(values[0] * 1.0, 1.0)
    assert max(kept) <= 9


def test_autocast_keeps_the_dtype_of_what_is_blurred() -> None:
    values = maps(2, 3, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = smooth(values, 1.0)
    assert found.equal(smooth(values, 1.0))


def test_deterministic_algorithms_give_the_same_reflection() -> None:
    values = maps(1, 2, 6, 6)
    expected = smooth(values, 1.0, padding="reflect")
    torch.use_deterministic_algorithms(True)
    try:
        torch.testing.assert_close(smooth(values, 1.0, padding="reflect"), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_empty_batch_stays_empty() -> None:
    assert smooth(torch.zeros(0, 3, 4, 4), 1.0).shape == (0, 3, 4, 4)
    assert smooth_tokens(torch.zeros(0, 3, 4), 1.0).shape == (0, 3, 4)


# ---------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_tokens_are_blurred_along_the_sequence(length: int, size: int, padding: Any) -> None:
    hidden = maps(2, length, 3)
    expected = smooth(hidden.transpose(1, 2), 1.0, size=size, padding=padding).transpose(1, 2)
    found = smooth_tokens(hidden, 1.0, size=size, padding=padding)
    torch.testing.assert_close(found, expected)


def test_tokens_of_patches_are_blurred_on_their_grid_without_the_class_token() -> None:
    hidden = maps(2, 1 + 12, 5)
    found = smooth_tokens(hidden, 1.0, grid=(3, 4), class_tokens=1)
    patches = hidden[:, 1:].reshape(2, 3, 4, 5).permute(0, 3, 1, 2)
    expected = smooth(patches, 1.0).permute(0, 2, 3, 1).reshape(2, 12, 5)
    assert found[:, 0].equal(hidden[:, 0])
    torch.testing.assert_close(found[:, 1:], expected)
    along = smooth_tokens(hidden, 1.0, class_tokens=2)
    assert along[:, :2].equal(hidden[:, :2])
    torch.testing.assert_close(along[:, 2:], smooth_tokens(hidden[:, 2:], 1.0))


# ---------------------------------------------------------------------------------- the schedule


def test_the_width_decays_every_so_many_epochs() -> None:
    """s_e = s_0 d^floor(e / u): epochs 0, 5, 10, 50 give 1, .9, .81, .348678."""
    method = gr.CBS(None)
    found = [method.sigma_at(epoch) for epoch in (0, 4, 5, 9, 10, 50)]
    assert found == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.348678], abs=1e-6)
    audio = gr.CBS(None, sigma=0.8, decay=0.5, every=1)
    assert [audio.sigma_at(epoch) for epoch in (0, 1, 2)] == pytest.approx([0.8, 0.4, 0.2])


@pytest.mark.parametrize(("planned", "end"), [(1, 0), (2, 1), (3, 2), (4, 2), (30, 20), (100, 66)])
def test_the_blur_ends_by_two_thirds_of_the_plan(planned: int, end: int) -> None:
    method = gr.CBS(planned)
    assert method.sigma_at(end) == 0
    assert method.sigma_at(end + 7) == 0
    assert all(method.sigma_at(epoch) > 0 for epoch in range(end))
    with pytest.raises(ValueError, match="epoch must be a whole number, at least 0"):
        method.sigma_at(-1)


def test_without_a_plan_the_threshold_ends_it_in_epoch_70() -> None:
    method = gr.CBS(None)
    ends = [epoch for epoch in range(200) if is_identity(method.sigma_at(epoch))]
    assert ends[0] == 70
    assert ends == list(range(70, 200))


def test_the_layers_of_a_model_follow_the_schedule_each_to_its_own_threshold() -> None:
    """At sigma .25 the centre weighs .99933 in one dimension and .99866 in two."""
    assert [is_identity(0.25, 3, dims) for dims in (1, 2)] == [True, False]
    model = nn.ModuleDict({"line": nn.Conv1d(1, 1, 3), "plane": nn.Conv2d(1, 1, 3)})
    method = gr.CBS(None, sigma=0.5, decay=0.5, every=1)
    method.attach(model, None)
    found = []
    for epoch in range(3):
        method.start_epoch(gr.Run(size=1, seed=0, epoch=epoch))
        found.append((method.current_sigma, method.smoothed))
    method.detach()
    assert found == [(0.5, ["line", "plane"]), (0.25, ["plane"]), (0.125, [])]


def test_what_a_hook_does_is_the_equation_after_the_convolution() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    model = nn.Sequential(layer, nn.BatchNorm2d(3))
    method = gr.CBS(9, sigma=1.2, size=5)
    method.attach(model, None)
    images = maps(2, 2, 6, 6)
    convolved = F.conv2d(images, layer.weight, layer.bias, padding=1)
    assert torch.equal(layer(images), smooth(convolved, 1.2, size=5))
    method.detach()
    assert torch.equal(layer(images), convolved)


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_kernel(1.0, 4), "size must be odd. Got 4. An even kernel"),
        (lambda: gaussian_kernel(-1.0), "sigma must be a finite number, at least 0. Got -1.0"),
        (lambda: gaussian_kernel(math.inf), "sigma must be a finite number"),
        (lambda: gaussian_kernel(1.0, 3, 4), "dims must be a whole number, at least 1 and at most"),
        (lambda: smooth(torch.ones(2, 3), 1.0), "maps must be of shape"),
        (lambda: smooth(torch.ones(1, 1, 3), 1.0, padding="wrap"), "padding must be one of"),  # type: ignore[arg-type]
        (lambda: smooth_tokens(torch.ones(2, 3), 1.0), "hidden must be of shape"),
        (lambda: smooth_tokens(torch.ones(1, 5, 2), 1.0, grid=(2, 2)), "grid must be of 5 patches"),
        (lambda: smooth_tokens(torch.ones(1, 1, 2), 1.0, class_tokens=2), "class_tokens must be"),
        (lambda: gr.CBS(0), "planned_epochs must be a whole number, at least 1"),
        (lambda: gr.CBS(9, sigma=0.0), "sigma must be a finite number, above 0"),
        (lambda: gr.CBS(9, decay=1.1), "decay must be a finite number, above 0 and at most 1"),
        (lambda: gr.CBS(9, decay=0.0), "decay must be a finite number, above 0 and at most 1"),
        (lambda: gr.CBS(9, every=0), "every must be a whole number, at least 1"),
        (lambda: gr.CBS(9, size=2), "size must be odd"),
        (lambda: gr.CBS(None, decay=1.0), "decay must be below 1 without planned_epochs"),
        (lambda: gr.CBS(9, layers=[]), "layers must be at least one convolution without tokens"),
        (lambda: gr.CBS(9, grid=(2, 2)), "grid must be None without tokens"),
        (lambda: gr.CBS(9, class_tokens=1), "class_tokens must be 0 without tokens"),
    ],
)
def test_bad_values_are_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(".", r"\.")):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: smooth(torch.ones(1, 1, 3, dtype=torch.int64), 1.0),
        lambda: smooth([1.0], 1.0),  # type: ignore[arg-type]
        lambda: smooth_tokens(torch.ones(1, 1, 3, dtype=torch.bool), 1.0),
        lambda: gr.CBS("9"),  # type: ignore[arg-type]
        lambda: gr.CBS(9, layers="conv1"),
        lambda: gr.CBS(9, layers=[1]),  # type: ignore[list-item]
        lambda: gr.CBS(9, tokens=nn.Linear(1, 1)),  # type: ignore[arg-type]
        lambda: gr.CBS(9, tokens=True, grid="22"),  # type: ignore[arg-type]
    ],
)
def test_other_kinds_are_refused_as_such(call: Any) -> None:
    with pytest.raises(TypeError, match="must be"):
        call()
