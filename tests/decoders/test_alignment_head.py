"""The alignment head: probabilities, padding, its loss by hand, and that it learns where words lie."""

from __future__ import annotations

import pytest
import torch

from voxkit.align.monotone import monotone_path, refine
from voxkit.decoders.alignment_head import AlignmentConfig, AlignmentHead

CONFIG = AlignmentConfig(dim=16, kernel=5, layers=1, dropout=0.0)


def test_probabilities_add_up_and_padding_changes_nothing():
    torch.manual_seed(0)
    head = AlignmentHead(CONFIG, 12, 10).eval()
    text, frames = torch.randn(2, 5, 12), torch.randn(2, 9, 10)
    words = torch.tensor([[0, 0, 1, 2, 2], [0, 1, -1, -1, -1]])
    lengths = torch.tensor([9, 4])
    found = head(text, words, frames, lengths)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 9))
    assert torch.isneginf(found[1, 3]).all()
    alone = head(text[1:, :2], words[1:, :2], frames[1:, :4], lengths[1:])
    torch.testing.assert_close(found[1:, :3, :4], alone)


def test_the_loss_by_hand():
    head = AlignmentHead(CONFIG, 12, 10)
    log_probs = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    log_probs[1, 2] = -torch.inf
    spans = torch.tensor([[[0.5, 2.0], [2.0, 3.25]], [[1.0, 2.0], [float("nan")] * 2], [[0.0, 1.0], [float("nan")] * 2]])
    total, count = head.loss(log_probs, spans, torch.tensor([4, 3, 4]))
    first = -(0.5 * log_probs[0, 0, 0] + 0.5 * log_probs[0, 1, 0] + log_probs[0, 1, 1] + log_probs[0, 2, 2]
              + 0.25 * log_probs[0, 2, 3] + 0.75 * log_probs[0, 0, 3])
    second = -(log_probs[1, 0, 0] + log_probs[1, 1, 1] + log_probs[1, 0, 2])
    assert count == 7  # the third has a word of unknown place
    torch.testing.assert_close(total, first + second)


def test_it_learns_where_words_lie():
    """Frames that hold the code of the word spoken in them, or of none; texts that repeat words."""
    g = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    codes, table = torch.randn(6, 10, generator=g), torch.randn(6, 12, generator=g)

    def draw():
        said = torch.randint(1, 6, (4,), generator=g)
        labels, spans = [], []
        for n, word in enumerate(said.tolist()):
            labels += [0] * int(torch.randint(1 if n and said[n - 1] == word else 0, 4, (1,), generator=g))
            size = int(torch.randint(2, 6, (1,), generator=g))
            spans.append((len(labels), len(labels) + size))
            labels += [word] * size
        frames = codes[torch.tensor(labels)] + 0.3 * torch.randn(len(labels), 10, generator=g)
        return table[said], frames, spans

    head = AlignmentHead(CONFIG, 12, 10)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    words = torch.arange(4)[None]
    for _ in range(150):
        text, frames, spans = draw()
        lengths = torch.tensor([len(frames)])
        total, count = head.loss(head(text[None], words, frames[None], lengths), torch.tensor(spans)[None].float(), lengths)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    head.eval()
    errors = []
    for _ in range(20):
        text, frames, spans = draw()
        with torch.no_grad():
            found = head(text[None], words, frames[None], torch.tensor([len(frames)]))[0]
        placed = refine(monotone_path(found[1:], found[0]), found[1:], found[0])
        errors += [abs(a - b) for p, s in zip(placed, spans) for a, b in zip(p, s)]
    assert sum(errors) / len(errors) < 0.3


def test_options_that_cannot_be_are_named():
    assert len(AlignmentConfig(dim=0, kernel=4, layers=0, dropout=1.0).problems()) == 4
    assert not AlignmentConfig().problems()


@pytest.mark.parametrize("frames", [1, 3])
def test_fewer_frames_than_the_kernel(frames):
    head = AlignmentHead(CONFIG, 12, 10).eval()
    out = head(torch.randn(1, 2, 12), torch.tensor([[0, 0]]), torch.randn(1, frames, 10), torch.tensor([frames]))
    assert out.shape == (1, 2, frames) and out.isfinite().all()
