"""CIF: the vectorized form against the loop and against FunASR's outputs, forward and gradient."""

import pytest
import torch

from voxkit.masks import lengths_to_mask
from voxkit.ops.cif import cif, cif_reference, fire_counts


def _case(seed, largest, size=5, length=40, dim=6, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (size,), generator=rng)
    lengths[0] = length
    weights = torch.rand(size, length, generator=rng, dtype=dtype) * largest * lengths_to_mask(lengths, length)
    return torch.randn(size, length, dim, generator=rng, dtype=dtype), weights, lengths


def _with_gradients(function, frames, weights, counts):
    frames, weights = frames.clone().requires_grad_(), weights.clone().requires_grad_()
    out = function(frames, weights, counts)
    if out.vectors.numel():
        rng = torch.Generator().manual_seed(1)
        target = torch.randn(out.vectors.shape, generator=rng, dtype=out.vectors.dtype)
        ((out.vectors * target).sum() + (out.mass * target[..., 0]).sum()).backward()
    return out, frames.grad, weights.grad


@pytest.mark.parametrize("tail", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("largest", [0.3, 0.9, 1.7, 4.5])  # from 1 on, a frame can fire more than once
def test_batch_is_loop(largest, tail):
    for seed in range(6):
        frames, weights, _ = _case(seed, largest)
        counts = fire_counts(weights, tail)
        expected, *gradients = _with_gradients(cif_reference, frames, weights, counts)
        found, *others = _with_gradients(cif, frames, weights, counts)
        if largest > 2:
            assert int(counts.max()) > frames.shape[1] / 2
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6, check_dtype=False)
        for a, b in zip(others, gradients):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=5e-6)


def test_one_frame_fires_many_times():
    frames = torch.tensor([[[1.0], [10.0], [100.0]]])
    out = cif(frames, torch.tensor([[0.5, 2.75, 0.75]]), torch.tensor([4]))
    torch.testing.assert_close(out.vectors[0, :, 0], torch.tensor([5.5, 10.0, 10.0, 0.25 * 10 + 0.75 * 100]))
    torch.testing.assert_close(out.mass[0], torch.ones(4))
    torch.testing.assert_close(out.times[0], torch.tensor([1 + 0.5 / 2.75, 1 + 1.5 / 2.75, 1 + 2.5 / 2.75, 3.0]))


def test_boundaries_at_frame_ends():
    """Where a running sum is a whole number, the token ends with that frame, in both, and the gradient goes where the loop sends it."""
    frames, weights = torch.randn(1, 6, 3), torch.tensor([[0.5, 0.5, 1.0, 0.25, 0.75, 0.5]])
    expected, *gradients = _with_gradients(cif_reference, frames, weights, torch.tensor([3]))
    found, *others = _with_gradients(cif, frames, weights, torch.tensor([3]))
    torch.testing.assert_close(found.times[0], torch.tensor([2.0, 3.0, 5.0]))
    for a, b in zip((*found, *others), (*expected, *gradients)):
        torch.testing.assert_close(a, b)


def test_padding_does_not_matter():
    frames, weights, lengths = _case(3, 1.2)
    whole = cif(frames, weights, fire_counts(weights))
    dirty = cif(frames.masked_fill(~lengths_to_mask(lengths, 40)[..., None], 1e4), weights, fire_counts(weights))
    torch.testing.assert_close(dirty.vectors, whole.vectors)
    for b, length in enumerate(lengths):
        alone = cif(frames[b:b + 1, :length], weights[b:b + 1, :length], fire_counts(weights[b:b + 1, :length]))
        n = alone.vectors.shape[1]
        torch.testing.assert_close(whole.vectors[b, :n], alone.vectors[0])
        torch.testing.assert_close(whole.times[b, :n], alone.times[0])
        assert not whole.vectors[b, n:].any()


def test_what_funasr_gives(shared_dir):
    golden = torch.load(shared_dir / "golden/ops.pt", weights_only=True)["cif"]
    hidden, alphas = golden["hidden"].clone().requires_grad_(), golden["alphas"].clone().requires_grad_()
    scaled = alphas * lengths_to_mask(golden["lengths"], alphas.shape[1])
    scaled = scaled * (golden["target"] / scaled.sum(1))[:, None] * golden["scale_epsilon"]
    for function in (cif, cif_reference):
        hidden.grad = alphas.grad = None
        counts = fire_counts(scaled, 0.0)
        assert counts.tolist() == golden["target"].tolist()
        out = function(hidden, scaled, counts)
        (out.vectors * golden["weight"]).sum().backward(retain_graph=True)
        torch.testing.assert_close(out.vectors, golden["acoustic"], rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(hidden.grad, golden["grad_hidden"], rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(alphas.grad, golden["grad_alphas"], rtol=1e-4, atol=2e-4)
        for b, fires in enumerate(golden["fires"] >= 1):  # the frame that fires holds the end of the token
            frames = fires.nonzero().flatten()
            assert (out.times[b, :len(frames)].ceil() - 1).tolist() == frames.tolist()


def test_nothing_to_fire():
    frames = torch.randn(2, 7, 3)
    for function in (cif, cif_reference):
        assert function(frames, torch.zeros(2, 7), torch.tensor([0, 0])).vectors.shape == (2, 0, 3)
        out = function(frames, torch.full((2, 7), 0.01), torch.tensor([0, 1]))
        assert not out.vectors[0].any() and out.vectors[1].any()


def test_half_precision_keeps_its_type():
    frames, weights, _ = _case(0, 0.9, dtype=torch.float32)
    out = cif(frames.bfloat16(), weights, fire_counts(weights))
    assert out.vectors.dtype == torch.bfloat16
    torch.testing.assert_close(out.vectors.float(), cif(frames, weights, fire_counts(weights)).vectors, rtol=2e-2, atol=2e-2)
