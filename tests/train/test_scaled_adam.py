"""ScaledAdam against the formulas of its paper written out per tensor; its state; its groups."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from voxkit.train.scaled_adam import ScaledAdam


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6), nn.Linear(6, 5), nn.Conv1d(5, 2, 3))
    net.scale = nn.Parameter(torch.tensor(0.7))
    return net


def set_gradients(net: nn.Module, step: int) -> None:
    torch.manual_seed(step)
    for p in net.parameters():
        p.grad = torch.randn_like(p) * (20.0 if step % 13 == 12 else 1.0)


class Reference:
    """One tensor at a time, nothing in place."""

    def __init__(self, params, lr, clipping_scale):
        self.params, self.lr, self.clipping_scale = list(params), lr, clipping_scale
        self.square = [torch.zeros_like(p) for p in self.params]
        self.delta = [torch.zeros_like(p) for p in self.params]
        self.rms = [p.detach().square().mean().sqrt() for p in self.params]
        self.scale_square = [torch.tensor(0.0) for _ in self.params]
        self.scale_grads: list[list] = [[] for _ in self.params]
        self.norms, self.threshold, self.steps = [], None, 0

    @torch.no_grad()
    def step(self):
        t, clip = self.steps, 1.0
        if t > 0:
            norm = sum(((p.grad * (rms if p.numel() > 1 else 0.1)) ** 2).sum() for p, rms in zip(self.params, self.rms)) ** 0.5
            self.norms = [*self.norms, float(norm)][-100:]
            if t in (10, 20, 40) or t % 100 == 0:
                self.threshold = self.clipping_scale * sorted(self.norms)[len(self.norms) // 2] * (1 if t % 100 == 0 else 2)
            if self.threshold is not None:
                clip = min(1.0, self.threshold / float(norm))
        for i, p in enumerate(self.params):
            g = p.grad * clip
            self.square[i] = 0.98 * self.square[i] + 0.02 * g ** 2
            change = -self.lr * g / ((self.square[i] / (1 - 0.98 ** (t + 1))).sqrt() + 1e-8)
            if p.numel() == 1:
                change = change * 0.1
            else:
                self.scale_grads[i].append((p * g).sum())
                if t % 4 == 3:
                    self.rms[i] = p.square().mean().sqrt()
                change = change * self.rms[i]
                if t % 4 == 3:
                    grads, beta = torch.stack(self.scale_grads[i][-4:]), 0.98 ** 4
                    self.scale_square[i] = beta * self.scale_square[i] + (1 - beta) * grads.square().mean()
                    correction = (1 - beta ** ((t + 1) // 4)) ** 0.5
                    scale = -0.1 * self.lr * correction * grads.sum() / (self.scale_square[i].sqrt() + 1e-8)
                    change = change + p * scale.clamp(-0.1, 0.1).clamp(max=float((3.0 - self.rms[i]) / self.rms[i]))
            self.delta[i] = 0.9 * self.delta[i] + 0.1 * change
            p.add_(self.delta[i])
        self.steps += 1


def test_agrees_with_the_formulas():
    net, plain = network(), network()
    ours, theirs = ScaledAdam(net.parameters(), lr=0.03, clipping_scale=2.0), Reference(plain.parameters(), 0.03, 2.0)
    for step in range(112):
        for n in (net, plain):
            set_gradients(n, step)
        ours.step()
        theirs.step()
        if step in (0, 3, 30, 111):
            for (name, p), q in zip(net.named_parameters(), plain.parameters()):
                torch.testing.assert_close(p, q, rtol=2e-4, atol=2e-5, msg=f"{name} after {step}")
    assert ours.param_groups[0]["clipping"]["threshold"] == pytest.approx(theirs.threshold, rel=1e-3)


def test_a_resumed_run_is_the_same_to_the_bit():
    net = network()
    optimizer = ScaledAdam(net.parameters(), lr=0.02, clipping_scale=2.0)
    for step in range(14):
        set_gradients(net, step)
        optimizer.step()
    other = copy.deepcopy(net)
    resumed = ScaledAdam(other.parameters(), lr=0.02, clipping_scale=2.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(14, 30):
        for n, o in ((net, optimizer), (other, resumed)):
            set_gradients(n, step)
            o.step()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters()))


def test_groups_keep_their_rates_and_are_clipped_together():
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    params = list(net.parameters())
    optimizer = ScaledAdam([{"params": params[:3], "lr": 0.0004}, {"params": params[3:], "lr": 0.04}], clipping_scale=2.0)
    set_gradients(net, 0)
    optimizer.step()
    change = [float((p - q).detach().norm() / q.norm()) for p, q in zip(net.parameters(), before)]
    assert max(change[:3]) * 20 < min(change[3:-1])


def test_unused_parameters_and_infinite_gradients_change_nothing_for_good():
    net = network()
    optimizer = ScaledAdam(net.parameters(), lr=0.03, clipping_scale=2.0)
    for step in range(3):
        set_gradients(net, step)
        net.scale.grad = None
        if step == 2:
            net[0].weight.grad[0, 0] = float("inf")
        optimizer.step()
    assert net.scale.item() == pytest.approx(0.7)
    assert all(p.isfinite().all() for p in net.parameters())


def test_learns():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)), torch.randn(64, 8)
    target = (x[:, :1] * x[:, 1:2]).tanh()
    optimizer = ScaledAdam(net.parameters(), lr=0.03, clipping_scale=2.0)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (net(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="lr above 0"):
        ScaledAdam(network().parameters(), lr=0.0)


def test_a_pretrained_tensor_above_the_limit_is_not_pulled_down_to_it():
    large, small = nn.Parameter(torch.full((4,), 12.0)), nn.Parameter(torch.full((4,), 2.9))
    optimizer = ScaledAdam([large, small], lr=0.05, scalar_lr_scale=1.0)
    for _ in range(40):
        large.grad, small.grad = -torch.ones(4), -torch.ones(4)  # larger would be better, says the loss
        optimizer.step()
    assert 12 < large.detach().mean() < 16 and 2.9 < small.detach().mean() < 4
