"""Games' speech: no text in two splits, nothing of a test set in training, licenses recorded."""

import json

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.data.corpora.gaming import prepare_gaming, read_source, spelled, split_by_text
from voxkit.data.manifests import load_cuts

SAID = {
    "callouts": ["Enemy LZ Detected", "Research & Development", "No"],
    "briefings": ["Commander, hold the line."],
    "fotaq": ["No.", "Hello there", "HELLO there!", "(sigh)", "It's a 30 millimeter wrench", *(f"line {w}" for w in "abcdefgh")],
    "bass": ["Hello, there.", "hold the line commander", "Commander hold the line", *(f"Line {w}" for w in "abcxyz")],
}


@pytest.fixture
def corpus(tmp_path):
    rng = np.random.default_rng(0)
    for name, texts in SAID.items():
        (tmp_path / "gaming" / name / "clips").mkdir(parents=True)
        lines = ["path\tspeaker\ttext"]
        for i, text in enumerate(texts):
            soundfile.write(tmp_path / "gaming" / name / f"clips/{i}.flac", rng.normal(scale=0.1, size=16000), 16000)
            lines.append(f"clips/{i}.flac\tjoe\t{text}")
        (tmp_path / "gaming" / name / "text.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "gaming/fotaq/LICENSE.txt").write_text("keep this notice")
    return tmp_path / "gaming"


def texts_of(data, split):
    return [cut.supervisions[0].text for cut in load_cuts(data / f"cuts_{split}.jsonl.gz")]


def test_no_text_is_in_two_splits(corpus, tmp_path):
    data = tmp_path / "data"
    preparation = prepare_gaming(data, corpus, dev=3, jobs=1)
    splits = {split: set(texts_of(data, split)) for split in preparation.reports}
    assert sorted(splits) == ["bass_dev", "bass_train", "briefings", "callouts", "fotaq_dev", "fotaq_train"]
    train = splits["fotaq_train"] | splits["bass_train"]
    dev = splits["fotaq_dev"] | splits["bass_dev"]
    test = splits["callouts"] | splits["briefings"]
    assert not train & dev and not (train | dev) & test
    assert len(texts_of(data, "fotaq_dev")) >= 3 and len(texts_of(data, "bass_dev")) >= 3
    assert "RESEARCH AND DEVELOPMENT" in splits["callouts"] and "HOLD THE LINE COMMANDER" in train | dev
    reasons = {e["id"]: e["reason"] for e in json.loads((data / "validation.json").read_text())["fotaq_train"]["left_out"]}
    assert reasons == {"fotaq-0": "text of a test set", "fotaq-3": "figures or stage directions in the text",
                       "fotaq-4": "figures or stage directions in the text"}


def test_doubtful_labels_and_licenses_are_on_record(corpus, tmp_path):
    data = tmp_path / "data"
    args = ["prepare", "gaming", "--corpus-dir", str(corpus), "--out", str(data), "--dev-clips", "2", "--jobs", "1"]
    assert main([*args, "--sets", "callouts"]) == 0
    cuts = {cut.supervisions[0].text: cut.supervisions[0] for cut in load_cuts(data / "cuts_callouts.jsonl.gz")}
    assert {text: s.custom["label"] for text, s in cuts.items()} == {"ENEMY LZ DETECTED": "doubtful", "RESEARCH AND DEVELOPMENT": "sure",
                                                                    "NO": "sure"}
    assert main([*args, "--sets", "fotaq"]) == 0
    licenses = json.loads((data / "licenses.json").read_text())
    assert sorted(licenses) == ["callouts", "fotaq_dev", "fotaq_train"] and licenses["callouts"]["license"] == "GPL-2.0-or-later"
    assert (data / licenses["fotaq_dev"]["notice"]).read_text() == "keep this notice"
    before = (data / "cuts_fotaq_dev.jsonl.gz").stat().st_mtime_ns
    assert main([*args, "--sets", "fotaq"]) == 0 and (data / "cuts_fotaq_dev.jsonl.gz").stat().st_mtime_ns == before


def test_mistakes_are_named(corpus, tmp_path):
    with pytest.raises(ValueError, match="--sets chess: none of callouts, briefings, fotaq, bass"):
        prepare_gaming(tmp_path / "d", corpus, ["chess"])
    (corpus / "bass/clips/1.flac").unlink()
    with pytest.raises(ValueError, match="1 of 9 clips are not there, the first is .*1.flac"):
        prepare_gaming(tmp_path / "d", corpus, ["bass"])
    with pytest.raises(ValueError, match="no such table"):
        prepare_gaming(tmp_path / "d", tmp_path / "nowhere", ["fotaq"])
    assert spelled("Rock `n' roll & more ") == "Rock 'n' roll and more"


def test_the_real_tables_share_no_text(shared_dir):
    """The texts alone: the clips are Opus there."""
    root = shared_dir / "data" / "gaming"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    splits, reasons = split_by_text({name: read_source(root, name) for name in SAID}, 300)
    keys = {split: {clip.key for clip in clips} for split, clips in splits.items()}
    groups = [keys["fotaq_train"] | keys["bass_train"], keys["fotaq_dev"] | keys["bass_dev"], keys["callouts"] | keys["briefings"]]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert all(300 <= len(splits[f"{name}_dev"]) < 400 for name in ("fotaq", "bass"))
    assert len(splits["callouts"]) == 241 and len(splits["fotaq_train"]) > 5500 and len(reasons["fotaq_train"]) < 300
