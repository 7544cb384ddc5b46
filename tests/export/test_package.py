"""Export as a whole: a directory that recognises as the checkpoint does, or one that says why it does not."""

import json

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.audio.io import write_audio
from voxkit.batch import Batch, Padded
from voxkit.export.package import export_checkpoint
from voxkit.export.parity import GateOptions, Utterance
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.runtime.onnx import OnnxRecognizer
from voxkit.search.greedy import ctc_greedy

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(checkpoint, export directory, report of the gate)."""
    folder = tmp_path_factory.mktemp("export")
    checkpoint = loaded(folder, "whisper")
    heard = [Utterance(f"u{i}", wave, "move to the base") for i, wave in enumerate(waves(1.3, 0.4, 2.0))]
    out, report = export_checkpoint(checkpoint, folder / "onnx", heard, options=GateOptions(tolerance=2e-2, max_wer_increase=9.0))
    return checkpoint, out, report


def torch_answer(checkpoint, audios):
    """Log-probabilities and texts of a batch, by the model itself."""
    lengths = torch.tensor([len(a) for a in audios])
    audio = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in audios], batch_first=True)
    with torch.inference_mode():
        states, frames = checkpoint.model.encode(Batch(ids=[""] * len(audios), audio=Padded(audio, lengths)))[:2]
        scores = checkpoint.model.ctc_log_probs(states)
    texts = [checkpoint.tokenizer.decode(h.tokens) for h in ctc_greedy(scores, frames)]
    return [s[:n].numpy() for s, n in zip(scores, frames)], texts


def test_a_good_export_is_in_its_place(exported):
    checkpoint, out, report = exported
    assert report.problems == [] and out.name == "onnx"
    assert sorted(p.name for p in out.iterdir()) == ["meta.json", "model.int8.onnx", "model.onnx", "tokenizer.model"]
    meta = json.loads((out / "meta.json").read_text())
    assert meta["int8_bits"] == 7
    assert meta["checkpoint"]["step"] == 7 and len(meta["checkpoint"]["sha256"]) == 64 and meta["max_samples"] == 480000
    assert meta["seconds_per_frame"] == pytest.approx(checkpoint.model.seconds_per_frame)
    assert meta["files"]["model.onnx"] == (out / "model.onnx").stat().st_size > meta["files"]["model.int8.onnx"]
    assert [row["model"] for row in report.rows()] == ["torch", "model.onnx", "model.int8.onnx"]
    assert [p.name for p in out.parent.glob(".*")] == []


@pytest.mark.parametrize("seconds", [(0.02,), (5.3,), (1.0, 3.7, 0.6, 2.22, 4.1)])
def test_other_lengths_and_batches_than_traced(exported, seconds):
    checkpoint, out, _ = exported
    audios = waves(*seconds)
    expected, texts = torch_answer(checkpoint, audios)
    recognizer = OnnxRecognizer(out, threads=1)
    for one, other in zip(recognizer.log_probs(audios), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-2)  # the head is twenty times too large
    assert [h.text for h in recognizer.recognize(audios)] == texts


def test_file_by_runtime_and_by_torch(exported, tmp_path):
    checkpoint, out, _ = exported
    (wave,) = waves(2.5)
    path = write_audio(tmp_path / "order.wav", wave, subtype="FLOAT")
    found = OnnxRecognizer(out, threads=1).transcribe(path)
    expected = Recognizer(checkpoint.model, checkpoint.tokenizer).transcribe(path, SearchOptions(words=True))
    assert found.text == expected.text != "" and found.tokens == expected.tokens and found.audio_duration == expected.audio_duration == 2.5
    assert found.score == pytest.approx(expected.score, abs=0.1)
    assert [w.word for w in found.words] == [w.word for w in expected.words]
    for one, other in zip(found.words, expected.words):
        assert (one.start, one.end, one.confidence) == pytest.approx((other.start, other.end, other.confidence), abs=1e-2)
    assert isinstance(OnnxRecognizer(out, int8=True, threads=1).transcribe(path).text, str)


def test_a_failed_gate_leaves_what_was_there(exported, tmp_path, monkeypatch):
    checkpoint, out, _ = exported
    before = (out / "meta.json").read_text()

    def reuse(model, path):  # tracing takes seconds and is not what is tested
        from voxkit.export.graph import CtcGraph

        path.write_bytes((out / "model.onnx").read_bytes())
        return CtcGraph(model)

    monkeypatch.setattr("voxkit.export.package.export_onnx", reuse)
    with torch.no_grad():
        checkpoint.model.ctc.bias[7] += 50
    try:
        target, report = export_checkpoint(checkpoint, out, [Utterance("u", waves(1.0)[0])], int8=False)
    finally:
        with torch.no_grad():
            checkpoint.model.ctc.bias[7] -= 50
    assert target.name == "onnx.failed" and (out / "meta.json").read_text() == before
    assert sorted(p.name for p in target.iterdir()) == ["meta.json", "model.onnx.failed", "tokenizer.model"]
    assert any("differ by" in p for p in report.problems) and any("another text: u" in p for p in report.problems)


def test_another_directory_is_not_overwritten(exported, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there and no export"):
        export_checkpoint(exported[0], tmp_path)


def test_bad_audio_is_named(exported):
    recognizer = OnnxRecognizer(exported[1], threads=1)
    with pytest.raises(ValueError, match="long.wav: 31.0 s, and the model takes at most 30 s"):
        recognizer.recognize([np.zeros(31 * 16000, np.float32)], ["long.wav"])
    with pytest.raises(ValueError, match="holds no samples"):
        recognizer.transcribe(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="int16"):
        recognizer.transcribe(np.zeros(1600, np.int16))
