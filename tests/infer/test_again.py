"""Every command that measures something writes a record, and `--again` repeats it from there."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse")

from tests.infer.records import changed, write_tuned  # noqa: E402
from voxkit.checkpoint.loading import find_checkpoint  # noqa: E402
from voxkit.cli.main import main  # noqa: E402


def says(capsys, *argv):
    assert main(list(argv)) == 2
    return capsys.readouterr().err


def test_a_tuning_is_repeated_from_what_it_wrote(here, capsys):
    folder = here / "tuning"
    folder.mkdir()
    shutil.copy("lm.arpa", folder / "lm.arpa")
    (folder / "phrases.txt").write_text("ward\nheal me\t4.0\n")
    assert main(["tune", "exp/tiny", "--set", "test:0.5", "--methods", "joint", "prefix_beam", "--device", "cpu", "--beam", "2",
                 "--lm", "tuning/lm.arpa", "--phrases", "tuning/phrases.txt", "--lm-weights", "0.1", "0.9", "--ctc-weights", "0.2", "0.8",
                 "--length-bonuses", "0.25", "--boosts", "2.5", "--out", "tuning/tuned.json"]) == 0
    record = json.loads((folder / "tuned.json").read_text())
    assert record["again"] == "voxkit tune --again tuning/tuned.json" and record["job"]["set"] == "test:0.5"
    assert {"step", "tokenizer", "git", "voxkit", "torch", "date", "device"} <= record["made"].keys()
    assert set(record["inputs"]) == {"weights", "configuration", "cuts", "lm"}
    again = ["tune", "--again", "tuning/tuned.json", "--device", "cpu"]
    capsys.readouterr()
    assert main(again) == 0
    assert "the same as recorded" in capsys.readouterr().out
    repeated = json.loads((folder / "again" / "tuned.json").read_text())
    assert repeated["result"] == record["result"] and repeated["job"]["search"]["phrases"] == {"ward": None, "heal me": 4.0}

    other = changed(folder / "tuned.json", result__methods__joint__WER=0.5)
    assert main(["tune", "--again", other, "--device", "cpu"]) == 1
    assert (folder / "again" / "other.json").is_file()  # beside the first, not over it
    assert "joint WER 0.5 →" in capsys.readouterr().out
    for option, value in (("--beam", "7"), ("--boosts", "1"), ("--set", "test"), ("--methods", "joint")):
        assert f"not from {option}: " in says(capsys, *again, option, value)
    assert "the record itself would be overwritten" in says(capsys, *again, "--out", "tuning/tuned.json")
    assert "a record of `voxkit tune`, not of `voxkit decode`" in says(capsys, "decode", "--again", "tuning/tuned.json")
    assert "give a checkpoint, --set and --methods, or --again" in says(capsys, "tune", "exp/tiny", "--set", "test")
    (folder / "phrases.txt").unlink()  # the record holds them
    assert main([*again, "--out", "tuning/third.json"]) == 0
    capsys.readouterr()
    (folder / "lm.arpa").write_text((folder / "lm.arpa").read_text() + "\n")
    assert f"the language model (--lm) at {folder / 'lm.arpa'} is not that of the record" in says(capsys, *again)
    (folder / "lm.arpa").unlink()
    assert "the language model (--lm) of this record is not at" in says(capsys, *again)


def test_a_run_may_be_moved_with_its_records(here, tmp_path, capsys):
    """A copy of the run, with language model and tuned weights, where the first one is gone."""
    checkpoint = find_checkpoint("exp/tiny")
    old = tmp_path / "old"
    shutil.copytree(checkpoint, old / "checkpoints" / "best")
    (old / "decode").mkdir()
    shutil.copy("lm.arpa", old / "decode" / "lm.arpa")
    assert main(["tune", str(old / "checkpoints" / "best"), "--set", "test", "--methods", "prefix_beam", "--device", "cpu", "--beam", "2",
                 "--lm", str(old / "decode" / "lm.arpa"), "--lm-weights", "0.4", "--length-bonuses", "0"]) == 0
    old.rename(tmp_path / "new")
    assert main(["tune", "--again", str(tmp_path / "new" / "decode" / "tuned.json"), "--device", "cpu"]) == 0
    assert "the same as recorded" in capsys.readouterr().out
    config = tmp_path / "new" / "checkpoints" / "best" / "config.yaml"
    config.write_text(config.read_text() + "\n")
    assert f"the configuration at {config} is not that of the record" in says(
        capsys, "tune", "--again", str(tmp_path / "new" / "decode" / "tuned.json"), "--device", "cpu")


def test_hallucinations_are_counted_again(here, capsys):
    folder = here / "wind" / "strong"
    folder.mkdir(parents=True)
    soundfile.write(folder / "a.wav", np.random.default_rng(1).standard_normal(16000 * 2) * 0.1, 16000)
    (here / "shout.txt").write_text("ward\t40\n")
    write_tuned(here / "wind.json", {"prefix_beam": {"length_bonus": 0.5}}, phrases={"ward": 40.0})
    assert main(["hallucinate", "exp/tiny", "--folders", "wind", "--minutes", "0.03", "--seconds", "1", "--methods", "prefix_beam",
                 "greedy", "--phrases", "shout.txt", "--tuned", "wind.json", "--beam", "2", "--device", "cpu", "--out", "quiet"]) == 0
    path = here / "quiet" / "hallucination_prefix_beam_phrases1.json"
    record = json.loads(path.read_text())
    search = record["job"]["search"]
    assert search["phrases"] == {"ward": 40.0} and search["weights"]["length_bonus"] == 0.5 and record["inputs"]["recordings 1"]["sha256"]
    assert [row["record"] for row in csv.DictReader((here / "quiet" / "hallucination.csv").open())][0] == path.name
    (here / "shout.txt").unlink()  # phrases and tuned weights are in the record
    (here / "wind.json").unlink()
    again = ["hallucinate", "--again", str(path), "--device", "cpu"]
    capsys.readouterr()
    assert main(again) == 0
    printed = capsys.readouterr().out
    assert "the same as recorded" in printed and "greedy" not in printed
    assert (here / "quiet" / "again" / path.name).is_file()
    other = changed(path, result=[{**row, "words": 77} for row in record["result"]])
    assert main(["hallucinate", "--again", other, "--device", "cpu"]) == 1
    assert "1 words 77 →" in capsys.readouterr().out
    assert "not from --minutes: give only --device or --out" in says(capsys, *again, "--minutes", "1")
    assert "--out" in says(capsys, *again, "--out", "quiet")
    assert "give a checkpoint, or --again" in says(capsys, "hallucinate")
    soundfile.write(folder / "b.wav", np.zeros(16000), 16000)
    assert f"the recordings at {here / 'wind'} are not those of the record" in says(capsys, *again)


def test_a_decoding_is_not_repeated_with_another_configuration(here, capsys):
    assert main(["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--methods", "greedy", "--out", "configured"]) == 0
    path = here / "configured" / "test_greedy.json"
    assert "the configuration at" in says(capsys, "decode", "--again", changed(path, inputs__configuration__sha256="0"), "--device", "cpu")
