"""Filterbanks: our batched one, torchaudio's and kaldifeat's agree; batching changes nothing."""

from __future__ import annotations

import pytest
import torch

from voxkit.audio.fbank import PADDING, Fbank


def speech_like(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(samples) / 16000
    tone = sum(0.2 / k * torch.sin(2 * torch.pi * 140 * k * t * (1 + 0.05 * torch.sin(3 * t))) for k in range(1, 12))
    return tone * (0.5 + 0.5 * torch.sin(5 * t)) + 0.01 * torch.randn(samples, generator=generator)


@pytest.mark.parametrize("samples", [400, 401, 1600, 16000, 33333])
@pytest.mark.parametrize("bins", [40, 80])
def test_agrees_with_torchaudio(samples, bins):
    audio = speech_like(samples)[None]
    ours, lengths = Fbank(bins, backend="torch")(audio)
    theirs, their_lengths = Fbank(bins, backend="torchaudio")(audio)
    assert ours.shape == theirs.shape == (1, (samples + 80) // 160, bins)
    assert lengths.equal(their_lengths)
    assert torch.allclose(ours, theirs, atol=2e-4), (ours - theirs).abs().max()


def test_agrees_with_torchaudio_on_silence_and_on_loud_noise():
    for audio in (torch.zeros(1, 8000), torch.rand(1, 8000) * 2 - 1, speech_like(8000)[None] + 0.1):
        assert torch.allclose(Fbank(backend="torch")(audio)[0], Fbank(backend="torchaudio")(audio)[0], atol=1e-3)


@pytest.mark.parametrize("other", ["torch", "torchaudio"])
def test_agrees_with_kaldifeat(other):
    pytest.importorskip("kaldifeat", reason="kaldifeat is not installed (tools/install_kaldifeat.sh)")
    audio = speech_like(32000)[None]
    assert torch.allclose(Fbank(backend="kaldifeat")(audio)[0], Fbank(backend=other)(audio)[0], atol=2e-4)


@pytest.mark.parametrize("backend", ["torch", "torchaudio"])
def test_a_batch_gives_what_its_items_give_alone(backend):
    fbank = Fbank(backend=backend)
    lengths = torch.tensor([16000, 7777, 400, 150, 60])
    audio = torch.randn(5, 16000)  # what lies past the lengths must not matter
    features, frames = fbank(audio, lengths)
    assert frames.tolist() == [100, 49, 3, 1, 0]
    for i, n in enumerate(lengths.tolist()):
        alone, _ = fbank(audio[i:i + 1, :n])
        assert torch.allclose(features[i, :frames[i]], alone[0], atol=1e-5)
        assert (features[i, frames[i]:] == PADDING).all()


def test_nothing_of_it_is_in_a_checkpoint_and_it_pickles():
    import pickle

    fbank = Fbank()
    assert not fbank.state_dict()
    assert not list(fbank.parameters())
    audio = speech_like(4000)[None]
    assert pickle.loads(pickle.dumps(fbank))(audio)[0].equal(fbank(audio)[0])


def test_exports_with_dynamic_time():
    fbank = Fbank(backend="torch").eval()
    samples = torch.export.Dim("samples", min=1600, max=160000)
    program = torch.export.export(fbank, (torch.randn(1, 8000), torch.tensor([8000])), dynamic_shapes=({1: samples}, None))
    audio = speech_like(12345)[None]
    got, lengths = program.module()(audio, torch.tensor([12345]))
    assert torch.allclose(got, fbank(audio)[0], atol=1e-5)
    assert lengths.tolist() == [77]


def test_refuses():
    with pytest.raises(ValueError, match="auto, torch, torchaudio, kaldifeat"):
        Fbank(backend="librosa")
    with pytest.raises(ValueError, match=r"audio\[None\]"):
        Fbank()(torch.randn(1000))
    with pytest.raises(ValueError, match="Hz"):
        Fbank(high_freq=9000)
