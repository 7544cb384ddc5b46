"""The nearest semi-orthogonal matrix, by Newton-Schulz iteration: what Muon makes of a momentum."""

from __future__ import annotations

import torch
from torch import Tensor

# Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): steep at zero, so that five iterations bring every singular value above a
# 500th of the matrix's norm to between 0.68 and 1.21, where more of them bring it no closer.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def newton_schulz(x: Tensor, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """x [..., M, N] = U S Vᵀ → about U Vᵀ, same shape and type; zeros stay zeros. Works in x's own precision (bfloat16 is enough).

    Args:
        steps: iterations, each of three matrix products.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    y = (x.mT if tall else x).reshape(-1, *sorted(x.shape[-2:]))
    y = y / (y.norm(dim=(-2, -1), keepdim=True) + eps)  # Frobenius: no singular value above 1
    for _ in range(steps):
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)  # a y + (b g + c g²) y
    y = y.view(x.mT.shape if tall else x.shape)
    return y.mT if tall else y


def orthogonal_reference(x: Tensor) -> Tensor:
    """U Vᵀ itself, by singular value decomposition: what `newton_schulz` comes near. x [..., M, N]."""
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    return u @ vh
