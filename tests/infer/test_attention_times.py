"""Word times by cross-attention: through the command, and Whisper's own against known ones."""

import json

import pytest
import torch

from voxkit.cli.main import main
from voxkit.infer.attention_times import AttentionAligner, WhisperAligner
from voxkit.infer.recognizer import Recognizer

lhotse = pytest.importorskip("lhotse")


def test_by_our_decoder(here, capsys):  # noqa: F811
    assert main(["align", "exp/tiny", "--method", "attention", "--cuts", "data/cuts_test.jsonl.gz", "--out", "a.json"]) == 0
    assert "heads (layer, head)" in capsys.readouterr().err
    for line in (here / "a.json").read_text().splitlines():
        words = json.loads(line)["words"]
        assert [w["word"] for w in words] == ["heal", "me"]
        times = [t for w in words for t in (w["start"], w["end"])]
        assert times == sorted(times) and times[-1] <= json.loads(line)["audio_duration"]
    assert main(["align", "exp/tiny", "--cuts", "data/cuts_test.jsonl.gz", "--out-cuts", "timed.jsonl.gz", "--limit", "2"]) == 0
    assert main(["decode", "exp/tiny", "--sets", "timed.jsonl.gz", "--words", "--device", "cpu", "--out", "t"]) == 0
    assert "F1 50 ms" in capsys.readouterr().out
    assert main(["align", "exp/tiny", "--audio", "data/test0.wav", "--text", "heal", "--out-cuts", "x.jsonl.gz"]) == 2
    recognizer = Recognizer.load("exp/tiny")
    recognizer.model.decoder = None
    with pytest.raises(ValueError, match="needs an attention decoder"):
        AttentionAligner(recognizer)


def test_what_cannot_be_aligned_by_our_decoder_is_named(here, capsys):
    cuts = lhotse.load_manifest("data/cuts_test.jsonl.gz").to_eager()
    (here / "noise.wav").write_bytes(b"no audio")
    first, *others = cuts
    first.id, first.recording.sources[0].source = "noise", "noise.wav"
    lhotse.CutSet.from_cuts([first, *others]).to_file("data/cuts_noise.jsonl.gz")
    assert main(["align", "exp/tiny", "--method", "attention", "--cuts", "data/cuts_noise.jsonl.gz", "--out", "b.json"]) == 1
    assert "noise: " in capsys.readouterr().err and len((here / "b.json").read_text().splitlines()) == 3
    aligner = AttentionAligner(Recognizer.load("exp/tiny"))
    with pytest.raises(ValueError, match="no heads can be chosen"):
        aligner.choose([(torch.zeros(16000), " ")])
    with pytest.raises(ValueError, match="text is empty"):
        aligner.align(torch.zeros(16000), "")
    with pytest.raises(ValueError, match="./nowhere: no such folder"):
        WhisperAligner("./nowhere")
    (here / "hollow").mkdir()
    (here / "hollow" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot load the Whisper model hollow: .*; the folder must hold"):
        WhisperAligner("hollow")


def test_transcribe_takes_phrases_and_formats(here, capsys):  # noqa: F811
    (here / "loud.txt").write_text("ward\t40\n")
    assert main(["transcribe", "exp/tiny", "data/test0.wav", "--method", "prefix_beam", "--phrases", "loud.txt", "--format", "ctm"]) == 0
    assert "ward" in capsys.readouterr().out


def test_captions_of_several_recordings_are_several_files(here, capsys, monkeypatch):  # noqa: F811
    many = ["transcribe", "exp/tiny", "data/test0.wav", "data/test1.wav", "--format", "vtt"]
    assert main([*many, "--out", "captions"]) == 0
    assert all((here / f"captions/test{i}.vtt").read_text().startswith("WEBVTT") for i in (0, 1))
    capsys.readouterr()
    for argv, message in ((many, "add --out FOLDER"), ([*many[:3], "--out", "captions"], "say with --format"),
                          ([*many[:3], "data/../data/test0.wav", *many[4:], "--out", "captions"], "two of the files are called test0")):
        assert main(argv) == 2
        assert message in capsys.readouterr().err


@pytest.mark.real
def test_whisper_hears_pauses(real_models, real_corpus):
    """Two seconds of silence before an utterance move its words by two seconds."""
    from voxkit.audio.io import read_audio

    path = sorted((real_corpus / "LibriSpeech" / "dev-clean-2").rglob("*.flac"))[0]
    lines = (path.parent / f"{path.parent.parent.name}-{path.parent.name}.trans.txt").read_text().splitlines()
    text = dict(line.split(" ", 1) for line in lines)[path.stem]
    wave, seconds = read_audio(path)
    aligner = WhisperAligner(real_models / "whisper-tiny.en")
    plain = aligner.align(wave, text).words
    later = aligner.align(torch.cat([torch.zeros(32000), wave]), text).words
    assert [w.word for w in plain] == text.split() and plain[-1].end <= seconds + 0.02
    moved = sorted(b.start - a.start for a, b in zip(plain, later))
    assert moved[len(moved) // 2] == pytest.approx(2.0, abs=0.06)
    with pytest.raises(ValueError, match="30 s at most"):
        aligner.align(torch.zeros(31 * 16000), "x")
