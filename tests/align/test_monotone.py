"""The monotone path with pauses against every path there is, and against DTW where somebody pauses."""

from __future__ import annotations

import itertools

import pytest
import torch

from voxkit.align.dtw import dtw
from voxkit.align.monotone import monotone_path, refine


def brute_force(words: torch.Tensor, pause: torch.Tensor, shortest: int) -> float:
    count, frames = words.shape
    best = -float("inf")
    for edges in itertools.combinations_with_replacement(range(frames + 1), 2 * count):
        spans = list(zip(edges[::2], edges[1::2]))
        if any(e - s < shortest for s, e in spans):
            continue
        best = max(best, score(words, pause, spans))
    return best


def score(words, pause, spans) -> float:
    labels = torch.full((words.shape[1],), -1)
    for u, (s, e) in enumerate(spans):
        labels[s:e] = u
    return float(sum(pause[t] if u < 0 else words[u, t] for t, u in enumerate(labels.tolist())))


@pytest.mark.parametrize("count, frames, shortest", [(1, 1, 1), (1, 6, 2), (2, 7, 1), (3, 8, 1), (3, 8, 2), (3, 3, 1), (2, 8, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_path_is_better(count, frames, shortest, seed):
    x = (2 * torch.randn(count + 1, frames, generator=torch.Generator().manual_seed(seed))).log_softmax(0)
    path = monotone_path(x[1:], x[0], shortest)
    assert all(e - s >= shortest for s, e in path) and all(a[1] <= b[0] for a, b in zip(path, path[1:]))
    assert 0 <= path[0][0] and path[-1][1] <= frames
    assert score(x[1:], x[0], path) == pytest.approx(brute_force(x[1:], x[0], shortest), abs=1e-5)


def test_a_pause_belongs_to_no_word_where_dtw_gives_it_to_one():
    truth = [-1, -1, 0, 0, 0, -1, -1, -1, -1, 1, 1, 1, -1]
    p = torch.full((3, len(truth)), 0.02)
    for t, u in enumerate(truth):
        p[u + 1, t] = 0.96
    log_p = p.log()
    assert monotone_path(log_p[1:], log_p[0]) == [(2, 5), (9, 12)]
    rows, columns = dtw(-p[1:][None].numpy())[0]
    ends = [int(columns[rows == u][-1]) + 1 - int(columns[rows == u][0]) for u in (0, 1)]
    assert sum(ends) >= len(truth)  # no frame is left for the pauses


def test_more_words_than_frames_are_refused_and_no_words_have_no_path():
    assert monotone_path(torch.zeros(0, 4), torch.zeros(4)) == []
    with pytest.raises(ValueError, match="3 words in 2 frames"):
        monotone_path(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"\[W, T\]"):
        monotone_path(torch.zeros(3, 2), torch.zeros(3))


def test_the_least_length_gives_way_where_frames_are_few():
    assert len(monotone_path(torch.zeros(3, 7), torch.zeros(7), shortest=5)) == 3


def test_shared_frames_are_divided():
    """Word 0 from 1.3 to 3.6, word 1 at once after it, until 6.25 of 8 frames."""
    bounds = [(0.0, 1.3), (1.3, 3.6), (3.6, 6.25), (6.25, 8.0)]
    share = torch.tensor([[max(0.0, min(e, t + 1) - max(s, t)) for t in range(8)] for s, e in bounds])
    pause, words = share[0] + share[3], share[1:3]
    log_words, log_pause = words.clamp(min=1e-9).log(), pause.clamp(min=1e-9).log()
    path = monotone_path(log_words, log_pause)
    assert refine(path, log_words, log_pause) == [pytest.approx((1.3, 3.6), abs=1e-4), pytest.approx((3.6, 6.25), abs=1e-4)]


@pytest.mark.parametrize("seed", range(5))
def test_refined_words_are_longer_than_nothing_and_in_order(seed):
    x = (3 * torch.randn(7, 9, generator=torch.Generator().manual_seed(seed))).log_softmax(0)
    found = refine(monotone_path(x[1:], x[0]), x[1:], x[0])
    assert all(e > s for s, e in found) and found[0][0] >= 0 and found[-1][1] <= 9
    assert all(b[0] >= a[1] - 1e-9 for a, b in zip(found, found[1:]))
