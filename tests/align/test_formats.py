import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("words", [
    ["a" * 30] * 5, ["a" * 41, "bb", "c" * 40, "d"], ["a" * 42] * 4, ["a" * 43, "b"], ["a" * 200, "b"], ["x", "a" * 85], ["我" * 50]])
def test_captions_of_long_words_have_two_lines(words):
    spoken = [Word(w, 0.2 * i, 0.2 * i + 0.2, 1.0) for i, w in enumerate(words)]
    for kind in ("srt", "vtt"):
        blocks = [b.splitlines() for b in render(kind, {"u": Hypothesis("", spoken)}).removeprefix("WEBVTT\n\n").split("\n\n")]
        texts = [lines[2 if kind == "srt" else 1:] for lines in blocks]
        assert all(1 <= len(t) <= 2 and all(len(line) <= 42 for line in t) for t in texts)
        assert "".join("".join(t) for t in texts).replace(" ", "") == "".join(words)
        assert sum(len(t) for t in texts) <= 2 * len(texts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("abcdefg->我\u3042 ", min_size=1, max_size=100), st.floats(0, 3)), max_size=12))
def test_no_caption_loses_a_letter(said):
    at, words = 0.0, []
    for text, seconds in said:
        words.append(Word(text, at, at + seconds, 1.0))
        at += seconds
    blocks = [b.splitlines() for b in render("srt", {"u": Hypothesis("", words)}).split("\n\n") if b.strip()]
    assert all(len(b) in (3, 4) and b[1].count("-->") == 1 and not any("-->" in line for line in b[2:]) for b in blocks)
    assert "".join("".join(b[2:]) for b in blocks).replace(" ", "").replace("\u2192", "-->") == "".join(t for t, _ in said).replace(" ", "")


def test_an_arrow_in_the_text_is_no_arrow_of_times():
    words = [Word("a-->b", 0.0, 0.2, 1.0), Word("-->", 0.2, 0.4, 1.0)]
    assert [line for line in render("srt", {"u": Hypothesis("", words)}).splitlines() if "-->" in line] == ["00:00:00,000 --> 00:00:00,400"]
    assert "a--&gt;b --&gt;" in render("vtt", {"u": Hypothesis("", words)})


def test_scripts_without_blanks_get_none():
    words = [Word(w, 0.1 * i, 0.1 * i + 0.1, 1.0) for i, w in enumerate(["今", "天", "3", "点", "go", "now", "走。"])]
    assert render("srt", {"u": Hypothesis("", words)}).splitlines()[2] == "今天 3 点 go now 走。"


def test_fields_of_a_ctm_hold_no_blanks():
    line = render("ctm", {"my id": Hypothesis("", [Word("new york", 0.0, 1.0, 1.0)])}).splitlines()[0]
    assert line.split() == ["my_id", "1", "0.000", "1.000", "new_york", "1.0000"]


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
