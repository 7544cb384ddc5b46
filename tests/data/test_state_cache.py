"""The cache of frozen states: what goes in comes out; it continues, notices change, and says what is wrong."""

from __future__ import annotations

import logging
import os
import pickle
from collections import namedtuple
from threading import Barrier, Thread

import pytest
import torch

pytest.importorskip("lhotse")

from lhotse import Recording  # noqa: E402

from tests.data.frozen import WIDTH, Encoder, write  # noqa: E402
from voxkit.batch import Padded  # noqa: E402
from voxkit.data import state_cache  # noqa: E402
from voxkit.data.config import DataConfig  # noqa: E402
from voxkit.data.loader import build_train_loader  # noqa: E402
from voxkit.data.state_cache import StateCache, build_state_cache  # noqa: E402


@pytest.mark.parametrize("dtype, exact", [("float32", 1e-7), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_what_goes_in_comes_out(cuts, where, dtype, exact):
    cache = build_state_cache(cuts, Encoder(), where, "f", dtype=dtype, batch_duration=1.0)
    assert len(cache) == 10 and cache.covers(cuts) and "u3_sp1.1" in cache
    for cut in cuts:
        audio = torch.from_numpy(cut.load_audio())
        with torch.inference_mode():
            expected, frames = Encoder()(audio, torch.tensor([audio.shape[1]]))
        states = cache.get(cut.id)
        assert states.dtype == getattr(torch, dtype) and cache.frames(cut.id) == frames[0]
        torch.testing.assert_close(states.float(), expected[0], atol=exact, rtol=exact)


def test_reading_copies_nothing_and_pickles_small(cuts, where):
    cache = build_state_cache(cuts, Encoder(), where, "f")
    one, again = cache.get("u1"), cache.get("u1")
    assert one.data_ptr() == again.data_ptr() and one.is_contiguous()
    other = pickle.loads(pickle.dumps(cache))
    assert torch.equal(other.get("u1"), one) and len(pickle.dumps(cache)) < 20_000


def test_nothing_is_encoded_twice(cuts, where):
    build_state_cache(cuts.subset(first=4), Encoder(), where, "f")
    second, third = Encoder(), Encoder()
    assert len(build_state_cache(cuts, second, where, "f")) == 10 and second.utterances == 6
    build_state_cache(cuts, third, where, "f")
    assert third.calls == 0


def test_an_interrupted_build_continues(cuts, where):
    class Interrupted(Encoder):
        def __call__(self, audio, lengths):
            if self.calls == 6:
                raise KeyboardInterrupt
            return super().__call__(audio, lengths)

    with pytest.raises(KeyboardInterrupt):
        build_state_cache(cuts, Interrupted(), where, "f", batch_duration=0.1, shard_megabytes=0.001)
    assert any(where.glob("*.json"))
    (where / "shard-00099.part").write_bytes(b"half")
    (where / "shard-00098.bin").write_bytes(b"no index")
    kept = len(StateCache.open(where, "f"))
    rest = Encoder()
    cache = build_state_cache(cuts, rest, where, "f", batch_duration=0.1)
    assert 0 < kept and rest.utterances == 10 - kept and cache.covers(cuts)
    assert not list(where.glob("*.part")) and not (where / "shard-00098.bin").exists()


def test_ranks_share_the_work(cuts, where):
    meet, caches = Barrier(2), {}
    encoders = [Encoder(), Encoder()]

    def build(rank: int) -> None:
        caches[rank] = build_state_cache(cuts, encoders[rank], where, "f", batch_duration=0.5, shard_megabytes=0.02,
                                         rank=rank, world_size=2, barrier=meet.wait)

    threads = [Thread(target=build, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [encoder.utterances for encoder in encoders] == [5, 5]
    assert caches[0].covers(cuts) and caches[1].covers(cuts)
    build_state_cache(cuts, Encoder(), where.parent / "alone", "f")
    alone = StateCache.open(where.parent / "alone", "f")
    for cut in cuts:
        assert torch.equal(caches[1].get(cut.id), alone.get(cut.id))


def test_another_encoder_or_type_is_encoded_anew(cuts, where):
    build_state_cache(cuts, Encoder(), where, "first")
    with pytest.raises(ValueError, match="made by another encoder"):
        StateCache.open(where, "second")
    other = Encoder(gain=2.0)
    cache = build_state_cache(cuts, other, where, "second")
    assert other.utterances == 10
    halved = build_state_cache(cuts, Encoder(), where, "first").get("u0")
    torch.testing.assert_close(cache.get("u0"), 2 * halved)
    again = Encoder()
    assert build_state_cache(cuts, again, where, "second", dtype="float32").get("u0").dtype == torch.float32
    assert again.utterances == 10


def test_changed_audio_is_encoded_anew_and_moved_audio_is_not(cuts, where, tmp_path):
    build_state_cache(cuts, Encoder(), where, "f")
    moved = tmp_path / "moved"
    (tmp_path / "audio").rename(moved)
    elsewhere = [Recording.from_file(moved / f"u{i}.wav").to_cut() for i in range(5)]
    assert StateCache.open(where, "f").covers(elsewhere)
    write(moved, "u1", 4000, seed=77)
    state_cache.audio_identity.__globals__["_file_sample"].cache_clear()
    assert StateCache.open(where, "f").missing(elsewhere) == ["u1"]
    encoder = Encoder()
    cache = build_state_cache(elsewhere, encoder, where, "f")
    assert encoder.utterances == 1
    expected = torch.from_numpy(elsewhere[1].load_audio()[0, :WIDTH])
    torch.testing.assert_close(cache.get("u1")[0, 0].float(), expected, atol=1e-3, rtol=1e-3)
    shortened = [elsewhere[0].truncate(duration=0.1, preserve_id=True)]
    assert StateCache.open(where, "f").missing(shortened) == ["u0"]


def test_a_cache_of_all_states_serves_a_model_that_needs_the_lower_ones(cuts, where):
    whole = build_state_cache(cuts, Encoder(), where, ["a", "b", "c"])
    lower = StateCache.open(where, ["a", "b"])
    assert torch.equal(lower.get("u2"), whole.get("u2")[:2]) and lower.get("u2").data_ptr() == whole_pointer(lower, "u2")
    assert torch.equal(StateCache.open(where, ["a", "c"]).get("u2"), whole.get("u2")[[0, 2]])
    with pytest.raises(ValueError, match="made by another encoder"):
        StateCache.open(where, ["a", "b", "d"])


def whole_pointer(cache: StateCache, cut_id: str) -> int:
    """Where the entry begins in the mapped file."""
    entry = cache.entries[cut_id]
    return cache._map(entry.shard).ctypes.data + entry.offset


def test_bad_audio_is_named_and_left_out(cuts, where, tmp_path, caplog):
    broken = tmp_path / "audio" / "u2.wav"
    broken.write_bytes(broken.read_bytes()[:20])
    slow = Recording.from_file(write(tmp_path, "slow", 8000, 9, rate=8000)).to_cut()
    with caplog.at_level(logging.WARNING):
        cache = build_state_cache([*cuts, slow], Encoder(), where, "f")
    assert sorted(cache.missing([*cuts, slow])) == ["u2", "u2_sp1.1"]  # another rate is resampled, as without a cache
    assert "2 of 11 cuts left out" in caplog.text and "u2.wav: cannot be read" in caplog.text
    with pytest.raises(ValueError, match="none of 1 cuts could be encoded: u2"):
        build_state_cache([next(cut for cut in cuts if cut.id == "u2")], Encoder(), tmp_path / "other", "f")


def test_what_the_encoder_refuses_is_found_in_its_batch(cuts, where, caplog):
    class Picky(Encoder):
        def __call__(self, audio, lengths):
            if (lengths > 6000).any():
                raise ValueError("too long")
            return super().__call__(audio, lengths)

    cache = build_state_cache(cuts, Picky(), where, "f", batch_duration=100)
    assert cache.missing(cuts) == ["u4"] and "1 of 10 cuts left out: u4: too long" in caplog.text


def test_two_builders_at_once_do_the_work_once(cuts, where):
    encoder = Encoder()
    threads = [Thread(target=build_state_cache, args=(cuts, encoder, where, "f")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoder.utterances == 10 and StateCache.open(where, "f").covers(cuts)


def test_errors_name_what_and_what_next(cuts, where, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no state cache; build it first"):
        StateCache.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="'half' is none of float16, bfloat16, float32"):
        build_state_cache(cuts, Encoder(), where, "f", dtype="half")
    with pytest.raises(ValueError, match="2 cut ids occur twice, for example u0"):
        build_state_cache([*cuts.subset(first=2), *cuts.subset(first=2)], Encoder(), where, "f")
    with pytest.raises(ValueError, match="2 fingerprints for 3 states"):
        build_state_cache(cuts, Encoder(), where, ["a", "b"])
    with pytest.raises(ValueError, match="too large for float16; store the cache in bfloat16"):
        build_state_cache(cuts, Encoder(gain=1e6), where, "f")
    with pytest.raises(ValueError, match="not finite for u"):
        build_state_cache(cuts, Encoder(gain=float("nan")), where, "f")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(state_cache.shutil, "disk_usage", lambda _: usage(1, 1, 100))
    with pytest.raises(ValueError, match="needs about .* GB and .* free; `voxkit cache .*` shows what can go; or put it on another disk"):
        build_state_cache(cuts, Encoder(), where, "f")
    monkeypatch.undo()
    cache = build_state_cache(cuts, Encoder(), where, "f")
    with pytest.raises(KeyError, match="no cached states of cut u9"):
        cache.get("u9")


def test_each_process_counts_what_the_others_store(cuts, where, monkeypatch):
    asked = []
    monkeypatch.setattr(state_cache, "_check_disk", lambda directory, num_bytes, seconds: asked.append((num_bytes, seconds)))
    cache = build_state_cache(cuts, Encoder(), where, "f", batch_duration=1e3, world_size=2)
    (num_bytes, seconds), share = asked[0], list(cuts)[::2]
    assert len(cache) == len(share) and seconds == pytest.approx(2 * sum(cut.duration for cut in share))
    assert num_bytes == pytest.approx(2 * cache.num_bytes)


def test_estimate_is_logged_before_the_work(cuts, where, caplog):
    with caplog.at_level(logging.INFO):
        build_state_cache(cuts, Encoder(), where, "f")
    assert "10 cuts (0.00 h) to encode, 0 there" in caplog.text and "GB free" in caplog.text


@pytest.mark.real
def test_whisper_base_cached_and_continued(real_models, real_corpus, where):
    from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder

    files = sorted((real_corpus / "LibriSpeech" / "dev-clean-2").rglob("*.flac"))[:200:50]
    real = [Recording.from_file(path).to_cut() for path in files]
    name = str(real_models / "whisper-base")
    frozen = PretrainedEncoder(PretrainedConfig(name=name))
    build_state_cache(real, frozen.encode, where, frozen.fingerprints())
    opened = PretrainedEncoder(PretrainedConfig(name=name, unfreeze=[5, 6])).eval()
    cache = StateCache.open(where, opened.fingerprints())
    stored = Padded.of([cache.get(cut.id).transpose(0, 1) for cut in real])
    cached, lengths = stored.values.transpose(1, 2), stored.lengths
    with torch.no_grad():
        states, _ = opened.forward_from_states(cached, lengths)
        for row, cut in enumerate(real):
            audio = torch.from_numpy(cut.load_audio())
            expected, _ = opened(audio, torch.tensor([audio.shape[1]]))
            error = (states[row, :, : lengths[row]] - expected[0]).flatten(1).norm(dim=1) / expected[0].flatten(1).norm(dim=1)
            assert error.max() < 5e-3


def test_a_shard_cut_short_before_the_run_is_named_and_encoded_anew(cuts, where, caplog):
    build_state_cache(cuts, Encoder(), where, "f")
    data = next(where.glob("*.bin"))
    whole = {cut.id: StateCache(where, "f").get(cut.id).clone() for cut in cuts}
    data.write_bytes(data.read_bytes()[:data.stat().st_size // 2])
    again = Encoder()
    cache = build_state_cache(cuts, again, where, "f")
    assert f"{data} is cut short" in caplog.text and 0 < again.utterances < 10
    for cut in cuts:
        torch.testing.assert_close(cache.get(cut.id), whole[cut.id])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage, said", [("short", "cut short"), ("zeros", "overwritten, by zeros"),
                                          ("second half", "overwritten, by zeros"), ("gone", "removed")])
def test_damage_in_mid_run_is_named_and_the_states_are_encoded_anew(cuts, where, caplog, damage, said, workers):
    plain = [cut for cut in cuts if "_sp" not in cut.id]
    cache = build_state_cache(plain, Encoder(), where, "f", dtype="float32")
    config = DataConfig(num_workers=workers, max_duration=1.0, num_buckets=1)
    loader = build_train_loader(plain, None, config, seed=1, states=cache)
    before = {id: row[:n].clone() for b in loader for id, row, n in zip(b.ids, b.states.values, b.states.lengths)}
    data = next(where.glob("*.bin"))
    if damage == "gone":
        loader.dataset.states._maps.clear()  # as in a worker that has not read from it yet
        data.unlink()
    else:
        size = data.stat().st_size
        if damage == "short":
            os.truncate(data, size // 2)
        else:
            with open(data, "r+b") as file:
                start = 0 if damage == "zeros" else size // 2
                file.seek(start)
                file.write(bytes(size - start))
    loader.set_epoch(1)
    after = {id: row[:n].clone() for b in loader for id, row, n in zip(b.ids, b.states.values, b.states.lengths)}
    assert data.name in caplog.text and said in caplog.text and "encoded anew" in caplog.text
    assert not loader.failures and before.keys() == after.keys()
    for id in before:
        torch.testing.assert_close(after[id], before[id])
