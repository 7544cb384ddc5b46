"""Learning rates at known steps, per group, and after resuming."""

from __future__ import annotations

import pytest
import torch

from voxkit.train.config import ScheduleConfig
from voxkit.train.schedules import SHAPES, build_schedule


def optimizer() -> torch.optim.Optimizer:
    a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    return torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}], lr=1.0)


def rates(config: ScheduleConfig, steps: int) -> list[float]:
    o = optimizer()
    schedule, out = build_schedule(o, config), []
    for _ in range(steps):
        assert o.param_groups[1]["lr"] == pytest.approx(0.1 * o.param_groups[0]["lr"])
        out.append(o.param_groups[0]["lr"])
        schedule.step()
    return out


def test_cosine_and_linear_warm_up_and_end():
    for name, middle in (("cosine", 0.55), ("linear", 0.55)):
        lr = rates(ScheduleConfig(name=name, warmup_steps=10, total_steps=30, min_lr_ratio=0.1), 40)
        assert lr[:3] == pytest.approx([0.1, 0.2, 0.3])
        assert lr[10] == pytest.approx(1.0) and lr[20] == pytest.approx(middle)
        assert lr[30:] == pytest.approx([0.1] * 10)


def test_constant_stays():
    assert rates(ScheduleConfig(name="constant", warmup_steps=2), 5) == pytest.approx([0.5, 1, 1, 1, 1])


def test_eden_falls_with_steps_and_epochs():
    o = optimizer()
    schedule = build_schedule(o, ScheduleConfig(name="eden", warmup_steps=500, lr_batches=5000, lr_epochs=6))
    assert o.param_groups[0]["lr"] == pytest.approx(0.5)
    for _ in range(5000):
        schedule.step()
    assert o.param_groups[0]["lr"] == pytest.approx(2 ** -0.25)
    schedule.step_epoch(6)
    assert o.param_groups[0]["lr"] == pytest.approx(2 ** -0.5)


@pytest.mark.parametrize("name", SHAPES)
def test_resumes(name):
    config = ScheduleConfig(name=name, warmup_steps=5, total_steps=50)
    o, other = optimizer(), optimizer()
    one, two = build_schedule(o, config), build_schedule(other, config)
    for _ in range(8):
        one.step()
    one.step_epoch(1)
    one.scale(0.5)
    two.load_state_dict(one.state_dict())
    for _ in range(10):
        assert o.param_groups[0]["lr"] == other.param_groups[0]["lr"]
        one.step()
        two.step()


def test_refuses():
    with pytest.raises(ValueError, match="none of cosine"):
        build_schedule(optimizer(), ScheduleConfig(name="cosin"))
    with pytest.raises(ValueError, match="total_steps"):
        rates(ScheduleConfig(name="cosine", warmup_steps=0), 2)
