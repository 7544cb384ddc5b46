"""What nobody should send: each has a defined result, a sentence or a text, offline and in streams, and memory stays bounded."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from tests.export.tiny import loaded, waves
from tests.runtime.test_audio import _Loud
from voxkit.audio.io import write_audio
from voxkit.cli.main import main
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import GateOptions
from voxkit.runtime.endpoint import Endpointing
from voxkit.runtime.recognizer import OnnxRecognizer
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.runtime.vad import Vad

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Artifacts of a causal model: whole utterances, and a stream."""
    folder = tmp_path_factory.mktemp("bad")
    checkpoint, gate = loaded(folder, "fbank", True), GateOptions(tolerance=2e-2)
    whole, _ = export_checkpoint(checkpoint, folder / "whole", options=ExportOptions(decoder=False, gate=gate))
    live, _ = export_checkpoint(checkpoint, folder / "live", options=ExportOptions(streaming=True, chunk_ms=320, left_ms=1280, gate=gate))
    return whole, live


def bad_files(folder):
    """Files that cannot be used, with what is said of them."""
    (wave,) = waves(1.5)
    good = write_audio(folder / "good.wav", wave, subtype="FLOAT").read_bytes()
    flac = folder / "good.flac"
    soundfile.write(flac, wave, 16000)
    loud, nan, odd = wave.copy(), wave.copy(), bytearray(good)
    loud[100], nan[100] = 3e38, np.nan
    odd[24:28] = (3).to_bytes(4, "little")  # samples per second, in the header
    contents = {"cut.wav": (good[:len(good) // 2], "cut off|truncated"), "cut.flac": (flac.read_bytes()[:9000], "cut off|truncated"),
                "empty.wav": (b"", "no audio|empty"), "words.wav": (b"move to the base", "cannot be read as audio"),
                "odd.wav": (bytes(odd), "samples/s")}
    out = [(folder / name, said) for name, (_, said) in contents.items()]
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    soundfile.write(folder / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", loud, 16000, subtype="FLOAT")
    soundfile.write(folder / "nothing.wav", wave[:0], 16000, subtype="FLOAT")
    return [*out, (folder / "nan.wav", "NaN"), (folder / "loud.wav", "sample of 3e\\+38|NaN or infin"),
            (folder / "nothing.wav", "no samples"), (folder / "missing.wav", "no such file|not there|missing")]


def test_files_are_refused_by_name(made, tmp_path, capsys):
    """By the recognizer, and by the command, which goes on with the files that are good."""
    recognizer, bad = OnnxRecognizer(made[0], threads=1), bad_files(tmp_path)
    for path, said in bad:
        with pytest.raises(ValueError, match=said) as caught:
            recognizer.transcribe(path)
        assert path.name in str(caught.value)
    for artifact in made:
        assert main(["transcribe", str(artifact), *(str(path) for path, _ in bad), str(tmp_path / "good.wav")]) == 1
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1 and printed.out.startswith(str(tmp_path / "good.wav"))
        assert all(path.name in printed.err for path, _ in bad) and f"{len(bad)} of {len(bad) + 1} files" in printed.err


@pytest.mark.parametrize("samples", [np.zeros(16000), np.full(16000, 1.0), np.sign(np.sin(np.arange(16000))), np.full(16000, 1e-30),
                                     np.eye(1, 16000, 8000)[0] * 63])
def test_strange_sound_has_a_text(made, samples):
    """Silence, a constant, a square wave at full scale, next to nothing, one click: finite scores, and offline and stream agree."""
    audio = samples.astype(np.float32)
    whole, live = OnnxRecognizer(made[0], threads=1), StreamingRecognizer(made[1])
    encoded = whole.artifact.encode([audio])[0]
    assert np.isfinite(encoded.log_probs).all()
    session = live.session(endpointing=None)
    found = (session.accept(audio) + session.finalize())[-1].hypothesis
    assert np.isfinite(live.log_probs(audio)).all() and np.isfinite(found.score) and isinstance(found.text, str)
    np.testing.assert_allclose(live.log_probs(audio), encoded.log_probs, atol=3e-2, rtol=1e-3)


def peak(work):
    """Megabytes of arrays at the most while `work` runs, beyond those that were there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def speech(seconds):
    """Two seconds of sound, one of silence, again and again."""
    turn = np.concatenate([3 * waves(2.0)[0], np.zeros(16000, np.float32)])
    return np.tile(turn, seconds // 3)


def test_long_recordings_take_no_more_memory(made, monkeypatch):
    """Five minutes of speech are cut and go through in batches: as much memory as one minute, the recording itself apart."""
    monkeypatch.setattr("voxkit.runtime.recognizer.Vad", _Blocks)
    recognizer = OnnxRecognizer(made[0], threads=1)
    short, long = speech(60), speech(300)
    recognizer.artifact.meta["longest_input"] = 2000  # features: 20 s at once
    recognizer.transcribe(short)
    one, five = peak(lambda: recognizer.transcribe(short)), peak(lambda: recognizer.transcribe(long))
    assert five < 2 * one + 10


def test_a_stream_for_minutes_takes_no_more_memory(made, monkeypatch):
    recognizer = StreamingRecognizer(made[1])
    monkeypatch.setattr(recognizer, "_vad", _Loud())

    def hear(seconds):
        session = recognizer.session(endpointing=Endpointing(silence=0.3))
        finals = sum(event.final for event in session.accept(speech(seconds)))
        assert finals >= seconds // 3 - 1

    hear(6)
    one, four = peak(lambda: hear(30)), peak(lambda: hear(120))
    assert four < one + 1.5 * speech(90).nbytes / 1e6 + 2


class _Blocks(_Loud):
    """What is loud is speech, for whole recordings."""

    probabilities = Vad.probabilities
