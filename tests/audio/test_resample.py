"""Any rate to any other, with torchaudio's numbers, in bounded memory."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
import torchaudio.functional

from voxkit.audio import io
from voxkit.audio.resample import resample


@pytest.mark.parametrize("rate, to", [(44100, 16000), (48000, 16000), (22050, 16000), (8000, 16000), (16000, 8000), (14400, 16000),
                                      (16000, 17600), (44100, 48000)])
@pytest.mark.parametrize("size", [1, 2, 777, 30_001])
def test_the_numbers_are_torchaudio_s(rate, to, size):
    audio = np.random.default_rng(size).normal(scale=0.1, size=(2, size)).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(audio), rate, to).numpy()
    found = resample(audio, rate, to)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert io.resample(torch.from_numpy(audio), rate, to).numpy().tobytes() == found.tobytes()


@pytest.mark.parametrize("rate, to", [(44101, 16000), (11027, 16000), (16000, 44101), (47999, 16000), (1_000_003, 16000)])
def test_rates_that_share_no_divisor_take_no_table(rate, to):
    seconds = 2 if rate < 100_000 else 0.2
    time = np.arange(int(rate * seconds)) / rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = resample(tone, rate, to)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; torchaudio's kernel alone has 6 GB
    assert len(found) == -(-len(tone) * to // rate)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / to)
    assert np.abs(found - expected)[200:-200].max() < 2e-3


@pytest.mark.parametrize("rate, to", [(0, 16000), (16000, 0), (-1, 16000)])
def test_rates_are_above_0(rate, to):
    with pytest.raises(ValueError, match="rates are above 0"):
        resample(np.zeros(10, np.float32), rate, to)
