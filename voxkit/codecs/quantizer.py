"""Residual vector quantization (Zeghidour et al. 2021, arXiv 2107.03312): each book quantizes what the books before it have left over.

The books follow the encoder by moving averages (van den Oord et al. 2017); an entry that is hardly used begins again beside one that is
used much. In training each sequence may be quantized by its first books alone, so that any first q books decode.

Learning is in two parts, because a batch may be run more than once (out of memory, the search for a culprit) and a step may be dropped:
`forward` notes what a batch would teach, `learn` takes in what was noted, once a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from voxkit.codecs.kmeans import cluster_sums, kmeans, nearest

KINDS = ("residual", "finite_scalar")


@dataclass
class QuantizerConfig:
    """Attributes:
    kind: residual, or finite_scalar (voxkit.codecs.finite_scalar).
    codebooks: how many; 1 is a single-book codec.
    size: entries of a residual book.
    levels: of finite_scalar: values of each number of a book; a book has their product of entries.
    dim: width of what a residual quantizer quantizes; 0 = that of a frame.
    decay: of the moving averages, per step.
    restart: an entry used less than this share of the mean use begins again.
    dropout: share of the training sequences that are quantized by a random number of their first books.
    """

    kind: str = "residual"
    codebooks: int = 8
    size: int = 1024
    levels: list[int] = field(default_factory=lambda: [8, 5, 5, 5])
    dim: int = 0
    decay: float = 0.99
    restart: float = 0.05
    dropout: float = 0.25

    def problems(self) -> list[str]:
        found = [] if self.kind in KINDS else [f"kind: {self.kind!r} is none of {', '.join(KINDS)}"]
        found += [f"{name}: {getattr(self, name)} is below {least}" for name, least in (("codebooks", 1), ("size", 2), ("dim", 0))
                  if getattr(self, name) < least]
        found += [f"{name}: {getattr(self, name)} is not in [0, 1)" for name in ("decay", "restart", "dropout")
                  if not 0 <= getattr(self, name) < 1]
        if not self.levels or min(self.levels) < 2:
            found.append(f"levels: {self.levels}: give numbers of 2 or more")
        return found

    def draw(self, batch: int, training: bool, device: torch.device) -> Tensor:
        """How many books count for each sequence: [B]; in training fewer for some (quantizer dropout)."""
        every = torch.full((batch,), self.codebooks, device=device)
        if not training or self.dropout == 0:
            return every
        some = torch.randint(1, self.codebooks + 1, (batch,), device=device)
        return torch.where(torch.rand(batch, device=device) < self.dropout, some, every)


class Quantized(NamedTuple):
    """Attributes:
    values: [B, T, D]; the gradient goes through to what was quantized.
    codes: [B, T, Q] long; books that a sequence did not use hold what they would have said.
    commitment: scalar, how far what was quantized is from its entries: mean square over dimensions and the books used, summed over valid
        frames. Its gradient goes to what was quantized, not to the books.
    """

    values: Tensor
    codes: Tensor
    commitment: Tensor


def residual_vq_reference(x: Tensor, books: Tensor, used: Tensor, valid: Tensor) -> Quantized:
    """The plain loop: frame by frame, book by book.

    Args:
        x: [B, T, D]; books: [Q, K, D]; used: [B] how many of them count; valid: [B, T].
    """
    values, codes, commitment = torch.zeros_like(x), torch.zeros(*x.shape[:2], len(books), dtype=torch.long), x.new_zeros(())
    out = []
    for b in range(len(x)):
        for t in range(x.shape[1]):
            rest, total, cost = x[b, t], torch.zeros_like(x[b, t]), x.new_zeros(())
            for q, book in enumerate(books):
                code = int(((rest.detach() - book) ** 2).sum(1).argmin())
                entry = book[code].detach()
                codes[b, t, q] = code
                if q < int(used[b]):
                    cost = cost + ((rest - entry) ** 2).mean() / int(used[b])
                    total = total + entry
                rest = rest - entry
            out.append(x[b, t] + (total - x[b, t]).detach())
            if valid[b, t]:
                commitment = commitment + cost
    if out:
        values = torch.stack(out).view_as(x)
    return Quantized(values, codes, commitment)


class ResidualVQ(nn.Module):
    """Books of entries, by residuals.

    Args:
        config: of kind residual; width: what a `dim` of 0 stands for.

    Attributes:
        books: [Q, K, D].
        started: whether the books have begun on data.
        usage: [Q, K] moving average of how many frames of a batch use each entry; sums: [Q, K, D] likewise of what they quantize.
        noted_usage, noted_sums: what the batches since the last `learn` would teach; candidates: [Q, C, D] vectors of the last batch.
    """

    candidates_kept = 256

    def __init__(self, config: QuantizerConfig, width: int = 64) -> None:
        super().__init__()
        self.config = config
        q, k, d = config.codebooks, config.size, config.dim or width
        self.dim, self.codebooks, self.size = d, q, k
        for name, value in (("books", torch.randn(q, k, d) * d**-0.5), ("usage", torch.ones(q, k)), ("noted_usage", torch.zeros(q, k)),
                            ("noted_sums", torch.zeros(q, k, d)), ("candidates", torch.zeros(q, self.candidates_kept, d)),
                            ("started", torch.zeros((), dtype=torch.bool))):
            self.register_buffer(name, value)
        self.register_buffer("sums", self.books.clone())

    def forward(self, x: Tensor, valid: Tensor, used: Tensor | None = None) -> Quantized:
        """x [B, T, D], valid [B, T] → Quantized; in training it notes what the batch teaches.

        Args:
            used: [B], how many books of each sequence count; None: in training as `dropout` draws, else all.
        """
        if used is None:
            used = self.config.draw(len(x), self.training, x.device)
        if self.training and not bool(self.started):  # better on more than one batch: `start` beforehand
            self.start(x[valid].detach())
        codes, entries, rests = self._search(x.detach())
        counts = torch.arange(self.codebooks, device=x.device)[:, None] < used  # [Q, B]
        total = (entries * counts[:, :, None, None]).sum(0)
        # what book q quantizes is x minus entries, which are constants: its gradient is that of x
        gone = entries.cumsum(0) - entries
        cost = (x - gone - entries).square().mean(-1) * counts[:, :, None] / used[None, :, None]
        if self.training:
            self._note(rests, codes, valid, counts)
        return Quantized(x + (total - x).detach(), codes, (cost.sum(0) * valid).sum())

    def codes(self, x: Tensor) -> Tensor:
        """x [B, T, D] → codes [B, T, Q]."""
        return self._search(x)[0]

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes [B, T, q] of the first q books → [B, T, D]."""
        found = torch.zeros(*codes.shape[:2], self.dim, device=self.books.device, dtype=self.books.dtype)
        for q in range(codes.shape[2]):
            found = found + self.books[q][codes[..., q]]
        return found

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Begin the books by k-means on x [N, D]. With several processes all take those of the first."""
        rest = x
        for q in range(self.codebooks):
            self.books[q] = kmeans(rest, self.size)
            rest = rest - self.books[q][nearest(rest, self.books[q])]
        self.usage.fill_(1.0)  # no more than a batch or so says: what the batches say soon outweighs it
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(self.books, 0)
            dist.broadcast(self.usage, 0)
        self.sums.copy_(self.books * self.usage[..., None])
        self.started.fill_(True)

    @torch.no_grad()
    def learn(self) -> None:
        """Take in what was noted since the last call: once for every step of the optimizer."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.noted_usage)
            dist.all_reduce(self.noted_sums)
        if not bool(self.started) or not bool(self.noted_usage.any()):
            return
        decay = self.config.decay
        heard = (self.noted_usage.sum(1) > 0)[:, None]  # a book that no sequence used learns nothing
        self.usage.copy_(torch.where(heard, torch.lerp(self.noted_usage, self.usage, decay), self.usage))
        self.sums.copy_(torch.where(heard[..., None], torch.lerp(self.noted_sums, self.sums, decay), self.sums))
        dead = self.usage < self.config.restart * self.usage.mean(1, keepdim=True)
        for q in range(self.codebooks):
            if count := min(int(dead[q].sum()), self.size // 2):
                self._split(q, dead[q].nonzero()[:count, 0])
        if dist.is_available() and dist.is_initialized():  # which vectors an entry begins again on was drawn
            dist.broadcast(self.usage, 0)
            dist.broadcast(self.sums, 0)
        self.books.copy_(self.sums / self.usage.clamp(min=1e-6)[..., None])
        self.forget()

    def _split(self, q: int, dead: Tensor) -> None:
        """Entries that are hardly used share the work of the most used ones: each begins beside one of them, a little way towards some
        vector of the last batch. (On the vector itself it would be alone again: in many dimensions nothing is near to a single vector.)"""
        busy = self.usage[q].topk(len(dead)).indices
        self.usage[q, busy] /= 2
        self.sums[q, busy] /= 2
        entries = self.sums[q, busy] / self.usage[q, busy].clamp(min=1e-6)[:, None]
        towards = self.candidates[q, torch.randint(self.candidates_kept, (len(dead),), device=dead.device)]
        self.usage[q, dead] = self.usage[q, busy]
        self.sums[q, dead] = torch.lerp(entries, towards, 0.1) * self.usage[q, busy][:, None]

    @torch.no_grad()
    def forget(self) -> None:
        """Drop what was noted."""
        self.noted_usage.zero_()
        self.noted_sums.zero_()

    def _search(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D] → codes [B, T, Q], entries [Q, B, T, D], and what each book quantizes [Q, B, T, D]."""
        rest, codes, entries, rests = x.flatten(0, 1), [], [], []
        for book in self.books:
            code = nearest(rest, book)
            rests.append(rest)
            entries.append(book[code])
            codes.append(code)
            rest = rest - entries[-1]
        shape = (self.codebooks, *x.shape)
        return torch.stack(codes, -1).view(*x.shape[:2], -1), torch.stack(entries).view(shape), torch.stack(rests).view(shape)

    @torch.no_grad()
    def _note(self, rests: Tensor, codes: Tensor, valid: Tensor, counts: Tensor) -> None:
        for q in range(self.codebooks):
            on = valid & counts[q][:, None]
            x = rests[q][on]
            if not len(x):
                continue
            sums, number = cluster_sums(x, codes[..., q][on], self.size)
            self.noted_sums[q] += sums
            self.noted_usage[q] += number
            self.candidates[q] = x[torch.randint(len(x), (self.candidates_kept,), device=x.device)]
