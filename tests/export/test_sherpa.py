"""sherpa-onnx loads what is exported for it and says the same."""

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.batch import Batch, Padded
from voxkit.export.sherpa import export_sherpa
from voxkit.infer.recognizer import Recognizer
from voxkit.search.greedy import ctc_greedy

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("sherpa"), "fbank", True)


def sherpa():
    return pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx", exc_type=ImportError)


def test_streaming(checkpoint, tmp_path):
    package, model = sherpa(), checkpoint.model
    found = export_sherpa(checkpoint, tmp_path / "out", streaming=True, chunk_ms=320, left_ms=1280, tolerance=2e-2)
    folder = found.folder
    assert found.difference < 2e-2
    assert sorted(p.name for p in folder.iterdir()) == [".sherpa-onnx", "README.md", "model.onnx", "tokens.txt"]
    recognizer = package.OnlineRecognizer.from_zipformer2_ctc(tokens=str(folder / "tokens.txt"), model=str(folder / "model.onnx"),
                                                              num_threads=1)
    model.encoder.set_chunk(16, 64)
    for audio in waves(1.9, 3.2):
        stream = recognizer.create_stream()
        for i in range(0, len(audio), 3200):
            stream.accept_waveform(16000, audio[i:i + 3200])
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        with torch.inference_mode():
            states, frames = model.encode(Batch([""], audio=Padded.of([torch.from_numpy(audio)])))[:2]
            scores = model.ctc_log_probs(states)
        whole = ((len(audio) + 80) // 160 - 13) // 32 * 8  # frames of whole chunks: it leaves out what the last one lacks
        expected = ctc_greedy(scores[:, :whole], torch.tensor([whole]))[0].tokens
        said = recognizer.get_result_all(stream).tokens
        assert [checkpoint.vocabulary.pieces.index(t.replace(" ", "▁")) if t.replace(" ", "▁") in checkpoint.vocabulary.pieces else t
                for t in said] == expected and len(expected) > 3


def test_offline(checkpoint, tmp_path):
    package, model = sherpa(), checkpoint.model
    folder = export_sherpa(checkpoint, tmp_path / "out", tolerance=2e-2).folder
    recognizer = package.OfflineRecognizer.from_zipformer_ctc(model=str(folder / "model.onnx"), tokens=str(folder / "tokens.txt"))
    for audio in waves(1.1, 2.7):
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, audio)
        recognizer.decode_stream(stream)
        expected = Recognizer(model, checkpoint.vocabulary).transcribe(torch.from_numpy(audio)).text
        assert stream.result.text.strip() == expected != ""


def test_what_it_has_no_type_for(tmp_path):
    checkpoint = loaded(tmp_path, "whisper")
    with pytest.raises(ValueError, match="VoxFormer on fbank of 80 bins"):
        export_sherpa(checkpoint, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine/x.npy", np.zeros(1))
    with pytest.raises(ValueError, match="no sherpa-onnx export"):
        export_sherpa(loaded(tmp_path / "b", "fbank"), tmp_path / "mine")
