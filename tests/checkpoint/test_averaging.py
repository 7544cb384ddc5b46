"""Averages of weights against their definitions."""

from __future__ import annotations

import pytest
import torch

from tests.train.toys import TinyModel, tiny_config, tiny_trainer, weights
from voxkit.checkpoint.averaging import average_between, average_checkpoints, average_states, select
from voxkit.checkpoint.folder import list_checkpoints
from voxkit.checkpoint.format import read_meta
from voxkit.checkpoint.weights import read_weights
from voxkit.cli.main import main
from voxkit.train.averaging import RunningAverage
from voxkit.train.config import AverageConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a running mean over every step, all checkpoints kept, and the weights after each step."""
    path = tmp_path_factory.mktemp("run")
    trainer = tiny_trainer(path, tiny_config(average=AverageConfig(kind="mean", every=1), keep_last=50, checkpoint_every=2),
                           save_extra=lambda folder: (folder / "tokenizer.model").write_text("t"))
    seen = []
    trainer.on_step = lambda step, values: seen.append(weights(trainer.model))
    trainer.fit()
    return path, seen


def test_running_mean_is_the_mean(run):
    path, seen = run
    mean = read_weights(list_checkpoints(path / "checkpoints")[-1].path, "average")
    torch.testing.assert_close(mean["head.weight"], torch.stack([w["head.weight"] for w in seen]).mean(0))
    assert mean["seen"] == seen[-1]["seen"]


def test_mean_between_two_checkpoints(run):
    path, seen = run
    first, last = (path / "checkpoints" / f"step-{step:08d}" for step in (8, 16))
    between = average_between(first, last)
    expected = torch.stack([w["body.0.weight"] for w in seen[8:16]]).mean(0)
    torch.testing.assert_close(between["body.0.weight"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no update"):
        average_between(last, first)


def test_ema_follows_and_is_swapped_in_and_out():
    model = TinyModel()
    average = RunningAverage(model, AverageConfig(kind="ema", every=2, decay=0.9, start=4))
    start = weights(model)
    with torch.no_grad():
        model.head.weight += 1
    for step in range(1, 4):
        average.update(model, step)
    assert average.count == 0
    for step in range(4, 400):
        average.update(model, step)
    torch.testing.assert_close(average.state["head.weight"], model.head.weight.detach())
    average.state["head.weight"] -= 5
    with average.swapped_into(model):
        torch.testing.assert_close(model.head.weight.detach(), start["head.weight"] - 4)
    torch.testing.assert_close(model.head.weight.detach(), start["head.weight"] + 1)


def test_average_keeps_types_and_refuses_strangers():
    a = {"x": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}
    b = {"x": torch.zeros(2, dtype=torch.bfloat16), "n": torch.tensor(5)}
    mean = average_states([a, b])
    assert mean["x"].dtype == torch.bfloat16 and mean["x"].tolist() == [0.5, 0.5] and mean["n"] == 3
    with pytest.raises(ValueError, match="number 2.*no x of shape"):
        average_states([a, {"x": torch.ones(3), "n": torch.tensor(1)}])
    with pytest.raises(ValueError, match="no checkpoint to average"):
        average_states([])


def test_select(run):
    path, _ = run
    assert [p.name for p in select(path, last=2)] == ["step-00000020", "step-00000021"]
    with pytest.raises(ValueError, match=r"5 checkpoints wanted, 0 .*'wer' \(there are: error\)"):
        select(path, best=5)


@pytest.mark.parametrize("arguments", [["--best", "2", "--metric", "error"], ["--last", "3"], ["--running", "8", "16"]])
def test_command(run, tmp_path, arguments, capsys):
    path, _ = run
    out = tmp_path / "mean"
    assert main(["average", "--run", str(path), "--out", str(out), *arguments]) == 0
    assert "mean of" in capsys.readouterr().out
    meta = read_meta(out)
    chosen = [path / "checkpoints" / name for name in meta["averaged"]]
    expected = average_between(*chosen) if "--running" in arguments else average_checkpoints(chosen)
    assert all(torch.equal(value, expected[name]) for name, value in read_weights(out, "auto").items())
    assert (out / "tokenizer.model").read_text() == "t" and not (out / "training").exists()


def test_command_says_what_is_wrong(run, tmp_path, capsys):
    path, _ = run
    assert main(["average", "--best", "2", "--out", str(tmp_path / "x")]) == 2
    assert "--run RUN_DIR" in capsys.readouterr().err
    assert main(["average", "--checkpoints", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 2
    assert "no meta.json" in capsys.readouterr().err
