"""`voxkit decode` with a trained Paraformer: every option, what goes without and why, records that repeat."""

import json

import pytest
import torch

pytest.importorskip("lhotse")

from tests.infer.tiny_paraformer import make_run  # noqa: E402
from voxkit.cli.main import main  # noqa: E402
from voxkit.hypothesis import Hypothesis  # noqa: E402
from voxkit.infer import decoding  # noqa: E402
from voxkit.infer.recognizer import Recognizer, SearchOptions  # noqa: E402

METHODS = ["greedy", "ctc_greedy", "beam", "prefix_beam", "rescoring"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("paraformer")
    make_run(root)
    lm = ["--text", str(root / "text.txt"), "--tokenizer", str(root / "data/tokens"), "--order", "2", "--out", str(root / "lm.arpa")]
    assert main(["lm", "train", *lm]) == 0
    (root / "names.txt").write_text("ward now\nheal\t2.0\n")
    return root


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def decode(*more, sets=("test",)):
    return main(["decode", "exp/tiny", "--sets", *sets, "--device", "cpu", "--beam", "4", *more])


def test_it_has_learned_its_words(here):
    """What the other tests stand on: every search says what was said."""
    assert decode("--methods", *METHODS, "--out", "plain") == 0
    for method in METHODS:
        assert json.loads((here / "plain" / f"test_{method}.json").read_text())["result"]["WER"] == "0.00", method


def test_calibration_latency_formats_and_records(here, capsys):
    assert decode("--methods", *METHODS, "--calibrate", "doubtful", "--latency", "3", "--formats", "ctm", "srt", "vtt", "textgrid") == 0
    out = here / "exp/tiny/decode"
    fitted = json.loads((out / "calibration.json").read_text())
    assert list(fitted["methods"]) == METHODS and fitted["timing"]["set"] == "doubtful"
    for method in METHODS:
        known, record = fitted["methods"][method], json.loads((out / f"test_{method}.json").read_text())
        assert known["temperature"] < 1 and known["ece_after"] < known["ece_before"] and known["words"] == 24  # it is too sure
        assert record["job"]["fitted"]["temperature"] == known["temperature"]
        assert float(record["result"]["end ms"]) > 0 and float(record["result"]["ms off"]) < 100 and "ECE" in record["result"]
        assert (out / f"test_{method}.ctm").read_text().count("\n") == 24
        assert {p.suffix for p in (out / f"test_{method}").iterdir()} == {".srt", ".vtt", ".TextGrid"}
        capsys.readouterr()
        assert main(["decode", "--again", str(out / f"test_{method}.json"), "--device", "cpu"]) == 0
        assert "the same as recorded" in capsys.readouterr().out


def test_the_95th_percentile_is_no_less_than_the_median(monkeypatch):
    """Also of two utterances; what is timed is made up."""
    taken = iter([9.0, 0.1, 0.3])  # warming up, then one each
    monkeypatch.setattr(decoding, "_timed", lambda *given: (next(taken), Hypothesis("")))
    found = decoding.measure_latency(None, [torch.zeros(1)] * 2, None)
    assert found.end == pytest.approx(200) and found.end_95 == pytest.approx(300)


def test_the_clock_waits_for_the_gpu(monkeypatch):
    """What a GPU still computes of the encoder belongs to every search, not to the first one."""
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    decoding.now(torch.device("cpu"))
    assert not waited
    decoding.now(torch.device("cuda"))
    assert waited == [torch.device("cuda")]


def test_of_a_paraformer_only_what_changes_a_search_is_tuned(here, capsys):
    tune = ["tune", "exp/tiny", "--set", "doubtful", "--device", "cpu", "--beam", "2", "--limit", "2", "--lm", "lm.arpa",
            "--lm-weights", "0.3"]
    assert main([*tune, "--methods", "beam", "prefix_beam", "--ctc-weights", "0.3", "--length-bonuses", "0", "--out", "tuned.json"]) == 0
    found = json.loads((here / "tuned.json").read_text())["result"]["methods"]
    assert {method: set(of) - {"WER", "tried"} for method, of in found.items()} == {
        "beam": {"ctc_weight", "lm_weight"}, "prefix_beam": {"lm_weight", "length_bonus"}}
    assert main([*tune, "--methods", "beam", "ctc_greedy"]) == 2
    assert "--methods ctc_greedy: there is nothing to choose" in capsys.readouterr().err


def test_a_bonus_that_only_the_configuration_has_is_no_error(here, capsys):
    """`beam` does not look at it: the recipe's run.sh may say it for the other methods, somebody who types it is told."""
    fused = ["--methods", "beam", "--lm", "lm.arpa", "--out", "bonus"]
    assert decode(*fused, "decode.lm_weight=0.2", "decode.length_bonus=0.5") == 0
    assert "length_bonus" not in json.loads((here / "bonus/test_beam_lm0.2.json").read_text())["job"]["search"]["weights"]
    assert decode(*fused, "--length-bonus", "0.5") == 2
    assert "--length-bonus 0.5: beam would not look at it" in capsys.readouterr().err


def test_without_a_ctc_head_its_searches_are_refused_at_once(here):
    recognizer = Recognizer.load("exp/tiny")
    recognizer.model.ctc = None
    with pytest.raises(ValueError, match="method rescoring needs a CTC head, and this model has none; use greedy, beam$"):
        recognizer.check(SearchOptions("rescoring"))


def test_what_takes_neither_goes_without(here, capsys):
    fused = ["--lm", "lm.arpa", "--phrases", "names.txt", "--calibrate", "doubtful", "--out", "fused"]
    assert decode("--methods", *METHODS, *fused) == 0
    printed = capsys.readouterr().out
    assert "without language model (--lm) and phrases (--phrases): method greedy takes no language model (--lm) and no phrases" in printed
    assert "it says all tokens at once" in printed and "use beam, prefix_beam, rescoring" in printed
    assert "without language model (--lm): method ctc_greedy takes no language model" in printed
    labels = ["greedy", "ctc_greedy_phrases2", *(f"{m}_lm0.3_phrases2" for m in METHODS[2:])]
    assert sorted(p.stem for p in (here / "fused").glob("test_*.json")) == sorted(f"test_{label}" for label in labels)
    assert json.loads((here / "fused/test_greedy.json").read_text())["job"]["search"]["phrases"] == {}
    assert sorted(json.loads((here / "fused/calibration.json").read_text())["methods"]) == sorted(labels)
    assert main(["decode", "--again", "fused/test_rescoring_lm0.3_phrases2.json", "--device", "cpu"]) == 0
    assert "the same as recorded" in capsys.readouterr().out


def test_of_phrases_greedy_alone_goes_without(here, capsys):
    assert decode("--methods", *METHODS, "--phrases", "names.txt", "--out", "phrases") == 0
    assert capsys.readouterr().out.count("without ") == 1
    assert len(list((here / "phrases").glob("test_*_phrases2.json"))) == 4


@pytest.mark.parametrize("options, message", [
    (["--methods", "greedy", "--phrases", "names.txt"], "greedy takes no phrases (--phrases): it says all tokens at once, none knows of "
                                                        "the others; use beam, ctc_greedy, prefix_beam, rescoring"),
    (["--phrases", "names.txt"], "method greedy takes no phrases (--phrases)"),
    (["--methods", "greedy", "ctc_greedy", "--lm", "lm.arpa"], "method ctc_greedy takes no language model (--lm)"),
    (["--methods", "beam", "joint"], "method joint needs an attention decoder, and this model has none; use greedy, guided, beam"),
])
def test_where_nothing_is_left_it_is_an_error(here, capsys, options, message):
    assert decode(*options, "--out", "nothing") == 2
    assert message in capsys.readouterr().err
    assert not (here / "nothing").exists()  # and it is said before anything is decoded


def test_features_without_audio(here, capsys):
    """No latency and no fitted word times, and it says so; confidences are calibrated all the same."""
    assert decode("--methods", "greedy", "prefix_beam", "--calibrate", "matrices", "--latency", "2", "--formats", "ctm",
                  "--out", "features", "data.input=features", sets=("matrices",)) == 0  # an override behind the options
    printed = capsys.readouterr().out
    assert "word times are left as they are" in printed and "latency is not measured" in printed
    content = json.loads((here / "features/calibration.json").read_text())
    assert list(content) == ["methods"] and list(content["methods"]) == ["greedy", "prefix_beam"]
    assert main(["decode", "--again", "features/matrices_greedy.json", "--device", "cpu"]) == 0
    assert "the same as recorded" in capsys.readouterr().out


def test_hallucinate_and_transcribe_refuse_alike(here, capsys):
    assert main(["hallucinate", "exp/tiny", "--minutes", "0.01", "--seconds", "0.6", "--methods", "greedy", "beam",
                 "--phrases", "names.txt", "--device", "cpu", "--out", "h"]) == 0
    assert "without phrases (--phrases): method greedy takes no phrases" in capsys.readouterr().out
    assert len(list((here / "h").glob("*.jsonl"))) == 2
    assert main(["transcribe", "exp/tiny", "data/u0.wav", "--lm", "lm.arpa"]) == 2
    assert "method greedy takes no language model (--lm)" in capsys.readouterr().err
