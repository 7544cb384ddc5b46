"""`align --cuts` hears what training hears: the cut, and not the file behind it."""

import lhotse
import numpy as np
import pytest
import soundfile

from voxkit.experiments.align import AlignJob, align


@pytest.fixture
def stereo(here, tmp_path):
    """A cut of the second channel of a file whose first is loud noise."""
    rng = np.random.default_rng(5)
    said = soundfile.read(here / "data" / "test0.wav")[0]
    soundfile.write(tmp_path / "two.wav", np.stack([rng.normal(0, 0.5, len(said)), said], 1), 16000, subtype="FLOAT")
    recording = lhotse.Recording.from_file(tmp_path / "two.wav")
    spoken = lhotse.SupervisionSegment("s", recording.id, 0, recording.duration, channel=1, text="heal me")
    return lhotse.MonoCut("u", 0, recording.duration, 1, [spoken], recording=recording)


def _words(cuts, tmp_path):
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    found = align(AlignJob("exp/tiny", cuts=str(tmp_path / "cuts.jsonl.gz"), start_shift=0.0))
    assert not found.failures
    return {id: [(w.word, round(w.start, 3), round(w.end, 3), round(w.confidence, 5)) for w in h.words]
            for id, h in found.hypotheses.items()}


def test_the_channel_of_a_cut_is_heard(here, tmp_path, stereo):
    mono = next(iter(lhotse.load_manifest(here / "data" / "cuts_test.jsonl.gz"))).with_id("u")
    assert _words([stereo], tmp_path) == _words([mono], tmp_path)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_speed_of_a_cut_is_heard(here, tmp_path, factor):
    cut = next(iter(lhotse.load_manifest(here / "data" / "cuts_test.jsonl.gz"))).with_id("u")
    fast = cut.perturb_speed(factor)
    soundfile.write(tmp_path / "fast.wav", fast.load_audio()[0], 16000, subtype="FLOAT")
    recording = lhotse.Recording.from_file(tmp_path / "fast.wav")
    baked = recording.to_cut().with_id("u")
    baked.supervisions = [lhotse.SupervisionSegment("s", recording.id, 0, recording.duration, text=cut.supervisions[0].text)]
    assert _words([fast.with_id("u")], tmp_path) == _words([baked], tmp_path)
