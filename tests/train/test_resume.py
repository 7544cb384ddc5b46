"""A run that is broken off and resumed is the same as an unbroken one, to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
import torch

from tests.train.toys import TinyLoader, TinyModel, tiny_config, tiny_trainer, weights
from voxkit.checkpoint.folder import list_checkpoints
from voxkit.checkpoint.weights import read_weights
from voxkit.train.config import AverageConfig, OptimizerConfig, ScheduleConfig
from voxkit.train.logging import read_metrics


class Killed(Exception):
    """Stands for a kill: nothing is saved on the way out."""


def config(**changes):
    return tiny_config(accumulate=2, average=AverageConfig(kind="ema", every=1), checkpoint_every=3, log_every=4, **changes)


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kill_at", [2, 5, 7, 8, 10])
def test_broken_off_anywhere_the_losses_go_on_to_the_last_bit(tmp_path, kill_at):
    """Mid-epoch, at an epoch's end and before the first checkpoint; accumulation and running average included."""
    unbroken: list = []
    whole = tiny_trainer(tmp_path / "a", config(), losses=unbroken)
    whole.fit()

    first: list = []
    broken = tiny_trainer(tmp_path / "b", config(), losses=first)
    record = broken.on_step

    def kill(step, values):
        record(step, values)
        if step == kill_at:
            raise Killed

    broken.on_step = kill
    with pytest.raises(Killed):
        broken.fit()
    second: list = []
    resumed = tiny_trainer(tmp_path / "b", config(), losses=second, seed=1 if kill_at < 3 else 77)
    assert resumed.fit().reason == "finished"
    assert first == unbroken[:kill_at]
    assert second == unbroken[-len(second):] and second[0][0] <= kill_at + 1
    assert equal(weights(resumed.model), weights(whole.model))
    assert equal(resumed.average.state, whole.average.state) and resumed.average.count == whole.average.count
    same = ["kind", "step", "epoch", "loss", "absolute", "lr", "error"]
    lines = [[{k: r.get(k) for k in same} for r in read_metrics(tmp_path / run / "metrics.json") if r["kind"] != "event"] for run in "ab"]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("name", ["adam", "muon", "scaled_adam"])
@pytest.mark.parametrize("schedule", ["eden", "linear", "constant"])
def test_every_optimizer_and_schedule_resumes(tmp_path, name, schedule):
    options = config(optimizer=OptimizerConfig(name=name, lr=0.02), schedule=ScheduleConfig(name=schedule, warmup_steps=3), epochs=2)
    whole = tiny_trainer(tmp_path / "a", options)
    whole.fit()
    options.max_steps = 4
    options.schedule.total_steps = whole.total_steps
    tiny_trainer(tmp_path / "b", options).fit()
    options.max_steps = 0
    resumed = tiny_trainer(tmp_path / "b", options, seed=5)
    resumed.fit()
    assert equal(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize("before, after", [("adamw", "muon"), ("muon", "adamw"), ("scaled_adam", "adamw")])
def test_another_optimizer_is_refused(tmp_path, before, after):
    tiny_trainer(tmp_path, config(optimizer=OptimizerConfig(name=before, lr=0.01), max_steps=3)).fit()
    with pytest.raises(ValueError, match=rf"the optimizer of .* is {before} and this run's {after}"):
        tiny_trainer(tmp_path, config(optimizer=OptimizerConfig(name=after, lr=0.01), max_steps=6)).fit()


def test_what_an_optimizer_is_told_anew_counts(tmp_path):
    tiny_trainer(tmp_path, config(optimizer=OptimizerConfig(name="muon", momentum=0.7, weight_decay=0.5), max_steps=3)).fit()
    resumed = tiny_trainer(tmp_path, config(optimizer=OptimizerConfig(name="muon", momentum=0.9, weight_decay=0.1, lr=1.0), max_steps=4))
    resumed.fit()
    for group in resumed.optimizer.param_groups:
        assert group["momentum"] == 0.9 and group["weight_decay"] in (0.0, 0.1)
        assert group["initial_lr"] == OptimizerConfig().lr  # the rates go on


def test_an_average_not_yet_begun_resumes(tmp_path):
    options = tiny_config(average=AverageConfig(kind="ema", every=6), schedule=ScheduleConfig(warmup_steps=3, total_steps=21))
    whole = tiny_trainer(tmp_path / "a", options)
    whole.fit()
    options.max_steps = 4
    tiny_trainer(tmp_path / "b", options).fit()
    options.max_steps = 0
    resumed = tiny_trainer(tmp_path / "b", options, seed=5)
    resumed.fit()
    assert resumed.average.count == 3 and equal(resumed.average.state, whole.average.state)


def test_fp16_scaler_resumes(tmp_path):
    whole = tiny_trainer(tmp_path / "a", tiny_config(precision="fp16"))
    whole.fit()
    options = tiny_config(precision="fp16", max_steps=9)
    options.schedule.total_steps = whole.total_steps
    tiny_trainer(tmp_path / "b", options).fit()
    options.max_steps = 0
    resumed = tiny_trainer(tmp_path / "b", options, seed=5)
    resumed.fit()
    assert equal(weights(resumed.model), weights(whole.model))
    assert resumed.scaler.get_scale() == whole.scaler.get_scale()


@pytest.mark.parametrize("before, now", [("bf16", "fp16"), ("fp16", "fp32")])
def test_auto_may_mean_another_precision_on_the_machine_that_goes_on(tmp_path, caplog, before, now):
    tiny_trainer(tmp_path, tiny_config(precision=before, max_steps=5)).fit()
    resumed = tiny_trainer(tmp_path, tiny_config(precision=now, max_steps=6))
    assert resumed.fit().step == 6 and resumed.scaler.is_enabled() == (now == "fp16")
    assert f"goes on in {'float16' if now == 'fp16' else 'float32'} (train.precision={now})" in caplog.text


def test_a_finished_run_stays_as_it_is_and_more_epochs_go_on(tmp_path):
    tiny_trainer(tmp_path, tiny_config(epochs=2)).fit()
    again = tiny_trainer(tmp_path, tiny_config(epochs=2))
    assert (again.fit().reason, again.state.step) == ("finished", 14)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 2
    assert tiny_trainer(tmp_path, tiny_config(epochs=3)).fit().step == 21


def test_torn_checkpoints_are_named_and_ignored(tmp_path, caplog):
    whole = tiny_trainer(tmp_path / "a")
    whole.fit()
    tiny_trainer(tmp_path / "b", tiny_config(max_steps=12, schedule=ScheduleConfig(warmup_steps=3, total_steps=21))).fit()
    root = tmp_path / "b" / "checkpoints"
    newest = list_checkpoints(root)[-1].path
    with (newest / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    (root / "latest").write_bytes(b"\x00\x00step")
    (root / ".tmp-step-00000099").mkdir()
    resumed = tiny_trainer(tmp_path / "b", seed=5)
    resumed.fit()
    assert equal(weights(resumed.model), weights(whole.model))
    assert f"ignoring checkpoint {newest}: model.safetensors has 100 of" in caplog.text
    assert not list(root.glob(".*")) and (root / "latest").read_text() == "step-00000021\n"


def test_another_learning_rate_on_resume_is_told(tmp_path, caplog):
    tiny_trainer(tmp_path, tiny_config(max_steps=5)).fit()
    tiny_trainer(tmp_path, tiny_config(optimizer=OptimizerConfig(lr=0.5))).fit()
    assert "start a new run from its weights" in caplog.text


def test_another_model_is_refused_by_name(tmp_path):
    tiny_trainer(tmp_path, tiny_config(max_steps=5)).fit()
    with pytest.raises(ValueError, match=r"body.0.weight \[8, 4\] there, \[8, 5\] here"):
        tiny_trainer(tmp_path, model=TinyModel(dim=5)).fit()


# -- kill -9 ----------------------------------------------------------------------------------------------------------------

KILL_EPOCHS = 12


class SlowLoader(TinyLoader):
    """40 ms a batch: even the fastest machine is still training when the kill comes."""

    def __iter__(self):
        for batch in super().__iter__():
            time.sleep(0.04)
            yield batch


def train_until_killed(run_dir: str) -> None:
    """Runs in a process of its own: a checkpoint every step, so that a kill often falls into the writing of one."""
    torch.set_num_threads(1)
    options = config(epochs=KILL_EPOCHS)
    options.checkpoint_every = 1
    tiny_trainer(Path(run_dir), options, loader=SlowLoader(batches=6)).fit()


@pytest.mark.slow
def test_survives_kill_9_at_any_moment(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tests.train.test_resume"])

    def start(run: str):
        process = context.Process(target=train_until_killed, args=(str(tmp_path / run),))
        process.start()
        return process

    unbroken = start("a")
    unbroken.join()
    assert unbroken.exitcode == 0
    draw, kills, process = random.Random(int(os.environ.get("VOXKIT_KILL_SEED", "7"))), 0, start("b")
    root = tmp_path / "b" / "checkpoints"
    while process.exitcode != 0 and kills < 8:
        # Not before it made a step of progress, or it would never end; then at a moment nobody chose.
        before, deadline = _newest(root), time.monotonic() + 60
        while process.is_alive() and _newest(root) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        process.join(draw.uniform(0.0, 0.1))
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        if process.exitcode != 0:
            process = start("b")
    print(f"killed {kills} times")
    process.join(120)
    assert process.exitcode == 0 and kills >= 5
    last = [list_checkpoints(tmp_path / run / "checkpoints")[-1].path for run in "ab"]
    assert last[0].name == last[1].name == f"step-{KILL_EPOCHS * 3:08d}"
    for kind in ("model", "average"):
        assert equal(read_weights(last[0], kind), read_weights(last[1], kind))


def _newest(root: Path) -> str:
    return max((path.name for path in root.glob("step-*")), default="")
