"""A transducer without torch: in an artifact, and as the three files that sherpa-onnx loads."""

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.batch import Batch, Padded
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import GateOptions
from voxkit.export.sherpa_model import SherpaModel
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


@pytest.fixture
def sherpa():
    return pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx", exc_type=ImportError)


@pytest.mark.slow
def test_sherpa_offline(checkpoint, sherpa, tmp_path):
    folder = export_sherpa_transducer(checkpoint, tmp_path / "out", tolerance=2e-2).folder
    assert sorted(p.name for p in folder.iterdir()) == [".sherpa-onnx", "README.md", "decoder.onnx", "encoder.onnx", "joiner.onnx",
                                                        "tokens.txt"]
    offline = SherpaModel(folder)
    for audio in waves(1.1, 2.7):
        expected = Recognizer(checkpoint.model, checkpoint.vocabulary).transcribe(torch.from_numpy(audio), TorchSearch("transducer_greedy"))
        assert not offline.streams and offline.listen(audio).strip() == expected.text != ""


@pytest.mark.slow
def test_sherpa_streaming(checkpoint, sherpa, tmp_path):
    model = checkpoint.model
    folder = export_sherpa_transducer(checkpoint, tmp_path / "out", streaming=True, chunk_ms=320, left_ms=1280, tolerance=2e-2).folder
    online = SherpaModel(folder)
    assert online.streams and online.milliseconds(model) == (320, 1280)
    assert (online.method, online.precision) == ("transducer_greedy", "fp32")
    model.encoder.set_chunk(16, 64)
    for audio in waves(1.9, 3.2):
        with torch.inference_mode():
            states = model.encode(Batch([""], audio=Padded.of([torch.from_numpy(audio)]))).states
        whole = ((len(audio) + 80) // 160 - 13) // 32 * 8  # frames of whole chunks: it leaves out what the last one lacks
        expected = transducer_greedy(model.transducer, states[:, :whole], torch.tensor([whole]))[0].tokens
        assert online.listen(audio).strip() == checkpoint.vocabulary.decode(expected) != ""


def test_a_model_without_one(tmp_path):
    with pytest.raises(ValueError, match="has no transducer"):
        export_sherpa_transducer(loaded(tmp_path), tmp_path / "out")
