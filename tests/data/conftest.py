"""Audio on disk that the tests of data share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.data.frozen import write
from tests.data.utterances import NUM


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """NUM utterances of 0.3 to 2 s, three noises and two impulse responses."""
    from lhotse import CutSet, Recording, SupervisionSegment

    root = tmp_path_factory.mktemp("sounds")
    draw = np.random.default_rng(0)
    cuts = []
    for i in range(NUM):
        samples = draw.normal(scale=0.1, size=int(draw.uniform(0.3, 2.0) * 16000))
        soundfile.write(root / f"u{i:02}.wav", samples, 16000)
        recording = Recording.from_file(root / f"u{i:02}.wav")
        cut = recording.to_cut()
        cut.id = recording.id
        text = "".join(draw.choice(list("ABC"), size=int(recording.duration * 4)))
        cut.supervisions = [SupervisionSegment(cut.id, recording.id, 0.0, recording.duration, text=text)]
        cuts.append(cut)
    for folder, lengths in (("noise", (4000, 16000, 160000)), ("rir", (800, 3000))):
        (root / folder).mkdir()
        for n in lengths:
            soundfile.write(root / folder / f"{n}.wav", draw.normal(scale=0.1, size=n) * np.exp(-np.arange(n) / 500), 16000)
    return root, CutSet.from_cuts(cuts)


@pytest.fixture
def cuts(tmp_path):
    """Five utterances and their copies at another speed."""
    from lhotse import CutSet, Recording

    (tmp_path / "audio").mkdir()
    files = [write(tmp_path / "audio", f"u{i}", 3200 + 800 * i, i) for i in range(5)]
    plain = [Recording.from_file(path).to_cut() for path in files]
    return CutSet.from_cuts([*plain, *(cut.perturb_speed(1.1) for cut in plain)])


@pytest.fixture
def where(tmp_path) -> Path:
    """For a cache of states."""
    return tmp_path / "cache"
