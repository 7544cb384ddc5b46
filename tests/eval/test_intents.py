"""Accuracy of intents and slots, and the curve of rejection against miss, counted by hand; `voxkit score --commands` says the same."""

import json

import pytest

from voxkit.cli.main import main
from voxkit.eval.intents import command_result, meaning, rejection_curve
from voxkit.eval.texts import read_texts
from voxkit.experiments.commands import command_scores
from voxkit.text.intents import Answer, Matcher
from voxkit.text.pack import load_pack

MEANT = {"a": Answer("go", "command", {"place": "mid"}), "b": Answer("go", "command", {"place": "roof", "mate": "bravo"}),
         "c": Answer("hold", "command"), "d": None, "e": None}
ANSWERS = {"a": Answer("go", "command", {"place": "mid"}, 0.9), "b": Answer("go", "command", {"place": "mid", "mate": "bravo"}, 0.6),
           "c": Answer("go", "command", {}, 0.8), "d": Answer("hold", "command", {}, 0.7)}


def test_counts():
    found = command_result(MEANT, ANSWERS, 0.5, {"d": 1800.0, "e": 1800.0})
    assert (found.commands, found.answered, found.intents, found.exact, found.slots, found.right_slots) == (3, 3, 2, 1, 3, 2)
    assert (found.others, found.false, found.hours) == (2, 1, 1.0) and found.missed == pytest.approx(1 / 3)
    assert found.row()["false/h"] == "1.0" and found.row()["slots"] == "66.7"


def test_the_curve_trades_one_for_the_other():
    curve = rejection_curve(MEANT, ANSWERS, confidences=(0.0, 0.65, 0.75, 0.95))
    assert [c.intents for c in curve] == [2, 1, 1, 0] and [c.false for c in curve] == [1, 1, 0, 0]


def test_references_say_what_they_mean_or_their_text_does():
    matcher = Matcher(load_pack("shooter"))
    assert meaning("Hold the line!", {}, matcher).intent == "hold" and meaning("hold the lion", {}, matcher) is None
    own = meaning("whatever", {"intent": "move", "slots": {"place": "mid"}}, matcher)
    assert own == Answer("move", "command", {"place": "mid"})
    with pytest.raises(ValueError, match="'fly' .*is none of pack shooter"):
        meaning("x", {"intent": "fly", "slots": {}}, matcher)


def test_the_command(tmp_path, capsys):
    said = {"u1": ("pick the lock", "pick the lock"), "u2": ("hold fire", "old fire"), "u3": ("nice weather", "open the door"),
            "u4": ("go to mid", "go to the roof")}
    for name, side in (("ref", 0), ("hyp", 1)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"id": i, "text": t[side], "duration": 3600}) + "\n"
                                                        for i, t in said.items()))
    scores = command_scores("shooter", read_texts(tmp_path / "ref.jsonl"), read_texts(tmp_path / "hyp.jsonl"), 0.7)
    found = scores.result
    assert (found.commands, found.intents, found.exact, found.false, found.hours) == (3, 3, 2, 1, 1.0)
    args = ["score", "--ref", str(tmp_path / "ref.jsonl"), "--hyp", str(tmp_path / "hyp.jsonl"), "--commands", "shooter",
            "--record", str(tmp_path / "r.json")]
    assert main(args) == 0
    assert "rejection against miss" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["result"]["commands"]["false"] == 1
    assert main(["score", "--again", str(tmp_path / "r.json")]) == 0
    (tmp_path / "none.jsonl").write_text('{"id": "u1", "text": "nice weather"}\n')
    assert main(["score", "--ref", str(tmp_path / "none.jsonl"), "--hyp", str(tmp_path / "none.jsonl"), "--commands", "shooter"]) == 2
    assert "none of the 1 references is a command" in capsys.readouterr().err
