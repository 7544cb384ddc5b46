"""The boundary loss of CIF: where the boundaries are, what the loss is of, padding, gradients, what cannot be aligned."""

import torch

from tests.spikes import spikes
from voxkit.losses.boundary import boundary_loss, ctc_boundaries
from voxkit.ops.cif_boundaries import Boundaries


def test_boundaries_lie_half_way_between_spikes():
    x = spikes(12, (1, 3), (2, 3), (7, 4), (8, 5))[None]
    times, known = ctc_boundaries(x, torch.tensor([12]), torch.tensor([[3, 4, 5, -1]]), torch.tensor([3]))
    assert known.all() and times.tolist() == [[5.0, 8.0, torch.inf]]  # frames 1 and 2 end at 3, 7 begins at 7


def test_the_loss_is_of_each_token_by_itself():
    boundaries, counts = Boundaries(torch.tensor([[5.0, 8.0]]), torch.ones(1, dtype=torch.bool)), torch.tensor([3])
    weights = torch.zeros(1, 12)
    weights[0, [1, 3]], weights[0, 7], weights[0, 8] = 0.5, 1.0, 1.0
    torch.testing.assert_close(boundary_loss(weights, boundaries, counts), torch.tensor([0.0]))
    weights[0, 1] = 0.0  # all later sums are wrong, and one token is
    torch.testing.assert_close(boundary_loss(weights, boundaries, counts), torch.tensor([0.5]))


def test_gradients_are_right():
    torch.manual_seed(0)
    weights = torch.rand(2, 9, dtype=torch.float64, requires_grad=True)
    boundaries = Boundaries(torch.tensor([[1.5, 4.0, 6.5], [2.0, 3.5, torch.inf]]), torch.ones(2, dtype=torch.bool))
    assert torch.autograd.gradcheck(lambda w: boundary_loss(w, boundaries, torch.tensor([4, 3])), weights)


def test_padding_never_matters():
    torch.manual_seed(0)
    lengths, counts = torch.tensor([20, 9, 5]), torch.tensor([6, 3, 1])
    log_probs, weights = torch.randn(3, 20, 6).log_softmax(-1), torch.rand(3, 20)
    tokens = torch.randint(1, 6, (3, 6))
    for b, n in enumerate(lengths.tolist()):
        log_probs[b, n:], weights[b, n:], tokens[b, counts[b]:] = torch.nan, 0.0, -7
    whole = boundary_loss(weights, ctc_boundaries(log_probs, lengths, tokens, counts), counts)
    assert whole.all()
    for b, (n, u) in enumerate(zip(lengths.tolist(), counts.tolist())):
        alone = ctc_boundaries(log_probs[b:b + 1, :n], lengths[b:b + 1], tokens[b:b + 1, :u], counts[b:b + 1])
        torch.testing.assert_close(boundary_loss(weights[b:b + 1, :n], alone, counts[b:b + 1]), whole[b:b + 1])


def test_what_ctc_cannot_align_is_left_out():
    log_probs = torch.randn(2, 6, 6).log_softmax(-1)
    tokens = torch.tensor([[1, 1, 1, 1], [1, 2, 3, 4]])  # 4 tokens and 3 blanks in 6 frames
    counts, lengths = torch.tensor([4, 4]), torch.tensor([6, 6])
    boundaries = ctc_boundaries(log_probs, lengths, tokens, counts)
    assert boundaries.known.tolist() == [False, True]
    loss = boundary_loss(torch.rand(2, 6), boundaries, counts)
    assert loss[0] == 0 and loss[1] > 0
    no_frames = ctc_boundaries(log_probs[:, :0], lengths * 0, tokens, counts)
    assert boundary_loss(torch.rand(2, 0), no_frames, counts).tolist() == [0.0, 0.0]
    no_tokens = ctc_boundaries(log_probs, lengths, tokens[:, :0], counts * 0)
    assert boundary_loss(torch.rand(2, 6), no_tokens, counts * 0).tolist() == [0.0, 0.0]


def test_no_gradient_reaches_the_ctc_head():
    log_probs, weights = torch.randn(1, 8, 6, requires_grad=True), torch.rand(1, 8, requires_grad=True)
    counts = torch.tensor([3])
    boundaries = ctc_boundaries(log_probs.log_softmax(-1), torch.tensor([8]), torch.tensor([[1, 2, 3]]), counts)
    boundary_loss(weights, boundaries, counts).sum().backward()
    assert log_probs.grad is None and weights.grad.abs().sum() > 0


def test_learning_from_it_puts_tokens_where_ctc_has_them():
    """Weights that begin even end with every spike in the stretch of its own token; by their number alone they would not."""
    places = [(3, 1), (5, 2), (14, 3), (16, 4), (17, 5)]
    counts = torch.tensor([5])
    boundaries = ctc_boundaries(spikes(20, *places)[None], torch.tensor([20]), torch.tensor([[1, 2, 3, 4, 5]]), counts)

    def owners(weight: float) -> list[int]:
        logits = torch.full((1, 20), -1.1, requires_grad=True)
        optimizer = torch.optim.Adam([logits], 0.1)
        for _ in range(120):
            weights = logits.sigmoid()
            loss = (weights.sum() - 5).abs() + weight * boundary_loss(weights, boundaries, counts).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights = logits.sigmoid().detach()[0]
        return [int(weights[:t].sum() + weights[t] / 2) for t, _ in places]

    assert owners(1.0) == [0, 1, 2, 3, 4]
    assert owners(0.0) != [0, 1, 2, 3, 4]
