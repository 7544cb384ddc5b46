"""Export as a whole: a directory that recognizes as the checkpoint does, or one that says why it does not."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.audio.io import write_audio
from voxkit.batch import Batch, Padded
from voxkit.cli.main import main
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import CheckUtterance, GateOptions
from voxkit.infer.recognizer import Recognizer
from voxkit.runtime.artifact import Artifact, is_artifact, read_meta
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.segments import SegmentOptions
from voxkit.search.options import SearchOptions as TorchSearch

onnx = pytest.importorskip("onnx", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")
GATE = GateOptions(tolerance=2e-2, max_wer_increase=9.0)  # the head is twenty times too large
FILES = ["README.md", "config.yaml", "decoder.onnx", "encoder.onnx", "memory.onnx", "meta.json", "tokenizer.model"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(checkpoint, artifact, report of the gate), on a small Whisper."""
    folder = tmp_path_factory.mktemp("export")
    checkpoint = loaded(folder, "whisper")
    heard = [CheckUtterance(f"u{i}", wave, "move to the base") for i, wave in enumerate(waves(1.3, 0.4, 2.0))]
    out, report = export_checkpoint(checkpoint, folder / "onnx", heard, ExportOptions(gate=GATE, licenses=["CC BY 4.0"]), checked=["dev"])
    return checkpoint, out, report


@pytest.fixture
def traced(exported, monkeypatch):
    """Exports take the graphs that are there: tracing takes seconds and is not what is tested."""
    monkeypatch.setattr("voxkit.export.package.trace",
                        lambda graph, path: shutil.copyfile(exported[1] / f"{graph.name}.onnx", path))


def test_a_good_export_is_in_its_place(exported):
    checkpoint, out, report = exported
    assert report.problems == [] and report.verified == "text" and report.methods == ["greedy", "joint"] and out.name == "onnx"
    assert not any(report.different_texts.values())
    assert sorted(p.name for p in out.iterdir()) == FILES and is_artifact(out) and not is_artifact(checkpoint.path)
    meta = read_meta(out)
    assert meta["checkpoint"]["step"] == 7 and len(meta["checkpoint"]["sha256"]) == 64 and meta["longest_input"] == 480000
    assert meta["heads"] == ["ctc", "attention"] and meta["gate"]["words"] == 12
    assert meta["files"]["encoder.onnx"]["bytes"] == (out / "encoder.onnx").stat().st_size
    card = (out / "README.md").read_text()
    assert "over 12 words" in card and "Fewer than 3000 words" in card and "CC BY 4.0" in card and "of dev" in card
    assert [p.name for p in out.parent.glob(".*")] == []


def test_files_name_no_machine(exported):
    for path in exported[1].glob("*.onnx"):
        content = path.read_bytes()
        assert b"voxkit/" not in content and b"site-packages" not in content, path.name


@pytest.mark.parametrize("seconds", [(0.02,), (5.3,), (1.0, 3.7, 0.6, 2.22, 4.1)])
def test_other_lengths_and_batches_than_traced(exported, seconds):
    checkpoint, out, _ = exported
    audios = waves(*seconds)
    with torch.inference_mode():
        states, frames = checkpoint.model.encode(Batch([""] * len(audios), audio=Padded.of([torch.from_numpy(a) for a in audios])))[:2]
        scores = checkpoint.model.ctc_log_probs(states)
    found = Artifact(out, threads=1).encode(audios)
    for one, other, n in zip(found, scores.numpy(), frames.tolist(), strict=True):
        np.testing.assert_allclose(one.log_probs, other[:n], rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "attention", "joint", "rescoring"])
def test_every_method_on_a_file(exported, tmp_path, method):
    checkpoint, out, _ = exported
    path = write_audio(tmp_path / "order.wav", waves(2.5)[0], subtype="FLOAT")
    found = OnnxRecognizer(out, threads=1).transcribe(path, SearchOptions(method, beam=4, words=True))
    expected = Recognizer(checkpoint.model, checkpoint.vocabulary).transcribe(path, TorchSearch(method, beam=4, words=True))
    assert found.text == expected.text != "" and found.tokens == expected.tokens and found.audio_duration == expected.audio_duration == 2.5
    assert found.score == pytest.approx(expected.score, abs=0.1)
    assert [w.word for w in found.words] == [w.word for w in expected.words]
    for one, other in zip(found.words, expected.words):
        assert (one.start, one.end, one.confidence) == pytest.approx((other.start, other.end, other.confidence), abs=1e-2)


def test_phrases_change_what_is_heard_as_in_torch(exported):
    recognizer = OnnxRecognizer(exported[1], threads=1)
    (wave,) = waves(2.0)
    theirs = Recognizer(exported[0].model, exported[0].vocabulary)
    for method in ("prefix_beam", "joint"):
        found = recognizer.transcribe(wave, SearchOptions(method, context=recognizer.phrases({"to the base": 1000.0, "order": 900.0}))).text
        context = theirs.phrases({"to the base": 1000.0, "order": 900.0})
        assert found == theirs.transcribe(torch.from_numpy(wave), TorchSearch(method, context=context)).text
        assert found != recognizer.transcribe(wave, SearchOptions(method)).text
    with pytest.raises(ValueError, match="takes no language model"):
        recognizer.check(SearchOptions(lm=object()))
    with pytest.raises(ValueError, match="none of greedy, prefix_beam, attention, joint, rescoring"):
        recognizer.check(SearchOptions("beam"))


def test_long_audio_by_segments(exported, monkeypatch):
    """Whatever is longer than the model takes is cut in silence, and times are the recording's."""
    recognizer = OnnxRecognizer(exported[1], threads=1)
    parts = [np.pad(w, (0, 16000)) for w in waves(9.0, 8.0, 14.5)]
    wave = np.concatenate(parts)
    loud = np.array([np.abs(wave[i:i + 512]).max() > 0.1 for i in range(0, len(wave), 512)], np.float32)

    class Loudness:
        def probabilities(self, audio):
            return loud

    recognizer._vad = Loudness()
    found = recognizer.transcribe(wave, SearchOptions(words=True, segments=SegmentOptions(silence=0.7)))
    assert found.audio_duration == pytest.approx(len(wave) / 16000)
    assert found.text == " ".join(w.word for w in found.words) and len(found.words) > 5
    starts = [w.start for w in found.words]
    assert starts == sorted(starts) and starts[-1] > 20 and all(w.end <= found.audio_duration for w in found.words)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_smaller_weights(exported, traced, tmp_path, precision):
    checkpoint, out, _ = exported
    heard = [CheckUtterance(f"u{i}", wave, "move to the base") for i, wave in enumerate(waves(1.3, 2.0))]
    small, report = export_checkpoint(checkpoint, tmp_path / "small", heard, ExportOptions(precision, gate=GATE))
    assert report.problems == [] and report.max_difference < (5 if precision == "int8" else 0.2)

    def size(folder):
        return sum(path.stat().st_size for path in folder.glob("*.onnx"))

    def constants(folder):
        return sum(int(np.prod(i.dims)) * {1: 4, 10: 2, 3: 1, 2: 1}.get(i.data_type, 8) for path in folder.glob("*.onnx")
                   for i in onnx.load(path).graph.initializer if "log_mel" not in i.name)

    assert constants(small) < (0.45 if precision == "int8" else 0.62) * constants(out) and size(small) < size(out)
    log_mel = {i.data_type for i in onnx.load(small / "encoder.onnx").graph.initializer if "log_mel" in i.name}
    assert log_mel == {onnx.TensorProto.FLOAT}  # window and filterbank keep their precision
    assert isinstance(OnnxRecognizer(small, threads=1).transcribe(waves(1.0)[0], SearchOptions("joint")).text, str)
    assert ("INT8 weights of 7 bits" if precision == "int8" else "stored in fp16") in (small / "README.md").read_text()


def test_without_speech_the_card_says_so(exported, traced, tmp_path):
    out, report = export_checkpoint(exported[0], tmp_path / "out", options=ExportOptions(gate=GATE))
    assert report.verified == "scores" and report.wer is None and report.problems == []
    assert "Text not verified" in (out / "README.md").read_text() and "not stated" in (out / "README.md").read_text()


def test_ort_format(exported, traced, tmp_path):
    out, report = export_checkpoint(exported[0], tmp_path / "out", options=ExportOptions(gate=GATE, format="ort"))
    assert report.problems == [] and not list(out.glob("*.onnx")) and read_meta(out)["graphs"]["encoder"] == "encoder.ort"
    (wave,) = waves(1.5)
    assert OnnxRecognizer(out, threads=1).transcribe(wave).text == OnnxRecognizer(exported[1], threads=1).transcribe(wave).text


def test_a_failed_gate_leaves_what_was_there(exported, traced):
    checkpoint, out, _ = exported
    before = (out / "meta.json").read_text()
    with torch.no_grad():
        checkpoint.model.ctc.bias[7] += 50
    try:
        target, report = export_checkpoint(checkpoint, out, [CheckUtterance("u", waves(1.0)[0])])
    finally:
        with torch.no_grad():
            checkpoint.model.ctc.bias[7] -= 50
    assert target.name == "onnx.failed" and (out / "meta.json").read_text() == before
    assert any("differ by" in p for p in report.problems) and any("another text: u" in p for p in report.problems)
    with pytest.raises(ValueError, match="no graph"):
        OnnxRecognizer(target).transcribe(waves(1.0)[0])


def test_what_cannot_be_exported(exported, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there and no artifact"):
        export_checkpoint(exported[0], tmp_path)
    with pytest.raises(ValueError, match="a full-context encoder does not stream"):
        export_checkpoint(exported[0], tmp_path / "out", options=ExportOptions(streaming=True))
    with pytest.raises(ValueError, match="precision: 'int4'.*--streaming"):
        export_checkpoint(exported[0], tmp_path / "out", options=ExportOptions("int4", chunk_ms=160))


def test_bad_audio_is_named(exported):
    recognizer = OnnxRecognizer(exported[1], threads=1)
    with pytest.raises(ValueError, match="long.wav: 31.0 s, and the model takes at most 30 s"):
        recognizer.recognize([np.zeros(31 * 16000, np.float32)], names=["long.wav"])
    for audio, what in ((np.zeros(0, np.float32), "holds no samples"), (np.zeros(1600, np.int16), "int16"),
                        (np.array([0.1, np.nan], np.float32), "NaN"), (np.array([0.1, 3e38], np.float32), "sample of 3e\\+38"),
                        (np.zeros((2, 100), np.float32), "waveform is")):
        with pytest.raises(ValueError, match=what):
            recognizer.transcribe(audio)


def test_artifacts_that_are_none(tmp_path, exported):
    with pytest.raises(ValueError, match="voxkit export"):
        OnnxRecognizer(tmp_path)
    (tmp_path / "meta.json").write_text('{"step": 3}')
    with pytest.raises(ValueError, match="not of an artifact"):
        read_meta(tmp_path)
    meta = json.loads((exported[1] / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "format": 1}))
    with pytest.raises(ValueError, match="format 1, and this voxkit reads 2"):
        read_meta(tmp_path)


def test_transcribe_takes_an_artifact(exported, tmp_path, capsys):
    path = write_audio(tmp_path / "order.wav", waves(2.5)[0], subtype="FLOAT")
    expected = OnnxRecognizer(exported[1], threads=1).transcribe(path, SearchOptions("joint", beam=3)).text
    assert main(["transcribe", str(exported[1]), str(path), "--method", "joint", "--beam", "3"]) == 0
    assert capsys.readouterr().out == f"{path}\t{expected}\n"
    assert main(["transcribe", str(exported[1]), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"]


def test_options_that_are_not_of_an_artifact(exported, tmp_path, capsys):
    path = write_audio(tmp_path / "order.wav", waves(0.5)[0])
    for options, what in ((["--rescore-lm", "gemma"], "--rescore-lm: "), (["--boost", "2"], "there is no --phrases"),
                          (["--chunk-ms", "320"], "was made for whole utterances"), (["--stream"], "takes whole utterances"),
                          (["--method", "k2_hlg"], "is none of greedy, prefix_beam")):
        assert main(["transcribe", str(exported[1]), str(path), *options]) == 2
        assert what in capsys.readouterr().err
