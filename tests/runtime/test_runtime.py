"""The parts of the runtime against the torch ones, and that it needs no torch."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from voxkit.runtime.audio import read_audio, resample
from voxkit.runtime.greedy import ctc_greedy
from voxkit.runtime.onnx import OnnxRecognizer, read_meta
from voxkit.search.greedy import ctc_greedy as torch_greedy


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_is_torchaudios(rate):
    audio = np.random.default_rng(0).standard_normal(rate // 3 + 5).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(audio), rate, 16000).numpy()
    np.testing.assert_allclose(resample(audio, rate, 16000), expected, atol=1e-4)  # torchaudio computes its kernel in single precision


def test_reading(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full((800, 2), 0.25, np.float32), 8000, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav")
    assert audio.shape == (1600,) and audio.dtype == np.float32
    (tmp_path / "b.wav").write_text("not audio")
    for path, what in ((tmp_path / "none.wav", "no such audio file"), (tmp_path / "b.wav", "cannot be read")):
        with pytest.raises(ValueError, match=what):
            read_audio(path)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_the_torch_one(seed):
    scores = torch.randn(40, 5, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    (expected,) = torch_greedy(scores[None], torch.tensor([40]))
    found = ctc_greedy(scores.numpy())
    assert found.tokens == expected.tokens and found.starts == list(expected.frames)
    assert all(start < end for start, end in zip(found.starts, found.ends))
    assert all(end <= start for end, start in zip(found.ends, found.starts[1:]))
    np.testing.assert_allclose(found.token_log_probs, expected.token_log_probs, rtol=1e-5)
    assert found.score == pytest.approx(expected.score, rel=1e-5)


def test_greedy_of_nothing():
    assert ctc_greedy(np.zeros((0, 5), np.float32)).tokens == []
    assert ctc_greedy(np.log(np.array([[0.9, 0.1]] * 3, np.float32))).tokens == []


def test_no_export_there(tmp_path):
    with pytest.raises(ValueError, match="voxkit export"):
        OnnxRecognizer(tmp_path)
    (tmp_path / "meta.json").write_text('{"step": 3}')
    with pytest.raises(ValueError, match="not of an export"):
        read_meta(tmp_path)


def test_without_torch():
    code = "import sys; import voxkit.runtime.onnx; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
