"""`voxkit decode`: what it writes, that its record repeats it, and what it says of wrong input. The model is untrained: words are noise."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile

from tests.infer.records import changed, record_of, weights_of
from voxkit.checkpoint.loading import find_checkpoint
from voxkit.cli.main import main
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.recognizer import Recognizer
from voxkit.optional import MissingPackage
from voxkit.text.sentencepiece import train_characters
from voxkit.text.vocabulary import load_vocabulary


def decode(*more, sets=("test",)):
    return main(["decode", "exp/tiny", "--sets", *sets, "--device", "cpu", "--beam", "3", *more])


def test_language_model_and_phrases_and_the_record_repeats_it(here, capsys):
    """Greedy search takes no language model: the table has it without."""
    out = here / "out"
    methods = ["prefix_beam", "attention", "joint", "rescoring"]
    assert decode("--methods", "greedy", *methods, "--lm", "lm.arpa", "--phrases", "phrases.txt", "--formats", "ctm", "vtt",
                  "--latency", "1", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    for column in ("WER", "95 %", "RTF", "end ms", "first ms", "MB peak", "MB model"):
        assert column in printed
    assert "without language model (--lm): method greedy takes no language model (--lm): " in printed
    labels = ["greedy_phrases2", *(f"{m}_lm0.3_phrases2" for m in methods)]
    for label in labels:
        record = record_of(out / f"test_{label}.json")
        assert record["job"]["search"]["phrases"] == {"ward": 1.5, "heal me": 4.0} and record["result"]["method"] == label
        assert (out / f"test_{label}.ctm").is_file() and len(list((out / f"test_{label}").glob("*.vtt"))) == 4
    assert (out / "results.csv").read_text().count("\n") == 6
    assert main(["decode", "--again", str(out / f"test_{labels[3]}.json")]) == 0
    assert "the same as recorded" in capsys.readouterr().out


def test_a_strong_boost_is_obeyed(here):
    (here / "one.txt").write_text("ward\t40\n")
    for method in ("greedy", "prefix_beam", "joint", "attention", "rescoring"):
        assert decode("--methods", method, "--phrases", "one.txt", "--out", "strong") == 0
        texts = (here / "strong" / f"test_{method}_phrases1.tsv").read_text()
        assert "ward" in texts, method


def test_a_share_of_a_set_has_a_record_of_its_own(here, capsys):
    assert decode("--methods", "greedy", "--out", "part", sets=("test:0.5",)) == 0
    assert len((here / "part" / "test-0.5_greedy.jsonl").read_text().splitlines()) == 2
    assert decode("--methods", "greedy", "--limit", "3", "--out", "part") == 0
    assert len((here / "part" / "test-first3_greedy.jsonl").read_text().splitlines()) == 3
    assert main(["decode", "--again", "part/test-first3_greedy.json", "--device", "cpu"]) == 0
    assert main(["decode", "--again", "part/test-0.5_greedy.json"]) == 0
    assert "the same as recorded" in capsys.readouterr().out


def test_what_was_decoded_otherwise_is_set_aside(here, capsys):
    """The same set by the same method, but with another beam: both results are there, each with its record and its row."""
    for beam in ("1", "3", "3", "2"):
        assert decode("--methods", "prefix_beam", "--beam", beam, "--formats", "ctm", "vtt", "--out", "aside") == 0
    beams = {name: weights_of(here / "aside" / f"test_prefix_beam{name}.json")["beam"] for name in ("", ".1", ".2")}
    assert beams == {"": 2, ".1": 1, ".2": 3} and not (here / "aside" / "test_prefix_beam.3.json").exists()
    for name in (".1.jsonl", ".1.tsv", ".1.ctm", ".2.jsonl", ".jsonl"):
        assert (here / "aside" / f"test_prefix_beam{name}").is_file()
    assert all(len(list((here / "aside" / f"test_prefix_beam{name}").glob("*.vtt"))) == 4 for name in ("", ".1", ".2"))
    with (here / "aside" / "results.csv").open(newline="") as file:
        rows = [(row["beam"], row["record"]) for row in csv.DictReader(file)]
    second = "test_prefix_beam.2.json"
    assert rows == [("1", "test_prefix_beam.1.json"), ("3", second), ("3", second), ("2", "test_prefix_beam.json")]
    capsys.readouterr()
    assert main(["decode", "--again", "aside/test_prefix_beam.1.json", "--device", "cpu"]) == 0
    assert "the same as recorded" in capsys.readouterr().out


def test_again_compares_every_text(here, capsys):
    assert decode("--methods", "greedy", "--out", "texts") == 0
    kept = here / "texts" / "test_greedy.json"
    other = changed(kept, result__texts="0" * 64)  # other texts with as many errors
    assert main(["decode", "--again", other, "--device", "cpu"]) == 1
    assert f"texts {'0' * 64} → {record_of(kept)['result']['texts']}" in capsys.readouterr().out


def test_every_hypothesis_has_its_words(here, capsys):
    def words(out):
        lines = [json.loads(line) for line in (here / out / "test_greedy.jsonl").read_text().splitlines()]
        return [word for line in lines for word in line["words"]], " ".join(line["text"] for line in lines)

    assert decode("--methods", "greedy", "--out", "words") == 0
    printed = capsys.readouterr().out
    assert "word times are not fitted" in printed and "ms off" in printed
    found, text = words("words")
    assert " ".join(word["word"] for word in found) == text and all(0 <= word["confidence"] <= 1 for word in found)
    assert decode("--methods", "greedy", "--no-words", "--out", "bare") == 0
    assert "ms off" not in capsys.readouterr().out and words("bare")[0] == []
    assert decode("--methods", "greedy", "--no-words", "--formats", "ctm") == 2
    assert "--no-words leaves out what --formats writes" in capsys.readouterr().err


def test_elsewhere_the_runs_calibration_counts_where_there_is_no_other(here, capsys):
    fitted = {"methods": {"greedy": {"temperature": 2.0}}, "timing": {"start_shift": -0.05, "end_shift": 0.05}}
    own = find_checkpoint("exp/tiny").parent.parent / "decode" / "calibration.json"
    own.parent.mkdir(exist_ok=True)
    own.write_text(json.dumps(fitted))
    try:
        assert decode("--methods", "greedy", "--out", "elsewhere") == 0
        assert record_of(here / "elsewhere" / "test_greedy.json")["job"]["fitted"] == {"temperature": 2.0, "timing": fitted["timing"]}
        assert "word times are not fitted" not in capsys.readouterr().out
        (here / "elsewhere" / "calibration.json").write_text(json.dumps({"methods": {"greedy": {"temperature": 3.0}}}))
        assert decode("--methods", "greedy", "--out", "elsewhere") == 0
        assert record_of(here / "elsewhere" / "test_greedy.json")["job"]["fitted"] == {"temperature": 3.0, "timing": None}
    finally:
        own.unlink()


def test_words_at_the_peaks_that_the_search_saw(here, capsys):
    """A peak lasts one frame, so that a word of one letter does, where an alignment may give it more."""
    assert decode("--methods", "greedy", "prefix_beam", "--words", "--times", "peaks", "--out", "peaks") == 0
    frame = Recognizer.load("exp/tiny").model.seconds_per_frame
    lines = [json.loads(line) for line in (here / "peaks" / "test_prefix_beam.jsonl").read_text().splitlines()]
    words = [word for line in lines for word in line["words"]]
    assert [[w["word"] for w in line["words"]] for line in lines] == [line["text"].split() for line in lines] and words
    assert all(w["end"] - w["start"] == pytest.approx(frame, abs=2e-3) for w in words if len(w["word"]) == 1)
    assert main(["decode", "--again", "peaks/test_greedy.json", "--device", "cpu"]) == 0
    assert "the same as recorded" in capsys.readouterr().out
    fitted = {"methods": {"greedy": {"temperature": 2.0, "settings": {"times": "alignment"}}}}
    (here / "peaks" / "calibration.json").write_text(json.dumps(fitted))
    assert decode("--methods", "greedy", "--words", "--times", "peaks", "--out", "peaks") == 0
    assert "confidences are not calibrated: what was fitted for greedy is for times alignment and not peaks" in capsys.readouterr().out
    assert decode("--methods", "greedy", "joint", "--words", "--times", "peaks") == 2
    assert "method joint has no CTC peaks; --times peaks is for greedy, prefix_beam" in capsys.readouterr().err


def test_the_record_notices_changes(here, capsys):
    assert decode("--methods", "greedy", "--out", "kept") == 0
    kept = here / "kept" / "test_greedy.json"
    assert main(["decode", "--again", changed(kept, result__WER="0.01")]) == 1
    assert "WER 0.01 →" in capsys.readouterr().out
    for option, value in (("--beam", "7"), ("--tuned", "x.json"), ("--methods", "joint"), ("decode.beam=3", "train.epochs=1")):
        assert main(["decode", "--again", "kept/test_greedy.json", option, value]) == 2
        assert f"not from {option if option[0] == '-' else ''}" in capsys.readouterr().err
    assert main(["decode", "--again", "kept/test_greedy.json", "--out", "kept"]) == 2
    assert "--out kept: the record lies there and would be overwritten" in capsys.readouterr().err
    for name in ("weights", "cuts"):
        assert main(["decode", "--again", changed(kept, **{f"inputs__{name}__sha256": "0"})]) == 2
        assert "are not those of the record" in capsys.readouterr().err
    assert main(["decode", "--again", changed(kept, job__wurst=1)]) == 2
    assert "a DecodeJob has no wurst: the record is of another version" in capsys.readouterr().err
    assert main(["decode", "--again", "text.txt"]) == 2
    assert "not a record of `voxkit decode`" in capsys.readouterr().err


@pytest.mark.parametrize("options, message", [
    (["--methods", "beem"], "'beem' is none of greedy"),
    (["--methods", "beam"], "method beam needs a parallel decoder, and this model has none; use greedy, prefix_beam"),
    (["--methods", "greedy", "--lm", "lm.arpa"], "method greedy takes no language model (--lm)"),
    (["--lm", "nothing.arpa", "--methods", "joint"], "no language model at nothing.arpa"),
    (["--phrases", "nothing.txt"], "no such file"),
    (["--phrases", "latin.txt", "--methods", "joint"], "characters that the tokenizer lacks"),
    (["--phrases", "number.txt", "--methods", "joint"], "boost 'much' is no finite number"),
    (["--lm", "words.arpa", "--methods", "joint"], "over other tokens"),
    (["--lm", "fewer.arpa", "--methods", "joint"], "fewer.arpa is over other tokens"),
])
def test_wrong_options(here, capsys, options, message):
    (here / "latin.txt").write_text("HEAL\n")
    (here / "number.txt").write_text("heal\tmuch\n")
    main(["lm", "train", "--text", "text.txt", "--order", "2", "--out", "words.arpa"])
    train_characters(["heal me"], "data/fewer")  # a smaller tokenizer, all of whose pieces ours has too
    (here / "fewer.txt").write_text("heal me\n")
    main(["lm", "train", "--text", "fewer.txt", "--tokenizer", "data/fewer", "--order", "2", "--out", "fewer.arpa"])
    assert decode(*options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("method, installed, message", [("k2_hlg", True, "method k2_hlg needs --graph"),
                                                        ("k2_ctc", False, "k2 is needed for method k2_ctc")])
def test_what_k2_lacks_is_said_before_anything_is_encoded(here, capsys, monkeypatch, method, installed, message):
    def require(package, why):
        if not installed:
            raise MissingPackage(f"{package} is needed for {why}")

    monkeypatch.setattr("voxkit.search.graph_methods.require", require)
    monkeypatch.setattr("voxkit.infer.recognizer.Recognizer.encode", lambda *given: pytest.fail("encoded"))
    assert decode("--methods", "greedy", method) == 2
    assert message in capsys.readouterr().err


def test_a_temperature_counts_for_the_settings_it_was_fitted_with(here, capsys):
    settings = {"beam": 3, "ctc_weight": 0.3, "length_bonus": 0.0, "length_limit": 1.2, "coverage": 0.0, "length_power": None,
                "times": "alignment"}
    out = here / "settled"
    out.mkdir()
    known = {"joint": {"temperature": 2.0, "settings": settings}, "greedy": {"temperature": 3.0, "settings": {"times": "alignment"}}}
    (out / "calibration.json").write_text(json.dumps({"methods": known}))

    def record(*more, name="joint"):
        assert decode("--methods", "greedy", "joint", "--words", "--out", "settled", *more) == 0
        return record_of(out / f"test_{name}.json")["job"]["fitted"]["temperature"]

    assert record() == 2.0
    assert main(["decode", "--again", "settled/test_joint.json", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert record("--ctc-weight", "0.6") is None
    assert "what was fitted for joint is for ctc_weight 0.3 and not 0.6; fit it anew" in capsys.readouterr().out
    assert record("--beam", "4") is None and record("--beam", "4", name="greedy") == 3.0


def test_an_empty_set(here, capsys):
    assert decode(sets=("empty",)) == 2
    assert "set empty is empty" in capsys.readouterr().err


def test_another_tokenizer_is_refused(here, tmp_path):
    copy = tmp_path / "checkpoint"
    shutil.copytree(find_checkpoint("exp/tiny"), copy)
    train_characters(["lame h", "draw"], copy)  # the same letters in another order: as many pieces, other meanings
    assert load_checkpoint(find_checkpoint("exp/tiny")).vocabulary.size == load_vocabulary(copy).size
    with pytest.raises(ValueError, match="not the one it was trained with"):
        load_checkpoint(copy)


def test_hallucinations_are_counted(here, capsys):
    folder = here / "noises" / "wind"
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "a.wav", np.random.default_rng(1).standard_normal(16000 * 3) * 0.1, 16000)
    (folder / "0broken.wav").write_bytes(b"no audio")
    (here / "loud.txt").write_text("ward\t40\n")
    assert main(["hallucinate", "exp/tiny", "--folders", "noises", "--minutes", "0.05", "--seconds", "1.5", "--methods", "prefix_beam",
                 "--phrases", "loud.txt", "--device", "cpu", "--out", "h"]) == 0
    printed = capsys.readouterr().out
    assert "words/min" in printed and "left out" in printed
    rows = list(csv.DictReader((here / "h" / "hallucination.csv").open()))
    assert [r["condition"] for r in rows] == ["silence", "white", "pink", "hum", "clicks", "wind", "all"]
    assert [r["clips"] for r in rows] == ["2"] * 6 + ["12"]
    said = [json.loads(line) for line in (here / "h" / "hallucination_prefix_beam_phrases1.jsonl").read_text().splitlines()]
    words = sum(len(s["text"].split()) for s in said)
    assert words == int(rows[-1]["words"]) > 0 and float(rows[-1]["words/min"]) == pytest.approx(words / (12 * 1.5) * 60, abs=0.01)
    (here / "nothing").mkdir(exist_ok=True)
    assert main(["hallucinate", "exp/tiny", "--folders", "nothing", "--device", "cpu", "--minutes", "0.01"]) == 2
    assert "no audio there" in capsys.readouterr().err


def test_commands_that_nobody_gave_are_counted(here):
    """The untrained model says words where they are favored; the pack's one command is the first of what it says."""
    (here / "loud.txt").write_text("ward\t40\n")
    args = ["hallucinate", "exp/tiny", "--minutes", "0.05", "--seconds", "1.5", "--methods", "prefix_beam", "--phrases", "loud.txt",
            "--device", "cpu", "--out", "empty"]
    result = here / "empty/hallucination_prefix_beam_phrases1.json"
    assert main(args) == 0
    said = [" ".join(json.loads(line)["text"].split()) for line in result.with_suffix(".jsonl").read_text().splitlines()]
    (here / "pack.yaml").write_text(json.dumps({"templates": [{"intent": "odd", "say": [said[0]]}]}))
    assert main([*args, "--commands", "pack.yaml", "--command-confidence", "1"]) == 0
    row = json.loads(result.read_text())["result"][-1]
    assert row["condition"] == "all" and row["commands"] == said.count(said[0]) > 0
    assert main(["hallucinate", "--again", str(result), "--device", "cpu"]) == 0
