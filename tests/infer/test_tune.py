"""`voxkit tune`: the grid is searched by coordinates, what is chosen is what decoding then takes."""

import math

import pytest
import torch

pytest.importorskip("lhotse")

import lhotse  # noqa: E402

from tests.infer.records import record_of, weights_of, write_tuned  # noqa: E402
from voxkit.cli.main import main  # noqa: E402
from voxkit.eval.wer import score  # noqa: E402
from voxkit.hypothesis import Hypothesis  # noqa: E402
from voxkit.infer.decoding import EncodedBatch  # noqa: E402
from voxkit.infer.nonspeech import Hallucinations  # noqa: E402
from voxkit.infer.tuning import coordinate_search, word_error_rate  # noqa: E402


def test_coordinates_find_the_minimum_and_measure_nothing_twice():
    asked = []

    def measure(setting):
        asked.append(tuple(setting.values()))
        return (setting["x"] - 2) ** 2 + (setting["y"] - 3) ** 2 + 0.1 * setting["x"] * setting["y"]

    tried = coordinate_search(measure, {"x": [0, 1, 2, 3], "y": [0, 1, 2, 3]})
    assert dict(min(tried, key=tried.get)) == {"x": 2, "y": 3}
    assert len(asked) == len(set(asked)) == len(tried) < 16


def test_what_depends_on_one_another_is_tried_together():
    """The valley is a diagonal: no step along one axis leads out of the start."""
    def measure(setting):
        return abs(setting["x"] - setting["y"]) * 3 - setting["x"] + (setting["z"] - 1) ** 2

    grid = {"x": [0, 1, 2], "z": [0, 1], "y": [0, 1, 2]}
    alone, joined = (coordinate_search(measure, grid, together) for together in ((), ("x", "y")))
    assert dict(min(alone, key=alone.get)) == {"x": 0, "z": 1, "y": 0}
    assert dict(min(joined, key=joined.get)) == {"x": 2, "z": 1, "y": 2}


def test_a_setting_that_cannot_be_the_best_is_given_up():
    """The rest of the set is not searched for it; what is whole is as it was."""
    batches = [EncodedBatch([f"u{i}"], ["heal me"], i, 0.0, 0.0) for i in range(4)]
    searched = []

    class Babbling:
        def search(self, batch, options):
            searched.append(batch)
            return [Hypothesis("heal me now" if options == "little" else "heal heal heal heal me now")]

    assert word_error_rate(Babbling(), batches, "little") == (4 / 8, True) and searched == [0, 1, 2, 3]
    searched.clear()
    assert word_error_rate(Babbling(), batches, "much", below=4 / 8) == (4 / 8, False) and searched == [0]
    searched.clear()
    assert word_error_rate(Babbling(), batches, "little", below=4.5 / 8) == (4 / 8, True) and len(searched) == 4


def tune(*more):
    return main(["tune", "exp/tiny", "--set", "test", "--device", "cpu", "--beam", "2", *more])


def test_decode_takes_what_tune_chose(here, capsys):
    out = here / "tuned.json"
    fused = ["--lm", "lm.arpa", "--phrases", "phrases.txt"]
    assert tune("--methods", "prefix_beam", "joint", *fused, "--ctc-weights", "0.2", "0.8", "--lm-weights", "0.1", "0.9",
                "--length-bonuses", "0.25", "--boosts", "2.5", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    chosen = record_of(out)["result"]["methods"]
    assert set(chosen["joint"]) == {"ctc_weight", "lm_weight", "length_bonus", "boost", "WER", "tried"}
    assert "ctc_weight" not in chosen["prefix_beam"]
    lines = [line for line in printed.splitlines() if line.startswith("method joint,")]
    assert len(lines) == chosen["joint"]["tried"] >= 3
    assert chosen["joint"]["WER"] == pytest.approx(min(float(line.rsplit(" ", 1)[1]) for line in lines), abs=0.006)

    decode = ["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--beam", "2", "--tuned", str(out)]
    where = here / "decoded"
    assert main([*decode, "--methods", "greedy", "joint", *fused, "--out", str(where)]) == 0
    weight = chosen["joint"]["lm_weight"]
    record = record_of(where / f"test_joint_lm{weight:g}_phrases2.json")
    assert {key: record["job"]["search"]["weights"][key] for key in ("ctc_weight", "lm_weight", "length_bonus")} == {
        key: chosen["joint"][key] for key in ("ctc_weight", "lm_weight", "length_bonus")}
    assert record["job"]["search"]["phrases"] == {"ward": 2.5, "heal me": 4.0}
    assert float(record["result"]["WER"]) == pytest.approx(chosen["joint"]["WER"], abs=0.006)
    again = ["decode", "--again", str(where / f"test_joint_lm{weight:g}_phrases2.json"), "--device", "cpu", "--out", str(here / "again")]
    assert main(again) == 0

    assert tune("--methods", "joint", "--ctc-weights", "0.9") == 0
    assert main([*decode[:-1], "--methods", "joint", "--out", str(where)]) == 0
    assert weights_of(where / "test_joint.json")["ctc_weight"] == 0.9

    assert main([*decode, "--methods", "joint", *fused, "--lm-weight", "0.33", "--out", str(where)]) == 0
    assert weights_of(where / "test_joint_lm0.33_phrases2.json")["lm_weight"] == 0.33


def test_only_what_changes_a_search_is_tried(here, capsys):
    """Greedy takes phrases and no language model; what an option says is not tried but taken; what cannot be read is named."""
    cuts = lhotse.load_manifest("data/cuts_test.jsonl.gz").to_eager()
    (here / "broken.wav").write_bytes(b"no audio")
    broken = next(iter(cuts))
    broken.id, broken.recording.sources[0].source = "broken", "broken.wav"
    lhotse.CutSet.from_cuts([broken, *list(cuts)[1:]]).to_file("data/cuts_holed.jsonl.gz")
    fused = ["--lm", "lm.arpa", "--phrases", "phrases.txt", "--lm-weight", "0.4", "--length-bonus", "0.0", "--out", "some.json"]
    assert main(["tune", "exp/tiny", "--set", "holed", "--device", "cpu", "--beam", "2", "--methods", "greedy", "prefix_beam", *fused,
                 "--boosts", "1.0", "3.0"]) == 0
    printed = capsys.readouterr().out
    assert "without language model (--lm): method greedy" in printed and "broken: left out: " in printed
    content = record_of(here / "some.json")["result"]
    assert content["utterances"] == 3
    assert set(content["methods"]["greedy"]) == {"boost", "WER", "tried"} and content["methods"]["greedy"]["tried"] == 2
    assert content["methods"]["prefix_beam"].items() >= {"lm_weight": 0.4, "length_bonus": 0.0, "tried": 2}.items()


def test_a_bonus_for_attention_is_tuned_within_what_ctc_hears(here, monkeypatch):
    """Each setting says three tokens more than CTC expects at the most, and the limit is one of the things that are chosen."""
    monkeypatch.setattr("voxkit.search.decoder_methods.expected_tokens", lambda log_probs, lengths, blank: torch.ones(len(lengths)))
    found = []
    monkeypatch.setattr("voxkit.infer.tuning.score", lambda references, texts, normalize: found.append(texts) or score(references, texts))
    common = ["--methods", "attention", "--lm", "lm.arpa", "--lm-weights", "0.3", "--length-bonuses", "0", "20", "--out", "bounded.json"]
    assert tune(*common, "--length-limits", "1.5", "1.0") == 0
    chosen = record_of(here / "bounded.json")["result"]["methods"]["attention"]
    assert set(chosen) == {"lm_weight", "length_bonus", "length_limit", "WER", "tried"}
    said = [text for texts in found for text in texts.values() if text != "heal me"]
    assert said and max(map(len, said)) <= 5
    found.clear()
    assert tune(*common, "--length-limit", "inf") == 0
    assert max(len(text) for texts in found for text in texts.values()) > 10
    assert record_of(here / "bounded.json")["result"]["methods"]["attention"]["length_limit"] == math.inf


def test_the_limit_of_joint_is_kept_and_what_else_was_typed(here):
    limits = here / "limits.json"
    common = ["--ctc-weights", "0.3", "--out", "limits.json"]
    assert tune("--methods", "joint", "attention", *common, "--length-limits", "1.5", "1.0") == 0
    assert all(found["length_limit"] in (1.5, 1.0) for found in record_of(limits)["result"]["methods"].values())

    assert tune("--methods", "joint", "prefix_beam", *common, "--length-limit", "0.7", "--coverage", "0.1", "--phrases", "phrases.txt",
                "--boost", "2") == 0
    chosen = record_of(limits)["result"]["methods"]
    assert chosen["joint"].items() >= {"length_limit": 0.7, "coverage": 0.1, "ctc_weight": 0.3}.items()
    assert set(chosen["prefix_beam"]) == {"boost", "WER", "tried"}  # which looks at neither
    assert main(["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--beam", "2", "--methods", "joint", "--phrases", "phrases.txt",
                 "--tuned", "limits.json", "--out", "limited"]) == 0
    weights = weights_of(here / "limited" / "test_joint_phrases2.json")
    assert (weights["length_limit"], weights["coverage"], weights["beam"]) == (0.7, 0.1, 2)


def test_of_methods_that_were_not_tuned_it_is_said(here, capsys):
    write_tuned(here / "joint.json", {"joint": {"ctc_weight": 0.8}})
    decode = ["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--beam", "2", "--tuned", "joint.json", "--out", "partly"]
    assert main([*decode, "--methods", "joint", "rescoring"]) == 0
    assert "--tuned: no weights for rescoring, only for joint; " in capsys.readouterr().out
    assert [weights_of(here / f"partly/test_{m}.json")["ctc_weight"] for m in ("joint", "rescoring")] == [0.8, 0.3]
    assert main([*decode, "--methods", "rescoring"]) == 2
    assert "no weights for rescoring, only for joint; run `voxkit tune` with --methods rescoring" in capsys.readouterr().err


def test_the_language_model_is_known_by_what_it_holds(here, capsys):
    assert tune("--methods", "joint", "--lm", "lm.arpa", "--ctc-weights", "0.3", "--lm-weights", "0.2", "--length-bonuses", "0.0",
                "--out", "known.json") == 0
    (here / "copy.arpa").write_text((here / "lm.arpa").read_text())
    (here / "other.arpa").write_text((here / "lm.arpa").read_text() + "\n")
    decode = ["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--methods", "joint", "--tuned", "known.json", "--out", "known"]
    assert main([*decode, "--lm", "copy.arpa"]) == 0
    assert main([*decode, "--lm", "other.arpa"]) == 2
    assert "lm.arpa, and --lm other.arpa is another one" in capsys.readouterr().err


def test_transcribe_and_hallucinate_take_it_too(here, capsys, monkeypatch):
    write_tuned(here / "weights.json", {"joint": {"ctc_weight": 0.85}})
    taken = []
    monkeypatch.setattr("voxkit.infer.recognizer.Recognizer.transcribe",
                        lambda self, path, options: taken.append(options) or Hypothesis(""))
    monkeypatch.setattr("voxkit.experiments.hallucinate.hallucinations", lambda recognizer, clips, options: taken.append(options)
                        or {"all": Hallucinations()})
    assert main(["transcribe", "exp/tiny", "data/test0.wav", "--method", "joint", "--tuned", "weights.json"]) == 0
    assert main(["hallucinate", "exp/tiny", "--methods", "joint", "--tuned", "weights.json", "--device", "cpu", "--out", "none"]) == 0
    assert [options.ctc_weight for options in taken] == [0.85, 0.85]
    assert main(["transcribe", "exp/tiny", "data/test0.wav", "--method", "rescoring", "--tuned", "weights.json"]) == 2
    assert "no weights for rescoring" in capsys.readouterr().err


def test_errors_name_what_and_what_next(here, capsys):
    def says(*argv):
        assert main(list(argv)) == 2
        return capsys.readouterr().err

    assert "--methods prefix_beam: there is nothing to choose without --lm, --rescore-lm or --phrases" in says(
        "tune", "exp/tiny", "--set", "test", "--methods", "prefix_beam", "--device", "cpu")
    assert "none of greedy" in says("tune", "exp/tiny", "--set", "empty", "--methods", "joint", "beem", "--device", "cpu")  # before the set
    assert "set empty is empty" in says("tune", "exp/tiny", "--set", "empty", "--methods", "joint", "--device", "cpu")
    write_tuned(here / "lm-tuned.json", {"joint": {"lm_weight": 0.1}}, lm=here / "lm.arpa")
    decode = ["decode", "exp/tiny", "--sets", "test", "--methods", "joint", "--device", "cpu"]
    assert "give --lm" in says(*decode, "--tuned", "lm-tuned.json")
    assert "omit --phrases" in says(*decode, "--tuned", "lm-tuned.json", "--phrases", "phrases.txt", "--lm", "lm.arpa")
    assert "--tuned nothing.json: no such file; `voxkit tune" in says(*decode, "--tuned", "nothing.json")
    assert "not a file that `voxkit tune` wrote" in says(*decode, "--tuned", "phrases.txt")
