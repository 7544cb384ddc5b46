"""Masks: within the valid frames, no more than the ratio, repeatable, off in eval mode."""

from __future__ import annotations

import pytest
import torch

from voxkit.audio.specaugment import SpecAugment, SpecAugmentConfig, StateMask, StateMaskConfig, span_mask, time_mask, time_warp
from voxkit.config import ConfigError, structure


def test_time_masks_keep_to_valid_frames_and_ratio():
    lengths = torch.tensor([1000, 300, 40, 5, 0])
    covered = torch.zeros(5)
    for seed in range(50):
        torch.manual_seed(seed)
        mask = time_mask(lengths, 1000, 10, 100, 0.15)
        for i, n in enumerate(lengths.tolist()):
            assert not mask[i, n:].any()
            assert mask[i].sum() <= 0.15 * n
        covered += mask.sum(dim=1)
    assert (covered[:3] / 50 > 0.04 * lengths[:3]).all()  # and they do mask
    assert not covered[3:].any()


def test_longer_utterances_get_more_masks():
    torch.manual_seed(0)
    mask = time_mask(torch.tensor([4000, 100]), 4000, 10, 100, 0.15)
    runs = (mask[:, 1:] & ~mask[:, :-1]).sum(dim=1)
    assert runs[0] >= 3 and runs[1] <= 1


def test_span_mask_is_no_wider_than_asked():
    torch.manual_seed(0)
    widths = span_mask(200, 80, 1, 27).sum(dim=1)
    assert widths.max() == 27 and widths.min() == 0


def test_specaugment_repeats_with_the_generator_and_is_off_in_eval():
    module = SpecAugment(SpecAugmentConfig(prob=1.0))
    features, lengths = torch.randn(3, 400, 80), torch.tensor([400, 250, 90])
    torch.manual_seed(1)
    first = module(features, lengths)
    torch.manual_seed(1)
    assert module(features, lengths).equal(first)
    assert not module(features, lengths).equal(first)
    assert not first.equal(features)
    for i, n in enumerate(lengths.tolist()):
        assert first[i, n:].equal(features[i, n:])
    assert module.eval()(features, lengths) is features


def test_specaugment_fills_with_the_mean():
    module = SpecAugment(SpecAugmentConfig(prob=1.0, time_warp=0))
    features, lengths = torch.rand(2, 300, 80) + 5, torch.tensor([300, 200])
    features[1, 200:] = 1e4
    out = module(features, lengths)
    for i, n in enumerate(lengths.tolist()):
        changed = out[i, :n] != features[i, :n]
        assert changed.any()
        assert torch.allclose(out[i, :n][changed], features[i, :n].mean(), atol=1e-3)


def test_warping_keeps_the_ends_and_the_order():
    ramp = torch.arange(300.0)[None, :, None].expand(2, 300, 4).contiguous()
    lengths = torch.tensor([300, 120])
    moved = 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        warped = time_warp(ramp, lengths, 80)
        for i, n in enumerate(lengths.tolist()):
            assert warped[i, 0, 0] == 0 and abs(float(warped[i, n - 1, 0]) - (n - 1)) < 1e-3
            assert (warped[i, 1:n, 0] - warped[i, :n - 1, 0]).min() >= -1e-4
            assert warped[i, n:].equal(ramp[i, n:])
        moved = max(moved, float((warped - ramp).abs().max()))
    assert 20 < moved <= 81


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_tiny_utterances(length):
    out = SpecAugment(SpecAugmentConfig(prob=1.0))(torch.randn(2, 8, 80), torch.tensor([8, length]))
    assert out.isfinite().all()
    assert StateMask(StateMaskConfig(prob=1.0))(torch.randn(2, 8, 16), torch.tensor([8, length])).isfinite().all()


def test_state_mask():
    module = StateMask(StateMaskConfig(1.0, time_masks=4, time_mask_width=10, time_mask_ratio=0.3, channel_masks=1, channel_mask_width=8))
    states = torch.ones(2, 100, 32, requires_grad=True)
    out = module(states, torch.tensor([100, 60]))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    rows = (out[0] == 0).all(dim=1)
    columns = (out[0] == 0).all(dim=0)
    assert 0 < rows.sum() <= 30 and columns.sum() <= 8
    out.sum().backward()
    assert states.grad is not None
    assert module.eval()(states, torch.tensor([100, 60])) is states


def test_half_precision():
    out = SpecAugment(SpecAugmentConfig(prob=1.0))(torch.randn(2, 200, 80).bfloat16(), torch.tensor([200, 100]))
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_configurations_refuse():
    with pytest.raises(ConfigError, match="time_mask_ratio"):
        structure(SpecAugmentConfig, {"time_mask_ratio": 1.5})
    with pytest.raises(ConfigError, match="channel_masks"):
        structure(StateMaskConfig, {"channel_masks": -1})
