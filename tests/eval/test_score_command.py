import argparse
import csv
import gzip
import json

import numpy as np
import pytest
import soundfile

from voxkit.cli import score as command
from voxkit.eval.table import format_table, per_duration, rename_csv
from voxkit.eval.texts import read_texts, write_texts
from voxkit.eval.wer import score
from voxkit.files import append_csv


def call(*argv):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["score", *map(str, argv)])
    return args.run(args)


@pytest.fixture
def files(tmp_path):
    cuts = [{"id": f"c{i}", "start": 0.0, "duration": 1.0 + i, "type": "MonoCut",
             "supervisions": [{"id": f"s{i}", "text": "HEAL ME NOW", "speaker": f"spk{i % 3}"}]} for i in range(9)]
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(c) + "\n" for c in cuts)
    write_texts(tmp_path / "hyp.tsv", {f"c{i}": "HEAL NOW" if i % 2 else "HEAL ME NOW" for i in range(9)})
    write_texts(tmp_path / "other.tsv", {f"c{i}": "HEAL" for i in range(9)})
    return tmp_path


def test_command(files, capsys):
    call("--ref", files / "cuts.jsonl.gz", "--hyp", files / "hyp.tsv", "--per", "speaker", "duration", "--errors", 2,
         "--against", files / "other.tsv", "--csv", files / "results.csv", "--samples", 200)
    out = capsys.readouterr().out
    for piece in ("14.81", "spk2", "0-2 s", "MAPSSWE", "speakers", "ME -> (nothing)"):
        assert piece in out
    call("--ref", files / "cuts.jsonl.gz", "--hyp", files / "other.tsv", "--csv", files / "results.csv", "--samples", 200)
    rows = list(csv.DictReader((files / "results.csv").open()))
    assert [r["WER"] for r in rows] == ["14.81", "66.67"] and rows[1]["name"] == "other"


def test_reading(tmp_path):
    (tmp_path / "kaldi").write_text("a HEAL ME\nb\n")
    assert read_texts(tmp_path / "kaldi").texts == {"a": "HEAL ME", "b": ""}
    (tmp_path / "h.jsonl").write_text('{"id": "a", "text": "x", "audio_duration": 2.5}\n')
    assert read_texts(tmp_path / "h.jsonl").durations == {"a": 2.5}
    for name, content, message in [("twice", "a x\na y\n", "line 2.*before"), ("none", "\n", "empty"), ("bad.jsonl", "{", "not JSON")]:
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_texts(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read_texts(tmp_path / "nowhere")


def test_tables(tmp_path):
    text = format_table([{"name": "a", "WER": 1.5}, {"name": "bb", "more": 3}])
    assert text.splitlines()[0].split() == ["name", "WER", "more"]
    assert "----:|" in format_table([{"name": "a", "WER": 1.5}], style="markdown")
    rows = per_duration(score({"a": "x", "b": "y"}, {"a": "x", "b": "z"}), {"a": 1.0, "b": 30.0})
    assert [(r["duration"], r["WER"]) for r in rows] == [("0-2 s", "0.00"), ("over 20 s", "100.00")]
    append_csv(tmp_path / "r.csv", {"a": 1, "b": "x,y"})
    append_csv(tmp_path / "r.csv", {"a": 2, "b": ""})
    rename_csv(tmp_path / "r.csv", "b", "x,y", "z")
    assert list(csv.DictReader((tmp_path / "r.csv").open())) == [{"a": "1", "b": "z"}, {"a": "2", "b": ""}]


def test_conditions_times_confidences_and_a_report(files, capsys):
    alignment = {"word": [["HEAL", 2.0, 0.5, None], ["ME", 2.6, 0.2, None]]}
    cut = {"id": "c", "start": 2.0, "duration": 1.0, "type": "MonoCut", "recording": {"sources": [{"type": "file", "source": "a.flac"}]},
           "supervisions": [{"id": "s", "text": "HEAL ME", "speaker": "x", "custom": {"room": "hall"}, "alignment": alignment}]}
    other = {**cut, "id": "d", "supervisions": [{"id": "t", "text": "HEAL", "speaker": "y", "custom": {"room": "street"}}]}
    (files / "cuts.jsonl").write_text(json.dumps(cut) + "\n" + json.dumps(other) + "\n")
    soundfile.write(files / "a.flac", np.zeros(64000), 16000)
    words = [{"word": "HEAL", "start": 0.03, "end": 0.5, "confidence": 0.9}, {"word": "MY", "start": 0.6, "end": 0.8, "confidence": 0.5}]
    (files / "hyp.jsonl").write_text(json.dumps({"id": "c", "text": "HEAL MY", "words": words}) + "\n" + '{"id": "d", "text": "HEAL"}\n')
    write_texts(files / "against.tsv", {"c": "HEAL ME", "d": ""})
    call("--ref", files / "cuts.jsonl", "--hyp", files / "hyp.jsonl", "--per", "condition", "--condition", "room", "--samples", 100,
         "--against", files / "against.tsv", "--report", files / "r.html")
    printed = capsys.readouterr().out
    assert "hall" in printed and "50.00" in printed and "street" in printed
    assert "15.0 ms off in the mean" in printed and "expected calibration error 30.00 %" in printed
    page = (files / "r.html").read_text()
    assert "data:audio/flac" in page and "By condition" in page and "Against another run" in page and "<svg" in page
    with pytest.raises(ValueError, match="fields there are: room"):
        call("--ref", files / "cuts.jsonl", "--hyp", files / "hyp.jsonl", "--condition", "noise")


@pytest.mark.parametrize("options, message", [
    (["--per", "condition"], "--per condition does not say what a condition is: give --condition too"),
    (["--per", "condition", "--condition", "noise"], "--condition noise: no such file"), (["--against", "nowhere.tsv"], "no such file"),
    (["--phrases", "nowhere.txt"], "--phrases nowhere.txt: no such file"), (["--report", "r.html", "--curves", "exp/none"], "exp/none")])
def test_what_cannot_be_scored_is_refused_at_once(files, capsys, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call("--ref", files / "cuts.jsonl.gz", "--hyp", files / "hyp.tsv", "--samples", 10, *options)
    assert capsys.readouterr().out == ""


def test_a_scoring_is_repeated_from_its_record(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    (files / "rooms.tsv").write_text("".join(f"c{i}\t{'hall' if i < 4 else 'car'}\n" for i in range(9)))
    (files / "rare.txt").write_text("ME\n")
    run = files / "exp" / "20260101_000000_stage1"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text('{"step": 1, "loss": 2.0}\n')
    options = ["--ref", "cuts.jsonl.gz", "--hyp", "hyp.tsv", "--against", "other.tsv", "--phrases", "rare.txt", "--per", "condition",
               "--condition", "rooms.tsv", "--samples", 200]
    call(*options, "--csv", "results.csv", "--report", "r.html", "--name", "a/b")
    record = json.loads((files / "r_score.json").read_text())
    assert record["again"] == "voxkit score --again r_score.json" and record["result"]["WER"] == "14.81"
    assert set(record["inputs"]) == {"ref", "hyp", "against", "phrases", "condition"}
    assert {"git", "voxkit", "numpy", "date"} <= record["made"].keys()
    assert next(csv.DictReader((files / "results.csv").open()))["record"] == "r_score.json"
    capsys.readouterr()
    assert call("--again", "r_score.json") == 0
    assert "the same as recorded" in capsys.readouterr().out
    assert (files / "again" / "r.html").is_file() and (files / "again" / "results.csv").is_file()
    assert json.loads((files / "again" / "r_score.json").read_text())["result"] == record["result"]

    call(*options, "--csv", "rows/results.csv", "--curves", "exp/stage1")  # no report: the curves are not looked at
    assert json.loads((files / "rows" / "hyp_score.json").read_text())["job"]["report"] is None
    (files / "other.json").write_text(json.dumps({**record, "result": {**record["result"], "CER": "0.5"}}))
    capsys.readouterr()
    assert call("--again", "other.json", "--record", "o2.json", "--report", "o2.html", "--csv", "o2.csv") == 1
    assert "CER 0.5 →" in capsys.readouterr().out and (files / "o2.json").is_file() and (files / "o2.html").is_file()
    for given, message in ((["--hyp", "x"], "not from --hyp: give only --report or --csv or --record besides"),
                           (["--record", "r_score.json"], "the record itself would be overwritten")):
        with pytest.raises(ValueError, match=message):
            call("--again", "r_score.json", *given)
    with pytest.raises(ValueError, match="give --ref and --hyp, or --again"):
        call("--ref", "x")
    for name, what in (("rooms.tsv", "condition"), ("rare.txt", "phrases"), ("hyp.tsv", "hypotheses")):
        (files / name).write_text((files / name).read_text() + "\n")
        with pytest.raises(ValueError, match=f"the {what} at .*{name} (is|are) not (that|those) of the record"):
            call("--again", "r_score.json")
        (files / name).write_text((files / name).read_text()[:-1])
    (files / "moved").mkdir()  # all of it elsewhere
    for name in ("cuts.jsonl.gz", "hyp.tsv", "other.tsv", "rare.txt", "rooms.tsv", "r_score.json"):
        (files / name).rename(files / "moved" / name)
    assert call("--again", "moved/r_score.json") == 0


def test_curves_of_a_report_are_inputs(files):
    pytest.importorskip("matplotlib")
    (files / "run").mkdir()
    (files / "run" / "metrics.json").write_text('{"step": 1, "train": {"loss": 2.0}}\n')
    call("--ref", files / "cuts.jsonl.gz", "--hyp", files / "hyp.tsv", "--report", files / "c.html", "--samples", 9,
         "--curves", files / "run")
    assert call("--again", files / "c_score.json") == 0
    (files / "run" / "metrics.json").write_text("")
    with pytest.raises(ValueError, match="the curves at"):
        call("--again", files / "c_score.json")


def test_hypotheses_in_the_newest_run_of_a_name(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    for stamp, name in (("20261124_101010", "other.tsv"), ("20261124_101011", "hyp.tsv")):
        folder = files / "exp" / f"{stamp}_stage3" / "decode"
        folder.mkdir(parents=True)
        (folder / "test.tsv").write_text((files / name).read_text(encoding="utf-8"), encoding="utf-8")
    call("--ref", "cuts.jsonl.gz", "--hyp", "exp/stage3/decode/test.tsv", "--against", "other.tsv", "--samples", 200)
    assert "14.81" in capsys.readouterr().out
    with pytest.raises(ValueError, match="exp/stage4/decode/test.tsv: no such file"):
        call("--ref", "cuts.jsonl.gz", "--hyp", "exp/stage4/decode/test.tsv")
