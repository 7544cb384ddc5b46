"""Reading and writing audio."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from voxkit.audio.io import AudioError, read_audio, resample, write_audio


def tone(seconds: float = 0.5, rate: int = 16000, pitch: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "deep/er/a.wav"])
def test_writes_and_reads(tmp_path, name):
    path = write_audio(tmp_path / name, torch.from_numpy(tone()))
    audio, seconds = read_audio(path)
    assert audio.dtype == torch.float32 and audio.ndim == 1
    assert abs(seconds - 0.5) < 0.1
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file left


def test_reads_bytes_and_file_objects(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone())
    whole = read_audio(path)[0]
    assert read_audio(path.read_bytes())[0].equal(whole)
    assert read_audio(io.BytesIO(path.read_bytes()))[0].equal(whole)
    assert read_audio(path, start=0.1, duration=0.2)[0].equal(whole[1600:4800])


def test_resamples_and_mixes_down(tmp_path):
    stereo = np.stack([tone(rate=44100), np.zeros(22050, np.float32)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100)
    audio, seconds = read_audio(tmp_path / "a.wav")
    assert seconds == 0.5 and len(audio) == 8000
    assert abs(float(audio[1000:7000].abs().max()) - 0.2) < 0.01
    assert resample(torch.zeros(3, 800), 8000, 16000).shape == (3, 1600)


def test_clips(tmp_path):
    assert read_audio(write_audio(tmp_path / "a.wav", tone() * 9))[0].abs().max() <= 1


@pytest.mark.parametrize("content, reason", [(b"", "holds no samples"), (b"no audio at all", "cannot be read"),
                                             (None, "no such audio file")])
def test_bad_files_are_named(tmp_path, content, reason):
    path = tmp_path / "broken.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"broken\.wav: {reason}"):
        read_audio(path)


def test_empty_and_non_finite_audio(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match="empty.wav: holds no samples"):
        read_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        read_audio(tmp_path / "nan.wav")
    with pytest.raises(AudioError, match="NaN"):
        write_audio(tmp_path / "out.wav", torch.tensor([float("nan")]))
    with pytest.raises(AudioError, match="formats"):
        write_audio(tmp_path / "out.xyz", torch.zeros(10))
    assert not (tmp_path / "out.wav").exists() and not list(tmp_path.glob(".out*"))


def test_a_text_file_as_file_object_is_refused():
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio(io.BytesIO(b"RIFF????WAVE"))
