"""fbank in numpy is the torch one."""

import numpy as np
import pytest
import torch

from voxkit.audio.fbank import Fbank as TorchFbank
from voxkit.runtime.fbank import Fbank, FbankStream

SPEECH_LIKE = 0.1 * np.cumsum(np.random.default_rng(0).standard_normal(40000)).astype(np.float32)
SPEECH_LIKE = (SPEECH_LIKE - SPEECH_LIKE.mean()) / np.abs(SPEECH_LIKE).max()


@pytest.mark.parametrize(("bins", "low", "high"), [(80, 20.0, -400.0), (40, 0.0, 8000.0), (23, 100.0, 7000.0)])
def test_whole(bins, low, high):
    theirs, ours = TorchFbank(bins, low, high, backend="torch"), Fbank(bins, low, high)
    for size in (1, 79, 80, 399, 400, 401, 1601, 16000, 40000):
        expected, lengths = theirs(torch.from_numpy(SPEECH_LIKE[None, :size]))
        found = ours(SPEECH_LIKE[:size])
        assert found.dtype == np.float32 and len(found) == int(lengths)
        np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4)


def test_real_speech(real_corpus):
    import soundfile

    path = sorted((real_corpus / "LibriSpeech").rglob("*.flac"))[0]
    audio = soundfile.read(path, dtype="float32")[0]
    expected = TorchFbank(backend="torch")(torch.from_numpy(audio)[None])[0][0].numpy()
    away = np.abs(Fbank()(audio) - expected)
    # bins at the floor, a 10^10th of the loudest, hold what single precision leaves of them: there torch is 7e-4 from double precision
    assert away.mean() < 1e-5 and away[expected > -15].max() < 1e-4 and away.max() < 1e-3


@pytest.mark.parametrize("piece", [1, 37, 160, 333, 1600, 50000])
def test_in_pieces(piece):
    audio = SPEECH_LIKE[:9000 if piece > 1 else 1500]
    stream = FbankStream(Fbank())
    parts = [stream.accept(audio[i:i + piece]) for i in range(0, len(audio), piece)]
    assert len(stream.kept) < 2000 + piece  # what is over is let go
    parts.append(stream.accept(np.zeros(0, np.float32), final=True))
    np.testing.assert_allclose(np.concatenate(parts), Fbank()(audio), atol=1e-5)


def test_nothing():
    assert Fbank()(np.zeros(0, np.float32)).shape == (0, 80)
    assert FbankStream(Fbank()).accept(np.zeros(0, np.float32), final=True).shape == (0, 80)
