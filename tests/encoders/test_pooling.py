"""Pretrained encoders at half their rate above a frozen layer (`pool_after`)."""

from __future__ import annotations

import pytest
import torch

from tests.encoders import tiny
from tests.encoders.tiny import build

pytest.importorskip("transformers")

LENGTHS = [9000, 16000, 4321]


@pytest.mark.parametrize("kind", ["wavlm-base", "whisper"])
def test_pooling_halves_the_rate_above_a_frozen_layer(checkpoints, kind):
    audio, lengths = tiny.make_audio(LENGTHS)
    full, pooled = build(checkpoints, kind).eval(), build(checkpoints, kind, pool_after=2, unfreeze=[3]).eval()
    assert pooled.frame_rate == full.frame_rate / 2
    whole, frames = full(audio, lengths)
    states, halves = pooled(audio, lengths)
    assert halves.tolist() == [(n + 1) // 2 for n in frames.tolist()] and any(n % 2 for n in frames.tolist())
    for row, (n, half) in enumerate(zip(frames.tolist(), halves.tolist())):
        for state in range(3):
            pairs = torch.stack([whole[row, state, i: min(i + 2, n)].mean(0) for i in range(0, n, 2)])
            torch.testing.assert_close(states[row, state, :half], pairs, atol=1e-5, rtol=1e-5)
        assert (states[row, :, half:] == 0).all()
        alone, _ = pooled(audio[row: row + 1, : lengths[row]], lengths[row: row + 1])
        torch.testing.assert_close(states[row: row + 1, :, :half], alone, atol=1e-4, rtol=1e-4)
    cached, counts = pooled.encode(audio, lengths)
    torch.testing.assert_close(pooled.forward_from_states(cached, counts)[0], states, atol=1e-5, rtol=1e-5)
    assert not set(pooled.fingerprints()) & set(full.fingerprints())


def test_pooled_layers_see_the_positions_of_the_frames_they_stand_for(checkpoints):
    """WavLM's position bias at half rate is every second row and column of the full one."""
    encoder = build(checkpoints, "wavlm-base").eval()
    bias = encoder.backbone.context(torch.tensor([24]), 24)[1]
    strided = encoder.backbone.context(torch.tensor([12]), 12, 2)[1]
    assert strided.shape[1:] == (12, 12) and torch.equal(strided, bias[:, ::2, ::2])


@pytest.mark.parametrize(("options", "message"), [
    ({"pool_after": 3, "unfreeze": [3, 4]}, "pool_after: 3; its layers must be frozen, and unfreeze begins with 3"),
    ({"pool_after": -1}, "pool_after: -1 is negative"), ({"pool_after": 9}, "pool_after: no layer 9 in .*; valid: 0 to 4")])
def test_pooling_where_it_cannot_be_is_refused(checkpoints, options, message):
    with pytest.raises(ValueError, match=message):
        build(checkpoints, "whisper", **options)
