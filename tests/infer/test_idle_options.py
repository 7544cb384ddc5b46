"""A weight that would count for nothing where it was typed is refused; what a configuration says, and what a record repeats, is not."""


import pytest

pytest.importorskip("lhotse")

from tests.infer.records import weights_of  # noqa: E402
from voxkit.cli.main import main  # noqa: E402
from voxkit.experiments.settings import check_looked_at, check_needs  # noqa: E402

COMMANDS = {"decode": ["decode", "exp/tiny", "--sets", "test", "--methods", "prefix_beam", "greedy"],
            "tune": ["tune", "exp/tiny", "--set", "test", "--methods", "prefix_beam"],
            "transcribe": ["transcribe", "exp/tiny", "data/test0.wav", "--method", "prefix_beam"],
            "serve": ["serve", "exp/tiny", "--method", "prefix_beam"],
            "hallucinate": ["hallucinate", "exp/tiny", "--methods", "prefix_beam"]}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given, message", [
    (["--lm-weight", "0.5"], "--lm-weight 0.5: there is no --lm for which it would count; give one, or omit it"),
    (["--rescore-weight", "0.5"], "--rescore-weight 0.5: there is no --rescore-lm for which it would count"),
    (["--rescore-nbest", "3"], "--rescore-nbest 3: there is no --rescore-lm for which it would count"),
    (["--boost", "2"], "--boost 2: there is no --phrases for which it would count"),
    (["--coverage", "0.2"], "--coverage 0.2: prefix_beam"),
    (["--ctc-weight", "0"], "it is for beam, joint, rescoring. Name one of these, or omit it")])
def test_what_would_not_count_is_refused(here, monkeypatch, capsys, command, given, message):
    monkeypatch.setattr("voxkit.infer.recognizer.Recognizer.search", lambda *given: pytest.fail("searched"))
    monkeypatch.setattr("voxkit.serve.server.make_server", lambda *given, **more: pytest.fail("served"))
    assert main([*COMMANDS[command], *given, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_of_several_methods_one_is_enough():
    check_looked_at({"length_bonus": 1.0, "beam": 3, "coverage": None}, ["greedy", "prefix_beam"])
    check_looked_at({"beam": 3}, ["greedy"])
    with pytest.raises(ValueError, match="--length-bonus 1: greedy, beam would not look at it; it is for prefix_beam, att"):
        check_looked_at({"length_bonus": 1.0}, ["greedy", "beam"])


@pytest.mark.parametrize("given, message", [(["--lm-weights", "0.1", "0.2"], "--lm-weights 0.1 0.2: there is no --lm for which"),
                                            (["--length-bonuses", "1"], "--length-bonuses 1: there is no --lm or --rescore-lm for which"),
                                            (["--boosts", "1"], "--boosts 1: there is no --phrases for which"),
                                            (["--length-limits", "1", "--methods", "rescoring"],
                                             "--length-limits 1: rescoring would not look at it; it is for attention, joint"),
                                            (["--length-limits", "1", "0"], "--length-limit 0: "),
                                            (["--ctc-weights", "0.3", "--ctc-weight", "0.3"], "--ctc-weights and --ctc-weight: ")])
def test_values_that_tune_would_not_try(here, capsys, monkeypatch, given, message):
    monkeypatch.setattr("voxkit.infer.recognizer.Recognizer.search", lambda *given: pytest.fail("searched"))
    assert main(["tune", "exp/tiny", "--set", "test", "--methods", "joint", *given, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_a_configuration_may_say_what_it_likes(here, capsys):
    common = ["--sets", "test", "--device", "cpu", "--beam", "2", "--out", "idle"]
    overrides = ["decode.lm_weight=0.9", "decode.rescore_nbest=2", "decode.coverage=0.1"]
    assert main(["decode", "exp/tiny", *overrides, *common, "--methods", "greedy", "attention"]) == 0
    for method in ("greedy", "attention"):
        assert "lm_weight" not in weights_of(here / f"idle/test_{method}.json")  # which nothing looked at
        assert main(["decode", "--again", f"idle/test_{method}.json", "--device", "cpu"]) == 0
    assert main(["decode", "exp/tiny", *common, "--methods", "attention", "--length-limit", "0"]) == 2
    assert "--length-limit 0: " in capsys.readouterr().err


def test_needs_name_what_is_missing():
    check_needs({"lm_weight": 0.3, "lm": "lm.arpa", "boost": None, "phrases": None})
    with pytest.raises(ValueError, match="--boost 2: there is no --phrases"):
        check_needs({"boost": 2.0, "phrases": None})
