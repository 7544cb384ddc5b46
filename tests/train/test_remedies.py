"""Models that misbehave on purpose: losses that are not finite, divergence, too little memory."""

from __future__ import annotations

import time

import pytest
import torch

from tests.train.toys import TinyLoader, TinyModel, tiny_config, tiny_trainer, weights
from voxkit.batch import Batch, Padded
from voxkit.models.contract import Losses
from voxkit.train.config import OptimizerConfig, RemedyConfig, ScheduleConfig
from voxkit.train.logging import read_metrics
from voxkit.train.probe import find_max_duration
from voxkit.train.remedies import Diverged, DivergenceWatch, NonFiniteLoss, is_out_of_memory, split


class Poisoned(TinyModel):
    """Infinite for named utterances."""

    def __init__(self, ids=(), **more) -> None:
        super().__init__(dropout=0.0, **more)
        self.ids = ids

    def loss(self, batch):
        out = super().loss(batch)
        if any(id in self.ids for id in batch.ids):
            out = out._replace(total=out.total / 0.0)
        return out


class SmallMemory(TinyModel):
    """Out of memory above so many utterances, in the forward pass or after half of the backward pass."""

    def __init__(self, fits: int, backward: bool = False) -> None:
        super().__init__(dropout=0.0)
        self.fits, self.backward = fits, backward

    def loss(self, batch):
        out = super().loss(batch)
        if batch.size > self.fits:
            if not self.backward:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            self.head.weight.grad = torch.full_like(self.head.weight, 1e6)
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:113] . DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return out


def events(path):
    return [r for r in read_metrics(path / "metrics.json") if r["kind"] == "event"]


def test_skip_names_the_utterance_and_leaves_the_weights_alone(tmp_path, caplog):
    bad = "u0-2-1"
    result = tiny_trainer(tmp_path / "a", model=Poisoned([bad])).fit()
    assert (result.step, result.skipped) == (20, 1)
    assert events(tmp_path / "a")[0]["ids"] == [bad]
    assert f"not finite at step 2 for {bad}: step skipped" in caplog.text

    class Without(TinyLoader):
        def __iter__(self):
            return (batch for batch in super().__iter__() if bad not in batch.ids)

    trainer = tiny_trainer(tmp_path / "b", model=Poisoned([bad]))
    trainer.fit()
    clean = tiny_trainer(tmp_path / "c", model=Poisoned(), loader=Without())
    clean.fit()
    same = {k: v for k, v in weights(clean.model).items() if k != "seen"}
    assert all(torch.equal(v, weights(trainer.model)[k]) for k, v in same.items())


def test_stop_names_the_utterance_and_what_to_do(tmp_path):
    config = tiny_config(remedies=RemedyConfig(non_finite="stop"))
    with pytest.raises(NonFiniteLoss, match="u0-2-1; mend or leave out.*non_finite=skip"):
        tiny_trainer(tmp_path, config, model=Poisoned(["u0-2-1"])).fit()


def test_a_gradient_that_is_not_finite_counts_too(tmp_path):
    class Root(TinyModel):
        def loss(self, batch):
            out = super().loss(batch)
            if "u0-1-0" in batch.ids:
                out = out._replace(total=out.total + (self.head.weight * 0).sum().sqrt())  # 0 with gradient 0 · infinity
            return out

    result = tiny_trainer(tmp_path, model=Root(dropout=0.0)).fit()
    assert result.skipped == 1 and "the gradient is not finite" in events(tmp_path)[0]["what"]


def test_non_finite_again_and_again_is_a_divergence(tmp_path):
    config = tiny_config(remedies=RemedyConfig(non_finite_limit=3, halve_on_divergence=0))
    with pytest.raises(Diverged, match="3 steps in a row; lower train.optimizer.lr"):
        tiny_trainer(tmp_path, config, model=Poisoned([f"u0-{i}-0" for i in range(1, 9)])).fit()


def test_a_gradient_that_no_loss_scale_mends_is_a_divergence(tmp_path):
    class Root(TinyModel):
        def loss(self, batch):
            out = super().loss(batch)
            return out._replace(total=out.total + (self.head.weight * 0).sum().sqrt())

    config = tiny_config(precision="fp16", remedies=RemedyConfig(non_finite_limit=4, halve_on_divergence=1))
    with pytest.raises(Diverged, match="float16 is not finite at step 0.*4 steps in a row; train.precision=bf16.*halving.* 1 times"):
        tiny_trainer(tmp_path, config, model=Root(dropout=0.0)).fit()


class Steep(torch.nn.Module):
    """Loss 1.5 x²."""

    def __init__(self) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.tensor([1.0]))

    def loss(self, batch: Batch):
        return Losses(1.5 * (self.x ** 2).sum(), torch.tensor(batch.size))


def steep_config(halvings: int = 3):
    return tiny_config(optimizer=OptimizerConfig(lr=1.0), clip_grad=0.0, checkpoint_every=2,
                       schedule=ScheduleConfig(name="constant", warmup_steps=0),
                       remedies=RemedyConfig(halve_on_divergence=halvings, divergence_window=1, divergence_factor=3.0))


@pytest.fixture
def plain_descent(monkeypatch):
    """x ← x - lr · 3x: grows for lr > 2/3."""
    monkeypatch.setattr("voxkit.train.parts.build_optimizer",
                        lambda model, config, groups: torch.optim.SGD(model.parameters(), lr=config.lr))


def test_divergence_goes_back_and_halves_the_rate(tmp_path, plain_descent):
    config = steep_config()
    trainer = tiny_trainer(tmp_path, config, model=Steep())
    result = trainer.fit()
    assert result.reason == "finished" and result.step == 21
    assert trainer.state.halvings == 1 and trainer.state.rate_scale == 0.5
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
    assert "back to step-" in events(tmp_path)[0]["what"] and "learning rate times 0.5" in events(tmp_path)[0]["what"]
    assert abs(trainer.model.x.item()) < 1e-3


def test_divergence_without_end_says_so(tmp_path, plain_descent):
    config = steep_config(halvings=2)
    config.optimizer.lr = 100.0
    with pytest.raises(Diverged, match="after halving the learning rate 2 times; lower train.optimizer.lr"):
        tiny_trainer(tmp_path, config, model=Steep()).fit()


def test_halved_rate_outlives_a_resume(tmp_path, plain_descent):
    config = steep_config()
    config.max_steps = 10
    tiny_trainer(tmp_path, config, model=Steep()).fit()
    config.max_steps = 0
    resumed = tiny_trainer(tmp_path, config, model=Steep())
    resumed.fit()
    assert resumed.state.halvings == 1 and resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_noise_near_zero_is_no_divergence():
    watch = DivergenceWatch(RemedyConfig(divergence_window=2), {})
    assert not any(watch.update(loss) for loss in [5.0, 5.0, 0.1, 0.01, 0.01, 0.2, 0.3, 0.2])
    assert any(watch.update(loss) for loss in [4.0, 6.0, 6.0])


@pytest.mark.parametrize("backward", [False, True])
def test_out_of_memory_cuts_batches_and_gives_the_same_weights(tmp_path, backward, caplog):
    whole = tiny_trainer(tmp_path / "a", model=SmallMemory(99))
    whole.fit()
    small = tiny_trainer(tmp_path / "b", model=SmallMemory(1, backward))
    small.fit()
    assert small.state.pieces == 4 and len(events(tmp_path / "b")) == 2
    assert "out of memory on a batch of 4 utterances" in caplog.text and "data.max_duration" in caplog.text
    for name, value in weights(whole.model).items():
        if name != "seen":
            torch.testing.assert_close(weights(small.model)[name], value, rtol=1e-4, atol=1e-6)


def test_out_of_memory_that_no_cutting_mends_names_the_longest(tmp_path):
    with pytest.raises(ValueError, match=r"out of memory on a batch of 4 utterances.*longest: u0-0-\d.*max_duration"):
        tiny_trainer(tmp_path, model=SmallMemory(0)).fit()
    with pytest.raises(ValueError, match="out of memory"):
        tiny_trainer(tmp_path / "off", tiny_config(remedies=RemedyConfig(shrink_on_oom=0)), model=SmallMemory(2)).fit()


def test_another_runtime_error_is_not_swallowed(tmp_path):
    class Broken(TinyModel):
        def loss(self, batch):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        tiny_trainer(tmp_path, model=Broken()).fit()
    assert not is_out_of_memory(RuntimeError("x")) and not is_out_of_memory(KeyError("out of memory"))


def test_a_batch_is_cut_into_parts():
    batch = Batch(ids=["a", "b", "c"], audio=Padded(torch.zeros(3, 7), torch.tensor([7, 3, 2])))
    assert [p.ids for p in split(batch, 2)] == [["a", "b"], ["c"]] and len(split(batch, 8)) == 3 and split(batch, 1)[0] is batch


# -- the probe --------------------------------------------------------------------------------------------------------------

def test_probe_follows_the_line_on_a_cpu():
    """Memory = 100 + 2 · seconds + seconds² / 100: it never steps over the limit and comes near."""
    tried = []

    def step(seconds):
        tried.append(seconds)

    def measure(run):
        run()
        return int(100 + 2 * tried[-1] + tried[-1] ** 2 / 100)

    found = find_max_duration(lambda seconds: seconds, step, low=10, limit_bytes=2000, share=1.0, measure=measure)
    assert 280 < found < 350 and max(tried) < 360
    assert find_max_duration(lambda s: s, step, low=10, high=60, limit_bytes=10**9, measure=measure) == 60


def test_probe_bisects_where_running_out_can_be_caught():
    from voxkit.train import probe

    tried = []

    def attempt(seconds):
        tried.append(seconds)
        return None if seconds > 333 else 1

    assert 300 < probe._bisect(attempt, 10.0, 1, 2400.0, 2.0) <= 333 and len(tried) < 12


def test_probe_measures_real_memory_and_says_when_nothing_fits():
    def step(seconds):
        held = torch.zeros(int(seconds * 2**20 / 4)).add_(1)  # a MiB per second; above 32 MiB it is always new memory
        time.sleep(0.1)  # as long as a step lasts: memory is looked at every few milliseconds, later on a busy machine
        del held

    found = find_max_duration(lambda seconds: seconds, step, low=64, high=400, limit_bytes=200 * 2**20, share=1.0)
    assert 100 < found <= 210
    with pytest.raises(ValueError, match="a batch of 64 s does not fit"):
        find_max_duration(lambda seconds: seconds, step, low=64, limit_bytes=2**20)
