"""Two processes equal one with the joint batch; nobody hangs; one writes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.train.toys import TinyLoader, TinyModel, tiny_config, tiny_trainer, weights
from voxkit.batch import Batch, Padded
from voxkit.models.contract import Losses
from voxkit.train import distributed, persistence
from voxkit.train.config import AverageConfig, OptimizerConfig, RemedyConfig
from voxkit.train.logging import read_metrics


def worker(rank: int, port: int, folder: str) -> None:
    """One of two processes, set up as torchrun would, through all tasks; what a task raises is written down."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = distributed.setup("cpu")
    try:
        for name, task in TASKS.items():
            path = Path(folder) / name
            path.mkdir(exist_ok=True)
            task(world, path)
            (path / f"{rank}.done").touch()
    except BaseException:
        (path / f"{rank}.failed").write_text(traceback.format_exc())
        raise
    finally:
        distributed.cleanup()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Name of a task → its folder, after both processes went through it."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with contextlib.suppress(mp.ProcessRaisedException, mp.ProcessExitedException):
        mp.start_processes(worker, args=(port, str(folder)), nprocs=2, start_method="spawn")

    def of(name: str) -> Path:
        for rank in (0, 1):
            failed = folder / name / f"{rank}.failed"
            assert not failed.exists(), failed.read_text()
            assert (folder / name / f"{rank}.done").exists(), f"process {rank} did not come to {name}: an earlier task failed"
        return folder / name

    return of


def config(optimizer="adamw", **changes):
    return tiny_config(optimizer=OptimizerConfig(name=optimizer, lr=0.02), average=AverageConfig(kind="mean", every=1), **changes)


def train(world, folder, *, model=None, dropout=0.0, name="two", **changes):
    torch.manual_seed(1)
    loader = TinyLoader(size=5, shard=(world.rank, world.size), uneven=changes.pop("uneven", 0))
    return tiny_trainer(folder / name, config(**changes), model=model or TinyModel(dropout=dropout), loader=loader)


def equals(world, folder):
    """Shards of 3 and 2 utterances, accumulated over two batches, the last group shorter."""
    trainer = train(world, folder, accumulate=2)
    result = trainer.fit()
    torch.save((weights(trainer.model), result.step, trainer.state.seconds), folder / f"{world.rank}.pt")


def muon(world, folder):
    """The same with Muon; every process orthogonalizes by itself."""
    trainer = train(world, folder, accumulate=2, optimizer="muon")
    result = trainer.fit()
    torch.save((weights(trainer.model), result.step, trainer.state.seconds), folder / f"{world.rank}.pt")


class Texts(TinyLoader):
    """Texts of one to six tokens."""

    def make(self, index):
        batch = super().make(index)
        lengths = torch.tensor([1 + (5 * index + 3 * i) % 6 for i in range(batch.size)])
        values = batch.tokens.values.repeat(1, 6) * (torch.arange(6) + 1)
        return replace(batch, tokens=Padded(values, lengths).take(slice(None)))


class TwoUnits(TinyModel):
    """A mean over tokens beside one over tokens and ends of sentences, as the hybrid loss has them."""

    def loss(self, batch):
        features, frames = batch.features.values, batch.features.lengths
        inside = torch.arange(features.shape[1]) < frames[:, None]
        guess = self.head(self.body((features * inside[..., None]).sum(1) / frames[:, None]))
        tokens, lengths = batch.tokens.values, batch.tokens.lengths
        valid = torch.arange(tokens.shape[1]) < lengths[:, None]
        errors = ((guess - tokens) ** 2 * valid).sum(1)
        count = lengths.sum()
        ends = count + batch.size if batch.whole is None else count * (1 + batch.whole.utterances / batch.whole.tokens)
        total = errors.sum() / count + (errors + guess[:, 0].abs()).sum() / ends
        return Losses(total, count)


def units(world, folder):
    """Losses that are means over different units, accumulated, in two processes."""
    torch.manual_seed(1)
    loader = Texts(size=5, shard=(world.rank, world.size))
    trainer = tiny_trainer(folder / "two", config(accumulate=2, log_every=1), model=TwoUnits(dropout=0.0), loader=loader)
    result = trainer.fit()
    torch.save((weights(trainer.model), result.step, trainer.state.seconds), folder / f"{world.rank}.pt")


def idle(world, folder):
    """One process has no data at all."""
    trainer = train(world, folder, uneven=7, name="idle", max_steps=9)
    assert (trainer.fit().step, trainer.state.epoch) == (9, 1)


def uneven(world, folder):
    trainer = train(world, folder, uneven=2, name="uneven")
    result = trainer.fit()
    torch.save((weights(trainer.model), result.step), folder / f"{world.rank}.pt")


def resumes(world, folder):
    """Dropout differs between the processes and goes on where it was, in each; one process runs out of data early."""
    whole = train(world, folder, dropout=0.3, uneven=2, name="whole")
    whole.fit()
    options = {"dropout": 0.3, "uneven": 2, "name": "broken"}
    broken = train(world, folder, **options)
    broken.on_step = lambda step, values: (_ for _ in ()).throw(InterruptedError) if step == 13 else None
    try:
        broken.fit()
    except InterruptedError:
        pass
    resumed = train(world, folder, **options)
    resumed.fit()
    assert all(torch.equal(v, weights(resumed.model)[k]) for k, v in weights(whole.model).items() if k != "seen")


def non_finite(world, folder):
    """One process meets the bad utterance: both drop the step, the main one names it."""

    class Poisoned(TinyModel):
        def loss(self, batch):
            out = super().loss(batch)
            return out._replace(total=out.total / (0.0 if "u0-3-4" in batch.ids else 1.0))

    trainer = train(world, folder, model=Poisoned(dropout=0.0), remedies=RemedyConfig(), name="bad")
    result = trainer.fit()
    assert (result.step, result.skipped) == (20, 1)
    torch.save(weights(trainer.model), folder / f"{world.rank}.pt")


def metrics(world, folder):
    """A share of the validation each; a stop that only one process is asked for."""
    trainer = train(world, folder, name="metrics")
    trainer.validate = lambda model: {"error": (1.0, 4.0) if world.rank == 0 else (2.0, 2.0), "plain": 3.0}
    result = trainer.fit()
    assert result.metrics["error"] == 0.5 and result.metrics["plain"] == 3.0
    stopped = train(world, folder, name="stopped", epochs=50)
    if world.rank == 1:
        stopped.on_step = lambda step, values: setattr(stopped.interrupt, "asked", step >= 4)
    result = stopped.fit()
    assert (result.reason, result.step) == ("interrupted", 5)
    (folder / f"{world.rank}.json").write_text(json.dumps(distributed.reduce(world, [float(world.rank), 1.0])))


def late(world, folder):
    """The main process takes its time to write the last checkpoint, which is the best: the other one averages the same."""
    trainer = train(world, folder, name="late", epochs=2)
    trainer.config.average.best = 1
    errors = iter([0.9, 0.1, 0.5])
    trainer.validate = lambda model: {"error": next(errors)}
    if world.rank == 0:
        write = persistence.write_checkpoint

        def slowly(*args, **kwargs):
            time.sleep(1)
            return write(*args, **kwargs)

        persistence.write_checkpoint = slowly
    try:
        result = trainer.fit()
    finally:
        if world.rank == 0:
            persistence.write_checkpoint = write
    assert (result.reason, result.averaged) == ("finished", None)  # 0.5 is worse than 0.1 alone
    torch.save(weights(trainer.model), folder / f"{world.rank}.pt")


def patience(world, folder):
    """One process comes long after the group's own timeout, the other waits for it all the same."""
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1), dist.group.WORLD)
    try:
        with distributed.patient_barrier(world) as barrier:
            if world.rank == 0:
                time.sleep(4)
                (folder / "came").touch()
            barrier()
            assert (folder / "came").exists()
    finally:
        dist.distributed_c10d._set_pg_timeout(timedelta(minutes=30), dist.group.WORLD)


TASKS = {task.__name__: task for task in (equals, muon, units, idle, uneven, resumes, non_finite, metrics, late, patience)}


@pytest.mark.parametrize("task, optimizer", [("equals", "adamw"), ("muon", "muon")])
def test_two_processes_equal_one_with_the_joint_batch(done, task, optimizer):
    folder = done(task)
    torch.manual_seed(1)
    one = tiny_trainer(folder / "one", config(optimizer, accumulate=2), model=TinyModel(dropout=0.0), loader=TinyLoader(size=5))
    result = one.fit()
    for rank in (0, 1):
        state, step, seconds = torch.load(folder / f"{rank}.pt")
        assert step == result.step and seconds == pytest.approx(one.state.seconds, rel=0.2)
        for name, value in weights(one.model).items():
            if name != "seen":
                torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
    losses = [[r["loss"] for r in read_metrics(folder / run / "metrics.json") if r["kind"] == "train"] for run in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_losses_over_different_units_weigh_as_in_one_large_batch(done):
    """To 1e-6: two processes with two batches each against one process with one batch of all four; and against batches that are cut up."""
    folder = done("units")

    class Joined(Texts):
        def __len__(self):
            return 4

        def __iter__(self):
            self.batches = 7
            every = [self.make(index) for index in range(7)]
            for first in range(0, 7, 2):
                yield joined(every[first:first + 2])
            self.position = 7

    runs = {}
    for name, options, loader, pieces in (("large", {}, Joined(size=5), 1), ("accumulated", {"accumulate": 2}, Texts(size=5), 1),
                                          ("pieces", {}, Joined(size=5), 4)):
        torch.manual_seed(1)
        one = tiny_trainer(folder / name, config(log_every=1, **options), model=TwoUnits(dropout=0.0), loader=loader)
        one.state.pieces = pieces
        one.fit()
        runs[name] = weights(one.model)
    for rank in (0, 1):
        runs[rank] = torch.load(folder / f"{rank}.pt")[0]
    for state in runs.values():
        for name, value in runs["large"].items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
    losses = {name: [r["loss"] for r in read_metrics(folder / name / "metrics.json") if r["kind"] == "train"]
              for name in ("large", "accumulated", "pieces", "two")}
    assert len(losses["large"]) == 12 and all(values == pytest.approx(losses["large"], rel=1e-6) for values in losses.values())


def joined(batches):
    """One batch out of several."""
    def all_of(name):
        return Padded.of([row[:n] for batch in batches for row, n in zip(getattr(batch, name).values, getattr(batch, name).lengths)])

    return Batch([id for batch in batches for id in batch.ids], features=all_of("features"), tokens=all_of("tokens"),
                 seconds=sum(batch.seconds for batch in batches))


def test_uneven_numbers_of_batches_do_not_hang(done):
    folder = done("uneven")
    (first, steps, *_), (second, other, *_) = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    assert steps == other == 21 and all(torch.equal(first[name], second[name]) for name in first if name != "seen")


def test_a_process_without_data_does_not_hang(done):
    done("idle")


@pytest.mark.slow
def test_through_torchrun(tmp_path, repository):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.train.test_distributed",
               str(tmp_path)]
    subprocess.run(command, cwd=repository, check=True, timeout=300)
    (first, step, _), (second, *_) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert step == 12 and all(torch.equal(first[name], second[name]) for name in first if name != "seen")


def test_two_processes_resume_to_the_last_bit(done):
    done("resumes")


def test_a_bad_utterance_in_one_process(done):
    folder = done("non_finite")
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first if name != "seen")
    event = [r for r in read_metrics(folder / "bad" / "metrics.json") if r["kind"] == "event"][0]
    assert event["ids"] == ["u0-3-4"]


def test_metrics_and_stops_are_shared(done):
    folder = done("metrics")
    assert all(json.loads((folder / f"{rank}.json").read_text()) == [1.0, 2.0] for rank in (0, 1))


def test_a_checkpoint_that_is_written_late_is_in_every_process_average(done):
    folder = done("late")
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_process_may_take_longer_than_the_groups_timeout(done):
    done("patience")


def test_another_number_of_processes_begins_the_epoch_anew(done, caplog):
    folder = done("uneven")
    shutil.copytree(folder / "uneven", folder / "again")
    again = tiny_trainer(folder / "again", config(epochs=4), model=TinyModel(dropout=0.0), loader=TinyLoader(size=5))
    assert again.fit().step == 28 and "written by 2 processes and is continued by 1" in caplog.text


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = distributed.setup("cpu")
    assert world.main and distributed.gather(world, 3) == [3] and distributed.reduce(world, [2.0]) == [2.0]
    if not torch.cuda.is_available():
        assert distributed.setup("auto").device.type == "cpu"
        with pytest.raises(ValueError, match="voxkit doctor"):
            distributed.setup("cuda")


if __name__ == "__main__":  # under torchrun
    equals(distributed.setup("cpu"), Path(sys.argv[1]))
    distributed.cleanup()
