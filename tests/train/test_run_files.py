"""Run directory, budget, logs, configuration and parameter groups."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.train.toys import TinyLoader, TinyModel, tiny_config, tiny_trainer
from voxkit.checkpoint.runs import latest_run
from voxkit.config import ConfigError, structure
from voxkit.train.budget import Budget
from voxkit.train.config import OPTIMIZERS, AverageConfig, GroupConfig, OptimizerConfig, RemedyConfig, ScheduleConfig, TrainConfig
from voxkit.train.logging import append_row, read_metrics
from voxkit.train.optimizers import build_optimizer, parameter_groups
from voxkit.train.run_dir import changed_options, git_hash, new_run_dir

# -- the run directory -----------------------------------------------------------------------------------------------------


def test_new_and_latest_run(tmp_path):
    first = new_run_dir(tmp_path, "stage1", {"a": 1})
    second = new_run_dir(tmp_path, "stage1")
    other = new_run_dir(tmp_path, "big_stage1")
    assert re.fullmatch(r"\d{8}_\d{6}_stage1", first.name) and first != second
    assert (first / "config.yaml").read_text() == "a: 1\n" and not (second / "config.yaml").exists()
    assert f"torch=={torch.__version__.split('+')[0]}" in (first / "packages.txt").read_text()
    assert (first / "git.txt").read_text().strip() == git_hash()
    assert latest_run(tmp_path, "stage1") == second and latest_run(tmp_path, "big_stage1") == other
    assert latest_run(tmp_path, "none") is None and latest_run(tmp_path / "nowhere", "stage1") is None


def test_runs_of_one_second_are_told_apart_in_order(tmp_path):
    for name in ("20260101_000000_x", "20260101_000000-1_x", "20260101_000000-10_x", "20260101_000000-9_x", "20251231_235959_x"):
        (tmp_path / name).mkdir()
    assert latest_run(tmp_path, "x").name == "20260101_000000-10_x"


def test_options_that_changed_since_a_run_began(tmp_path):
    begun = {"name": "x", "train": {"epochs": 3, "max_hours": 1.0}, "data": {"train": ["a"]}, "older": 1}
    now = {"name": "x", "train": {"epochs": 4, "max_hours": 9.0}, "data": {"train": ["a", "b"]}, "newer": 2}
    run = new_run_dir(tmp_path, "x", begun)
    assert changed_options(run, begun) == []
    assert changed_options(run, now) == ["train.epochs=4 (was 3)", "data.train=['a', 'b'] (was ['a'])"]
    assert changed_options(new_run_dir(tmp_path, "y"), now) == []


# -- the budget ------------------------------------------------------------------------------------------------------------

class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_budget_is_kept_over_resumes(tmp_path):
    clock = Clock()
    budget = Budget(tmp_path / "budget.json", 2.0, 3.0, clock)
    clock.now += 3600
    assert str(budget) == "1.00 h of 2 h (cost 3.00)" and not budget.spent
    budget.save()
    again = Budget(tmp_path / "budget.json", 2.0, 3.0, clock)
    clock.now += 1800
    again.at_least(1.2)
    assert again.hours == 1.5
    again.at_least(1.9)
    clock.now += 720
    assert again.spent and again.cost == pytest.approx(6.3)
    (tmp_path / "budget.json").write_text("{")
    assert Budget(tmp_path / "budget.json", clock=clock).hours == 0 and str(Budget(tmp_path / "x", clock=clock)) == "0.00 h"


def test_budget_ends_the_run_with_a_checkpoint_and_more_hours_go_on(tmp_path):
    def trainer(hours):
        t = tiny_trainer(tmp_path, tiny_config(max_hours=hours, price_per_hour=2.0, log_every=1))
        t.on_step = lambda step, values: setattr(t.budget, "_before", t.budget._before + 0.1)
        return t

    result = trainer(0.55).fit()
    assert (result.reason, result.step) == ("budget", 7) and result.checkpoint.name == "step-00000007"
    assert result.cost == pytest.approx(1.4, rel=0.01)
    log = (tmp_path / "train.log").read_text()
    assert "0.50 h of 0.55 h (cost 1.00)" in log and "Budget used up" in log.splitlines()[-1] and "more hours goes on" in log
    assert trainer(0.55).fit().step == 7  # the same budget: nothing more
    assert trainer(10).fit().reason == "finished"
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["reason"] for row in rows] == ["budget", "finished"] and float(rows[1]["hours"]) == pytest.approx(2.1, rel=0.01)


# -- logs ------------------------------------------------------------------------------------------------------------------

def test_metrics_with_a_torn_last_line(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"kind": "train", "step": 5}\n{"kind": "tra')
    assert [r["step"] for r in read_metrics(path)] == [5]
    tiny_trainer(tmp_path, tiny_config(max_steps=5)).fit()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 5]


def test_rows_get_new_columns(tmp_path):
    append_row(tmp_path / "r.csv", {"a": 1})
    append_row(tmp_path / "r.csv", {"a": 2, "b": "x, y"})
    assert (tmp_path / "r.csv").read_text() == 'a,b\n1,\n2,"x, y"\n'


def test_importing_training_is_light():
    """TensorBoard, rich, fsspec and psutil come when they are used."""
    show = "print([m for m in ('tensorboard', 'rich', 'fsspec', 'psutil', 'lhotse') if m in sys.modules])"
    out = [subprocess.run([sys.executable, "-c", f"import sys, {modules}; {show}"], capture_output=True, text=True, check=True).stdout
           for modules in ("voxkit.train.loop", "torch, safetensors.torch")]
    assert out[0] == out[1]


# -- configuration ---------------------------------------------------------------------------------------------------------

def test_problems_name_their_options():
    bad = {"precision": "fp8", "epochs": 0, "keep_best": 1, "optimizer": {"name": "sgd", "lr": -1.0}, "schedule": {"name": "step"},
           "groups": [{"pattern": "re:("}, {"pattern": "x", "lr": 1.0, "lr_scale": 0.5}],
           "average": {"best": 3, "kind": "median"}, "remedies": {"non_finite": "ignore"}}
    with pytest.raises(ConfigError) as error:
        structure(TrainConfig, bad, "train")
    for text in ("train.precision: 'fp8'", "train.epochs", "train.optimizer.name", "train.optimizer.lr", "train.schedule.name",
                 "train.groups[0].pattern", "train.groups[1].lr", "train.average.best", "train.average.kind", "train.remedies.non_finite"):
        assert text in str(error.value)


def test_defaults_have_no_problems():
    config = structure(TrainConfig, {"groups": [{"pattern": "a.*", "lr": 1e-5}]}, "train")
    assert isinstance(config.groups[0], GroupConfig) and config.groups[0].lr == 1e-5
    for part in (OptimizerConfig(), ScheduleConfig(), AverageConfig(), RemedyConfig(), TrainConfig()):
        assert part.problems() == []


def test_a_schedule_that_ends_needs_to_know_where(tmp_path):
    class Endless(TinyLoader):
        __len__ = None

    with pytest.raises(ValueError, match="train.schedule.total_steps: the loader has no length"):
        tiny_trainer(tmp_path, loader=Endless())
    assert tiny_trainer(tmp_path, tiny_config(max_steps=9), loader=Endless()).total_steps == 9
    assert tiny_trainer(tmp_path, tiny_config(accumulate=2)).total_steps == 12
    assert tiny_trainer(tmp_path, tiny_config(schedule=ScheduleConfig(name="constant")), loader=Endless()).total_steps is None


# -- parameter groups ------------------------------------------------------------------------------------------------------

class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pretrained = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
        self.head = nn.Linear(2, 2)
        self.pretrained[0].requires_grad_(False)


def test_groups_by_pattern():
    groups = parameter_groups(Layers(), OptimizerConfig(lr=1.0, weight_decay=0.1),
                              [GroupConfig("re:pretrained\\.2\\.", lr=0.3), GroupConfig("pretrained.*", lr_scale=0.1, weight_decay=0.5)])
    table = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert table == {"pretrained.2.weight": (0.3, 0.1), "pretrained.2.bias": (0.3, 0.0), "pretrained.1.weight": (0.1, 0.5),
                     "pretrained.1.bias": (0.1, 0.0), "head.weight": (1.0, 0.1), "head.bias": (1.0, 0.0)}
    assert all(len(group["params"]) == len(group["names"]) for group in groups)


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"groups\[0\].pattern 'encoder.*' matches no trainable.*head.bias, .*pretrained.1"):
        parameter_groups(Layers(), OptimizerConfig(), [GroupConfig("encoder.*", lr=1.0)])
    with pytest.raises(ValueError, match="those that it matches are frozen"):
        parameter_groups(Layers(), OptimizerConfig(), [GroupConfig("pretrained.0.*", lr=1.0)])
    with pytest.raises(ValueError, match="everything is frozen"):
        parameter_groups(Layers().requires_grad_(False), OptimizerConfig(), [])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_keep_their_rates_through_the_schedule(tmp_path, name):
    config = tiny_config(optimizer=OptimizerConfig(name=name, lr=0.01), groups=[GroupConfig("head.*", lr=0.002)])
    trainer = tiny_trainer(tmp_path, config)
    trainer.fit()
    rates = {group["name"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates["head.*"] == pytest.approx(0.2 * rates["rest"])


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="'sgd' is none of adamw, adam, muon, scaled_adam"):
        build_optimizer(TinyModel(), OptimizerConfig(name="sgd"), [])
