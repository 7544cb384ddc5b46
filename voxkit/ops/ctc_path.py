"""The best path of CTC through a given token sequence, a batch at once (Viterbi over blanks and tokens; Kürzinger et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask


def path_labels(tokens: Tensor, blank: int = 0) -> Tensor:
    """tokens [B, U] → the states of a path [B, 2U + 1]: tokens, with blanks before, between and behind them."""
    labels = tokens.new_full((tokens.shape[0], 2 * tokens.shape[1] + 1), blank)
    labels[:, 1::2] = tokens
    return labels


def repetitions(tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """How often a token follows itself [B]: each time a blank must stand between, so that U tokens need U + that many frames."""
    return ((tokens[:, 1:] == tokens[:, :-1]) & lengths_to_mask(token_lengths, tokens.shape[1])[:, 1:]).sum(1)


@torch.no_grad()
def best_path(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int = 0) -> tuple[Tensor, Tensor]:
    """Viterbi. One step per frame, all utterances and states in it.

    Args:
        log_probs: [B, T, V] float, T at least 1, lengths [B]; what stands after a length does not matter.
        tokens: [B, U] with ids of the vocabulary in padding too, token_lengths [B].

    Returns:
        path [B, T]: the state of each frame, an index into `path_labels`: odd where a token is spoken, its number 2u + 1; after a length
        it stays as it was at the end. Log-probability of the path [B], -inf where there is none (more tokens than frames).
    """
    labels = path_labels(tokens, blank)
    size, states = labels.shape
    frames = log_probs.shape[1]
    valid = lengths_to_mask(lengths, frames)
    # after its end an utterance stays in its state at no cost: nothing else is cheaper there
    emit = log_probs.gather(2, labels[:, None].expand(-1, frames, -1)).masked_fill(~valid[..., None], 0.0).unbind(1)
    move = log_probs.new_zeros(frames, size, 1).masked_fill(~valid.T[..., None], -torch.inf).unbind(0)
    closed = log_probs.new_full((size, states), -torch.inf)  # from two states before: over a blank, to another token
    closed[:, 2:].masked_fill_((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), 0.0)
    # two places in front of the first state that nothing comes from, so that the three ways into a state are three views of one row
    row = log_probs.new_full((size, states + 2), -torch.inf)
    stay, one, two = row[:, 2:], row[:, 1:-1], row[:, :-2]
    stay[:, 0] = 0.0  # before the first frame: the first blank or the first token may follow
    steps = torch.empty(frames, size, states, dtype=torch.long, device=log_probs.device)
    ways = torch.empty(3, size, states, dtype=log_probs.dtype, device=log_probs.device)
    best = torch.empty_like(ways[0])
    for t in range(frames):
        ways[0] = stay
        torch.add(one, move[t], out=ways[1])
        torch.add(two, closed, out=ways[2]).add_(move[t])
        torch.max(ways, 0, out=(best, steps[t]))
        torch.add(best, emit[t], out=stay)
    last = 2 * token_lengths
    ends = torch.stack([stay.gather(1, last[:, None])[:, 0], stay.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0]])
    score, which = ends.max(0)
    state = (last - which).clamp(min=0)[:, None]
    path = torch.empty(size, frames, dtype=torch.long, device=log_probs.device)
    for t in range(frames - 1, -1, -1):
        path[:, t:t + 1] = state
        state = state - steps[t].gather(1, state)
    return path, score


@torch.no_grad()
def greedy_path(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> tuple[Tensor, Tensor]:
    """The best label of every frame: log_probs [B, T, V], lengths [B] → path [B, T] as of `best_path`, for the tokens that it says itself,
    and how many these are [B]."""
    said = log_probs.argmax(-1).masked_fill(~lengths_to_mask(lengths, log_probs.shape[1]), blank)
    spoken = said != blank
    begins = spoken.clone()
    begins[:, 1:] &= said[:, 1:] != said[:, :-1]
    before = begins.long().cumsum(1)
    return 2 * before - spoken.long(), begins.sum(1)


def token_frames(path: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A path [B, T] → first frame of each of `count` tokens [B, U], and the frame after its last; both 0 where it is not on the path."""
    spoken = (path % 2 == 1) & lengths_to_mask(lengths, path.shape[1])
    token = torch.where(spoken, path // 2, count)  # what is no token goes to a place of its own
    frame = torch.arange(path.shape[1], device=path.device).expand_as(path)
    first = path.new_full((path.shape[0], count + 1), path.shape[1]).scatter_reduce(1, token, frame, "amin")
    end = path.new_zeros(path.shape[0], count + 1).scatter_reduce(1, token, frame + 1, "amax")
    return torch.where(end > 0, first, 0)[:, :count], end[:, :count]
