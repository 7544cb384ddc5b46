"""The one reader of cuts: channel, place, speed, mixing, odd rates; and what it will not read. Logs say things once."""

from __future__ import annotations

import logging
import resource
import struct

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from tests.data.utterances import Letters
from voxkit.audio.decode import AudioError
from voxkit.data.config import DataConfig
from voxkit.data.loader import build_train_loader
from voxkit.data.reader import file_recording, load_recording, load_samples


def tone(pitch: float, seconds: float = 2.0, rate: int = 16000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pitch_of(samples: np.ndarray, rate: int = 16000) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.fixture
def stereo(tmp_path):
    """200 Hz to the left, 500 Hz to the right."""
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone(200), tone(500)], 1), 16000, subtype="FLOAT")
    return file_recording(tmp_path / "stereo.wav", "stereo")


def mono(recording, channel=0, start=0.0, duration=None):
    from lhotse import MonoCut

    return MonoCut("u", start, recording.duration - start if duration is None else duration, channel, recording=recording)


@pytest.mark.parametrize("channel, pitch", [(0, 200), (1, 500)])
def test_the_channel_of_the_cut_and_no_other(stereo, channel, pitch):
    for cut in (mono(stereo, channel), mono(stereo, channel, 0.5, 1.0), mono(stereo, channel).perturb_speed(1.0)):
        samples = load_samples(cut)
        assert abs(pitch_of(samples) - pitch) < 2 and len(samples) == cut.num_samples


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.9123, 1.0437])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_the_speed_of_the_cut(stereo, factor, start):
    cut = mono(stereo, 1, start, 1.0).perturb_speed(factor)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    samples = load_samples(cut)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    assert len(samples) == cut.num_samples and abs(pitch_of(samples) - 500 * factor) < 2


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 44101, 47999])
def test_any_rate_in_bounded_memory(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(440, 1.5, rate), rate, subtype="FLOAT")
    cut = file_recording(tmp_path / "a.wav", "a").to_cut()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for one in (cut, cut.resample(16000), cut.truncate(offset=0.25, duration=1.0)):
        samples = load_samples(one)
        assert abs(len(samples) - one.duration * 16000) <= 1 and abs(pitch_of(samples) - 440) < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    if rate == 22050:
        expected = torchaudio.functional.resample(torch.from_numpy(tone(440, 1.5, rate)), rate, 16000).numpy()
        np.testing.assert_allclose(load_samples(cut), expected[:len(load_samples(cut))], atol=2e-5)


def test_mixed_and_padded_cuts(stereo):
    mixed = mono(stereo, 0).mix(mono(stereo, 1), snr=0).pad(duration=3.0)
    samples = load_samples(mixed)
    assert len(samples) == 48000 and not samples[32100:].any()
    spectrum = np.abs(np.fft.rfft(samples[:32000]))
    assert spectrum[400] > 100 * spectrum[700] and spectrum[1000] > 100 * spectrum[700]


def test_channels_of_a_multi_cut_that_cancel_each_other(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(300), -tone(300)], 1), 16000)
    recording = file_recording(tmp_path / "a.wav", "a")
    with pytest.raises(AudioError, match="out of phase"):
        load_samples(recording.to_cut())
    assert len(load_samples(mono(recording, 1))) == 32000


def test_mp3_without_a_length(tmp_path):
    from tests.audio.test_decode import encoded
    from voxkit.audio.mpeg import walk

    data = encoded("MP3", bitrate_mode="VARIABLE")
    (tmp_path / "a.mp3").write_bytes(data[walk(data).start:])
    recording = file_recording(tmp_path / "a.mp3", "a")
    assert recording.duration >= 6.0 and load_recording(recording).shape == (1, recording.num_samples)
    assert len(load_samples(recording.to_cut())) == recording.num_samples
    assert len(load_samples(recording.to_cut().truncate(offset=5.0, duration=0.5))) == 8000


@pytest.mark.parametrize("kind", ["command", "url"])
def test_cuts_made_in_python_run_nothing_either(stereo, tmp_path, kind):
    from dataclasses import replace

    source = replace(stereo.sources[0], type=kind, source=f"touch {tmp_path / 'victim'}")
    for cut in (mono(replace(stereo, sources=[source])), mono(replace(stereo, sources=[source])).perturb_speed(1.1)):
        with pytest.raises(ValueError, match="voxkit"):
            load_samples(cut)
    assert not (tmp_path / "victim").exists()


def test_unreadable_audio_is_said_once_and_later_lines_too(stereo, tmp_path, capfd):
    """lhotse writes to the root logger, which makes itself a handler then, and every later line would stand there twice."""
    root = logging.getLogger()
    kept, root.handlers[:] = root.handlers[:], []
    log = logging.getLogger("voxkit")
    handler = logging.StreamHandler()
    log.addHandler(handler)
    try:
        (tmp_path / "bad.wav").write_bytes(b"RIFF" + struct.pack("<I", 100) + b"WAVEgarbage")
        from dataclasses import replace

        cuts = []
        for n, path in enumerate(("bad.wav", "stereo.wav", "gone.wav")):
            sources = [replace(stereo.sources[0], source=str(tmp_path / path))]
            cuts.append(mono(replace(stereo, sources=sources)).with_id(f"u{n}"))
        config = DataConfig(num_workers=0, max_duration=10.0, num_buckets=1)
        ids = [id for batch in build_train_loader(cuts, None, config, seed=1) for id in batch.ids]
        log.warning("a later line")
        assert ids == ["u1"] and not root.handlers
        lines = capfd.readouterr().err.splitlines()
        for said in ("u0 left out", "u2 left out", "a later line", "2 utterances could not be read"):
            assert sum(said in line for line in lines) == 1, lines
    finally:
        log.removeHandler(handler)
        root.handlers[:] = kept


def test_an_epoch_in_which_nothing_can_be_read_says_so(stereo, tmp_path):
    from dataclasses import replace

    gone = [mono(replace(stereo, sources=[replace(stereo.sources[0], source=str(tmp_path / f"gone{n}.wav"))])).with_id(f"u{n}")
            for n in range(3)]
    for workers in (0, 2):
        loader = build_train_loader(gone, None, DataConfig(num_workers=workers, num_buckets=1), seed=1)
        with pytest.raises(ValueError, match=r"none of the 3 utterances of epoch 0 could be read: .*gone0\.wav: no such audio file"):
            list(loader)
    dropped = DataConfig(num_workers=0, num_buckets=1, drop_last=True)
    with pytest.raises(ValueError, match="data.drop_last"):
        list(build_train_loader([mono(stereo)], None, dropped, seed=1))


@pytest.mark.parametrize("bins", [0, 23, 40])
def test_fbank_has_the_bins_that_were_asked_for(stereo, bins):
    config = DataConfig(input="fbank", fbank_bins=bins, num_workers=0, num_buckets=1)
    (batch,) = build_train_loader([mono(stereo)], None, config, seed=1)
    assert batch.features.values.shape[2] == (bins or 80)


@pytest.mark.parametrize("given, kept", [(None, 2), (0.0, 2), (1000.0, 2), (3.0, 1)])
def test_frames_per_second_as_set(stereo, given, kept):
    from lhotse import SupervisionSegment

    def said(id, text):
        cut = mono(stereo).with_id(id)
        cut.supervisions = [SupervisionSegment(id, "stereo", 0.0, 2.0, text=text)]
        return cut

    config = DataConfig(num_workers=0, num_buckets=1, frames_per_second=given)
    loader = build_train_loader([said("a", "AB"), said("b", "ABCABCABC")], Letters(), config, seed=1)
    assert sum(b.size for b in loader) == kept


def test_the_loader_s_fbank_is_the_front_end_s():
    from voxkit.config import ConfigError, OmegaConf
    from voxkit.run_config import make_setup

    def recipe(bins, **data):
        front_end = {"kind": "fbank", "fbank_bins": bins}
        return make_setup(OmegaConf.create({"system": "voxformer", "model": {"front_end": front_end}, "data": data})).config.data

    assert recipe(40, input="fbank").fbank_bins == 40 and recipe(23, input="fbank", fbank_bins=23).fbank_bins == 23
    with pytest.raises(ConfigError, match="data.fbank_bins is 80 and model.front_end.fbank_bins 40"):
        recipe(40, input="fbank", fbank_bins=80)
