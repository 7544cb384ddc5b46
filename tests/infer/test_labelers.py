"""voxkit's own models as labelers: the command from end to end, with an untrained run and a pack."""

import json
import shutil

from voxkit.audio.io import read_audio
from voxkit.cli.main import main
from voxkit.infer.labelers import CheckpointLabeler
from voxkit.infer.recognizer import Recognizer


def test_a_checkpoint_labels_as_it_transcribes(here):
    audio = read_audio("data/test0.wav")[0]
    label = CheckpointLabeler("exp/tiny").label(audio.numpy())
    assert label.text == Recognizer.load("exp/tiny").transcribe(audio).text and 0 < label.confidence <= 1


def test_phrases_are_favored_where_the_search_takes_them(here):
    audio = read_audio("data/test0.wav")[0].numpy()
    plain, told = (CheckpointLabeler("exp/tiny", "prefix_beam", phrases).label(audio).text for phrases in ((), ["ward me"]))
    assert told != plain


def test_the_command_labels_and_goes_on(here, capsys):
    shutil.copytree("exp", "copy", dirs_exist_ok=True)
    (here / "p.json.yaml").write_text(json.dumps({"terms": {"verb": ["ward", "heal me"]}}))
    args = ["pseudo-label", "data/test0.wav", "data/test1.wav", "--whole", "--recognizers", "exp/tiny", "copy/tiny", "--out", "labels",
            "--pack", "p.json.yaml", "--words-per-second", "0", "100", "--max-compression", "100"]
    assert main(args) == 0
    assert "segments are kept" in capsys.readouterr().out
    before = (here / "labels/labels.jsonl").read_bytes()
    assert len(before.splitlines()) == 2 and main(args) == 0 and (here / "labels/labels.jsonl").read_bytes() == before
    first, second = json.loads(before.splitlines()[0])["segments"][0]["labels"]
    assert first == second
    assert main([*args[:-2], "--text", "librispeech"]) == 2
    assert "another" in capsys.readouterr().err
