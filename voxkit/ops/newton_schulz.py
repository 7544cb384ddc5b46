"""The nearest semi-orthogonal matrix, by Newton-Schulz iteration: what Muon makes of a momentum, and LaCT of its inner gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Triple = tuple[float, float, float]

# Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): steep at zero, so that five iterations bring every singular value above a
# 500th of the matrix's norm to between 0.68 and 1.21, where more of them bring it no closer.
COEFFICIENTS: tuple[Triple, ...] = ((3.4445, -4.7750, 2.0315),)

# One triple for each of five iterations, as LaCT has them (Zhang et al. 2025, arXiv 2505.23884): steep first, flat at one in the end.
FIVE_COEFFICIENTS: tuple[Triple, ...] = ((4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
                                         (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012))


def newton_schulz(x: Tensor, steps: int = 5, *, coefficients: Sequence[Triple] = COEFFICIENTS, dtype: torch.dtype | None = None,
                  eps: float = 1e-7) -> Tensor:
    """x [..., M, N] = U S Vᵀ → about U Vᵀ, same shape and type; zeros stay zeros.

    Args:
        steps: iterations, each of three matrix products.
        coefficients: (a, b, c) of each iteration y ← a y + b (y yᵀ) y + c (y yᵀ)² y; the last triple serves for all iterations after it.
        dtype: what to iterate in; None = x's own (bfloat16 is enough).
    """
    tall = x.shape[-2] > x.shape[-1]  # lie it down: the products are then of the smaller side
    y = (x.mT if tall else x).reshape(-1, *sorted(x.shape[-2:])).to(dtype or x.dtype)
    y = y / (y.norm(dim=(-2, -1), keepdim=True) + eps)  # Frobenius: no singular value above 1
    for step in range(steps):
        a, b, c = coefficients[min(step, len(coefficients) - 1)]
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)  # a y + b (y yᵀ) y + c (y yᵀ)² y
    y = y.to(x.dtype).view(x.mT.shape if tall else x.shape)
    return y.mT.contiguous() if tall else y


def orthogonal_reference(x: Tensor) -> Tensor:
    """U Vᵀ itself, by singular value decomposition: what `newton_schulz` comes near. x [..., M, N]."""
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    return u @ vh
