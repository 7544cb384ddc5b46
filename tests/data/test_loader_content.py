"""What a batch holds: audio, fbank or cached states, padding; what cannot be read or learned from is named and left out."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from tests.data.utterances import NUM, Cache, Letters, everything
from voxkit.audio.fbank import PADDING, Fbank
from voxkit.data.config import DataConfig
from voxkit.data.loader import TooManyFailures, build_eval_loader, build_train_loader
from voxkit.data.sampler import needed_frames
from voxkit.text.sentencepiece import train_bpe


def test_padding_and_tokens(sounds):
    root, cuts = sounds
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    for batch in build_eval_loader(cuts, Letters(), DataConfig(max_duration=8.0, num_workers=0)):
        for i, id in enumerate(batch.ids):
            n, u = int(batch.audio.lengths[i]), int(batch.tokens.lengths[i])
            assert batch.audio.values[i, :n].equal(torch.from_numpy(soundfile.read(root / f"{id}.wav", dtype="float32")[0]))
            assert not batch.audio.values[i, n:].any() and not batch.tokens.values[i, u:].any()
            assert batch.tokens.values[i, :u].tolist() == Letters().encode(texts[id]) and batch.texts[i] == texts[id]
        assert abs(batch.seconds - float(batch.audio.lengths.sum()) / 16000) < 1e-6
        assert batch.audio.values.dtype == torch.float32 and batch.tokens.values.dtype == torch.long


def test_fbank_in_the_loader_is_that_of_each_utterance(sounds):
    root, cuts = sounds
    fbank = Fbank()
    for batch in build_eval_loader(cuts, None, DataConfig(max_duration=20.0, num_workers=0, input="fbank")):
        assert batch.audio is None and batch.tokens is None
        for id, row, n in zip(batch.ids, batch.features.values, batch.features.lengths):
            alone = fbank(torch.from_numpy(soundfile.read(root / f"{id}.wav", dtype="float32")[0])[None])[0][0]
            assert torch.allclose(row[:n], alone, atol=1e-5) and (row[n:] == PADDING).all()


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


def test_what_cannot_be_learned_from_is_left_out_and_named(sounds, caplog):
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


def test_bpe_dropout_is_drawn_anew_in_every_epoch_of_training(sounds, tmp_path):
    _, cuts = sounds
    tokenizer = train_bpe([cut.supervisions[0].text for cut in cuts], 12, tmp_path)

    def spellings(loader, epoch: int) -> dict[str, list[int]]:
        loader.set_epoch(epoch)
        return {id: tokens[:n].tolist() for batch in loader for id, tokens, n in zip(batch.ids, batch.tokens.values, batch.tokens.lengths)}

    config = DataConfig(max_duration=8.0, num_buckets=4, num_workers=0, bpe_dropout=0.3, frames_per_second=25.0)
    usual = {cut.id: tokenizer.encode(cut.supervisions[0].text) for cut in cuts}
    first, again, second = (spellings(build_train_loader(cuts, tokenizer, config, seed=7), epoch) for epoch in (0, 0, 1))
    assert first == again != second and first != usual
    assert all(tokenizer.decode(tokens) == tokenizer.decode(usual[id]) for id, tokens in first.items())
    assert spellings(build_eval_loader(cuts, tokenizer, config), 0) == usual
    # where the letters would not fit into the frames of CTC, the usual pieces stay
    narrow = spellings(build_train_loader(cuts, tokenizer, replace(config, bpe_dropout=1.0, frames_per_second=5.0), seed=7), 0)
    spelled = {id: tokenizer.sample(tokenizer.decode(tokens), 1.0, random.Random(0)) for id, tokens in usual.items()}
    seconds = {cut.id: cut.duration for cut in cuts}
    fits = {id for id in narrow if needed_frames(spelled[id]) <= int(seconds[id] * 5) - 1}
    assert 0 < len(fits) < len(narrow)
    assert all(tokens == (spelled if id in fits else usual)[id] for id, tokens in narrow.items())


def test_cached_states(sounds, caplog):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root), seed=7, states=Cache())
    assert "no effect" in caplog.text
    count, speeds = 0, set()
    for batch in loader:
        assert batch.audio is None and batch.states.values.shape[1:] == (int(batch.states.lengths.max()), 2, 3)
        for id, row, n in zip(batch.ids, batch.states.values, batch.states.lengths):
            assert n == 5 + int(id[1:3]) and row[:n].unique().numel() == 1 and not row[n:].any()
            speeds.add(float(row[0, 0, 0]))
        count += batch.size
    assert speeds == {900.0, 1000.0, 1100.0}
    assert count == NUM - 1 and [id[:3] for id in loader.failures] == ["u03"]


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
            assert batch.audio.values.isfinite().all() and batch.audio.values.abs().max() <= 1.0 + 1e-6 and batch.audio.values.std() > 1e-3
        assert not loader.failures
