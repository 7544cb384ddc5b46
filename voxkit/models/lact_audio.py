"""LaCT audio: codes of a codec, frame after frame, by a network whose fast weights learn what they have said so far (arXiv 2505.23884).

    codes of frame t - 1 ─ sum of their embeddings ─ LaCT blocks (window attention + fast weights) ─ depth transformer ─ codes of frame t

Fast weights are read before they learn from a chunk (`apply_update`); the other order would show a chunk its own future. Memory and time
per frame are constant. `backbone` names what stands in place of the LaCT blocks, with as many parameters: `full`, attention over all
frames with a growing cache; `window`, the window alone. `lact.updates: false` is the same network without learning.

A training sequence is a session, utterances of one speaker joined (voxkit/training/codes.py). It is run in segments whose state goes on,
with gradients through some of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.config import ConfigError
from voxkit.decoders.depth import DepthConfig, DepthTransformer
from voxkit.encoders.causal import CausalTransformer
from voxkit.encoders.lact import LaCTConfig, LaCTEncoder
from voxkit.masks import lengths_to_mask
from voxkit.models.contract import Losses, SpeechModel
from voxkit.nn.lact import FastConfig
from voxkit.system import System, TokenIds

BACKBONES = ("lact", "full", "window")
State = tuple[Tensor, ...]


@dataclass
class LaCTAudioConfig:
    """Attributes:
    vocab_size: entries of a book; 0 = as the codec says. codebooks: of a frame, the codec's first ones; 0 = all that the codec has.
    backbone: lact, full or window.
    lact: sizes of the network over time; its window (`left`) holds a chunk of the fast weights at the least. The other backbones take its
        width and depth, and a feed-forward that is wide enough for as many parameters.
    depth: sizes of the network over books.
    segment: frames that are run at a time in training; gradient: segments that gradients flow back through.
    """

    vocab_size: int = 0
    codebooks: int = 0
    backbone: str = "lact"
    lact: LaCTConfig = field(default_factory=lambda: LaCTConfig(dim=256, ffn=512, layers=6, left=64, fast=FastConfig(chunk=64)))
    depth: DepthConfig = field(default_factory=DepthConfig)
    segment: int = 250
    gradient: int = 4

    def problems(self) -> list[str]:
        found = [] if self.backbone in BACKBONES else [f"backbone: {self.backbone!r} is none of {', '.join(BACKBONES)}"]
        found += [f"{name}: {getattr(self, name)} is below 1" for name in ("segment", "gradient") if getattr(self, name) < 1]
        if self.codebooks < 0:
            found.append(f"codebooks: {self.codebooks} is below 0")
        fast = self.lact.fast
        if self.lact.right or fast.order != "apply_update" or fast.overlap or fast.borders != "fixed":
            found.append("lact: a generator knows no future: right 0, fast.order apply_update, fast.overlap 0, fast.borders fixed")
        if self.lact.left < fast.chunk:
            found.append(f"lact.left: a window of {self.lact.left} frames is shorter than a chunk, {fast.chunk}: frames between the two "
                         "would be remembered by nothing")
        return found


class LaCTAudioGenerator(SpeechModel):
    """The generator.

    Args:
        config: with vocab_size and codebooks set.

    Attributes:
        codebooks, size: of the frames it makes.
        backbone: the network over time; depth: over books.
    """

    def __init__(self, config: LaCTAudioConfig) -> None:
        super().__init__()
        self.config, self.codebooks, self.size = config, config.codebooks, config.vocab_size
        dim = config.lact.dim
        self.embedding = nn.Parameter(torch.randn(config.codebooks, config.vocab_size, dim) * (dim * config.codebooks) ** -0.5)
        self.begin = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.backbone = build_backbone(config)
        self.depth = DepthTransformer(config.depth, dim, config.codebooks, config.vocab_size)

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy in nats per code, teacher-forced; "book_1" ... are those of each book.

        Raises:
            ValueError: a batch without codes, or with fewer books.
        """
        total, frames, _ = self.losses(batch)
        books = total.sum((0, 1)) / frames.sum()
        return Losses(books.mean(), frames.sum() * self.codebooks, {f"book_{q + 1}": loss.detach() for q, loss in enumerate(books)})

    def losses(self, batch: Batch, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """Cross-entropy of each code [B, T, Q], zeros in padding; frames [B]; the state after the last frame.

        Args:
            state: what was before; None: nothing.
        """
        if batch.codes is None or batch.codes.values.shape[2] < self.codebooks:
            raise ValueError(f"a generator of {self.codebooks} books learns from codes with as many; the batch has "
                             f"{'none' if batch.codes is None else batch.codes.values.shape[2]}")
        codes, lengths = batch.codes.values[..., :self.codebooks], batch.codes.lengths
        state = self.init_state(len(codes), codes.device) if state is None else state
        found, size = [], self.config.segment
        for at, begin in enumerate(range(0, codes.shape[1], size)):
            if at and at % self.config.gradient == 0:
                state = tuple(x.detach() for x in state)
            piece = codes[:, begin:begin + size]
            logits, state = self.advance(piece, state)
            found.append(F.cross_entropy(logits.float().flatten(0, 2), piece.flatten(), reduction="none").view(piece.shape))
        return torch.cat(found, 1) * lengths_to_mask(lengths, codes.shape[1])[..., None], lengths, state

    def init_state(self, batch: int = 1, device: torch.device | str | None = None) -> State:
        """Before the first frame: what goes into the network over time next [B, 1, D], and its state."""
        begin = self.begin.expand(batch, 1, -1)
        return begin, *self.backbone.init_state(batch, device)

    def advance(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """Frames that are known: codes [B, n, Q] → logits of each [B, n, Q, K], from what was before it, and the state after them."""
        x = torch.cat((state[0], self.embed(codes)), 1)
        states, after = self.backbone.stream(x[:, :-1], state[1:])
        logits = self.depth(states.flatten(0, 1), codes.flatten(0, 1))
        return logits.unflatten(0, codes.shape[:2]), (x[:, -1:], *after)

    def listen(self, codes: Tensor, state: State) -> State:
        """The state after frames that are known, [B, n, Q]; the books are not asked for."""
        x = torch.cat((state[0], self.embed(codes)), 1)
        return (x[:, -1:], *self.backbone.stream(x[:, :-1], state[1:])[1])

    def begin_frame(self, state: State) -> tuple[Tensor, State]:
        """The next frame: what the network over time says of it [B, D], and the state with its place still open (`end_frame`)."""
        states, after = self.backbone.stream(state[0], state[1:])
        return states[:, 0], after

    def end_frame(self, codes: Tensor, after: State) -> State:
        """The codes [B, Q] that the frame has got → the state after it."""
        return (self.embed(codes[:, None]), *after)

    def embed(self, codes: Tensor) -> Tensor:
        """[B, n, Q] → [B, n, D], the sum over books."""
        return sum(self.embedding[q][codes[..., q]] for q in range(self.codebooks))  # type: ignore[return-value]

    def set_updates(self, on: bool) -> None:
        """Whether the fast weights learn."""
        if isinstance(self.backbone, LaCTEncoder):
            self.backbone.set_updates(on)


class BaselineAudioTransformer(LaCTAudioGenerator):
    """The same generator with attention over all frames, and as many parameters within 1 %.

    Args:
        config: of the LaCT generator that it is to stand beside; window: the window of that one alone.
    """

    def __init__(self, config: LaCTAudioConfig, window: bool = False) -> None:
        super().__init__(replace(config, backbone="window" if window else "full"))


def build_backbone(config: LaCTAudioConfig) -> LaCTEncoder | CausalTransformer:
    """The network over time.

    Raises:
        ConfigError: no width of the feed-forward gives as many parameters as the LaCT blocks have.
    """
    sizes = config.lact

    def build(ffn: int) -> LaCTEncoder | CausalTransformer:
        if config.backbone == "full":
            return CausalTransformer(sizes.dim, sizes.dim, sizes.heads, ffn, sizes.layers, sizes.dropout, sizes.activation)
        return LaCTEncoder(replace(sizes, ffn=ffn, fast_layers=0), sizes.dim)

    if config.backbone == "lact":
        return LaCTEncoder(sizes, sizes.dim)
    with torch.device("meta"):
        wanted, narrow, wide = (count(x) for x in (LaCTEncoder(sizes, sizes.dim), build(1), build(2)))
        ffn = max(1, round(1 + (wanted - narrow) / (wide - narrow)))
        if abs(count(build(ffn)) / wanted - 1) > 0.01:
            raise ConfigError(f"model.lact: no width of the feed-forward gives backbone {config.backbone} {wanted} parameters within 1 %")
    return build(ffn)


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())


def build(config: LaCTAudioConfig, tokens: AudioTokenizer | TokenIds | Any) -> LaCTAudioGenerator:
    """A generator over the codes of a codec.

    Raises:
        ValueError: a vocabulary of text, or a codec with fewer books than the configuration asks for.
    """
    if isinstance(tokens, AudioTokenizer):
        if config.codebooks > tokens.codebooks:
            raise ValueError(f"model.codebooks is {config.codebooks}, and the codec has {tokens.codebooks}")
        config.codebooks = config.codebooks or tokens.codebooks
    elif not isinstance(tokens, TokenIds):
        raise ValueError("tokenizer: a generator of audio is trained over a codec: name its run, e.g. tokenizer=exp/codec_head")
    if not config.codebooks:
        raise ValueError("model.codebooks: 0, and no codec to ask; give their number")
    return LaCTAudioGenerator(config)


SYSTEM = System(LaCTAudioConfig, build, reader="codes", evaluation="perplexity", metric="loss", use="generator",
                vocabulary=AudioTokenizer.load)
