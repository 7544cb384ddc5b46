"""An imported Whisper is a system like the others: every command takes it, with word times and confidences."""

import json

import numpy as np
import pytest
import torch

from tests.models.tiny_whisper import make_whisper
from tests.noise import noise_set
from voxkit.audio.decode import read_mono
from voxkit.batch import audio_batch
from voxkit.cli.main import main
from voxkit.infer.recognizer import Recognizer
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.search.options import SearchOptions as TorchSearch

TEXTS = ("HEAL ME", "GO BACK NOW", "HOLD")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(run, data directory)."""
    root = tmp_path_factory.mktemp("imported")
    assert main(["import", "whisper", str(make_whisper(root / "whisper")), "--out", str(root / "exp"), "--language", "en"]) == 0
    noise_set(root / "data", "test", 3, lambda i: TEXTS[i], seconds=1.2)
    return root / "exp", root / "data"


def words_are_good(hypothesis):
    assert hypothesis.text and " ".join(w.word for w in hypothesis.words) == hypothesis.text
    edges = [edge for w in hypothesis.words for edge in (w.start, w.end)]
    assert edges == sorted(edges) and 0 <= edges[0] and edges[-1] <= hypothesis.audio_duration
    assert all(0 < w.confidence <= 1 for w in hypothesis.words)


def test_transcribe_has_words(imported, capsys):
    run, data = imported
    paths = sorted(str(p) for p in data.glob("*.wav"))
    capsys.readouterr()
    assert main(["transcribe", str(run), *paths, "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == 3
    recognizer = Recognizer.load(run)
    for path, record in zip(paths, records):
        found = recognizer.transcribe(path, TorchSearch(words=True))
        words_are_good(found)
        assert record == {"audio": path, **found.to_json()}
    assert main(["transcribe", str(run), paths[0], "--format", "srt"]) == 0 and "-->" in capsys.readouterr().out


def test_confidence_is_what_the_decoder_gave(imported):
    """Of a word the geometric mean of its tokens' probabilities."""
    run, data = imported
    recognizer = Recognizer.load(run)
    found = recognizer.transcribe(next(iter(sorted(data.glob("*.wav")))), TorchSearch(words=True))
    for word, (text, places) in zip(found.words, recognizer.vocabulary.words(found.tokens), strict=True):
        expected = np.exp(np.mean(np.log([found.token_confidences[i] for i in places])))
        assert word.word == text and word.confidence == pytest.approx(expected, rel=1e-3)


def test_decode_tune_score_hallucinate(imported, capsys):
    run, data = imported
    assert main(["decode", str(run), "--sets", "test", "--methods", "greedy", "attention", "--beam", "3", "--data-dir", str(data)]) == 0
    lines = [json.loads(line) for line in (run / "decode" / "test_greedy.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(line["words"] for line in lines)
    record = json.loads((run / "decode" / "test_greedy.json").read_text())
    assert record["job"]["normalize"] == "whisper-english"  # what the import wrote down
    assert "are not fitted" not in capsys.readouterr().err
    assert main(["score", "--ref", str(run / "decode" / "test_greedy.jsonl"), "--hyp", str(run / "decode" / "test_greedy.jsonl")]) == 0
    assert main(["tune", str(run), "--set", "test", "--methods", "attention", "--data-dir", str(data)]) == 0
    assert main(["hallucinate", str(run), "--minutes", "0.05", "--seconds", "2"]) == 0


def test_align_needs_no_ctc(imported, capsys):
    run, data = imported
    capsys.readouterr()
    assert main(["align", str(run), "--audio", str(data / "test0.wav"), "--text", "HEAL ME NOW"]) == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [w["word"] for w in words] == ["HEAL", "ME", "NOW"] and words[0]["start"] <= words[1]["start"] <= words[2]["end"] <= 1.21
    assert main(["align", str(run), "--method", "ctc", "--audio", str(data / "test0.wav"), "--text", "HEAL"]) != 0
    assert main(["align", str(run), "--audio", str(data / "test0.wav"), "--text", "HEAL " * 60]) != 0
    assert "the decoder says at most" in capsys.readouterr().err


def test_nothing_is_said_where_the_decoder_hears_nobody(imported, monkeypatch):
    run, data = imported
    recognizer = Recognizer.load(run)
    path = data / "test0.wav"
    decoder = type(recognizer.model.decoder)
    said = recognizer.transcribe(path)
    assert said.text and sum(np.log(said.token_confidences)) / (len(said.tokens) + 1) < -1  # of a random model no text is likely
    for silence, text in ((0.7, ""), (0.5, said.text)):
        monkeypatch.setattr(decoder, "quiet", lambda self, memory, lengths, p=silence: torch.full((len(memory),), p))
        for method in ("greedy", "attention"):
            found = recognizer.transcribe(path, TorchSearch(method, beam=2, words=True))
            assert bool(found.text) == bool(found.words) == bool(text) and (found.stopped == "silence") == (not text)
        assert recognizer.transcribe(path).text == text
        assert recognizer.transcribe(path, TorchSearch(stop=None)).text.startswith(said.text)


def test_a_recording_of_any_length(imported, monkeypatch):
    """What is longer than the encoder hears is cut in silence; times are the recording's."""
    run, data = imported
    recognizer = Recognizer.load(run)
    spoken = [read_mono(data / f"test{i}.wav")[0] for i in range(2)]
    wave = np.concatenate([np.zeros(16000, np.float32), spoken[0], np.zeros(40000, np.float32), spoken[1], np.zeros(16000, np.float32)])
    speech = np.array([float(np.abs(wave[i:i + 512]).max() > 0) for i in range(0, len(wave), 512)])
    vad = type("Vad", (), {"probabilities": lambda self, audio: speech})
    monkeypatch.setattr("voxkit.infer.recognizer.Vad", vad)
    found = recognizer.transcribe(torch.from_numpy(wave), TorchSearch(words=True))
    first, second = (recognizer.transcribe(torch.from_numpy(one), TorchSearch(words=True)).text for one in spoken)
    assert len(wave) > 4 * 16000 and found.audio_duration == len(wave) / 16000 and found.text
    assert found.text.split()[0][0] == first[0] and found.text.split()[-1][0] == second.split()[-1][0]
    assert [w.word for w in found.words] == found.text.split()
    middle = (16000 + len(spoken[0]) + 20000) / 16000
    assert any(w.end < middle for w in found.words) and any(w.start > middle for w in found.words)


@pytest.mark.slow
def test_the_artifact_says_the_same(imported, tmp_path, capsys):
    """Texts, word times and confidences, by greedy search and by a beam; the language is found out."""
    pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
    run, data = imported
    out, override = tmp_path / "onnx", "model.language=auto"
    assert main(["export", str(run), "--out", str(out), "--check", "test", "--data-dir", str(data), "--tolerance", "0.02", override]) == 0
    recognizer, ours = Recognizer.load(run, overrides=[override]), OnnxRecognizer(out, threads=1)
    assert ours.methods() == ["greedy", "attention"] == recognizer.methods()
    for path in sorted(data.glob("*.wav")):
        for method in ("greedy", "attention"):
            expected = recognizer.transcribe(path, TorchSearch(method, beam=3, words=True))
            found = ours.transcribe(path, SearchOptions(method, beam=3, words=True))
            words_are_good(found)
            assert found.text == expected.text and found.tokens == expected.tokens
            for a, b in zip(found.words, expected.words, strict=True):
                assert a.word == b.word and a.confidence == pytest.approx(b.confidence, abs=1e-3)
                assert (a.start, a.end) == (pytest.approx(b.start, abs=0.021), pytest.approx(b.end, abs=0.021))
    decoder = ours.decoder
    wave = read_mono(data / "test1.wav")[0]
    encoded = ours.artifact.encode([wave])[0]
    with torch.inference_mode():
        states, lengths = recognizer.model.encode(audio_batch(torch.from_numpy(wave)))[:2]
        expected = float(recognizer.model.decoder.quiet(states, lengths))
    assert decoder.silence == recognizer.model.decoder.silence is not None
    assert decoder.quiet(encoded.states, encoded.frames) == pytest.approx(expected, rel=1e-2)
    capsys.readouterr()
    assert main(["transcribe", str(out), str(data / "test0.wav"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"]
