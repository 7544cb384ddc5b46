"""Recognition as a file of options sets it up: one pass and two, artifacts and checkpoints, what it refuses."""

import math

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.audio.io import write_audio
from voxkit.cli.main import main
from voxkit.experiments.pipeline import open_pipeline
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import GateOptions
from voxkit.infer.recognizer import Recognizer
from voxkit.runtime.pipeline import load_pipeline, read_config
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.second_pass import ArtifactPass
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.search.options import SearchOptions as TorchSearch

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(streaming artifact, artifact of whole utterances, its checkpoint)."""
    folder = tmp_path_factory.mktemp("pipeline")
    gate = GateOptions(tolerance=2e-2)
    live, _ = export_checkpoint(loaded(folder / "causal", "fbank", True), folder / "live",
                                options=ExportOptions(streaming=True, chunk_ms=320, left_ms=1280, gate=gate))
    checkpoint = loaded(folder / "full", "fbank")
    whole, _ = export_checkpoint(checkpoint, folder / "whole", options=ExportOptions(decoder=False, gate=gate))
    return live, whole, checkpoint


def final(pipeline, audio, **options):
    session = pipeline.session(endpointing=None, **options)
    return (session.accept(audio) + session.finalize())[-1].hypothesis


def test_one_pass_is_the_streaming_recognizer(made):
    live, whole, _ = made
    (audio,) = waves(1.8)
    pipeline = load_pipeline({"model": str(live), "search": {"method": "prefix_beam", "beam": 4}})
    session = StreamingRecognizer(live, SearchOptions("prefix_beam", beam=4, words=True)).session(endpointing=None)
    expected = (session.accept(audio) + session.finalize())[-1].hypothesis
    assert pipeline.streams and final(pipeline, audio) == expected == pipeline.transcribe(audio)
    alone = load_pipeline({"model": str(whole), "search": {"method": "prefix_beam"}})
    assert alone.transcribe(audio) == OnnxRecognizer(whole, threads=1).transcribe(audio, SearchOptions("prefix_beam", words=True))
    assert not alone.streams
    with pytest.raises(ValueError, match="takes whole utterances; audio as it comes needs a streaming artifact"):
        alone.session()


@pytest.mark.parametrize("kind", ["artifact", "checkpoint"])
def test_two_passes(made, kind, tmp_path):
    """Partial texts are the first model's, the final one is the second's, with its own words; a file is read by the second alone."""
    live, whole, checkpoint = made
    (audio,) = waves(2.2)
    second = str(whole if kind == "artifact" else checkpoint.path)
    pipeline = open_pipeline({"model": str(live), "second": second, "second_search": {"method": "prefix_beam", "beam": 5}})
    expected = Recognizer(checkpoint.model, checkpoint.vocabulary).transcribe(
        torch.from_numpy(audio), TorchSearch("prefix_beam", beam=5, words=True, temperature=1.0))
    found = final(pipeline, audio)
    assert found.text == expected.text != "" and found.tokens == expected.tokens
    assert [w.word for w in found.words] == [w.word for w in expected.words]
    first = load_pipeline({"model": str(live)})
    session, one = pipeline.session(endpointing=None), first.session(endpointing=None)
    assert [e.hypothesis.text for e in session.accept(audio)] == [e.hypothesis.text for e in one.accept(audio)]
    assert pipeline.transcribe(audio).text == expected.text


def test_phrases_of_a_session_are_both_passes(made):
    live, whole, _ = made
    (audio,) = waves(2.0)
    recognizer = OnnxRecognizer(whole, threads=1)
    pipeline = load_pipeline({"model": str(live), "second": str(whole), "second_search": {"method": "prefix_beam"}})
    phrases = ["to the base", "order"]
    favored = recognizer.transcribe(audio, SearchOptions("prefix_beam", words=True, context=recognizer.phrases(phrases, 1000.0)))
    assert final(pipeline, audio, phrases=iter(phrases), boost=1000.0).text == favored.text != final(pipeline, audio).text


def test_transcribe_by_a_file(made, tmp_path, capsys, monkeypatch):
    from tests.runtime.test_audio import _Loud

    live, whole, _ = made
    path, config = tmp_path / "order.wav", tmp_path / "inference.yaml"
    config.write_text(f"model: {live}\nsecond: {whole}\nendpointing: {{silence: 0.4}}\n")
    one, other = (3 * w for w in waves(1.2, 1.5))
    gap = np.zeros(16000, np.float32)
    write_audio(path, np.concatenate([one, gap, other, gap]), subtype="FLOAT")
    monkeypatch.setattr("voxkit.runtime.streaming.Vad", _Loud)
    assert main(["transcribe", "--config", str(config), str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\t{OnnxRecognizer(whole, threads=1).transcribe(path).text}\n"
    assert main(["transcribe", "--config", str(config), "--stream", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3 and lines[-1].startswith(f"{path}\t") and lines[-1].split("\t")[1] == lines[-2].split("\t")[1] != ""
    assert main(["transcribe", "--config", str(config), str(path), "--beam", "3"]) == 2
    assert "--beam" in capsys.readouterr().err
    assert main(["transcribe", str(live)]) == 2
    assert "give audio files" in capsys.readouterr().err


def test_everything_that_is_wrong_is_named(made, tmp_path):
    live, whole, _ = made
    with pytest.raises(ValueError) as caught:
        read_config({"modle": "x", "search": {"method": "greedy", "beam": "ten", "bean": 3}, "endpointing": {"silence": 0, "long": 3},
                     "threads": -1, "second_search": {"phrases": "heal me"}, "second": 3})
    said = str(caught.value)
    for part in ("modle: no such option; there are model, search", "model: name the directory", "search.beam: 'ten' is no whole number",
                 "search.bean: no such option", "endpointing.long: no such option", "threads: -1", "second_search.phrases: 'heal me'",
                 "second: 3 is no path"):
        assert part in said, part
    with pytest.raises(ValueError) as caught:
        read_config({"model": "x", "device": "gpu", "search": {"boost": math.nan, "beam": 0, "words": "no", "lm": 3, "lm_weight": math.inf},
                     "second_search": {"phrases": {"heal me": "much", "ward": math.inf, "now": 2, "push": None}, "beam": 2.5}})
    assert [line.removeprefix("inference options: ") for line in str(caught.value).splitlines()] == [
        "device: 'gpu' is none of cpu, cuda", "search.beam: 0 is no whole number of 1 or more", "search.lm_weight: inf is no number",
        "search.boost: nan is no finite number", "search.lm: 3 is no path", "search.words: 'no' is neither true nor false",
        "second_search.beam: 2.5 is no whole number of 1 or more", "second_search.phrases: heal me: 'much' is no finite number",
        "second_search.phrases: ward: inf is no finite number"]
    with pytest.raises(ValueError, match="endpointing.silence: 0.0 s; at least 0.03"):
        read_config({"model": "x", "endpointing": {"silence": 0}})
    (tmp_path / "list.yaml").write_text("- model\n")
    with pytest.raises(ValueError, match="options are `name: value` lines"):
        read_config(tmp_path / "list.yaml")
    with pytest.raises(ValueError, match="second pass is for a streaming artifact"):
        load_pipeline({"model": str(whole), "second": str(whole)})
    with pytest.raises(ValueError, match="no artifact, and a checkpoint takes torch"):
        load_pipeline({"model": str(live), "second": str(tmp_path)})
    with pytest.raises(ValueError, match="takes chunks; a second pass reads whole utterances"):
        ArtifactPass(OnnxRecognizer(live))
    with pytest.raises(ValueError, match="method joint does not stream; greedy and prefix_beam do"):
        load_pipeline({"model": str(live), "search": {"method": "joint"}})
