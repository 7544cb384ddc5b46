"""Clips in which nobody speaks: as many minutes as asked for, empty transcripts, made once."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from voxkit.batch import Batch
from voxkit.data.config import DataConfig
from voxkit.data.corpora.nonspeech import NonspeechConfig, prepare_nonspeech
from voxkit.data.loader import build_train_loader
from voxkit.data.manifests import load_cuts


class Letters:
    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]


def test_as_many_minutes_as_asked_for_and_nothing_said(tmp_path):
    path = prepare_nonspeech(tmp_path, NonspeechConfig(minutes=0.5, high=4.0))
    cuts = list(load_cuts(path))
    assert 30 <= sum(cut.duration for cut in cuts) < 34 and {cut.supervisions[0].text for cut in cuts} == {""}
    assert all(1.0 <= cut.duration <= 4.0 for cut in cuts)
    loader = build_train_loader(load_cuts(path), Letters(), DataConfig(max_duration=10, num_workers=0), seed=0)
    batch = next(iter(loader))
    assert isinstance(batch, Batch) and batch.tokens.lengths.tolist() == [0] * batch.size and batch.audio.lengths.min() > 15000


def test_they_are_made_once_and_anew_where_the_options_change(tmp_path):
    path = prepare_nonspeech(tmp_path, NonspeechConfig(minutes=0.2))
    before = path.stat().st_mtime_ns
    assert prepare_nonspeech(tmp_path, NonspeechConfig(minutes=0.2)).stat().st_mtime_ns == before
    prepare_nonspeech(tmp_path, NonspeechConfig(minutes=0.2, seed=1))
    assert path.stat().st_mtime_ns != before


def test_half_comes_out_of_folders(tmp_path):
    noise = tmp_path / "noise"
    noise.mkdir()
    for n in range(4):
        soundfile.write(noise / f"{n}.wav", np.full(16000 * 5, 0.25), 16000)
    cuts = list(load_cuts(prepare_nonspeech(tmp_path / "out", NonspeechConfig(minutes=0.5, folders=[str(noise)]))))
    ours = [abs(float(cut.load_audio().mean()) - 0.25) < 0.01 for cut in cuts]
    assert 0 < sum(ours) < len(cuts) and 8 <= sum(cut.duration for cut, own in zip(cuts, ours) if own) <= 21


@pytest.mark.parametrize("options", [{"minutes": 0}, {"minutes": float("nan")}, {"low": 5, "high": 2}, {"high": 60}])
def test_options_that_cannot_be_are_named(tmp_path, options):
    with pytest.raises(ValueError, match="minutes|seconds"):
        prepare_nonspeech(tmp_path, NonspeechConfig(**options))
