"""The loop: it learns, counts, logs, stops for the right reason."""

from __future__ import annotations

import csv
import os
import signal

import pytest
import torch

from tests.train.toys import TinyLoader, TinyModel, tiny_config, tiny_trainer, weights
from voxkit.train.config import AverageConfig, OptimizerConfig
from voxkit.train.logging import read_metrics


def test_learns_and_writes_everything(tmp_path):
    losses: list = []
    config = tiny_config(epochs=20, optimizer=OptimizerConfig(lr=0.02), price_per_hour=2.0)
    result = tiny_trainer(tmp_path, config, losses=losses, model=TinyModel(dropout=0.0), tensorboard=True).fit()
    assert (result.reason, result.step, result.epoch) == ("finished", 140, 20)
    assert sum(v for _, v in losses[-7:]) < 0.7 * sum(v for _, v in losses[:7])
    records = read_metrics(tmp_path / "metrics.json")
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(5, 141, 5))
    assert [r["epoch"] for r in records if r["kind"] == "validation"] == list(range(1, 21))
    assert {"loss", "absolute", "lr", "grad_norm", "cost"} <= set(records[0])
    row = list(csv.DictReader((tmp_path / "results.csv").open()))[-1]
    assert row["reason"] == "finished" and row["step"] == "140" and float(row["best_error"]) == result.best
    assert "Training finished after 140 steps" in (tmp_path / "train.log").read_text()
    assert list((tmp_path / "tensorboard").iterdir())
    assert (tmp_path / "checkpoints" / "best").read_text().strip().startswith("step-")


def test_accumulation_equals_one_large_batch(tmp_path):
    """Parts of different sizes included: they weigh by their utterances."""
    class Cut(TinyLoader):
        def __len__(self):
            return 2 * self.batches

        def __iter__(self):
            for batch in super().__iter__():
                yield batch.take(slice(0, 1))
                yield batch.take(slice(1, 4))

    whole = tiny_trainer(tmp_path / "a", model=TinyModel(dropout=0.0), seed=3)
    start = weights(whole.model)
    whole.fit()
    cut = tiny_trainer(tmp_path / "b", tiny_config(accumulate=2), model=TinyModel(dropout=0.0), loader=Cut(), seed=3)
    cut.model.load_state_dict(start)
    cut.fit()
    for name, value in weights(whole.model).items():
        torch.testing.assert_close(weights(cut.model)[name], value, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_where_they_are_too_large_and_left_alone_elsewhere(tmp_path):
    clip, seen = 3.0, []

    def look(step, values):
        norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters()]).item()
        assert norm == pytest.approx(min(values["grad_norm"], clip), rel=1e-4)
        seen.append(values["grad_norm"] > clip)

    trainer = tiny_trainer(tmp_path, tiny_config(clip_grad=clip))
    trainer.on_step = look
    trainer.fit()
    assert 0 < sum(seen) < len(seen)


def test_max_steps_and_leftover_batches(tmp_path):
    result = tiny_trainer(tmp_path, tiny_config(max_steps=5, accumulate=3)).fit()  # 3 steps an epoch: 3 + 3 + 1 batches
    assert (result.reason, result.step, result.epoch) == ("finished", 5, 1)
    assert result.metrics["step"] == 5


def test_early_stop(tmp_path):
    worse = iter(range(100))
    result = tiny_trainer(tmp_path, tiny_config(epochs=50, patience=3), validate=lambda m: {"error": float(next(worse))}).fit()
    assert (result.reason, result.epoch, result.best) == ("early_stop", 4, 0.0)
    again = tiny_trainer(tmp_path, tiny_config(epochs=50, patience=3), validate=lambda m: {"error": 0.0}).fit()
    assert (again.reason, again.epoch) == ("early_stop", 4)


def test_validation_every_so_many_steps_and_max_mode(tmp_path):
    config = tiny_config(epochs=2, validate_every=3, mode="max", metric="accuracy")
    result = tiny_trainer(tmp_path, config, validate=lambda m: {"accuracy": (3.0, 4.0)}).fit()
    steps = [r["step"] for r in read_metrics(tmp_path / "metrics.json") if r["kind"] == "validation"]
    assert steps == [3, 6, 9, 12, 14] and result.best == 0.75


def test_a_metric_that_is_not_measured_is_named(tmp_path):
    with pytest.raises(ValueError, match="train.metric 'wer'.*cer"):
        tiny_trainer(tmp_path, tiny_config(metric="wer"), validate=lambda m: {"cer": 1.0}).fit()


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    unbroken = tiny_trainer(tmp_path / "a")
    unbroken.fit()
    broken = tiny_trainer(tmp_path / "b")
    broken.on_step = lambda step, values: os.kill(os.getpid(), signal.SIGTERM) if step == 9 else None
    result = broken.fit()
    assert result.reason == "interrupted" and result.checkpoint.name == f"step-{result.step:08d}" and result.step in (9, 10)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = tiny_trainer(tmp_path / "b", seed=99)
    assert resumed.fit().reason == "finished"
    assert all(torch.equal(v, weights(resumed.model)[k]) for k, v in weights(unbroken.model).items())


def test_a_loader_without_batches_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no batch"):
        tiny_trainer(tmp_path, loader=TinyLoader(batches=0), config=tiny_config(max_steps=5)).fit()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_learns(tmp_path, precision):
    losses: list = []
    config = tiny_config(epochs=15, precision=precision, optimizer=OptimizerConfig(lr=0.02))
    tiny_trainer(tmp_path, config, losses=losses, model=TinyModel(dropout=0.0)).fit()
    assert sum(v for _, v in losses[-7:]) < 0.8 * sum(v for _, v in losses[:7])


def test_average_of_the_best(tmp_path):
    errors = iter([0.4, 0.2, 0.3, 0.1])
    result = tiny_trainer(tmp_path, tiny_config(average=AverageConfig(best=2)), validate=lambda model: {"error": next(errors)}).fit()
    assert result.averaged == tmp_path / "checkpoints" / "averaged"
    from voxkit.checkpoint.folder import resolve
    from voxkit.checkpoint.format import read_meta
    from voxkit.checkpoint.weights import read_weights

    meta = read_meta(result.averaged)
    parts = [read_weights(tmp_path / "checkpoints" / name) for name in meta["averaged"]]
    assert len(parts) == 2
    torch.testing.assert_close(read_weights(result.averaged)["head.weight"], (parts[0]["head.weight"] + parts[1]["head.weight"]) / 2)
    assert resolve(tmp_path, "averaged") == result.averaged


def test_an_average_that_is_worse_than_the_best_is_not_kept(tmp_path):
    """Four validations while training, the last of them of the average."""
    seen: list[float] = []

    def validate(model):
        seen.append([0.4, 0.3, 0.2, 0.1, 0.25][min(len(seen), 4)])
        return {"error": seen[-1]}

    trainer = tiny_trainer(tmp_path, tiny_config(epochs=4, average=AverageConfig(best=3)), validate=validate)
    result = trainer.fit()
    assert seen[-1] == 0.25 and result.averaged is None and not (tmp_path / "checkpoints" / "averaged").exists()
    assert "error 0.25: worse than step-" in (tmp_path / "train.log").read_text()
    from voxkit.checkpoint.folder import resolve
    from voxkit.checkpoint.weights import read_weights

    torch.testing.assert_close(trainer.model.state_dict(), read_weights(resolve(tmp_path)))


def test_loop_can_be_read_in_a_sitting(repository):
    assert len((repository / "voxkit/train/loop.py").read_text().splitlines()) < 350
