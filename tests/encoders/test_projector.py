"""Projectors: what they say of each frame, and that a batch is what its items are alone."""

from __future__ import annotations

import pytest
import torch

from voxkit.encoders.projector import KINDS, ProjectorConfig, build_projector

F, D, C = 6, 8, 12


def inputs(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([13, 4, 7])
    log_probs = (4 * torch.randn(3, 13, C, generator=g)).log_softmax(-1)
    return torch.randn(3, 13, F, generator=g), lengths, log_probs, torch.randn(C + 3, D, generator=g)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_items_alone(kind):
    projector = build_projector(ProjectorConfig(kind, stack=3, hidden=16), F, D, 2.0)
    frames, lengths, log_probs, table = inputs()
    together = projector(frames, lengths, log_probs, table)
    for row, size in enumerate(lengths.tolist()):
        alone = projector(frames[row:row + 1, :size], lengths[row:row + 1], log_probs[row:row + 1, :size], table)
        n = int(alone.lengths[0])
        assert n == int(together.lengths[row])
        torch.testing.assert_close(together.embeddings[row, :n], alone.embeddings[0, :n])
        assert torch.equal(together.spans[row, :n], alone.spans[0, :n])
        assert not together.embeddings[row, n:].any()
        assert (alone.spans[0, :n, 0] < alone.spans[0, :n, 1]).all() and int(alone.spans[0, :n].max()) <= size


def test_stacks_begin_at_the_size_of_the_embeddings_and_cover_every_frame():
    projector = build_projector(ProjectorConfig("stack", stack=3, hidden=16), F, D, rms=2.5)
    frames, lengths, *_ = inputs()
    found = projector(frames, lengths)
    assert found.lengths.tolist() == [5, 2, 3]
    assert found.spans[1, :2].tolist() == [[0, 3], [3, 4]]
    torch.testing.assert_close(found.embeddings[0].square().mean(-1).sqrt(), torch.full((5,), 2.5), atol=1e-3, rtol=1e-3)


def certain(ids: list[int], sure: float = 0.999) -> torch.Tensor:
    probs = torch.full((len(ids), C), (1 - sure) / (C - 1))
    probs[torch.arange(len(ids)), torch.tensor(ids)] = sure
    return probs.log()


def test_what_ctc_is_sure_of_are_the_tokens_own_embeddings():
    projector = build_projector(ProjectorConfig("lexical"), F, D, 1.0)
    table = torch.randn(C, D)
    path = [0, 5, 5, 0, 5, 7, 7, 0, 0]
    found = projector(torch.randn(1, 9, F), torch.tensor([9]), certain(path)[None], table)
    assert found.lengths.tolist() == [3]
    torch.testing.assert_close(found.embeddings[0], table[[5, 5, 7]], atol=2e-2, rtol=2e-2)
    assert found.spans[0].tolist() == [[1, 3], [4, 5], [5, 7]]


def test_doubt_mixes_embeddings_and_silence_says_nothing():
    projector = build_projector(ProjectorConfig("lexical", blank_threshold=0.9), F, D, 1.0)
    table = torch.randn(C, D)
    log_probs = certain([0, 0, 0])
    log_probs[1] = torch.full((C,), 1e-9).index_fill(0, torch.tensor([0]), 0.8).index_fill(0, torch.tensor([4]), 0.15).index_fill(
        0, torch.tensor([6]), 0.05).log()
    found = projector(torch.randn(2, 3, F), torch.tensor([3, 3]), torch.stack([log_probs, certain([0, 0, 0])]), table)
    assert found.lengths.tolist() == [1, 0]
    torch.testing.assert_close(found.embeddings[0, 0], 0.75 * table[4] + 0.25 * table[6], atol=1e-3, rtol=1e-3)
    assert not found.embeddings[1].any()
    nothing = projector(torch.randn(1, 3, F), torch.tensor([3]), certain([0, 0, 0])[None], table)
    assert nothing.lengths.tolist() == [0] and nothing.embeddings.shape[2] == D


def test_gradients_reach_the_posteriors_and_the_table():
    projector = build_projector(ProjectorConfig("lexical"), F, D, 1.0)
    frames, lengths, log_probs, table = inputs(3)
    log_probs, table = log_probs.requires_grad_(), table.requires_grad_()
    projector(frames, lengths, log_probs, table).embeddings.square().sum().backward()
    assert log_probs.grad[..., 2:].abs().sum() > 0 and table.grad[2:C].abs().sum() > 0 and not table.grad[C:].any()


def test_options_that_cannot_be_are_named():
    assert len(ProjectorConfig("plain", stack=0, hidden=0, blank_threshold=float("nan")).problems()) == 4
