"""Noise at the asked ratio, rooms that neither delay nor change the level, volume; all from the utterance's own generator."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from voxkit.data.augment import Augment, add_noise, brief, open_sounds, reverberate, utterance_rng
from voxkit.data.config import DataConfig


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(a)) / np.mean(np.square(b))))


@pytest.fixture()
def audio():
    return np.random.default_rng(1).normal(scale=0.1, size=16000).astype(np.float32)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.0])
def test_noise_ratio(audio, snr):
    noise = np.random.default_rng(2).normal(scale=0.01, size=16000).astype(np.float32)
    mixed = add_noise(audio, noise, snr)
    assert mixed.dtype == np.float32 and abs(decibels(audio, mixed - audio) - snr) < 0.01


def test_silence_is_left_alone(audio):
    assert add_noise(audio, np.zeros_like(audio), 0.0) is audio
    assert not add_noise(np.zeros_like(audio), audio, 0.0).any()
    assert not reverberate(np.zeros_like(audio), audio[:100]).any()


def test_rooms_keep_time_and_level(audio):
    response = np.zeros(4000, np.float32)
    response[700] = 1.0
    assert np.allclose(reverberate(audio, response), audio, atol=1e-6)  # a pure delay is taken out
    response[700:] += 0.1 * np.random.default_rng(3).normal(size=3300) * np.exp(-np.arange(3300) / 800)
    wet = reverberate(audio, response)
    assert wet.shape == audio.shape and wet.dtype == np.float32 and abs(decibels(wet, audio)) < 0.01
    lag = np.correlate(wet, audio, "full").argmax() - (len(audio) - 1)
    assert lag == 0


def test_noises_of_any_length_rate_and_channels(tmp_path, audio):
    draw = np.random.default_rng(0)
    soundfile.write(tmp_path / "short.wav", draw.normal(scale=0.1, size=3000), 8000)
    soundfile.write(tmp_path / "long.flac", draw.normal(scale=0.1, size=16000 * 9), 16000)
    soundfile.write(tmp_path / "stereo.wav", draw.normal(scale=0.1, size=(44100, 2)), 44100)
    augment = Augment(DataConfig(noise=str(tmp_path), noise_prob=1.0, noise_snr=[10.0, 10.0]))
    heard = set()
    for i in range(20):
        mixed, failures = augment(audio, utterance_rng(1, 0, f"u{i}", "augment"))
        assert not failures and mixed.shape == audio.shape
        assert abs(decibels(audio, mixed - audio) - 10) < 0.1
        heard.add(mixed.tobytes())
    assert len(heard) == 20
    again, _ = Augment(augment.config)(audio, utterance_rng(1, 0, "u19", "augment"))
    assert again.tobytes() in heard


def test_manifests_serve_as_well_as_folders(tmp_path):
    from lhotse import CutSet, RecordingSet

    soundfile.write(tmp_path / "b.wav", np.zeros(1600), 16000)
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    (tmp_path / "notes.txt").write_text("not audio")
    folder = open_sounds(str(tmp_path), "data.noise")
    assert [s.id for s in folder] == sorted(s.id for s in folder) and len(folder) == 2
    assert all(s.sampling_rate == 16000 and abs(s.duration - 0.1) < 1e-6 for s in folder)
    recordings = RecordingSet.from_recordings(s.recording for s in folder)
    recordings.to_file(tmp_path / "recordings.jsonl.gz")
    CutSet.from_cuts(folder).to_file(tmp_path / "cuts.jsonl.gz")
    assert len(open_sounds(str(tmp_path / "recordings.jsonl.gz"), "data.noise")) == 2
    assert len(open_sounds(str(tmp_path / "cuts.jsonl.gz"), "data.noise")) == 2


def test_a_folder_names_the_files_it_cannot_read(tmp_path, caplog):
    soundfile.write(tmp_path / "good.wav", np.zeros(1600), 16000)
    (tmp_path / "bad.wav").write_bytes(b"no")
    assert len(open_sounds(str(tmp_path), "data.noise")) == 1
    assert "1 of 2" in caplog.text and "bad.wav" in caplog.text


def test_volume_and_no_clipping(audio):
    augment = Augment(DataConfig(volume=[0.25, 4.0]))
    gains = []
    for i in range(200):
        out, _ = augment(audio, utterance_rng(1, 0, f"u{i}", "augment"))
        assert np.abs(out).max() <= 1.0 + 1e-6
        gains.append(decibels(out, audio))
    assert -12.1 < min(gains) < -9 and max(gains) > 4 and abs(np.median(gains)) < 3


def test_generators_are_of_their_own():
    first = utterance_rng(1, 2, "u", "augment").random()
    assert first == utterance_rng(1, 2, "u", "augment").random()
    assert len({first, *(utterance_rng(*key).random() for key in ((2, 2, "u", "augment"), (1, 3, "u", "augment"), (1, 2, "v", "augment"),
                                                                  (1, 2, "u", "speed")))}) == 5


def test_errors_in_one_line():
    assert brief(ValueError("a\nb")) == "ValueError: a"
    assert brief(KeyError()) == "KeyError"
    assert len(brief(ValueError("x" * 1000))) < 260
