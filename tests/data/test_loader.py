"""The loader: exact continuation, shares of processes, what cannot be read, padding, cached states."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
from dataclasses import fields, replace

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from voxkit.audio.fbank import PADDING, Fbank
from voxkit.batch import Batch
from voxkit.config import ConfigError, structure
from voxkit.data.config import DataConfig
from voxkit.data.dataset import Plan
from voxkit.data.loader import TooManyFailures, build_eval_loader, build_train_loader, largest_batch

NUM = 60


class Letters:
    """A tokenizer: one token per letter."""

    def encode(self, text: str) -> list[int]:
        return [ord(c) - 60 for c in text]


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """NUM utterances of 0.3 to 2 s, three noises and two impulse responses."""
    from lhotse import CutSet, Recording, SupervisionSegment

    root = tmp_path_factory.mktemp("sounds")
    draw = np.random.default_rng(0)
    cuts = []
    for i in range(NUM):
        samples = draw.normal(scale=0.1, size=int(draw.uniform(0.3, 2.0) * 16000))
        soundfile.write(root / f"u{i:02}.wav", samples, 16000)
        recording = Recording.from_file(root / f"u{i:02}.wav")
        cut = recording.to_cut()
        cut.id = recording.id
        text = "".join(draw.choice(list("ABC"), size=int(recording.duration * 4)))
        cut.supervisions = [SupervisionSegment(cut.id, recording.id, 0.0, recording.duration, text=text)]
        cuts.append(cut)
    for folder, lengths in (("noise", (4000, 16000, 160000)), ("rir", (800, 3000))):
        (root / folder).mkdir()
        for n in lengths:
            soundfile.write(root / folder / f"{n}.wav", draw.normal(scale=0.1, size=n) * np.exp(-np.arange(n) / 500), 16000)
    return root, CutSet.from_cuts(cuts)


def everything(root, **changes) -> DataConfig:
    values = {"max_duration": 8.0, "num_buckets": 4, "num_workers": 0, "speed_perturb": [0.9, 1.0, 1.1], "noise": str(root / "noise"),
              "noise_prob": 0.6, "rir": str(root / "rir"), "rir_prob": 0.5, "volume": [0.5, 2.0]}
    return DataConfig(**{**values, **changes})


def same(a: list[Batch], b: list[Batch]) -> bool:
    def equal(x, y):
        return x.equal(y) if isinstance(x, Tensor) else x == y

    return len(a) == len(b) and all(equal(getattr(x, f.name), getattr(y, f.name)) for x, y in zip(a, b) for f in fields(Batch))


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


def test_every_utterance_once_per_epoch_in_another_order(sounds):
    root, cuts = sounds
    for config in (everything(root), everything(root, num_buckets=30, max_duration=4.0), everything(root, max_utterances=2)):
        loader = build_train_loader(cuts, Letters(), config, seed=7)
        orders = []
        for epoch in range(3):
            loader.set_epoch(epoch)
            batches = list(loader.sampler.batches(epoch))
            ids = [cut.id.split("_sp")[0] for batch in batches for cut in batch]
            assert sorted(ids) == sorted(cut.id for cut in cuts)
            for batch in batches:
                assert len(batch) * max(cut.duration for cut in batch) <= config.max_duration
                assert not config.max_utterances or len(batch) <= config.max_utterances
            orders.append(ids)
        assert orders[0] != orders[1] != orders[2]


def test_epochs_and_seeds_differ_in_what_is_heard(sounds):
    root, cuts = sounds

    def heard(seed, epoch):
        loader = build_train_loader(cuts, None, everything(root, speed_perturb=[1.0]), seed=seed)
        loader.set_epoch(epoch)
        return {id: row[:n].clone() for batch in loader for id, row, n in zip(batch.ids, batch.audio, batch.lengths)}

    once, again, later, elsewhere = heard(1, 0), heard(1, 0), heard(1, 1), heard(2, 0)
    assert all(once[id].equal(again[id]) for id in once)
    assert sum(once[id].equal(later[id]) for id in once) < 5 and sum(once[id].equal(elsewhere[id]) for id in once) < 5


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_processes_share_an_epoch(sounds, world_size, drop_last):
    root, cuts = sounds
    config = everything(root, drop_last=drop_last)
    shares = [list(build_train_loader(cuts, Letters(), config, seed=7, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    ids = [id.split("_sp")[0].split("_dup")[0] for share in shares for batch in share for id in batch.ids]
    if drop_last:
        assert len(ids) == len(set(ids)) and len(ids) > NUM // 2
    else:
        assert set(ids) == {cut.id for cut in cuts} and len(ids) < NUM + world_size


def test_few_utterances(sounds):
    root, cuts = sounds
    for count in (1, 2, 3):
        few = cuts.subset(first=count)
        assert sum(b.size for b in build_train_loader(few, Letters(), everything(root), seed=1)) == count
        for rank in range(2):
            assert sum(b.size for b in build_train_loader(few, Letters(), everything(root), seed=1, rank=rank, world_size=2)) >= 1


def test_short_first(sounds):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root, short_first=True), seed=7)
    longest = [int(batch.lengths.max()) for batch in loader]
    assert longest == sorted(longest) and len(longest) == len(loader)
    loader.set_epoch(1)
    longest = [int(batch.lengths.max()) for batch in loader]
    assert longest != sorted(longest)


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


def test_padding_and_tokens(sounds):
    root, cuts = sounds
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    for batch in build_eval_loader(cuts, Letters(), DataConfig(max_duration=8.0, num_workers=0)):
        for i, id in enumerate(batch.ids):
            n, u = int(batch.lengths[i]), int(batch.token_lengths[i])
            assert batch.audio[i, :n].equal(torch.from_numpy(soundfile.read(root / f"{id}.wav", dtype="float32")[0]))
            assert not batch.audio[i, n:].any() and not batch.tokens[i, u:].any()
            assert batch.tokens[i, :u].tolist() == Letters().encode(texts[id]) and batch.texts[i] == texts[id]
        assert abs(batch.seconds - float(batch.lengths.sum()) / 16000) < 1e-6
        assert batch.audio.dtype == torch.float32 and batch.tokens.dtype == torch.long


def test_fbank_in_the_loader_is_that_of_each_utterance(sounds):
    root, cuts = sounds
    fbank = Fbank()
    for batch in build_eval_loader(cuts, None, DataConfig(max_duration=20.0, num_workers=0, input="fbank")):
        assert batch.audio is None and batch.tokens is None
        for id, row, n in zip(batch.ids, batch.features, batch.lengths):
            alone = fbank(torch.from_numpy(soundfile.read(root / f"{id}.wav", dtype="float32")[0])[None])[0][0]
            assert torch.allclose(row[:n], alone, atol=1e-5) and (row[n:] == PADDING).all()


def test_evaluation_takes_everything_longest_first_and_unchanged(sounds):
    root, cuts = sounds
    config = everything(root, min_seconds=1.0, max_duration="auto")
    loaders = [build_eval_loader(cuts, Letters(), config, rank=rank, world_size=2, max_duration=6.0) for rank in range(2)]
    batches = [list(loader) for loader in loaders]
    assert sorted(id for share in batches for b in share for id in b.ids) == sorted(cut.id for cut in cuts)
    longest = [int(b.lengths.max()) for b in batches[0]]
    assert longest == sorted(longest, reverse=True)
    assert same(list(loaders[0]), batches[0])


def test_bad_audio_is_named_counted_and_left_out(sounds, tmp_path, caplog):
    from lhotse import CutSet

    root, cuts = sounds
    bad = list(cuts)[:3]
    broken = []
    for cut, content in zip(bad, (b"this is no audio", None, "nan")):
        path = tmp_path / f"{cut.id}.wav"
        if content == "nan":
            soundfile.write(path, np.full(cut.num_samples, np.nan), 16000, subtype="FLOAT")
        elif content is not None:
            path.write_bytes(content)
        recording = replace(cut.recording, sources=[replace(cut.recording.sources[0], source=str(path))])
        broken.append(replace(cut, recording=recording))
    mixed = CutSet.from_cuts(broken + list(cuts)[3:])
    for workers in (0, 2):
        caplog.clear()
        config = everything(root, num_workers=workers, speed_perturb=[1.0])
        loader = build_train_loader(mixed, Letters(), config, seed=7)
        seen = [id for batch in loader for id in batch.ids]
        assert len(seen) == NUM - 3 and not set(seen) & {cut.id for cut in bad}
        assert set(loader.failures) == {cut.id for cut in bad}
        assert all(cut.id in caplog.text for cut in bad)
        fresh = build_train_loader(mixed, Letters(), config, seed=7)
        fresh.load_state_dict(loader.state_dict())
        assert fresh.failures == loader.failures
        with pytest.raises(TooManyFailures, match="data.max_failures=2"):
            list(build_train_loader(mixed, Letters(), replace(config, max_failures=2), seed=7))
    loader = build_eval_loader(CutSet.from_cuts(broken), Letters(), DataConfig(num_workers=0))
    assert list(loader) == [] and len(loader.failures) == 3  # a batch of which nothing is left is left out


def test_unreadable_noise_is_named_and_the_utterance_stays(sounds, tmp_path, caplog):
    root, cuts = sounds
    soundfile.write(tmp_path / "hiss.wav", np.ones(32000) * 0.1, 16000)
    config = DataConfig(max_duration=8.0, num_workers=0, noise=str(tmp_path), noise_prob=1.0)
    loader = build_train_loader(cuts, None, config, seed=1)
    (tmp_path / "hiss.wav").write_bytes(b"gone bad")
    assert sum(batch.size for batch in loader) == NUM
    assert list(loader.failures) == ["hiss.wav"] and "hiss.wav" in caplog.text


def test_what_cannot_be_learnt_from_is_left_out_and_named(sounds, caplog):
    from lhotse import CutSet

    root, cuts = sounds
    cuts = [replace(cut, supervisions=[replace(cut.supervisions[0], text=text)]) if text is not None else cut
            for cut, text in zip(cuts, ["", "A" * 40, *[None] * NUM])]
    config = everything(root, min_seconds=0.4, max_seconds=1.9)
    loader = build_train_loader(CutSet.from_cuts(cuts), Letters(), config, seed=7)
    reasons = {reason.split(" ")[0]: ids for reason, ids in loader.left_out.items()}
    assert reasons["without"] == [cuts[0].id] and reasons["more"] == [cuts[1].id]
    assert reasons["shorter"] == [c.id for c in cuts if c.duration < 0.4]
    assert reasons["longer"] == [c.id for c in cuts if c.duration > 1.9]
    count = sum(map(len, reasons.values()))
    assert f"left out {count} of {NUM}" in caplog.text
    assert sum(len(b) for b in loader.sampler.batches(0)) == NUM - count
    with pytest.raises(ValueError, match="no utterance to train on.*data.max_seconds"):
        build_train_loader(CutSet.from_cuts(cuts), Letters(), replace(config, min_seconds=0.0, max_seconds=0.1), seed=7)


class Cache:
    """Stands for a StateCache: 2 layers of 3 dimensions, as long as the id's number, filled with 1000 x the speed."""

    def get(self, cut_id):
        if cut_id.startswith("u03"):
            raise KeyError(f"no cached states of cut {cut_id}")
        name, _, speed = cut_id.partition("_sp")
        return torch.full((2, 5 + int(name[1:]), 3), float(speed or 1) * 1000)


def test_cached_states(sounds, caplog):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root), seed=7, states=Cache())
    assert "no effect" in caplog.text
    count, speeds = 0, set()
    for batch in loader:
        assert batch.audio is None and batch.states.shape[1:] == (2, int(batch.lengths.max()), 3) and batch.states.is_contiguous()
        for id, row, n in zip(batch.ids, batch.states, batch.lengths):
            assert n == 5 + int(id[1:3]) and row[:, :n].unique().numel() == 1 and not row[:, n:].any()
            speeds.add(float(row[0, 0, 0]))
        count += batch.size
    assert speeds == {900.0, 1000.0, 1100.0}
    assert count == NUM - 1 and [id[:3] for id in loader.failures] == ["u03"]


@pytest.mark.parametrize("changes", [{}, {"input": "fbank"}, {"speed_perturb": [1.0]}])
def test_no_batch_is_larger_than_the_largest(sounds, changes):
    root, cuts = sounds
    config = everything(root, max_duration=20.0, **changes)
    largest = largest_batch(cuts, Letters(), config, 20.0)
    assert largest.size == len(largest.token_lengths) == len(largest.ids) >= 8
    assert int(largest.lengths.max()) == largest.input.shape[1]
    for batch in build_train_loader(cuts, Letters(), config, seed=1):
        assert batch.input.shape[1] <= largest.input.shape[1] + 1 and batch.tokens.shape[1] <= largest.tokens.shape[1]
        assert batch.input.shape[:2].numel() <= 1.1 * largest.input.shape[:2].numel() + 200
    assert largest_batch(cuts, Letters(), config, 0.1).size == 1
    assert largest_batch(list(cuts)[4:], None, config, 20.0, states=Cache()).states.shape[1] == 2


def test_configurations_refuse():
    for values, match in (({"input": "mel"}, "audio, fbank"), ({"max_duration": "all"}, "auto"), ({"noise_prob": 0.5}, "no noise is named"),
                          ({"rir_prob": 2.0, "rir": "x"}, "rir_prob"), ({"speed_perturb": []}, "speed_perturb"),
                          ({"volume": [0.0, 1.0]}, "gain"),
                          ({"noise_snr": [9.0, 1.0]}, "noise_snr"), ({"prefetch": 0}, "prefetch"), ({"min_seconds": 50.0}, "max_seconds")):
        with pytest.raises(ConfigError, match=match):
            structure(DataConfig, values)
    for value in (200, 200.5, "auto"):
        assert structure(DataConfig, {"max_duration": value}).max_duration == value


def test_builders_refuse(sounds, tmp_path):
    root, cuts = sounds
    with pytest.raises(ValueError, match="auto has to be resolved"):
        build_train_loader(cuts, None, DataConfig(max_duration="auto"), seed=1)
    with pytest.raises(ValueError, match="data.noise: .* neither a folder"):
        build_train_loader(cuts, None, everything(root, noise=str(tmp_path / "none")), seed=1)
    with pytest.raises(ValueError, match="data.rir: no audio"):
        build_train_loader(cuts, None, everything(root, rir=str(tmp_path)), seed=1)


@pytest.mark.real
def test_real_noise_and_rooms(real_corpus):
    from lhotse import CutSet, Recording

    files = sorted((real_corpus / "LibriSpeech").rglob("*.flac"))[:12]
    cuts = CutSet.from_cuts(Recording.from_file(file).to_cut() for file in files)
    config = DataConfig(max_duration=60.0, num_workers=0, noise=str(real_corpus / "noise"), noise_prob=1.0, rir=str(real_corpus / "rir"),
                        rir_prob=1.0)
    loader = build_train_loader(cuts, None, config, seed=1)
    for epoch in range(4):
        loader.set_epoch(epoch)
        for batch in loader:
            assert batch.audio.isfinite().all() and batch.audio.abs().max() <= 1.0 + 1e-6 and batch.audio.std() > 1e-3
        assert not loader.failures
