"""`voxkit verify`: torch, runtime and sherpa-onnx on the same utterances; it fails where a text is another."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.utils import fastcopy

from tests.export.tiny import loaded, make_checkpoint, waves
from voxkit.audio.io import write_audio
from voxkit.cli.main import main
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import CheckUtterance, GateOptions
from voxkit.export.sherpa import MARK, export_sherpa, tokens_file
from voxkit.export.sherpa_model import SherpaModel
from voxkit.export.speech import read_utterances
from voxkit.export.verify import verify as verify_models
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.recognizer import Recognizer
from voxkit.search.options import SearchOptions as TorchSearch
from voxkit.text.sentencepiece import train_characters

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")
GATE = GateOptions(tolerance=2e-2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A causal checkpoint, its exports by name, and the folder of a prepared set `test`."""
    folder = tmp_path_factory.mktemp("verify")
    checkpoint = loaded(folder / "model", "fbank", True)
    streaming = ExportOptions(streaming=True, chunk_ms=320, left_ms=1280, gate=GATE)
    out = {"whole": export_checkpoint(checkpoint, folder / "whole", options=ExportOptions(decoder=False, gate=GATE))[0],
           "live": export_checkpoint(checkpoint, folder / "live", options=streaming)[0],
           "sherpa": export_sherpa(checkpoint, folder / "sherpa", streaming=True, chunk_ms=320, left_ms=1280, tolerance=2e-2).folder}
    cuts = []
    for i, wave in enumerate(waves(1.3, 2.1, 0.8, 1.7, 3.0)):
        path = write_audio(folder / "data" / f"u{i}.wav", wave, subtype="FLOAT")
        spoken = SupervisionSegment(f"u{i}", f"u{i}", 0.0, len(wave) / 16000, text="move to the base")
        cuts.append(MonoCut(f"u{i}", 0.0, len(wave) / 16000, 0, [spoken], recording=Recording.from_file(path, recording_id=f"u{i}")))
    CutSet.from_cuts(cuts).to_file(folder / "data" / "cuts_test.jsonl.gz")
    return checkpoint, out, folder


def verify(made, capsys, *names, more=()):
    checkpoint, out, folder = made
    status = main(["verify", str(checkpoint.path), *(str(out[name]) for name in names), "--sets", "test",
                   "--data-dir", str(folder / "data"), *more])
    return status, capsys.readouterr()


def rows(printed):
    """engine → (texts, equal)."""
    lines = [line.split("  ") for line in printed.splitlines() if line.startswith(("torch", "runtime", "sherpa"))]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {row[0]: row[1:3] for row in cells}


def test_four_ways_say_the_same(made, capsys):
    pytest.importorskip("sherpa_onnx", reason="pip install 'voxkit[sherpa]'", exc_type=ImportError)
    status, printed = verify(made, capsys, "live", "sherpa")
    assert status == 0, printed.err
    found = rows(printed.out)
    assert list(found) == ["torch offline, same chunk", "torch streaming", "runtime fp32, live", "sherpa-onnx fp32, sherpa"]
    assert all(found[name] == ["5", "5"] for name in list(found)[1:]), printed.out
    assert "chunks of 320 ms, 1280 ms before them, 0.52 s of silence behind" in printed.out


def test_offline_and_streams_beside_each_other(made, capsys):
    checkpoint = made[0]
    before = checkpoint.model.encoder.chunk
    status, printed = verify(made, capsys, "whole", "live", more=["--utterances", "3"])
    assert status == 0, printed.err
    assert rows(printed.out)["runtime fp32, whole"] == rows(printed.out)["runtime fp32, live"] == ["3", "3"]
    assert "silence behind" not in printed.out and checkpoint.model.encoder.chunk == before


def test_another_models_export_is_found_out(made, capsys, tmp_path):
    """The checkpoint is another than the one that was exported."""
    checkpoint, out, folder = made
    other = load_checkpoint(make_checkpoint(tmp_path, "fbank", True))
    assert other.path != checkpoint.path
    with torch.no_grad():
        other.model.ctc.weight.neg_()
    found = verify_models(other, [out["whole"]], read_utterances(folder / "data", ["test"]))
    assert [len(one.problems) for one in found] == [1]
    assert found[0].problems[0].startswith("runtime fp32, whole: 5 of 5 texts are others than those of torch: u0, u1, u2")


def test_the_command_fails_where_a_text_is_another(made, capsys, monkeypatch):
    monkeypatch.setattr("voxkit.export.verify._whole", lambda recognizer, method: lambda audio: "something else")
    status, printed = verify(made, capsys, "whole")
    assert status == 1 and "5 of 5 texts are others" in printed.err and "verified" not in printed.out


def test_int8_is_judged_by_its_errors(made, capsys, tmp_path):
    """Other texts are let pass as long as they have no more errors than is allowed."""
    checkpoint, out, folder = made
    small = shutil.copytree(out["whole"], tmp_path / "small")
    meta = json.loads((small / "meta.json").read_text())
    (small / "meta.json").write_text(json.dumps({**meta, "precision": "int8"}))
    mine = (checkpoint, {"small": small}, folder)
    status, printed = verify(mine, capsys, "small")
    assert status == 0 and rows(printed.out)["runtime int8, small"] == ["5", "5"]
    status, printed = verify(mine, capsys, "small", more=["--max-wer-increase", "-1"])
    assert status == 1 and "runtime int8, small: WER" in printed.err and "20 words; 3000 would tell more" in printed.err


def test_int8_without_transcripts_is_not_judged(made, capsys, tmp_path):
    checkpoint, out, folder = made
    small = shutil.copytree(out["whole"], tmp_path / "small")
    meta = json.loads((small / "meta.json").read_text())
    (small / "meta.json").write_text(json.dumps({**meta, "precision": "int8"}))
    cuts = [cut.map_supervisions(lambda spoken: fastcopy(spoken, text="")) for cut in CutSet.from_file(folder / "data/cuts_test.jsonl.gz")]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts_test.jsonl.gz")
    mine = (checkpoint, {"small": small, "whole": out["whole"]}, folder)
    status, printed = verify(mine, capsys, "small", "whole", more=["--data-dir", str(tmp_path)])
    assert status == 1 and "not judged: no transcripts: runtime int8, small:" in printed.err and "verified" not in printed.out
    status, printed = verify(mine, capsys, "whole", more=["--data-dir", str(tmp_path)])
    assert status == 0 and "verified" in printed.out  # equal texts need no transcripts


def test_int8_of_sherpa_is_judged_by_its_errors(made, tmp_path, monkeypatch):
    pytest.importorskip("sherpa_onnx", reason="pip install 'voxkit[sherpa]'", exc_type=ImportError)
    checkpoint, out, folder = made
    small, heard = shutil.copytree(out["sherpa"], tmp_path / "small"), read_utterances(folder / "data", ["test"])
    assert (small / MARK).read_text().endswith(" fp32\n")
    monkeypatch.setattr(SherpaModel, "listen", lambda self, audio: "something else")
    assert len(verify_models(checkpoint, [small], heard)[0].problems) == 1
    (small / MARK).write_text("0 int8\n")
    (found,) = verify_models(checkpoint, [small], heard, max_wer_increase=10.0)
    assert found.heard[-1].engine.name == "sherpa-onnx int8, small" and found.problems == found.unjudged == []


def test_an_export_of_another_vocabulary_is_refused(made, tmp_path):
    checkpoint, out, folder = made
    other = replace(checkpoint, vocabulary=train_characters(["heal me"], tmp_path))
    for name in ("whole", "sherpa"):
        with pytest.raises(ValueError, match=f"{name} has another vocabulary than the checkpoint"):
            verify_models(other, [out[name]], read_utterances(folder / "data", ["test"]))


def test_a_transducer_of_sherpa_is_compared_with_the_transducer(tmp_path, monkeypatch):
    """Not with CTC, which greedy is where the model has both. What sherpa-onnx itself says: tests/export/test_transducer.py."""
    checkpoint = loaded(tmp_path / "model", "fbank", True, True)
    recognizer = Recognizer(checkpoint.model, checkpoint.vocabulary)
    folder = tmp_path / "sherpa"
    folder.mkdir()
    (folder / MARK).write_text("0 fp32\n")
    (folder / "tokens.txt").write_text(tokens_file(checkpoint.vocabulary))

    class Heard:
        streams, precision, method = False, "fp32", "transducer_greedy"

        def __init__(self, folder, threads):
            self.listen = lambda audio: recognizer.transcribe(torch.from_numpy(audio), TorchSearch(self.method)).text

    monkeypatch.setattr("voxkit.export.verify.SherpaModel", Heard)
    utterances = [CheckUtterance(str(i), wave, "move") for i, wave in enumerate(waves(1.1, 1.7))]
    by_ctc, by_transducer = (recognizer.transcribe(torch.from_numpy(utterances[0].audio), TorchSearch(m)).text
                             for m in ("greedy", "transducer_greedy"))
    assert by_ctc != by_transducer
    for method in ("greedy", "transducer_greedy"):
        (found,) = verify_models(checkpoint, [folder], utterances, method=method)
        assert found.problems == [] and found.title == "whole utterances, transducer_greedy"
    with pytest.raises(ValueError, match="--method prefix_beam: sherpa-onnx searches .* by transducer_greedy"):
        verify_models(checkpoint, [folder], utterances, method="prefix_beam")
