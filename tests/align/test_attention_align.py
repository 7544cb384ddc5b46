import pytest
import torch

from voxkit.align.attention import attention_spans, best_heads
from voxkit.ops.dtw import dtw, dtw_reference, median_filter


def staircase(starts, frames, heads=3, noise=0.05):
    torch.manual_seed(0)
    x = noise * torch.rand(2, heads, len(starts), frames)
    for u, start in enumerate(starts):
        end = starts[u + 1] if u + 1 < len(starts) else frames
        x[1, :, u, start:end] += 1
    return x / x.sum(-1, keepdim=True)


def test_token_times_from_attention():
    weights = staircase([0, 5, 9, 20, 24], 30)
    spans = attention_spans(weights, [7, 8, 9, 7], [-0.1] * 4, heads=[(1, 0), (1, 2)], width=3)
    assert [s.start for s in spans] == pytest.approx([0, 5, 9, 20], abs=1)
    assert [s.end for s in spans] == pytest.approx([5, 9, 20, 24], abs=1)
    assert attention_spans(weights[1], [7], width=3)[0].token == 7
    with pytest.raises(ValueError, match="do not fit"):
        attention_spans(weights, list(range(9)))


def test_heads_that_align_are_found():
    weights = staircase([0, 5, 9, 20], 30)
    heads = best_heads([(weights, [2.0, 7.0, 14.0, 25.0])], 3)
    assert {layer for layer, _ in heads} == {1}


def test_dtw_equals_reference():
    torch.manual_seed(0)
    cost = torch.randn(3, 7, 12)
    lengths = torch.tensor([[7, 12], [4, 9], [1, 5]])
    for b, (rows, columns) in enumerate(dtw(cost, lengths)):
        truth = dtw_reference(cost[b, : lengths[b, 0], : lengths[b, 1]])
        assert rows.tolist() == truth[0].tolist() and columns.tolist() == truth[1].tolist()
    path = dtw(1 - torch.eye(5)[None])[0]
    assert path[0].tolist() == path[1].tolist() == list(range(5))


def test_median_filter():
    x = torch.tensor([[0.0, 9.0, 0.0, 1.0, 1.0, 1.0]])
    assert median_filter(x, 3).tolist() == [[9.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    assert median_filter(x[:, :1], 7).tolist() == [[0.0]]
    with pytest.raises(ValueError, match="odd"):
        median_filter(x, 4)
