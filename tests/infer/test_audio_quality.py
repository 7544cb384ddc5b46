"""Measures of audio: the same audio is best, worse audio is worse, silence and other lengths have defined results."""

import math

import pytest
import torch

from voxkit.audio.io import read_audio
from voxkit.infer.audio_quality import fitted, load_measures


def tones(seconds: float = 2.0) -> torch.Tensor:
    """Something with syllables: harmonics of a falling pitch, loud and soft four times a second."""
    t = torch.arange(round(16_000 * seconds)) / 16_000
    phase = 2 * torch.pi * (140 * t - 10 * t.square())
    return 0.1 * sum(torch.sin(k * phase) / k for k in range(1, 20)) * torch.sin(torch.pi * 4 * t).clamp(min=0)


@pytest.mark.parametrize(("name", "package", "best"), [("pesq", "pesq", 4.64), ("stoi", "pystoi", 1.0), ("si_sdr", None, 60.0),
                                                       ("mel", None, 0.0)])
def test_worse_audio_is_worse(name, package, best):
    if package:
        pytest.importorskip(package)
    measure = load_measures([name])[name]
    audio, noise = tones(), torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    values = [measure(audio + level * noise, audio) for level in (0.0, 0.001, 0.01)]
    assert values == sorted(values, reverse=name != "mel")
    assert values[0] >= best - 0.01 if name != "mel" else values[0] == 0
    assert measure(audio[:30_000], audio) == pytest.approx(measure(torch.cat((audio[:30_000], torch.zeros(9_000))), audio))


def test_silence():
    zeros = torch.zeros(16_000)
    assert math.isnan(load_measures(["si_sdr"])["si_sdr"](zeros, zeros)) and load_measures(["mel"])["mel"](zeros, zeros) == 0
    pytest.importorskip("pesq")
    assert math.isnan(load_measures(["pesq"])["pesq"](zeros, zeros))


def test_names_and_lengths():
    with pytest.raises(ValueError, match="pesq, stoi"):
        load_measures(["mos"])
    found, reference = fitted(torch.ones(3), torch.ones(5))
    assert found.tolist() == [1, 1, 1, 0, 0] and len(reference) == 5


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(("name", "package"), [("speaker", "resemblyzer"), ("dnsmos", "speechmos"), ("distill_mos", "distillmos")])
def test_measures_with_a_network(name, package, real_corpus):
    """Of real speech: with noise it is worse, and that by more than a little."""
    pytest.importorskip(package)
    audio, _ = read_audio(sorted((real_corpus / "LibriSpeech" / "test-clean-2").rglob("*.flac"))[0], duration=4.0)
    noisy = audio + 0.05 * torch.randn(len(audio), generator=torch.Generator().manual_seed(0))
    measure = load_measures([name])[name]
    assert measure(audio, audio) > measure(noisy, audio) + 0.05
