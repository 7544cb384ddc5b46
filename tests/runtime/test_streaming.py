"""Streaming without torch: the text and the scores of torch, sessions together as each alone, ends of utterances, bad input."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.audio.io import write_audio
from voxkit.batch import Batch, Padded
from voxkit.cli.main import main
from voxkit.export.package import ExportOptions, _to_ort, export_checkpoint
from voxkit.export.parity import CheckUtterance, GateOptions
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.streaming import StreamingRecognizer as TorchStreaming
from voxkit.runtime.endpoint import Endpointing
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.search.options import SearchOptions as TorchSearch

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """(checkpoint, streaming artifact)."""
    folder = tmp_path_factory.mktemp("streaming")
    checkpoint = loaded(folder, "fbank", True)
    checkpoint.model.encoder.set_chunk(32, 64)
    heard = [CheckUtterance(f"u{i}", wave, "move to the base") for i, wave in enumerate(waves(1.3, 0.4, 2.0))]
    options = ExportOptions(streaming=True, chunk_ms=320, left_ms=1280, gate=GateOptions(tolerance=2e-2))
    out, report = export_checkpoint(checkpoint, folder / "onnx", heard, options)
    assert report.problems == [] and report.verified == "text"
    encoder = checkpoint.model.encoder
    assert (encoder.chunk, encoder.left_context) == (32, 64)  # the chunk is baked into the artifact, and the shared model is as it was
    return checkpoint, out


@pytest.fixture(scope="module")
def recognizer(streamed):
    return StreamingRecognizer(streamed[1])


def by_torch(checkpoint, audio, method="greedy"):
    recognizer = Recognizer(checkpoint.model, checkpoint.vocabulary)
    stream = TorchStreaming(recognizer, TorchSearch(method, words=True), chunk_ms=320, left_ms=1280)
    stream.accept(torch.from_numpy(audio))
    return stream.finish()


def whole(recognizer, audio, piece=1600, **options):
    """All events of one utterance."""
    session, events = recognizer.session(endpointing=None, **options), []
    for i in range(0, len(audio), piece):
        events += session.accept(audio[i:i + piece])
    return events + session.finalize()


def test_the_artifact_says_what_it_is(streamed, recognizer):
    meta = recognizer.artifact.meta
    assert meta["streaming"]["chunk_ms"] == 320 and meta["streaming"]["left_ms"] == 1280 and meta["heads"] == ["ctc"]
    assert meta["streaming"]["state_bytes"] == recognizer.state_bytes > 0
    names = [i.name for i in recognizer.encoder.get_inputs()]
    assert names[:4] == ["features", "lengths", "front", "done"] and "stack0.layer0.keys" in names
    assert {f"next.{n}" for n in names[2:]} <= {o.name for o in recognizer.encoder.get_outputs()}
    assert "chunks of 320 ms" in (streamed[1] / "README.md").read_text()
    with pytest.raises(ValueError, match="takes audio as it comes"):
        recognizer.artifact.encode([np.zeros(100, np.float32)])


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.31, 0.33, 0.64, 0.77, 0.78, 0.79, 1.0, 2.345])
def test_scores_are_those_of_the_masked_offline_pass(streamed, recognizer, seconds):
    """Also where the last chunk is short: by a frame, by all but one."""
    model, (audio,) = streamed[0].model, waves(seconds)
    model.encoder.set_chunk(16, 64)
    try:
        with torch.inference_mode():
            if seconds < 0.09:
                expected = np.zeros((0, 60), np.float32)
            else:
                states, frames = model.encode(Batch([""], audio=Padded.of([torch.from_numpy(audio)])))[:2]
                expected = model.ctc_log_probs(states)[0, :int(frames)].numpy()
    finally:
        model.encoder.set_chunk(16, 64)
    np.testing.assert_allclose(recognizer.log_probs(audio), expected, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("method", ["greedy", "prefix_beam"])
@pytest.mark.parametrize("piece", [160, 1111, 100000])
def test_text_and_words_are_torchs(streamed, method, piece):
    (audio,) = waves(2.6)
    expected = by_torch(streamed[0], audio, method)
    events = whole(StreamingRecognizer(streamed[1], SearchOptions(method, words=True)), audio, piece)
    final = events[-1]
    assert final.final and final.hypothesis.text == expected.text != "" and final.hypothesis.tokens == expected.tokens
    assert [w.word for w in final.hypothesis.words] == [w.word for w in expected.words]
    for one, other in zip(final.hypothesis.words, expected.words):
        assert (one.start, one.end, one.confidence) == pytest.approx((other.start, other.end, other.confidence), abs=1e-2)
    partial = [e.hypothesis.text for e in events[:-1]]
    assert not any(e.final for e in events[:-1]) and all(a != b for a, b in zip(partial, partial[1:])) and "" not in partial
    assert partial or piece > len(audio)


def test_sessions_together_are_each_alone(recognizer):
    """Sessions of several lengths, that begin and end at several times, through one encoder."""
    audios = waves(1.0, 2.3, 0.5, 3.1)
    alone = [whole(recognizer, audio)[-1].hypothesis for audio in audios]
    sessions = [recognizer.session(endpointing=None) for _ in audios]
    texts = [[] for _ in audios]
    for step in range(60):
        for i, (session, audio) in enumerate(zip(sessions, audios)):
            begin = (step - 3 * i) * 1000
            if 0 <= begin < len(audio):
                session.feed(audio[begin:begin + 1000])
        for own, events in zip(texts, recognizer.step(sessions)):
            own += events
    for session, own, expected in zip(sessions, texts, alone):
        found = (own + session.finalize())[-1].hypothesis
        assert found.text == expected.text and found.tokens == expected.tokens and found.score == pytest.approx(expected.score, abs=1e-2)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates(recognizer, rate):
    from voxkit.audio.resample import resample

    audio = resample(waves(1.7)[0], 16000, rate)
    expected = whole(recognizer, resample(audio, rate, 16000))[-1].hypothesis
    assert whole(recognizer, audio, 777, rate=rate)[-1].hypothesis.text == expected.text


def test_phrases_of_one_session(streamed):
    checkpoint, out = streamed
    recognizer, (audio,) = StreamingRecognizer(out, SearchOptions("prefix_beam")), waves(2.0)
    theirs = Recognizer(checkpoint.model, checkpoint.vocabulary)
    options = TorchSearch("prefix_beam", context=theirs.phrases(["to the base", "order"], 1000.0))
    stream = TorchStreaming(theirs, options, chunk_ms=320, left_ms=1280)
    stream.accept(torch.from_numpy(audio))
    favored = whole(recognizer, audio, phrases=["to the base", "order"], boost=1000.0)[-1].hypothesis.text
    assert favored == stream.finish().text != whole(recognizer, audio)[-1].hypothesis.text


def test_utterances_end_in_silence(recognizer, monkeypatch):
    """Finals come by themselves, words are timed from the beginning of the session, `finalize` ends what is left."""
    from tests.runtime.test_audio import _Loud

    monkeypatch.setattr(recognizer, "_vad", _Loud())
    gap = np.zeros(16000, np.float32)
    first, second = (3 * w for w in waves(1.2, 1.5))
    audio = np.concatenate([gap, first, gap, second, gap[:3000]])
    session, events = recognizer.session(endpointing=Endpointing(silence=0.6)), []
    for i in range(0, len(audio), 800):
        events += session.accept(audio[i:i + 800])
    assert [e.final for e in events].count(True) == 1
    events += session.finalize()
    finals = [e for e in events if e.final]
    assert len(finals) == 2 and all(e.hypothesis.text for e in finals)
    assert 0.4 < finals[0].start < 1.1 and 2.2 < finals[0].heard < 3.0 and 2.6 < finals[1].start < 3.3
    for event in finals:
        assert all(event.start - 1e-6 <= w.start <= w.end <= event.heard + 1e-6 for w in event.hypothesis.words)
    assert session.accept(gap) == [] and session.finalize()[-1].hypothesis.text == ""


def test_two_passes(streamed, recognizer):
    """The final text is the second recognizer's, with times of the session."""
    class Second:
        def read(self, wave, phrases=None, boost=1.5):
            from voxkit.hypothesis import Hypothesis, Word

            return Hypothesis(f"{len(wave)} samples", [Word("samples", 0.1, 0.2, 1.0)])

        def check_phrases(self, phrases, boost=1.5):
            raise AssertionError("there are none")

    two = StreamingRecognizer(streamed[1], second=Second())
    (audio,) = waves(1.1)
    events = whole(two, audio)
    assert events[-1].hypothesis.text == f"{len(audio)} samples"
    assert events[0].hypothesis.text == whole(recognizer, audio)[0].hypothesis.text


def test_bad_input_is_refused_and_the_session_goes_on(recognizer):
    session = recognizer.session(endpointing=None)
    (audio,) = waves(1.0)
    session.accept(audio[:8000])
    for samples, what in ((np.array([np.nan], np.float32), "NaN"), (np.array([3e38], np.float32), "sample of 3e\\+38"),
                          (np.zeros(5, np.int16), "int16"), (np.zeros((2, 5), np.float32), "waveform is")):
        with pytest.raises(ValueError, match=what):
            session.accept(samples)
    assert session.accept(np.zeros(0, np.float32)) == []
    session.accept(audio[8000:])
    assert session.finalize()[-1].hypothesis.text == whole(recognizer, audio)[-1].hypothesis.text
    for rate in (0, 16000.5, float("nan"), 10**7):
        with pytest.raises(ValueError, match="samples/s; rates are"):
            recognizer.session(rate=rate, endpointing=None)


def test_an_hour_keeps_memory_small(recognizer, monkeypatch):
    """What was worked on is let go: a minute of speech in one piece leaves no more than a second of it behind."""
    from tests.runtime.test_audio import _Loud

    monkeypatch.setattr(recognizer, "_vad", _Loud())
    session = recognizer.session(endpointing=Endpointing(longest=5.0))
    events = session.accept(np.tile(waves(2.0)[0] * 3, 15))
    assert sum(e.final for e in events) >= 4
    held = sum(u.features.nbytes + u.fbank.kept.nbytes for u in session.utterances) + session.endpointer._waiting.nbytes
    assert held < 64_000 * 2 and len(session.utterances) <= 1


def test_ort_format_streams(streamed, recognizer, tmp_path):
    """What mobile builds of onnxruntime load says the same."""
    folder = shutil.copytree(streamed[1], tmp_path / "ort")
    meta = json.loads((folder / "meta.json").read_text())
    _to_ort(folder, meta)
    (folder / "meta.json").write_text(json.dumps(meta))
    assert (folder / "encoder.ort").is_file() and not (folder / "encoder.onnx").exists()
    (audio,) = waves(1.77)
    assert whole(StreamingRecognizer(folder), audio)[-1].hypothesis.tokens == whole(recognizer, audio)[-1].hypothesis.tokens != []


def test_what_does_not_stream(streamed, recognizer, tmp_path):
    with pytest.raises(ValueError, match="method attention does not stream"):
        StreamingRecognizer(streamed[1], SearchOptions("attention"))
    with pytest.raises(ValueError, match="takes audio as it comes"):
        OnnxRecognizer(streamed[1]).recognize([np.zeros(16000, np.float32)])


def test_transcribe_streams_an_artifact(streamed, tmp_path, capsys):
    path = write_audio(tmp_path / "order.wav", waves(2.0)[0], subtype="FLOAT")
    expected = by_torch(streamed[0], waves(2.0)[0]).text
    assert main(["transcribe", str(streamed[1]), str(path), "--stream", "--chunk-ms", "320"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2 and lines[-1] == f"{path}\t{expected}"
    assert main(["transcribe", str(streamed[1]), str(path), "--chunk-ms", "160"]) == 2
    assert "was made for chunks of 320 ms" in capsys.readouterr().err
