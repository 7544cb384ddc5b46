"""What the families have in common: audio → state 0, a stack of layers, a last norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxkit.audio.specaugment import SpecAugment
from voxkit.masks import lengths_to_mask


class Backbone(nn.Module):
    """One pretrained encoder, taken apart so that it can be run up to any layer and from any layer.

    `embed` gives state 0, `layer(i)` state i + 1 out of state i, `final` the norm on top of the last one (Whisper and the Large
    models: our last state is Hugging Face's last_hidden_state, as in s3prl; its hidden_states[-1] has the norm or not,
    depending on version and family). `context` is what all layers share: the padding mask, WavLM's position bias.

    Attributes:
        family: "whisper", "wavlm", "hubert" or "wav2vec2".
        layers: the Transformer layers.
        last_norm: the norm after the last layer, or None where the family has none.
        dim: width of a state.
        frame_rate: states per second.
        max_samples: of one utterance; 0 = any number.
        spec_augment: masks the log-mel spectrum in training, for a family that begins with one.
    """

    family: str
    layers: nn.ModuleList
    last_norm: nn.Module | None
    dim: int
    frame_rate: float
    max_samples: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.spec_augment: SpecAugment | None = None

    def embed(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """audio [B, S], lengths [B] in samples → (state 0 [B, T, D], lengths [B] in frames)."""
        raise NotImplementedError

    def embed_modules(self) -> list[nn.Module]:
        """The modules that `embed` uses, for the fingerprint."""
        raise NotImplementedError

    def context(self, lengths: Tensor, frames: int) -> Any:
        """What every layer needs to know about a batch of `frames` frames."""
        return padding_mask(lengths, frames)

    def layer(self, index: int, x: Tensor, context: Any) -> Tensor:
        """State `index` [B, T, D] → state `index + 1`, counted from 0."""
        out = self.layers[index](x, attention_mask=context)
        return out[0] if isinstance(out, tuple) else out

    def final(self, x: Tensor) -> Tensor:
        """The last state as Hugging Face gives it."""
        return x if self.last_norm is None else self.last_norm(x)

    def options(self) -> dict[str, Any]:
        """What besides the weights decides the states, for the fingerprint."""
        raise NotImplementedError

    def set_dropout(self, index: int, dropout: float | None, attention: float | None, activation: float | None) -> None:
        """Replace a layer's dropout probabilities; None leaves one as it is."""
        raise NotImplementedError


def padding_mask(lengths: Tensor, frames: int) -> Tensor | None:
    """[B, 1, 1, T], True where a key may be attended to; None where there is no padding, which is faster."""
    if not torch.compiler.is_exporting() and bool((lengths == frames).all()):
        return None
    return lengths_to_mask(lengths, frames)[:, None, None, :]


def zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """x [B, T, ...] with the frames past `lengths` set to zero."""
    if not torch.compiler.is_exporting() and bool((lengths == x.shape[1]).all()):
        return x
    mask = lengths_to_mask(lengths, x.shape[1])
    return x.masked_fill(~mask.view(*mask.shape, *[1] * (x.dim() - 2)), 0.0)


def check_audio(audio: Tensor, lengths: Tensor, shortest: int, longest: int | None, ids: list[str] | None, what: str) -> None:
    """Refuse what the encoder cannot take, naming the utterances.

    Raises:
        ValueError: wrong shape, or an utterance that is too short or too long.
    """
    if torch.compiler.is_exporting():  # a graph has no errors; who runs it checks
        return
    if audio.dim() != 2 or lengths.shape != audio.shape[:1]:
        raise ValueError(f"{what} takes audio [B, S] and lengths [B]; got {tuple(audio.shape)} and {tuple(lengths.shape)}")
    if not audio.is_floating_point():
        raise ValueError(f"{what} takes float audio in [-1, 1]; got {audio.dtype}")
    if bool((lengths > audio.shape[1]).any()):
        raise ValueError(f"{what}: lengths up to {int(lengths.max())} samples in audio of {audio.shape[1]}")

    def named(bad: Tensor) -> str:
        rows = bad.nonzero()[:, 0].tolist()
        names = [ids[row] if ids is not None else f"utterance {row} of the batch" for row in rows]
        return ", ".join(f"{name} ({int(lengths[row]) / 16000:.2f} s)" for name, row in zip(names, rows))

    short = lengths < shortest
    if bool(short.any()):
        raise ValueError(f"{what} needs at least {shortest} samples at 16 kHz; too short: {named(short)}. "
                         "Leave them out (data.min_seconds)")
    if longest is not None and bool((lengths > longest).any()):
        raise ValueError(f"{what} takes at most {longest / 16000:.0f} s; too long: {named(lengths > longest)}. "
                         "Cut them into pieces, or leave them out (data.max_seconds)")
