"""`voxkit transcribe --commands`: the answer beside the text, or null; the recognizer is a stand-in that says what the file is called."""

import json

import pytest

from voxkit.cli.main import main
from voxkit.hypothesis import Hypothesis


@pytest.fixture
def says(monkeypatch):
    def transcriber(job, say):
        def heard(path):
            yield 1.0, Hypothesis(path.replace("_", " "), token_confidences=[0.9]), True
        return heard

    monkeypatch.setattr("voxkit.experiments.transcribe.transcriber", transcriber)


def test_the_answer_or_nothing(says, capsys):
    assert main(["transcribe", "model", "PICK_THE_LOCK", "TRY_THE_LOCK", "--commands", "shooter"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    path, text, answer = first.split("\t")
    assert text == "PICK THE LOCK" and json.loads(answer) == {"intent": "pick_lock", "kind": "command", "slots": {}, "confidence": 0.9}
    assert second == "TRY_THE_LOCK\tTRY THE LOCK\tnull"


def test_in_json(says, capsys):
    assert main(["transcribe", "model", "GO_TO_MID", "--commands", "shooter", "--json", "--command-confidence", "0.95"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] is None
    assert main(["transcribe", "model", "GO_TO_MID", "--commands", "shooter", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"]["slots"] == {"place": "mid"}


def test_refused_before_anything_is_loaded(says, capsys):
    assert main(["transcribe", "model", "x", "--commands", "shooter", "--format", "srt"]) == 2
    assert "use --json" in capsys.readouterr().err
    assert main(["transcribe", "model", "x", "--commands", "no_such_pack"]) == 2
    assert "one of shooter, strategy" in capsys.readouterr().err
