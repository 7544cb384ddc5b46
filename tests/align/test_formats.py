import json

import pytest

from voxkit.align.formats import render, write
from voxkit.eval.boundaries import boundary_scores
from voxkit.hypothesis import Hypothesis, Word

WORDS = [Word("heal", 0.1, 0.4, 0.9), Word('"me"', 0.4, 0.5, 0.8), Word("now", 3601.0, 3601.25, 1.0)]
HYPOTHESIS = Hypothesis('heal "me" now', WORDS, audio_duration=3602.0)


def test_formats():
    one = {"u": HYPOTHESIS}
    record = json.loads(render("json", one))
    assert record["id"] == "u" and record["words"][1] == {"word": '"me"', "start": 0.4, "end": 0.5, "confidence": 0.8}
    assert render("ctm", one).splitlines()[0] == "u 1 0.100 0.300 heal 0.9000"
    assert render("srt", one).splitlines()[:3] == ["1", "00:00:00,100 --> 00:00:00,500", 'heal "me"']
    vtt = render("vtt", one)
    assert vtt.startswith("WEBVTT\n\n00:00:00.100 --> 00:00:00.500\n") and "01:00:01.000 --> 01:00:01.250\nnow" in vtt
    grid = render("textgrid", one)
    assert 'text = """me"""' in grid and "intervals: size = 6" in grid and "xmax = 3602.000000" in grid


def test_captions_are_short():
    words = [Word(f"word{i}", 0.5 * i, 0.5 * i + 0.4, 1.0) for i in range(60)]
    blocks = render("srt", {"u": Hypothesis("", words)}).split("\n\n")
    assert all(len(line) <= 42 for block in blocks for line in block.splitlines()) and all(len(b.splitlines()) <= 4 for b in blocks)
    assert sum(block.count("word") for block in blocks) == 60


def test_ctm_is_in_the_order_sclite_wants():
    lines = render("ctm", {"b": HYPOTHESIS, "a": HYPOTHESIS}).splitlines()
    assert [line.split()[0] for line in lines] == ["a"] * 3 + ["b"] * 3


def test_nothing_lasts_no_time():
    """Neither an interval of a TextGrid (Praat) nor a cue (WebVTT) may be empty; audio ends between microseconds."""
    seconds = 35841 / 16000
    one = {"u": Hypothesis("heal me", [Word("heal", 0.5, 0.5, 1.0), Word("me", 2.0, seconds, 1.0)], audio_duration=seconds)}
    places = [float(line.split("= ")[1]) for line in render("textgrid", one).splitlines() if line.strip().startswith("xm")][4:]
    assert places[0] == 0 and all(a < b for a, b in zip(places[::2], places[1::2])) and places[1:-1:2] == places[2::2]
    cues = [line.split(" --> ") for line in render("vtt", one).splitlines() if "-->" in line]
    assert len(cues) == 2 and all(start < end for start, end in cues)


def test_writing(tmp_path):
    assert write(tmp_path / "a.ctm", {"u": HYPOTHESIS, "v": HYPOTHESIS}) == [tmp_path / "a.ctm"]
    assert sorted(p.name for p in write(tmp_path / "b.TextGrid", {"u": HYPOTHESIS, "v": HYPOTHESIS})) == ["u.TextGrid", "v.TextGrid"]
    with pytest.raises(ValueError, match="srt"):
        write(tmp_path / "c.doc", {"u": HYPOTHESIS})
    with pytest.raises(ValueError, match="one recording"):
        render("srt", {})


def test_boundaries():
    moved = [Word("heal", 0.13, 0.41, 1.0), Word("them", 0.41, 0.5, 1.0), Word("now", 3601.08, 3601.25, 1.0)]
    result = boundary_scores([WORDS], [moved])
    assert result.words == 2 and result.error == pytest.approx((0.03 + 0.01 + 0.08) / 4)
    assert result.f1 == pytest.approx(2 * 3 / 12) and result.start_bias == pytest.approx(0.055)
