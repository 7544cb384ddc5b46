"""What `voxkit benchmark` prints: figures of every kind, for whole files and for a stream, by a recognizer that costs nothing."""

import gzip
import json

import numpy as np
import pytest

from voxkit.audio.io import write_audio
from voxkit.hypothesis import Hypothesis, Word
from voxkit.runtime import benchmark
from voxkit.runtime.benchmark import Delay, Speed, read_folder
from voxkit.runtime.endpoint import Endpointing
from voxkit.runtime.streaming import StreamEvent
from voxkit.runtime.word_times import read_word_times


def test_files_of_a_folder(tmp_path):
    for i in range(6):
        write_audio(tmp_path / "deep" / f"{i}.wav", np.full(1600 * (i + 1), 0.1, np.float32))
    assert [(name, len(a)) for name, a in read_folder(tmp_path)] == [(str(i), 1600 * (i + 1)) for i in range(6)]
    assert [len(a) for _, a in read_folder(tmp_path, 3)] == [1600, 4800, 8000]
    with pytest.raises(ValueError, match="no audio files there"):
        read_folder(tmp_path / "none")


class _Session:
    """Says its first word a second after the beginning, and all of it once it has heard two seconds of silence's beginning."""

    def __init__(self):
        self.heard = 0

    def accept(self, samples):
        before, self.heard = self.heard, self.heard + len(samples)
        if before < 16000 <= self.heard:
            return [StreamEvent(False, Hypothesis("one"), 0.0, 1.0)]
        if before < 40000 <= self.heard:
            words = [Word("one", 0.2, 0.6, 1.0), Word("two", 1.0, 2.0, 1.0)]
            return [StreamEvent(True, Hypothesis("one two", words), 0.0, 2.5)]
        return []

    def feed(self, samples):
        pass

    def finalize(self):
        return []


class _Recognizer:
    def session(self, endpointing):
        return _Session()

    def step(self, sessions):
        return [[]]


def test_delays_are_waiting_and_computing(monkeypatch):
    """With a processor that needs no time there is nothing but waiting; with one that needs 20 ms a piece, both add up."""
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(benchmark.time, "process_time", lambda: now[0] / 2)
    speed = Speed()
    benchmark._spoken(_Recognizer(), np.zeros(32000, np.float32), Endpointing(silence=0.5), speed)
    assert speed.first_partial == [(pytest.approx(0.4), 0.0, 0.0)] and speed.final == [(pytest.approx(0.52), 0.0, 0.0)]  # pieces are 40 ms

    benchmark._spoken(_Recognizer(), np.zeros(32000, np.float32), Endpointing(silence=0.5), speed, [(0.1, 0.5), (0.9, 1.9)])
    assert speed.first_partial.pop() == (pytest.approx(0.5), 0.0, 0.0) and speed.final.pop() == (pytest.approx(0.62), 0.0, 0.0)
    benchmark._spoken(_Recognizer(), np.zeros(32000, np.float32), Endpointing(silence=0.5), speed, [])
    assert len(speed.first_partial) == len(speed.final) == 1  # of a recording whose words are not known no delay is taken

    class Slow(_Session):
        def accept(self, samples):
            now[0] += 0.02
            return super().accept(samples)

    monkeypatch.setattr(_Recognizer, "session", lambda self, endpointing: Slow())
    benchmark._spoken(_Recognizer(), np.zeros(32000, np.float32), Endpointing(silence=0.5), speed)
    assert speed.first_partial[1] == (pytest.approx(0.4), pytest.approx(0.02), pytest.approx(0.01))
    assert speed.final[1][1:] == (pytest.approx(0.02), pytest.approx(0.01))


def test_the_first_partial_is_the_one_that_stays(monkeypatch):
    """A first word that was taken for another does not count; of an utterance that stays without text no delay is taken."""
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(benchmark.time, "process_time", lambda: 0.0)

    class Mistaken(_Session):
        def accept(self, samples):
            if self.heard == 0:
                self.heard = len(samples)
                return [StreamEvent(False, Hypothesis("want"), 0.0, 0.04)]
            return super().accept(samples)

    class Deaf(_Session):
        def accept(self, samples):
            return []

    speed = Speed()
    for session, count in ((Mistaken, 1), (Deaf, 1)):
        monkeypatch.setattr(_Recognizer, "session", lambda self, endpointing, session=session: session())
        benchmark._spoken(_Recognizer(), np.zeros(32000, np.float32), Endpointing(silence=0.5), speed)
        assert len(speed.first_partial) == len(speed.final) == count
    assert speed.first_partial[0].waiting == pytest.approx(0.4) and len(speed.finalize) == 2


def test_rows():
    speed = Speed(3, 10.0, 2, 5.5, 0.5, 0.4, 1.0, 100.0, [Delay(0.4, 0.01, 0.004), Delay(0.2, 0.01, 0.004)],
                  [Delay(0.5, 0.02, 0.01)], [(0.1, 0.05), (0.2, 0.05)], 0.4)
    said = {row["what"]: row["measured"] for row in speed.rows()}
    assert said["RTF, wall"] == "0.0500" and said["size"] == "5.5 MB" and said["audio"] == "3 files, 10.0 s"
    assert said["first partial after the first word's end"] == (
        "310 ms (waiting for audio 300, computing 10, of the processor 4; medians of 2 of 3 files)")
    assert "95 % within 195 ms" in said["final after finalize"] and "within 50 ms" in said["the same, of the processor"]
    assert not [row for row in Speed(1, 1.0).rows() if "final" in row["what"]]
    json.dumps(speed.rows())


def test_word_times(tmp_path):
    (tmp_path / "words.ctm").write_text(";; made by hand\nb 1 0.5 0.25 two 0.9\nb 1 0.1 0.3 one 0.8\na 1 0.0 1.0 word\n")
    assert read_word_times(tmp_path / "words.ctm") == {"b": [(0.1, pytest.approx(0.4)), (0.5, 0.75)], "a": [(0.0, 1.0)]}
    cuts = [{"id": "u0", "supervisions": [{"alignment": {"word": [["ONE", 0.1, 0.2, None], ["TWO", 0.5, 0.25, None]]}}]},
            {"id": "u1", "supervisions": [{"text": "no times"}]}]
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(cut) + "\n" for cut in cuts)
    assert read_word_times(tmp_path / "cuts.jsonl.gz") == {"u0": [(0.1, pytest.approx(0.3)), (0.5, 0.75)]}
    (tmp_path / "bad.ctm").write_text("a 1 0.0 1.0 word\na 1 nan 1.0 word\n")
    with pytest.raises(ValueError, match="bad.ctm:2: a line of a CTM is"):
        read_word_times(tmp_path / "bad.ctm")
    (tmp_path / "none.jsonl").write_text('{"id": "u"}\n')
    with pytest.raises(ValueError, match="holds no word times"):
        read_word_times(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="word times come from a .ctm"):
        read_word_times(tmp_path / "words.txt")
    with pytest.raises(ValueError, match="none of the 1 recordings is among those"):
        benchmark.measure(tmp_path, [("x", np.zeros(9))], None, words={"y": [(0.0, 1.0)]})
