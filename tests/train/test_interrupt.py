"""Runs that are broken off in a validation, started twice, or continued over something else."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.train.toys import TinyModel, WithFrozenPart, tiny_config, tiny_trainer, weights
from voxkit.checkpoint.folder import list_checkpoints
from voxkit.checkpoint.format import read_meta
from voxkit.train.config import ScheduleConfig
from voxkit.train.lock import locked
from voxkit.train.logging import read_metrics

SCHEDULE = ScheduleConfig(warmup_steps=3, total_steps=21)


def error_of(model) -> dict[str, float]:
    """Draws random numbers, as a validation may."""
    random.random(), torch.rand(3)
    return {"error": float(sum(p.abs().sum() for p in model.parameters()))}


def histories(*runs: Path) -> list[list[dict]]:
    kept = ("kind", "step", "epoch", "loss", "error", "lr")
    return [[{k: r.get(k) for k in kept} for r in read_metrics(run / "metrics.json") if r["kind"] != "event"] for run in runs]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("validate_every, at", [(0, 7), (0, 21), (4, 8)])
def test_a_signal_in_a_validation_ends_at_once_and_costs_nothing(tmp_path, number, validate_every, at):
    """In mid epoch, at an epoch's end, and in the last validation of all; what goes on is what an unbroken run does."""
    options = {"validate_every": validate_every, "schedule": SCHEDULE}
    unbroken = tiny_trainer(tmp_path / "a", tiny_config(**options), validate=error_of)
    unbroken.fit()
    went_on = []

    def signaled(model):
        if trainer.state.step == at:
            os.kill(os.getpid(), number)
            went_on.append(sum(i for i in range(100)))  # never reached
        return error_of(model)

    trainer = tiny_trainer(tmp_path / "b", tiny_config(**options), validate=signaled)
    result = trainer.fit()
    assert (result.reason, result.step) == ("interrupted", at) and not went_on
    assert signal.getsignal(number) == (signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
    assert trainer.model.training
    saved = list_checkpoints(tmp_path / "b" / "checkpoints")[-1]
    assert saved.step == at and saved.metric("error") is None and saved.resumable
    resumed = tiny_trainer(tmp_path / "b", tiny_config(**options), validate=error_of, seed=99)
    assert resumed.fit().reason == "finished"
    assert all(torch.equal(value, weights(resumed.model)[name]) for name, value in weights(unbroken.model).items())
    first, second = histories(tmp_path / "a", tmp_path / "b")
    assert first == second
    assert read_meta(list_checkpoints(tmp_path / "b" / "checkpoints")[-1].path)["metrics"].keys() == {"error"}


def test_a_signal_before_a_validation_leaves_it_to_the_next_start(tmp_path):
    trainer = tiny_trainer(tmp_path, tiny_config(validate_every=4, schedule=SCHEDULE), validate=error_of)
    trainer.on_step = lambda step, values: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None
    assert (trainer.fit().reason, trainer.state.step, trainer.state.history) == ("interrupted", 4, [])
    resumed = tiny_trainer(tmp_path, tiny_config(validate_every=4, schedule=SCHEDULE), validate=error_of)
    resumed.fit()
    assert [record["step"] for record in resumed.state.history] == [4, 8, 12, 16, 20, 21]


def test_another_error_in_a_validation_is_not_an_interruption(tmp_path):
    def broken(model):
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        tiny_trainer(tmp_path, validate=broken).fit()


def wait_in_validation(run_dir: str) -> None:
    """Runs in a process of its own and hangs in its second validation."""
    torch.set_num_threads(1)

    def hang(model):
        if trainer.state.history:
            Path(run_dir, "validating").touch()
            time.sleep(60)
        return error_of(model)

    trainer = tiny_trainer(Path(run_dir), tiny_config(schedule=SCHEDULE, checkpoint_every=0), validate=hang)
    trainer.fit()


def start(run_dir: Path):
    process = multiprocessing.get_context("spawn").Process(target=wait_in_validation, args=(str(run_dir),))
    process.start()
    deadline = time.monotonic() + 120
    while not (run_dir / "validating").exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_in_a_validation_has_saved_before(tmp_path, number):
    process = start(tmp_path)
    with pytest.raises(ValueError, match=rf"is being trained already \(process {process.pid} on .*wait until that ends, or begin another"):
        tiny_trainer(tmp_path).fit()
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == (-9 if number == signal.SIGKILL else 0)
    saved = list_checkpoints(tmp_path / "checkpoints")
    assert [c.step for c in saved] == [7, 14] and [c.metric("error") is None for c in saved] == [False, True]
    resumed = tiny_trainer(tmp_path, tiny_config(schedule=SCHEDULE), validate=error_of)  # nobody holds the lock any more
    assert resumed.fit().step == 21 and [record["step"] for record in resumed.state.history] == [7, 14, 21]


def test_the_lock_is_of_one_run_and_is_let_go(tmp_path):
    with locked(tmp_path / "a"):
        with pytest.raises(ValueError, match="is being trained already"), locked(tmp_path / "a"):
            pass
        with locked(tmp_path / "b"):
            pass
    with locked(tmp_path / "a"):
        pass


@pytest.mark.parametrize("before, now", [("one", "two"), ("d41d8c", "")])
def test_a_run_goes_on_with_the_tokenizer_it_began_with(tmp_path, before, now):
    tiny_trainer(tmp_path, tiny_config(max_steps=5), extra_meta={"tokenizer": before}).fit()
    if now:
        with pytest.raises(ValueError, match=rf"was trained with another tokenizer \({before}\) than lies there now \({now}\)"):
            tiny_trainer(tmp_path, extra_meta={"tokenizer": now}).fit()
    assert tiny_trainer(tmp_path, extra_meta={"tokenizer": before}).fit().step == 21


@pytest.mark.parametrize("frozen", [(0, 1), (0,)])
def test_a_run_goes_on_over_the_frozen_weights_it_began_with(tmp_path, frozen):
    tiny_trainer(tmp_path, tiny_config(max_steps=5), model=WithFrozenPart(frozen)).fit()
    with pytest.raises(ValueError, match="was trained over other weights of pretrained than are here: somewhere/encoder"):
        tiny_trainer(tmp_path, model=WithFrozenPart(frozen, seed=6)).fit()
    assert tiny_trainer(tmp_path, model=WithFrozenPart(frozen)).fit().step == 21


@pytest.mark.parametrize("metrics", [{"error": (0.0, 0.0)}, {"error": (0, 0), "loss": (1.0, 2.0)}])
def test_a_validation_over_nothing_is_an_error(tmp_path, metrics):
    with pytest.raises(ValueError, match="nothing to measure error on: data.dev holds no utterance"):
        tiny_trainer(tmp_path, validate=lambda model: metrics).fit()


def test_a_loss_that_is_no_number_is_none_of_that(tmp_path):
    result = tiny_trainer(tmp_path, tiny_config(epochs=1), validate=lambda model: {"error": (float("nan"), 3.0)}, model=TinyModel()).fit()
    assert result.reason == "finished" and result.best is None
