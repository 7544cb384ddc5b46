"""Newton-Schulz against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch

from voxkit.ops.newton_schulz import newton_schulz, orthogonal_reference


@pytest.mark.parametrize("shape", [(24, 24), (8, 40), (40, 8), (3, 10, 25), (2, 3, 25, 10)])
def test_singular_values_come_near_one(shape):
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(1)), full_matrices=False)
    values = torch.logspace(0, -2.5, u.shape[-1])
    x = 7 * u @ torch.diag(values) @ vh
    found = newton_schulz(x)
    assert found.shape == x.shape
    reached = torch.linalg.svdvals(found)
    assert 0.68 < reached.min() and reached.max() < 1.21
    # the singular vectors are kept: between them the result is diagonal, as that of the reference is the identity
    between = u.mT @ found @ vh.mT
    torch.testing.assert_close(between, torch.diag_embed(between.diagonal(dim1=-2, dim2=-1)), atol=1e-3, rtol=0)
    torch.testing.assert_close(u.mT @ orthogonal_reference(x) @ vh.mT, torch.eye(len(values)).expand_as(between), atol=1e-3, rtol=0)


def test_scale_does_not_matter_and_zeros_stay():
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(newton_schulz(x), newton_schulz(1e-4 * x), atol=1e-2, rtol=0)
    assert newton_schulz(torch.zeros(2, 4, 3)).abs().max() == 0


def test_bfloat16_is_enough():
    x = torch.randn(12, 30, generator=torch.Generator().manual_seed(2))
    found = newton_schulz(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), newton_schulz(x), atol=0.06, rtol=0)
