"""Sessions of codes: utterances of one speaker joined, longer from epoch to epoch, continued exactly."""

import pytest
import torch

from voxkit.data.code_sessions import CodeSessions

CODES = {f"{speaker}{n}": torch.full((20 + n, 2), ord(speaker) * 100 + n) for speaker in "ab" for n in range(6)}
SPEAKERS = {id: id[0] for id in CODES}


def sessions(**more) -> CodeSessions:
    return CodeSessions(CODES, SPEAKERS, **{"frame_rate": 10.0, "seconds": [4, 8], "max_seconds": 16, **more})


def test_a_session_is_one_speaker_and_so_long():
    loader = sessions()
    for epoch, frames in ((0, 40), (1, 80), (5, 80)):
        found = loader.sessions(epoch)
        assert max(len(codes) for _, codes in found) == frames
        for name, codes in found:
            assert set((codes[:, 0] // 100).tolist()) == {ord(name[0])}
        assert sum(len(codes) for _, codes in found) == sum(len(codes) for codes in CODES.values())
    assert [name for name, _ in sessions(seconds=[0], shuffle=False).sessions(0)] == list(CODES)
    orders = {tuple(torch.cat([codes[:, 0] for _, codes in loader.sessions(epoch)]).tolist()) for epoch in (1, 2)}
    assert len(orders) == 2  # another order in each epoch


def test_batches_hold_no_more_than_they_may():
    for batch in sessions():
        assert batch.codes.values.shape[0] * batch.codes.values.shape[1] <= 160 and batch.seconds == batch.codes.lengths.sum() / 10
    shares = [sum(1 for _ in sessions(rank=rank, world_size=2)) for rank in range(2)]
    assert shares[0] == shares[1]


def test_continued_where_it_was():
    whole = [batch.ids for batch in sessions()]
    loader = sessions()
    first = []
    for batch in loader:
        first.append(batch.ids)
        if len(first) == 2:
            state = loader.state_dict()
            break
    again = sessions()
    again.load_state_dict(state)
    assert first + [batch.ids for batch in again] == whole
    with pytest.raises(ValueError, match="not those"):
        sessions(max_seconds=32).load_state_dict(state)
    with pytest.raises(ValueError, match="empty"):
        CodeSessions({}, {}, frame_rate=10.0, seconds=[4], max_seconds=8)
