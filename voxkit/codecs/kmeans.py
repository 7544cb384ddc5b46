"""k-means (Lloyd 1982) on vectors that fit into memory: how codebooks begin, and the baseline that every trained codec stands beside."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(x: Tensor, centers: Tensor) -> Tensor:
    """x [N, D], centers [K, D] → [N], which center is nearest to each; of equally near ones the first."""
    return torch.addmm(centers.square().sum(1)[None], x, centers.T, alpha=-2.0).argmin(1)


def kmeans(x: Tensor, size: int, iterations: int = 10, generator: torch.Generator | None = None) -> Tensor:
    """Centers of clusters.

    Args:
        x: [N, D].
        size: K; where there are fewer vectors, some centers are copies of a vector with a little noise.
        iterations: of assigning and averaging; a center that nothing is near to is put on a random vector.
        generator: of the vectors to begin with.

    Returns:
        [K, D].

    Raises:
        ValueError: no vectors.
    """
    if not len(x):
        raise ValueError("k-means of no vectors: the audio is empty")
    order = torch.randperm(len(x), generator=generator, device=x.device)
    centers = x[order[torch.arange(size, device=x.device) % len(x)]].clone()
    if len(x) < size:
        centers[len(x):] += 1e-3 * x.std() * torch.randn(size - len(x), x.shape[1], generator=generator, device=x.device)
    for _ in range(iterations):
        sums, counts = cluster_sums(x, nearest(x, centers), size)
        empty = counts == 0
        centers = torch.where(empty[:, None], centers, sums / counts.clamp(min=1)[:, None])
        if bool(empty.any()):
            centers[empty] = x[torch.randint(len(x), (int(empty.sum()),), generator=generator, device=x.device)]
    return centers


def cluster_sums(x: Tensor, which: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """x [N, D], which [N] → sums [K, D] of the vectors of each cluster, and their number [K]."""
    sums = x.new_zeros(size, x.shape[1]).index_add_(0, which, x)
    return sums, torch.bincount(which, minlength=size).to(x.dtype)
