"""Overload, Opus and a button pressed late: as much as was asked for, in time, of the same length."""

import random

import numpy as np
import pytest

from voxkit.data.augment import Augment, utterance_rng
from voxkit.data.config import DataConfig
from voxkit.data.microphone import MicrophoneConfig, has_opus, opus, overload, press_late, through_microphone

opus_here = pytest.mark.skipif(not has_opus(), reason="this soundfile writes no Opus")


@pytest.fixture()
def speech():
    """Two seconds that rise and fall like syllables, below 4 kHz."""
    t = np.arange(32000) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)


def test_overload_cuts_off_the_peaks_and_keeps_the_height(speech):
    out = overload(speech, 6.0)
    assert out.dtype == np.float32 and np.abs(out).max() == pytest.approx(np.abs(speech).max())
    flat = np.isclose(np.abs(out), np.abs(out).max()).mean()
    assert flat == pytest.approx((np.abs(speech) >= np.abs(speech).max() * 10 ** (-6 / 20)).mean(), abs=1e-3) and flat > 0.2
    assert np.allclose(overload(speech, 0.0), speech) and not overload(np.zeros(10, np.float32), 6.0).any()


@opus_here
def test_opus_keeps_time_and_length_and_costs_quality(speech):
    errors = []
    for kbps in (8, 24, 96):
        out = opus(speech, kbps)
        assert out.shape == speech.shape and out.dtype == np.float32
        lag = np.correlate(out[8000:24000], speech[8000:24000], "full").argmax() - 15999
        assert abs(lag) <= 8
        errors.append(float(np.mean((out - speech) ** 2)))
    assert errors[0] > errors[2] > 0
    assert not opus(np.zeros(100, np.float32), 8).any()
    assert np.abs(opus(2 * speech / np.abs(speech).max(), 64)).max() > 1.5  # what is above full scale is not cut off


def test_the_button_is_pressed_late(speech):
    out = press_late(speech, 0.2, 0.1)
    assert not out[:3200].any() and not out[-1600:].any() and np.array_equal(out[3200:-1600], speech[3200:-1600])
    short = press_late(np.ones(1000, np.float32), 0.2, 0.2)
    assert short.sum() == 600  # a fifth at either end
    assert np.array_equal(press_late(speech, 0, 0), speech)


def test_as_often_as_asked_for_and_the_same_again(speech):
    config = MicrophoneConfig(cut_prob=0.5)
    changed = [not np.array_equal(through_microphone(speech, config, random.Random(seed)), speech) for seed in range(200)]
    assert 70 < sum(changed) < 130
    augment = Augment(DataConfig(microphone=MicrophoneConfig(clip_prob=1.0, cut_prob=1.0)))
    one, two, other = (augment(speech, utterance_rng(1, 0, name, "augment"))[0] for name in ("a", "a", "b"))
    assert np.array_equal(one, two) and not np.array_equal(one, other) and one.shape == speech.shape


def test_options_out_of_range_are_named():
    found = " ".join(MicrophoneConfig(clip_prob=2, opus_kbps=[1, 3], clip_db=[9, 3], cut_ms=-1).problems())
    assert all(name in found for name in ("clip_prob: 2", "opus_kbps: [1, 3]", "clip_db: [9, 3]", "cut_ms: -1"))
    assert DataConfig(microphone=MicrophoneConfig(opus_prob=0.1)).augments and not DataConfig().augments
    assert "microphone" in " ".join(DataConfig(input="features", microphone=MicrophoneConfig(cut_prob=0.1)).problems())
