"""Sessions: whole, of one speaker under one condition, in random order, with exact continuation; what conditions do to sound."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.data.utterances import NUM, Letters
from voxkit.batch import Batch
from voxkit.data.augment import utterance_rng
from voxkit.data.conditions import Condition, Conditions, equalized, over_line, warped
from voxkit.data.config import DataConfig
from voxkit.data.session_config import ConditionConfig, SessionConfig
from voxkit.data.sessions import SessionSampler, build_session_loader
from voxkit.rate import RATE


@pytest.fixture
def spoken(sounds):
    """The utterances with six speakers, ten each."""
    from lhotse import CutSet

    root, cuts = sounds
    named = []
    for number, cut in enumerate(cuts):
        cut = cut.map_supervisions(lambda s, number=number: s.with_offset(0.0))
        cut.supervisions[0].speaker = f"s{number % 6}"
        named.append(cut)
    return root, CutSet.from_cuts(named)


def options(**changes) -> DataConfig:
    return DataConfig(**{"max_duration": 20.0, "num_workers": 0, "frames_per_second": 0.0, **changes})


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(x.ids == y.ids and x.sessions == y.sessions and x.audio.values.equal(y.audio.values)
                                    and x.tokens.values.equal(y.tokens.values) for x, y in zip(a, b))


SESSIONS = SessionConfig(utterances=[1, 2, 4])


def test_every_utterance_is_in_one_session_of_its_speaker(spoken):
    _, cuts = spoken
    speaker = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    sampler = SessionSampler(cuts, options(), SESSIONS.length, seed=3)
    for epoch, size in ((0, 1), (1, 2), (2, 4), (7, 4)):
        sessions = sampler.sessions(epoch)
        assert sorted(each.id for session in sessions for each in session) == sorted(speaker)
        for session in sessions:
            assert len({speaker[each.id] for each in session}) == 1 and len({each.session for each in session}) == 1
            assert len(session) <= size
        assert sum(len(session) == size for session in sessions) == 6 * (10 // size)
    first, again = ([[each.id for each in s] for s in sampler.sessions(e)] for e in (2, 3))
    assert first != again, "another epoch, another order"


def test_batches_hold_whole_sessions_of_like_length(spoken):
    _, cuts = spoken
    sampler = SessionSampler(cuts, options(), SESSIONS.length, seed=3)
    seen = 0
    for batch in sampler.batches(2):
        counts: dict[str, int] = {}
        for each in batch:
            counts[each.session] = counts.get(each.session, 0) + 1
        assert len(set(counts.values())) == 1
        assert len(counts) == 1 or len(batch) * max(each.cut.duration for each in batch) <= 20.0
        assert [each.session for each in batch] == [name for name, count in counts.items() for _ in range(count)]
        seen += len(batch)
    assert seen == NUM


def test_processes_share_an_epoch(spoken):
    _, cuts = spoken
    whole = [[each.id for each in batch] for batch in SessionSampler(cuts, options(), SESSIONS.length, seed=3).batches(1)]
    shares = [[[each.id for each in batch] for batch in SessionSampler(cuts, options(), SESSIONS.length, seed=3, rank=rank,
                                                                       world_size=2).batches(1)] for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    assert [batch for pair in zip(*shares) for batch in pair][:len(whole)] == whole


def test_the_loader_names_sessions_and_continues_exactly(spoken):
    root, cuts = spoken
    condition = ConditionConfig(gain_prob=0.7, noise_prob=0.7, noise=str(root / "noise"), rir_prob=0.5, rir=str(root / "rir"),
                                line_prob=0.5, warp_prob=0.5)
    sessions = SessionConfig(utterances=[4], condition=condition)
    make = lambda: build_session_loader(cuts, Letters(), options(), sessions, seed=5)  # noqa: E731
    loader = make()
    loader.set_epoch(1)
    whole = list(loader)
    assert all(len(batch.sessions) == batch.size for batch in whole)
    running = make()
    running.set_epoch(1)
    steps = iter(running)
    first = [next(steps) for _ in range(2)]
    fresh = make()
    fresh.load_state_dict(running.state_dict())
    assert same(first, whole[:2]) and same(list(fresh), whole[2:])


def test_a_session_has_one_condition_and_another_session_another(spoken):
    root, cuts = spoken
    conditions = Conditions(ConditionConfig(gain_prob=1.0, noise_prob=1.0, noise=str(root / "noise")))
    drawn = [conditions.draw(utterance_rng(0, 0, session, "condition")) for session in ("a", "a", "b")]
    assert drawn[0] == drawn[1] != drawn[2]
    none = Conditions(ConditionConfig()).draw(random.Random(0))
    assert none == Condition()


def test_dev_sessions_keep_their_order(spoken):
    _, cuts = spoken
    loader = build_session_loader(cuts, Letters(), options(), SessionConfig(dev_utterances=5), seed=5, train=False)
    ids = [id for batch in loader for id in batch.ids]
    assert sorted(ids) == sorted(cut.id for cut in cuts)
    again = build_session_loader(cuts, Letters(), options(), SessionConfig(dev_utterances=5), seed=9, train=False)
    by_session: dict[str, list[str]] = {}
    for batch in again:
        for id, session in zip(batch.ids, batch.sessions):
            by_session.setdefault(session, []).append(id)
    order = {cut.id: place for place, cut in enumerate(cuts)}
    assert all([order[id] for id in session] == sorted(order[id] for id in session) for session in by_session.values())


def test_changes_of_single_utterances_are_refused(spoken):
    _, cuts = spoken
    with pytest.raises(ValueError, match="speed_perturb.*data.sessions.condition"):
        build_session_loader(cuts, Letters(), options(speed_perturb=[0.9, 1.0]), SESSIONS, seed=1)


def tone(frequency: float, seconds: float = 0.5) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def level(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x[1000:-1000], dtype=np.float64))))


def test_a_warp_multiplies_frequencies():
    out = warped(tone(1000), 1.2)
    assert abs(len(out) - 0.5 * RATE / 1.2) <= 1
    peak = np.abs(np.fft.rfft(out * np.hanning(len(out)))).argmax() * RATE / len(out)
    assert abs(peak - 1200) < 5


def test_a_gain_curve_raises_what_it_says():
    curve = (0.0, 0.0, 0.0, 0.0, 0.0, 12.0, 12.0, 12.0)  # from 2 kHz on
    low, high = tone(200), tone(4000)
    out = equalized(low + high, curve)
    spectrum = np.abs(np.fft.rfft(out))
    ratio = spectrum[round(4000 * 0.5)] / spectrum[round(200 * 0.5)]
    assert abs(20 * np.log10(ratio) - 12) < 0.5 and abs(level(out) / level(low + high) - 1) < 0.05


def test_lines_let_through_what_they_do():
    assert level(over_line(tone(1000), "telephone")) > 0.95 * level(tone(1000))
    assert level(over_line(tone(5000), "telephone")) < 0.02 * level(tone(5000))
    assert level(over_line(tone(4000), "low_rate")) < 0.02 * level(tone(4000))
    coarse = over_line(tone(1000), "mu_law")
    assert 0.001 < np.abs(coarse - tone(1000)).max() < 0.01


def test_options_are_checked():
    assert "is not in [0, 1]" in ConditionConfig(gain_prob=2).problems()[0]
    assert "no noise is named" in ConditionConfig(noise_prob=0.5).problems()[0]
    assert "there are telephone" in ConditionConfig(lines=["radio"]).problems()[0]
    assert "give numbers of 1 or more" in SessionConfig(utterances=[]).problems()[0]
