"""Muon's matrices against torch's own Muon, its rest against torch's AdamW; which weights count as matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxkit.train.config import GroupConfig, OptimizerConfig
from voxkit.train.muon import Muon, matrix_names
from voxkit.train.optimizers import build_optimizer, parameter_groups


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 12)
        self.hidden = nn.Sequential(nn.Linear(12, 20), nn.Linear(20, 12), nn.LayerNorm(12))
        self.dense = nn.Conv1d(12, 6, 3)
        self.depthwise = nn.Conv1d(6, 6, 5, groups=6)
        self.output = nn.Linear(12, 7, bias=False)
        self.output.weight = self.embedding.weight
        self.positions = nn.Parameter(torch.randn(5, 12))


MATRICES = {"hidden.0.weight", "hidden.1.weight", "dense.weight"}


def gradients(net: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_which_weights_are_matrices():
    assert matrix_names(Net()) == MATRICES  # no embedding, nor the output tied to it; no depthwise filter; no learned positions


def test_groups_split_matrices_from_the_rest():
    groups = parameter_groups(Net(), OptimizerConfig(name="muon", lr=0.01), [GroupConfig("hidden.*", lr_scale=0.1)])
    found = [(g["name"], g["lr"], g["weight_decay"], g.get("matrices", False), set(g["names"])) for g in groups]
    assert found == [
        ("hidden.*", pytest.approx(0.001), 0.01, True, {"hidden.0.weight", "hidden.1.weight"}),
        ("hidden.*", pytest.approx(0.001), 0.0, False, {"hidden.0.bias", "hidden.1.bias", "hidden.2.weight", "hidden.2.bias"}),
        ("rest", 0.01, 0.01, True, {"dense.weight"}),
        ("rest", 0.01, 0.01, False, {"embedding.weight", "depthwise.weight", "positions"}),
        ("rest", 0.01, 0.0, False, {"dense.bias", "depthwise.bias"}),
    ]


def test_groups_without_decay_are_not_split_further():
    for config in (OptimizerConfig(name="muon", weight_decay=0.0), OptimizerConfig(name="muon", decay_vectors=True)):
        groups = parameter_groups(Net(), config, [])
        assert [g.get("matrices", False) for g in groups] == [True, False] and len({g["weight_decay"] for g in groups}) == 1


def test_the_rest_is_adamw():
    ours, theirs = Net(), Net()
    first = build_optimizer(ours, OptimizerConfig(name="muon", lr=0.01, weight_decay=0.1, betas=[0.9, 0.95]), [])
    second = build_optimizer(theirs, OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.1, betas=[0.9, 0.95]), [])
    for step in range(5):
        for net, optimizer in ((ours, first), (theirs, second)):
            gradients(net, step)
            if step == 2:  # a part that took no part
                net.positions.grad = None
            optimizer.step()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        if name not in MATRICES:
            torch.testing.assert_close(p, q, msg=name)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("device", [
    "cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: there it works in bfloat16"))])
def test_matrices_move_as_with_torch(device):
    torch.manual_seed(3)
    ours = [nn.Parameter(torch.randn(shape, device=device)) for shape in ((20, 12), (12, 20), (9, 9))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    first = Muon([{"params": ours, "matrices": True}], lr=0.02, momentum=0.9, weight_decay=0.1)
    second = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for p, q in zip(ours, theirs):
            p.grad = torch.randn(p.shape, generator=generator).to(device)
            q.grad = p.grad.clone()
        first.step()
        second.step()
    for p, q in zip(ours, theirs):  # torch iterates in bfloat16
        torch.testing.assert_close(p, q, atol=2e-3, rtol=0)


def test_a_convolution_moves_as_the_matrix_that_it_is():
    torch.manual_seed(4)
    conv, linear = nn.Conv1d(4, 6, 3), nn.Linear(12, 6)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
    conv.weight.grad = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(5))
    linear.weight.grad = conv.weight.grad.flatten(1).clone()
    for weight in (conv.weight, linear.weight):
        Muon([{"params": [weight], "matrices": True}], lr=0.1).step()
    torch.testing.assert_close(conv.weight.flatten(1), linear.weight)


def test_a_parameter_without_gradient_stays():
    used, unused = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    used.grad = torch.randn(3, 3)
    Muon([{"params": [used, unused], "matrices": True}], lr=0.1).step()
    assert torch.equal(unused, torch.ones(3, 3)) and not torch.equal(used, torch.ones(3, 3))


def test_what_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"shape \[4\] is no matrix"):
        Muon([{"params": [nn.Parameter(torch.ones(4))], "matrices": True}])
    with pytest.raises(ValueError, match="steps of at least 1"):
        Muon([nn.Parameter(torch.ones(4))], steps=0)
    assert OptimizerConfig(name="muon", momentum=1.0).problems() == ["momentum: 1.0 is not in [0, 1)"]
