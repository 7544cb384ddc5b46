"""Quantizers against plain loops: forward, gradient, learning, fewer books."""

import pytest
import torch

from voxkit.codecs.finite_scalar import FiniteScalar
from voxkit.codecs.kmeans import kmeans, nearest
from voxkit.codecs.quantizer import QuantizerConfig, ResidualVQ, residual_vq_reference


@pytest.mark.parametrize(("books", "used"), [(1, [1, 1, 1]), (4, [4, 4, 4]), (4, [1, 3, 4])])
def test_residual_vq_is_the_plain_loop(books, used):
    torch.manual_seed(0)
    vq = ResidualVQ(QuantizerConfig(codebooks=books, size=16, dim=6)).eval()
    x, lengths = torch.randn(3, 9, 6), torch.tensor([9, 5, 7])
    valid, used = torch.arange(9) < lengths[:, None], torch.tensor(used)
    weight, found, grads = torch.randn(3, 9, 6), [], []
    for function in (lambda y: vq(y, valid, used), lambda y: residual_vq_reference(y, vq.books, used, valid)):
        y = x.clone().requires_grad_()
        out = function(y)
        ((out.values * weight).sum() + 3 * out.commitment).backward()
        found.append(out)
        grads.append(y.grad)
    assert torch.equal(found[0].codes, found[1].codes)
    torch.testing.assert_close(found[0].values, found[1].values)
    torch.testing.assert_close(found[0].commitment, found[1].commitment)
    torch.testing.assert_close(grads[0], grads[1])
    for b in range(3):
        torch.testing.assert_close(found[0].values[b], vq.lookup(found[0].codes[b:b + 1, :, :int(used[b])])[0])


def test_more_books_come_nearer():
    torch.manual_seed(0)
    vq = ResidualVQ(QuantizerConfig(codebooks=4, size=32, dim=8))
    x = torch.randn(1, 400, 8)
    vq.start(x[0])
    codes = vq.codes(x)
    errors = [float((vq.lookup(codes[..., :q]) - x).square().mean()) for q in range(1, 5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.25 * errors[0]


def test_books_follow_what_they_hear():
    """Moving averages bring the entries to the means of their clusters; what a batch notes counts once, when the step is taken."""
    torch.manual_seed(0)
    vq = ResidualVQ(QuantizerConfig(codebooks=1, size=2, dim=1, decay=0.5, restart=0.0, dropout=0.0))
    x = torch.tensor([[[-1.2], [-0.8], [1.0], [2.0]]])
    valid = torch.tensor([[True, True, True, False]])
    vq(x, valid)
    assert sorted(vq.books.flatten().tolist()) == pytest.approx([-1.0, 1.0])  # k-means on the valid frames
    moved = x + 4
    noted = vq.books.clone()
    vq(moved, valid)
    assert torch.equal(vq.books, noted)  # nothing is learned before `learn`
    vq.forget()
    vq.learn()
    assert torch.equal(vq.books, noted)  # a dropped step teaches nothing
    for _ in range(30):
        vq(moved, valid)
        vq.learn()
    codes = vq.codes(moved)[0, :3, 0]
    for code in codes.unique():
        heard = moved[0, :3][codes == code]
        torch.testing.assert_close(vq.lookup(code.view(1, 1, 1))[0, 0], heard.mean(0), atol=1e-3, rtol=0)


def test_entries_that_nothing_uses_begin_again():
    torch.manual_seed(0)
    vq = ResidualVQ(QuantizerConfig(codebooks=2, size=8, dim=2, decay=0.8, restart=0.1, dropout=0.0))
    vq.start(torch.randn(100, 2))
    vq.books[0, 3:] = 1e4  # so far away that nothing is near
    vq.sums.copy_(vq.books * vq.usage[..., None])
    x = torch.randn(1, 200, 2)
    for _ in range(40):
        vq(x, torch.ones(1, 200, dtype=torch.bool))
        vq.learn()
    assert len(vq.codes(x)[..., 0].unique()) == 8 and float(vq.books.abs().max()) < 10


def test_finite_scalar_goes_there_and_back():
    torch.manual_seed(0)
    vq = FiniteScalar(QuantizerConfig(kind="finite_scalar", codebooks=3, levels=[4, 3], dropout=0.0)).train()
    x = torch.randn(2, 50, 6, requires_grad=True)
    out = vq(x, torch.ones(2, 50, dtype=torch.bool))
    assert vq.size == 12 and out.codes.max() < 12 and set(out.codes.flatten().tolist()) == set(range(12))
    torch.testing.assert_close(vq.lookup(out.codes), out.values.detach())
    torch.testing.assert_close(vq.codes(x), out.codes)
    out.values.sum().backward()
    assert (x.grad > 0).all()
    two = vq.lookup(out.codes[..., :2])
    assert torch.equal(two[..., 4:], torch.zeros(2, 50, 2))
    torch.testing.assert_close(two[..., :4], out.values[..., :4].detach())


def test_two_levels_are_the_least():
    vq = FiniteScalar(QuantizerConfig(kind="finite_scalar", codebooks=1, levels=[2, 3]))
    x = torch.cartesian_prod(torch.linspace(-50, 50, 41), torch.linspace(-50, 50, 41))[None].requires_grad_()
    out = vq(x, torch.ones(1, x.shape[1], dtype=torch.bool))
    out.values.sum().backward()
    assert out.values.isfinite().all() and x.grad.isfinite().all()
    assert set(out.codes.flatten().tolist()) == set(range(6))
    torch.testing.assert_close(vq.lookup(out.codes), out.values.detach())


def test_some_training_sequences_use_fewer_books():
    torch.manual_seed(0)
    config = QuantizerConfig(codebooks=4, size=8, dim=2, dropout=0.5)
    drawn = torch.cat([config.draw(64, True, torch.device("cpu")) for _ in range(8)])
    assert set(drawn.tolist()) == {1, 2, 3, 4} and 0.5 < float((drawn == 4).float().mean()) < 0.75
    assert config.draw(5, False, torch.device("cpu")).tolist() == [4] * 5


def test_k_means_finds_clusters_and_more_centers_than_vectors():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(50, 2) * 0.1 + at for at in (torch.tensor([0.0, 0.0]), torch.tensor([5.0, 0.0]), torch.tensor([0.0, 5.0]))])
    centers = kmeans(x, 6, generator=torch.Generator().manual_seed(1))
    assert float((x - centers[nearest(x, centers)]).norm(dim=1).mean()) < 0.2
    assert kmeans(x[:3], 5).isfinite().all()
    with pytest.raises(ValueError, match="empty"):
        kmeans(x[:0], 4)
