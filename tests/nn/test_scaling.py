"""Zipformer's small layers: their hand-written gradients against autograd on the published formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from voxkit.nn import balance
from voxkit.nn.balance import Balancer, Whiten, balancer_gradient, whitening_gradient, whitening_metric
from voxkit.nn.chunk_conv import ChunkCausalDepthwiseConv
from voxkit.nn.depthwise import depthwise, depthwise_reference
from voxkit.nn.scaling import BiasNorm, SharedDropout, convert_width, limit_parameter, scale_gradient
from voxkit.nn.scheduled import ScheduledFloat, chance, set_batch_count, set_schedule_speed
from voxkit.nn.swoosh import SwooshLinear, swoosh, swoosh_reference


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gradient(function, *inputs):
    """Output, and gradients of its product with fixed noise."""
    inputs = [i.detach().clone().requires_grad_() for i in inputs]
    out = function(*inputs)
    noise = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    return out, torch.autograd.grad((out * noise).sum(), inputs)


def same(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["L", "R"])
def test_swoosh(kind):
    x = torch.randn(50, 7) * 10
    same(gradient(lambda x: swoosh(x, kind), x), gradient(lambda x: swoosh_reference(x, kind), x))
    with torch.no_grad():
        same(swoosh(x, kind), swoosh_reference(x, kind))
    same(swoosh(torch.zeros(1), "R"), torch.zeros(1))  # zero in, zero out


@pytest.mark.parametrize("kind", ["L", "R"])
def test_swoosh_linear(kind):
    layer, x = SwooshLinear(6, 4, kind), torch.randn(2, 5, 6) * 4
    parameters = (layer.weight, layer.bias)
    def ours(x, w, b):
        return torch.func.functional_call(layer, {"weight": w, "bias": b}, (x,))
    same(gradient(ours, x, *parameters), gradient(lambda x, w, b: F.linear(swoosh_reference(x, kind), w, b), x, *parameters))
    layer.eval()
    with torch.no_grad():
        same(layer(x), F.linear(swoosh_reference(x, kind), *parameters))


def test_swoosh_linear_drops_channels_of_whole_sequences():
    layer = SwooshLinear(400, 400, "L", dropout=0.25)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(400))
        layer.bias.zero_()
    y = layer(torch.full((2, 3, 400), 9.0, requires_grad=True))
    same(y[:, :1].expand_as(y), y)
    assert 0.15 < (y == 0).float().mean() < 0.35 and not torch.equal(y[0], y[1])
    same(y[y != 0].mean(), swoosh_reference(torch.tensor(9.0), "L") / 0.75)


def test_swoosh_linear_in_bfloat16():
    layer, x = SwooshLinear(6, 4, "L"), torch.randn(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    same(y.float(), layer(x), 3e-2)


def test_bias_norm():
    norm, x = BiasNorm(8).eval(), torch.randn(3, 5, 8)
    bias, log_scale = torch.randn(8), torch.tensor(0.3)
    def plain(x, b, s):
        return x / (x - b).square().mean(-1, keepdim=True).sqrt() * s.exp()
    def ours(x, b, s):
        return torch.func.functional_call(norm, {"bias": b, "log_scale": s}, (x,))
    same(gradient(ours, x, bias, log_scale), gradient(plain, x, bias, log_scale))
    with torch.no_grad():
        same(ours(x, bias, log_scale), plain(x, bias, log_scale))


def test_limit_parameter_turns_wrong_gradients_round():
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    limit_parameter(x, 0.0, 1.0, probability=1.0).backward(torch.tensor([1.0, 1.0, 1.0]))
    assert x.grad.tolist() == [-1.0, 1.0, 1.0]
    x.grad = None
    limit_parameter(x, 0.0, 1.0, probability=1.0).backward(torch.tensor([-1.0, -1.0, -1.0]))
    assert x.grad.tolist() == [-1.0, -1.0, 1.0]


def test_scale_gradient_and_width():
    x = torch.randn(2, 3, requires_grad=True)
    scale_gradient(x, 0.2).sum().backward()
    same(x.grad, torch.full((2, 3), 0.2))
    assert convert_width(x, 2).shape == (2, 2) and convert_width(x, 5)[:, 3:].abs().sum() == 0
    assert (SharedDropout(0.5).train()(torch.ones(2, 9, 50)).std(1) == 0).all()


def test_balancer_gradient_is_the_penaltys():
    scale, shift = torch.tensor([0.01, 1.0, 30.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 3.0, 4.0, -4.0])
    x = (torch.randn(300, 5) * scale + shift).requires_grad_()
    means, rms_range = (-0.5, 0.4), (0.2, 6.0)
    power, mean = x.square().mean(0), x.mean(0)
    ratio, rms = mean / (power - mean.square()).sqrt(), power.sqrt()
    penalty = (ratio - ratio.clamp(*means)).abs() + (rms.clamp(*rms_range) / rms).log().abs()
    (expected,) = torch.autograd.grad(penalty.sum(), x)
    norm = expected.square().mean(0).sqrt()
    offset, slope = balancer_gradient(x.detach(), means, rms_range)
    ours = offset + slope * x.detach()
    same(ours, torch.where(norm > 0, expected / norm.clamp(min=1e-20), 0.0), 2e-3)
    assert ours[:, 1].abs().max() == 0  # in range
    assert (ours[:, [0, 2, 3, 4]].square().mean(0) > 0.99).all()


@pytest.mark.parametrize(("shape", "dim"), [((4, 6, 8), -1), ((4, 8, 6, 5), -3)])
def test_balancer_acts_on_gradients_only_and_in_training_only(shape, dim):
    balancer = Balancer(dim=dim, min_positive=0.4, max_positive=0.6, prob=1.0, scale=0.1)
    x = torch.randn(shape) + 3
    y, (grad,) = gradient(balancer, x)
    same(y.detach(), x)
    _, (plain,) = gradient(lambda x: x * 1, x)
    change = (grad - plain) / plain.abs()
    assert 0.05 < change.square().mean().sqrt() < 0.15 and change.mean() > 0  # towards smaller x
    balancer.eval()
    same(gradient(balancer, x)[1][0], plain)


def test_balancer_of_some_channels():
    x = torch.randn(4, 6, 8) + 3
    _, (grad,) = gradient(Balancer(prob=1.0, max_positive=0.6, channels=(4, 8)), x)
    _, (whole,) = gradient(Balancer(prob=1.0, max_positive=0.6), x)
    _, (plain,) = gradient(lambda x: x * 1, x)
    assert torch.equal(grad[..., :4], plain[..., :4])
    same(grad[..., 4:], whole[..., 4:])


@pytest.mark.parametrize("groups", [1, 2])
def test_whitening_gradient_is_the_metrics(groups):
    x = (torch.randn(200, 8) @ torch.randn(8, 8)).requires_grad_()
    metric = whitening_metric(x, groups)
    (expected,) = torch.autograd.grad(metric, x)
    ours = whitening_gradient(x.detach(), groups, 1.05)
    same(ours / ours.norm(), expected / expected.norm(), 1e-4)
    assert whitening_gradient(x.detach(), groups, metric.item() + 0.1) is None
    assert 1.0 <= whitening_metric(torch.randn(5000, 8), groups) < 1.05


def test_whiten_adds_a_share_of_the_gradient_and_remembers_how_often_it_acts():
    whiten, x = Whiten(2.0, scale=0.1), torch.randn(50, 6) @ torch.randn(6, 6)
    whiten.prob = 1.0
    _, (plain,) = gradient(lambda x: x * 1, x)
    _, (grad,) = gradient(whiten, x)
    same((grad - plain).norm(), 0.1 * plain.norm())
    assert whiten.prob == whiten.max_prob
    whiten.prob = 1.0
    gradient(whiten, torch.randn(500, 6))
    assert whiten.prob == whiten.min_prob
    other = Whiten(2.0)
    other.load_state_dict(whiten.state_dict())
    assert other.prob == other.min_prob
    other.load_state_dict({})  # a checkpoint from elsewhere
    assert not list(whiten.parameters())


def test_whitening_and_balancing_do_what_they_are_for():
    """Steps along the added gradient alone make features whiter and put them in range."""
    mix = torch.randn(6, 6)
    x = (torch.randn(400, 6) @ mix + 5).requires_grad_()
    before = whitening_metric(x.detach(), 1)
    optimizer = torch.optim.SGD([x], lr=0.05)
    for _ in range(60):
        x.grad = whitening_gradient(x.detach(), 1, 1.0) / x.shape[0]
        x.grad /= x.grad.square().mean().sqrt()
        optimizer.step()
    assert whitening_metric(x.detach(), 1) < 0.7 * before
    for _ in range(100):
        offset, slope = balancer_gradient(x.detach(), (-0.2, 0.2), (0.1, 2.0))
        x.grad = offset + slope * x.detach()
        optimizer.step()
    x = x.detach()
    assert (x.mean(0) / x.std(0)).abs().max() < 1.5 and balance.whitening_metric(x, 1) < before


@pytest.mark.parametrize(("size", "kernel", "left"), [(200, 7, 3), (203, 15, 7), (200, 4, 3), (210, 31, 15), (400, 1, 0)])
def test_depthwise_convolution(size, kernel, left):
    inputs = torch.randn(2, 3, size), torch.randn(3, 1, kernel), torch.randn(3)
    same(gradient(lambda *i: depthwise(*i, left), *inputs), gradient(lambda *i: depthwise_reference(*i, left), *inputs), 1e-4)
    x = torch.randn(2, size, 3).transpose(1, 2)  # other strides
    same(depthwise(x, inputs[1].requires_grad_(), inputs[2], left), depthwise_reference(x, *inputs[1:], left))
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise(x.bfloat16(), *inputs[1:], left)
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(("size", "chunk"), [(12, 4), (13, 4), (3, 4), (20, 16), (9, -1)])
def test_chunk_convolution_in_parts_is_the_whole(size, chunk):
    conv = ChunkCausalDepthwiseConv(5, 7)
    nn.init.normal_(conv.edge_scale)
    x = torch.randn(2, 5, size)
    whole, _ = conv(x, chunk)
    cache, parts = torch.zeros(2, 5, 3), []
    for part in x.split(chunk if chunk > 0 else size, dim=2):
        y, cache = conv(part, chunk, cache)
        parts.append(y)
    same(torch.cat(parts, 2), whole)
    if chunk > 0 and size > chunk:  # nothing from later chunks
        x[..., chunk:] += 1
        same(conv(x, chunk)[0][..., :chunk], whole[..., :chunk])


def test_chunk_convolution_of_padded_sequences():
    conv = ChunkCausalDepthwiseConv(5, 7)
    nn.init.normal_(conv.edge_scale)
    x, lengths = torch.randn(3, 5, 14), torch.tensor([14, 9, 3])
    for i, length in enumerate(lengths):
        x[i, :, length:] = 0
    y, _ = conv(x, -1, None, lengths)
    for i, length in enumerate(lengths):
        same(y[i:i + 1, :, :length], conv(x[i:i + 1, :, :length])[0])
    with pytest.raises(ValueError, match="even"):
        ChunkCausalDepthwiseConv(5, 8)


def test_schedules():
    schedule = ScheduledFloat((0, 0.2), (100, 0.1), (200, 0.0), default=0.5)
    assert [schedule(s) for s in (None, -1, 0, 50, 100, 150, 999)] == pytest.approx([0.5, 0.2, 0.2, 0.15, 0.1, 0.05, 0.0])
    assert ScheduledFloat((0, 0.2), (100, 0.1))(None) == 0.1
    with pytest.raises(ValueError, match="rising"):
        ScheduledFloat((5, 1.0), (5, 2.0))
    layer = nn.Sequential(SwooshLinear(2, 2, "L", dropout=schedule))
    set_schedule_speed(layer, 2.0)
    set_batch_count(layer, 25)
    assert layer[0].at(schedule) == pytest.approx(0.15) and layer[0].at(0.3) == 0.3
    assert not chance(0.0) and chance(1.0) and 300 < sum(chance(0.4) for _ in range(1000)) < 500
