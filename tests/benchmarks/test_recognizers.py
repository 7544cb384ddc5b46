"""Recognizers beside each other: clips by their length, ratios to the first, errors by Whisper's text rule."""

import time

import numpy as np
import pytest
import soundfile

from benchmarks.figures import Figures, read_figures
from benchmarks.recognizers import open_contestant, race, read_clips, table

pytest.importorskip("whisper_normalizer", reason="pip install 'voxkit[score]'")


@pytest.fixture
def clips(tmp_path):
    """Of 1, 2, 3 and 4 s, LibriSpeech's layout."""
    folder = tmp_path / "7" / "9"
    folder.mkdir(parents=True)
    for i in range(1, 5):
        soundfile.write(folder / f"7-9-{i:04}.flac", np.zeros(16000 * i, np.float32), 16000)
    (folder / "7-9.trans.txt").write_text("".join(f"7-9-{i:04} TWENTY DOLLARS {i}\n" for i in range(1, 5)))
    return tmp_path


def test_clips_of_a_length(clips):
    assert [c.id for c in read_clips(clips, 2.0, 3.0, 0)] == ["7-9-0002", "7-9-0003"]
    assert [c.id for c in read_clips(clips, 0.0, 9.0, 2)] == ["7-9-0001", "7-9-0003"]
    assert read_clips(clips, 4.0, 9.0, 0)[0].text == "TWENTY DOLLARS 4"
    with pytest.raises(ValueError, match="no clips of 5 to 9 s"):
        read_clips(clips, 5, 9, 0)


def test_ratios_are_to_the_first_and_errors_by_the_rule(clips, tmp_path):
    heard = read_clips(clips, 2.0, 4.0, 0)

    def slow(audio):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            np.sort(audio)
        return f"$20, {len(audio) // 16000}."

    contestants = {"whisper:slow": slow, "voxformer:quick": lambda audio: "", "whisper:deaf": lambda audio: "nothing"}
    found = race(contestants, heard, rounds=2)
    assert [len(own.wall) for own in found.values()] == [6, 6, 6]
    rows = table(found, heard, 1, 2, Figures("recognizers", str(tmp_path / "f.jsonl")))
    assert [row["× CPU"] for row in rows][0] == "1.00" and float(rows[1]["× CPU"]) > 2
    assert rows[0]["WER"] == "0.00" and rows[1]["WER"] == "random weights" and rows[2]["WER"] == "100.00"
    assert read_figures(tmp_path / "f.jsonl")["recognizers", "voxformer:quick, 1 thread(s), CPU", "times"].value > 2


def test_names_of_contestants(tmp_path):
    for name in ("whisper", "whisper:base:int4", "kaldi:base:int8"):
        with pytest.raises(ValueError, match="is no contestant"):
            open_contestant(name, tmp_path, tmp_path, 1, [])
