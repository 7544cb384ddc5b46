"""Audio at any rate → normalized features, and statistics that go on from utterance to utterance."""

from __future__ import annotations

import pytest
import torch

from voxkit.audio.extractor import AudioFeatureExtractor, ExtractorConfig, Statistics


def noise(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(len(lengths), max(lengths), generator=draw), torch.tensor(lengths)


@pytest.mark.parametrize("kind", ["mel", "raw"])
@pytest.mark.parametrize("normalize", ["none", "utterance", "global", "speaker"])
def test_padding_never_matters(kind: str, normalize: str):
    extractor = AudioFeatureExtractor(ExtractorConfig(kind=kind, normalize=normalize))
    audio, lengths = noise(16000, 9000, 300)
    audio = torch.nn.functional.pad(audio, (0, 5000), value=3.0)
    audio[1, 9000:], audio[2, 300:] = 5.0, -5.0
    x, frames, _ = extractor(audio, lengths)
    assert frames.tolist() == [99, 55, 1] and x.shape[-1] == extractor.dim
    for row, length in enumerate(lengths.tolist()):
        alone, count, _ = extractor(audio[row:row + 1, :length], lengths[row:row + 1])
        torch.testing.assert_close(x[row, :count[0]], alone[0], atol=1e-4, rtol=1e-4)
        assert x[row, count[0]:].abs().sum() == 0


def test_a_tone_lies_in_its_bin_at_any_rate():
    extractor = AudioFeatureExtractor(ExtractorConfig(normalize="none"))
    best = []
    for rate in (8000, 16000, 44100):
        t = torch.arange(rate) / rate
        x, frames, _ = extractor(0.1 * torch.sin(2 * torch.pi * 1000 * t)[None], torch.tensor([rate]), rate)
        assert abs(int(frames) - 99) <= 1
        best.append(int(x[0, 50].argmax()))
    assert len(set(best)) == 1


def test_utterances_have_zero_mean_and_unit_variance():
    x, frames, _ = AudioFeatureExtractor(ExtractorConfig(normalize="utterance"))(*noise(16000))
    torch.testing.assert_close(x[0].mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(x[0].std(0, unbiased=False), torch.ones(80), atol=1e-3, rtol=0)


def test_a_speakers_statistics_go_on():
    """Two utterances in a row have the statistics of both, and with much heard the prior no longer counts."""
    extractor = AudioFeatureExtractor(ExtractorConfig(normalize="speaker", prior=0.1))
    audio, lengths = noise(32000)
    first, _, known = extractor(audio[:, :16000], torch.tensor([16000]))
    second, frames, known = extractor(audio[:, 16000:], torch.tensor([16000]), before=known)
    assert known.count.item() == 2 * frames.item()
    alone, _, _ = extractor(audio[:, 16000:], torch.tensor([16000]))
    assert (alone - second).abs().mean() > 1e-3
    long = Statistics(*(1e6 * x for x in known))
    settled, _, _ = extractor(audio[:, 16000:], torch.tensor([16000]), before=long)
    assert settled.mean().abs() < 0.1 and abs(settled.std() - 1) < 0.1


def test_global_statistics_are_those_of_the_data():
    extractor = AudioFeatureExtractor(ExtractorConfig(normalize="global"))
    batches = [noise(16000, 8000), noise(12000, seed=1)]
    extractor.fit(batches)
    seen = torch.cat([extractor(*batch)[0][row, :extractor(*batch)[1][row]] for batch in batches for row in range(len(batch[1]))])
    torch.testing.assert_close(seen.mean(0), torch.zeros(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.std(0, unbiased=False), torch.ones(80), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="no audio"):
        extractor.fit([])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="samples would be skipped"):
        AudioFeatureExtractor(ExtractorConfig(hop_ms=30))
    with pytest.raises(ValueError, match="normalize: 'batch' is none of"):
        AudioFeatureExtractor(ExtractorConfig(normalize="batch"))
    with pytest.raises(ValueError, match="a rate of 0 Hz"):
        AudioFeatureExtractor()(*noise(1000), rate=0)
