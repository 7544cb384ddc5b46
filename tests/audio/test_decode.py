"""All of a file's audio, or an error that names the file and why not."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from voxkit.audio.decode import AudioError, audio_info, check_rate, decode, mix_down, read_mono
from voxkit.audio.mpeg import walk

FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"),
           ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]


def speech(seconds: float = 6.0, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """Bursts and pauses, so that variable bit rates vary: [S, C]."""
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 + 50 * np.sin(time)) * time) * (0.05 + 0.4 * (np.sin(3 * time) > 0))
    noise = 0.05 * np.random.default_rng(0).normal(size=len(time)) * (time % 2 > 1)
    return np.stack([tone + noise] * channels, 1)


def encoded(kind: str, subtype: str | None = None, rate: int = 16000, channels: int = 1, seconds: float = 6.0, **how) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, speech(seconds, rate, channels), rate, format=kind, subtype=subtype, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("kind, subtype", FORMATS)
def test_whole_files_are_whole(kind, subtype, tmp_path):
    data = encoded(kind, subtype)
    (tmp_path / "a").write_bytes(data)
    for source in (data, tmp_path / "a", io.BytesIO(data)):
        samples, rate = decode(source)
        assert samples.shape == (1, 96000) and rate == 16000
    assert audio_info(tmp_path / "a").seconds == 6.0


@pytest.mark.parametrize("kind, subtype", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_what_was_cut_off_is_named(kind, subtype, share, tmp_path):
    data = encoded(kind, subtype)
    path = tmp_path / "cut.off"
    path.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(AudioError, match=r"cut\.off: truncated") as error:
        decode(path)
    assert error.value.reason == "truncated audio"
    with pytest.raises(AudioError):
        audio_info(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 44])
def test_a_wav_from_a_pipe_knows_no_length_and_is_whole(size):
    data = encoded("WAV")
    place = data.index(b"data")
    assert decode(data[:place + 4] + struct.pack("<I", size) + data[place + 8:])[0].shape == (1, 96000)


def test_a_wav_whose_header_names_too_little_is_refused():
    data = encoded("WAV")
    place = data.index(b"data")
    with pytest.raises(AudioError, match="promises 0.13 s, 6.00 s are there"):
        decode(data[:place + 4] + struct.pack("<I", 4096) + data[place + 8:])
    note = b"LIST" + struct.pack("<I", 10) + b"INFOabcdef"
    assert decode(data + note)[0].shape == (1, 96000)  # what follows is a chunk of its own


def test_two_ogg_streams_one_after_another_are_refused():
    with pytest.raises(AudioError, match="2 Ogg streams"):
        decode(encoded("OGG", "OPUS") + encoded("OGG", "OPUS"))


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 2), (22050, 1), (8000, 1), (48000, 2), (11025, 1)])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_mp3_without_a_length_is_decoded_to_its_end(rate, channels, mode, tmp_path):
    data = encoded("MP3", rate=rate, channels=channels, bitrate_mode=mode)
    stream = walk(data)
    assert stream.promised == stream.frames
    bare, whole = data[stream.start:], 6 * rate
    (tmp_path / "bare.mp3").write_bytes(bare)
    for source in (bare, tmp_path / "bare.mp3"):
        samples, own = decode(source)
        assert own == rate and samples.shape[0] == channels and whole <= samples.shape[1] <= whole + 4 * 1152
    assert decode(data)[0].shape == (channels, whole)
    tagged = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + bare + b"TAG" + bytes(125)
    assert decode(tagged)[0].shape == samples.shape
    part = decode(bare, start=4.0, duration=1.0)[0]
    np.testing.assert_allclose(part, samples[:, 4 * rate:5 * rate], atol=1e-4)


def test_two_mp3_files_put_together_are_both_heard():
    data = encoded("MP3")
    assert decode(data + data)[0].shape[1] >= 2 * 96000


@pytest.mark.parametrize("head, name", [(b"\0\0\0\x20ftypM4A \0\0\0\0", "m4a"), (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", "Windows Media"),
                                        (b"\x1aE\xdf\xa3", "WebM"), (b"\xff\xf1P\x80", "AAC"), (b"#!AMR\n", "AMR"),
                                        (b"<!doctype html>", "HTML"), (b"version https://git-lfs.github.com/spec/v1", "Git LFS")])
def test_formats_that_are_not_decoded_are_named_for_what_they_are(tmp_path, head, name):
    (tmp_path / "a.wav").write_bytes(head + bytes(100))
    with pytest.raises(AudioError, match=rf"a\.wav: is .*{name}") as error:
        decode(tmp_path / "a.wav")
    assert error.value.reason == "unsupported audio"


def test_channels_that_cancel_each_other_are_named(tmp_path):
    mono = speech(1.0)
    for gain in (-1.0, -0.95):
        soundfile.write(tmp_path / "a.wav", np.concatenate([mono, gain * mono], 1), 16000)
        with pytest.raises(AudioError, match="out of phase"):
            read_mono(tmp_path / "a.wav")
    other = np.random.default_rng(1).normal(scale=0.1, size=(8, 16000)).astype(np.float32)
    assert len(mix_down(other, "eight microphones")) == 16000
    assert len(mix_down(np.zeros((2, 100), np.float32), "silence")) == 100


@pytest.mark.parametrize("rate", [0, 999, 10**7, 16000.5, float("nan"), float("inf")])
def test_rates_that_nobody_records_at(rate):
    with pytest.raises(AudioError, match="samples/s"):
        check_rate(rate, "a request")


def test_a_header_with_an_odd_rate_is_resampled_in_bounded_time():
    data = bytearray(encoded("WAV", rate=44100, seconds=1.0))
    data[24:28] = struct.pack("<I", 44101)
    audio, seconds = read_mono(bytes(data))
    assert len(audio) == -(-44100 * 16000 // 44101) and abs(seconds - 1) < 1e-3


def test_no_torch_is_needed():
    code = "import sys; import voxkit.audio.decode; assert not {'torch', 'torchaudio', 'lhotse'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
