"""A transducer without torch: in an artifact, and as the three files that sherpa-onnx loads."""

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.batch import Batch, Padded
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import GateOptions
from voxkit.export.sherpa_transducer import export_sherpa_transducer
from voxkit.infer.recognizer import Recognizer
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.search.options import SearchOptions as TorchSearch
from voxkit.search.transducer import transducer_greedy

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("transducer"), causal=True, transducer=True)


@pytest.fixture(scope="module")
def artifact(checkpoint, tmp_path_factory):
    out, report = export_checkpoint(checkpoint, tmp_path_factory.mktemp("artifact") / "onnx", (),
                                    ExportOptions(decoder=False, gate=GateOptions(tolerance=2e-2)))
    assert report.problems == [] and "transducer_greedy" in report.methods
    return out


@pytest.mark.slow
@pytest.mark.parametrize("method", ["transducer_greedy", "transducer_beam"])
def test_the_artifact_says_the_same(checkpoint, artifact, method):
    theirs, ours = Recognizer(checkpoint.model, checkpoint.vocabulary), OnnxRecognizer(artifact, threads=1)
    assert ours.methods() == [m for m in theirs.methods() if m in ours.methods()] and method in ours.methods()
    for phrases in (None, ["the tank is ready"]):
        for audio in waves(1.3, 2.6):
            expected = theirs.transcribe(torch.from_numpy(audio), TorchSearch(
                method, beam=4, words=True, context=theirs.phrases(phrases) if phrases else None))
            found = ours.transcribe(audio, SearchOptions(method, beam=4, words=True, context=ours.phrases(phrases) if phrases else None))
            assert found.text == expected.text != "" and found.tokens == expected.tokens
            assert [w.word for w in found.words] == [w.word for w in expected.words]
            np.testing.assert_allclose([(w.start, w.end, w.confidence) for w in found.words],
                                       [(w.start, w.end, w.confidence) for w in expected.words], atol=2e-3)


def sherpa():
    return pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx", exc_type=ImportError)


def files(folder):
    return {name: str(folder / f"{name}.onnx") for name in ("encoder", "decoder", "joiner")} | {"tokens": str(folder / "tokens.txt")}


@pytest.mark.slow
def test_sherpa_offline(checkpoint, tmp_path):
    package = sherpa()
    folder = export_sherpa_transducer(checkpoint, tmp_path / "out", tolerance=2e-2).folder
    assert sorted(p.name for p in folder.iterdir()) == [".sherpa-onnx", "README.md", "decoder.onnx", "encoder.onnx", "joiner.onnx",
                                                        "tokens.txt"]
    recognizer = package.OfflineRecognizer.from_transducer(**files(folder))
    for audio in waves(1.1, 2.7):
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, audio)
        recognizer.decode_stream(stream)
        expected = Recognizer(checkpoint.model, checkpoint.vocabulary).transcribe(torch.from_numpy(audio), TorchSearch("transducer_greedy"))
        assert stream.result.text.strip() == expected.text != ""


@pytest.mark.slow
def test_sherpa_streaming(checkpoint, tmp_path):
    package, model = sherpa(), checkpoint.model
    folder = export_sherpa_transducer(checkpoint, tmp_path / "out", streaming=True, chunk_ms=320, left_ms=1280, tolerance=2e-2).folder
    recognizer = package.OnlineRecognizer.from_transducer(**files(folder))
    model.encoder.set_chunk(16, 64)
    for audio in waves(1.9, 3.2):
        stream = recognizer.create_stream()
        for i in range(0, len(audio), 3200):
            stream.accept_waveform(16000, audio[i:i + 3200])
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        with torch.inference_mode():
            states = model.encode(Batch([""], audio=Padded.of([torch.from_numpy(audio)]))).states
        whole = ((len(audio) + 80) // 160 - 13) // 32 * 8  # frames of whole chunks: it leaves out what the last one lacks
        expected = transducer_greedy(model.transducer, states[:, :whole], torch.tensor([whole]))[0].tokens
        assert recognizer.get_result(stream).strip() == checkpoint.vocabulary.decode(expected) != ""


def test_a_model_without_one(tmp_path):
    with pytest.raises(ValueError, match="has no transducer"):
        export_sherpa_transducer(loaded(tmp_path), tmp_path / "out")
