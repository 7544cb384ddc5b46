"""`voxkit verify`: torch, runtime and sherpa-onnx on the same utterances; it fails where a text is another."""

import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from tests.export.tiny import loaded, make_checkpoint, waves
from voxkit.audio.io import write_audio
from voxkit.cli.main import main
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import GateOptions
from voxkit.export.sherpa import export_sherpa
from voxkit.infer.checkpoint import load_checkpoint

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
    assert list(found) == ["torch offline, same chunk", "torch streaming", "runtime fp32, live", "sherpa-onnx, sherpa"]
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
    checkpoint, out, _ = made
    other = load_checkpoint(make_checkpoint(tmp_path, "fbank", True))
    other.model.ctc.weight.data.neg_()
    wrong, _ = export_checkpoint(other, tmp_path / "wrong", options=ExportOptions(decoder=False, gate=GATE))
    status, printed = verify((checkpoint, {**out, "wrong": wrong}, made[2]), capsys, "whole", "wrong")
    assert status == 1
    assert "runtime fp32, wrong: 5 of 5 texts are others than those of torch: u0, u1, u2" in printed.err and "whole:" not in printed.err


def test_int8_is_judged_by_its_errors(made, capsys, tmp_path):
    """Other texts are let pass as long as they have no more errors than is allowed."""
    checkpoint, out, _ = made
    options = ExportOptions("int8", decoder=False, gate=GateOptions(tolerance=2e-2))
    small, _ = export_checkpoint(checkpoint, tmp_path / "int8", options=options)
    mine = (checkpoint, {**out, "int8": small}, made[2])
    assert verify(mine, capsys, "int8", more=["--max-wer-increase", "1000"])[0] == 0
    status, printed = verify(mine, capsys, "int8", more=["--max-wer-increase", "-1000"])
    assert status == 1 and "runtime int8, int8: WER" in printed.err and "20 words; 3000 would tell more" in printed.err
