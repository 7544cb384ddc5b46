"""The loader continues exactly, and neither workers nor threads change what it gives."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.utterances import NUM, Letters, everything, same
from voxkit.data.dataset import Plan
from voxkit.data.loader import build_train_loader


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("input", ["audio", "fbank"])
def test_continues_exactly(sounds, workers, input):
    root, cuts = sounds
    config = everything(root, num_workers=workers, input=input)
    loader = build_train_loader(cuts, Letters(), config, seed=7)
    loader.set_epoch(1)
    whole = list(loader)
    assert len(whole) > 8

    loader = build_train_loader(cuts, Letters(), config, seed=7)
    loader.set_epoch(1)
    running = iter(loader)
    first = [next(running) for _ in range(5)]
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (1, 5)  # although workers are ahead
    fresh = build_train_loader(cuts, Letters(), config, seed=7)
    fresh.load_state_dict(state)
    assert fresh.state_dict() == state
    fresh.set_epoch(1)  # the epoch it is in: changes nothing
    assert same(first, whole[:5]) and same(list(fresh), whole[5:])
    assert same(list(running), whole[5:])  # the interrupted one is not disturbed
    assert same(list(fresh), whole)  # without a restored position: from the beginning


def test_workers_change_nothing_and_global_generators_stay(sounds):
    root, cuts = sounds
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    batches = [list(build_train_loader(cuts, Letters(), everything(root, num_workers=n), seed=7)) for n in (0, 1, 2)]
    assert same(batches[0], batches[1]) and same(batches[0], batches[2])
    assert torch.get_rng_state().equal(before[0])
    assert random.getstate() == before[1] and np.random.get_state()[1].tobytes() == before[2]


def test_workers_can_be_spawned(sounds):
    """Where processes are not forked (macOS), the dataset is pickled."""
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root, input="fbank"), seed=7)
    plans = [Plan(0, i, cuts) for i, cuts in enumerate(loader.sampler.batches(0))][:3]
    copy = pickle.loads(pickle.dumps(loader.dataset))
    assert same([copy[pickle.loads(pickle.dumps(plan))].batch for plan in plans], [loader.dataset[plan].batch for plan in plans])


def test_workers_outlive_the_signals_that_the_trainer_answers(sounds):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root, num_workers=2), seed=7)
    running = iter(loader)
    count = next(running).size
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker, number in zip(workers, (signal.SIGINT, signal.SIGTERM)):
        os.kill(worker.pid, number)
    assert count + sum(batch.size for batch in running) == NUM
    for worker in workers:
        worker.join(10)
        assert worker.exitcode == 0


def test_threads_change_nothing(sounds):
    root, cuts = sounds
    before = torch.get_num_threads()
    batches = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            batches.append(list(build_train_loader(cuts, Letters(), everything(root, input="fbank"), seed=7)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert same(*batches)


def test_a_finished_epoch_continues_with_nothing_and_another_begins(sounds):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root), seed=7)
    count = len(list(loader))
    fresh = build_train_loader(cuts, Letters(), everything(root), seed=7)
    fresh.load_state_dict(loader.state_dict())
    assert list(fresh) == []
    fresh.set_epoch(1)
    assert fresh.position == 0 and abs(len(list(fresh)) - count) < 5


def test_other_data_or_options_begin_the_epoch_again(sounds, caplog):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root), seed=7)
    next(iter(loader))
    other = build_train_loader(cuts, Letters(), everything(root, max_duration=5.0), seed=7)
    other.load_state_dict(loader.state_dict())
    assert other.position == 0 and "begins again" in caplog.text


def test_lazy_manifests_are_streamed(sounds, tmp_path):
    from lhotse import CutSet

    root, cuts = sounds
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    lazy = CutSet.from_jsonl_lazy(tmp_path / "cuts.jsonl.gz")
    config = everything(root, buffer_size=20)
    loader = build_train_loader(lazy, Letters(), config, seed=7)
    whole = list(loader)
    assert sum(batch.size for batch in whole) == NUM == sum(len(b) for b in loader.sampler.batches(1))
    running = build_train_loader(lazy, Letters(), config, seed=7)
    running.load_state_dict({**loader.state_dict(), "position": 4})
    assert same(list(running), whole[4:])
    with pytest.raises(ValueError, match="short_first"):
        build_train_loader(lazy, Letters(), replace(config, short_first=True), seed=7)
