"""A codec as a system that is trained (voxkit/codecs/mel_codec.py), in two steps: the mel first, the head second.

    part: mel     the books begin by k-means; encoder, quantizer and decoder learn to give the log-mel back, which Griffin-Lim makes audible
    part: head    begins with those (init=...), which stay as they are; the head learns samples from spectra at several resolutions

Codes of a spectrum say nothing of absolute phase. The losses of the head are therefore of magnitudes, and `loss.wave`, which compares
samples, is 0 unless it is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.batch import Batch, Padded
from voxkit.codecs.mel_codec import MelCodec, MelCodecConfig
from voxkit.codecs.quantizer import Quantized, ResidualVQ
from voxkit.masks import lengths_to_mask
from voxkit.models.contract import Losses, SpeechModel
from voxkit.system import System, TokenIds
from voxkit.text.vocabulary import no_text

PARTS = ("mel", "head")


@dataclass
class CodecLossConfig:
    """Weights. Attributes:
    commitment: how far the encoder is from the entries (part mel).
    stft: magnitudes at the windows of `windows`, logarithms and, relative to their loudness, magnitudes (part head).
    mel: log-mel of the samples; wave: samples (part head).
    """

    commitment: float = 1.0
    stft: float = 1.0
    mel: float = 1.0
    wave: float = 0.0
    windows: list[int] = field(default_factory=lambda: [256, 512, 1024])

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is negative" for name in ("commitment", "stft", "mel", "wave") if getattr(self, name) < 0]
        if any(window < 8 or window % 4 for window in self.windows):
            found.append(f"windows: {self.windows}: samples, multiples of 4 from 8 on")
        return found


@dataclass
class CodecConfig:
    """Attributes: codec: sizes; part: mel or head, what is trained; start_minutes: of audio on which the books begin; loss: weights;
    vocab_size: 0, a codec has no text."""

    codec: MelCodecConfig = field(default_factory=MelCodecConfig)
    part: str = "mel"
    start_minutes: float = 12.0
    loss: CodecLossConfig = field(default_factory=CodecLossConfig)
    vocab_size: int = 0

    def problems(self) -> list[str]:
        found = [] if self.part in PARTS else [f"part: {self.part!r} is none of {', '.join(PARTS)}"]
        return found + ([] if self.start_minutes > 0 else [f"start_minutes: {self.start_minutes} is not above 0"])


class CodecModel(SpeechModel):
    """A codec in training.

    Args:
        config: what is trained, and how.

    Attributes:
        codec: what is kept.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config, self.codec = config, MelCodec(config.codec)
        self._learned: int | None = None
        mel = config.part == "mel"
        for name, parameter in self.codec.named_parameters():
            parameter.requires_grad_(name.startswith("head.") != mel)

    def set_step(self, step: int) -> None:
        """The books take in what the step before has noted; what a step that was dropped has noted is forgotten."""
        if step == self._learned:
            self.codec.quantizer.forget()
        else:
            self.codec.quantizer.learn()
        self._learned = step
        super().set_step(step)

    @torch.no_grad()
    def begin_on_data(self, batches: Iterable[Batch]) -> None:
        """Begin the books by k-means, unless they have begun, on the first `start_minutes` of some batches.

        Raises:
            ValueError: part head, and they have not begun.
        """
        quantizer = self.codec.quantizer
        if not isinstance(quantizer, ResidualVQ) or bool(quantizer.started):
            return
        if self.config.part == "head":
            raise ValueError("part: head needs init=RUN of part mel: this codec's books have not begun, and a head over random ones learns "
                             "nothing")
        found, seconds, device = [], 0.0, quantizer.books.device
        for batch in batches:
            assert batch.audio is not None
            latents = self.codec.latents(self.codec.log_mels(batch.audio.to(device)))
            found.append(latents.values[lengths_to_mask(latents.lengths, latents.values.shape[1])])
            seconds += batch.seconds
            if seconds >= 60 * self.config.start_minutes:
                break
        quantizer.start(torch.cat(found))

    def train(self, mode: bool = True) -> CodecModel:
        """Part head: what is frozen stays as it is in use, all books and none of them learning."""
        super().train(mode)
        if self.config.part == "head":
            for part in (self.codec.encoder, self.codec.quantizer, self.codec.decoder):
                part.eval()
        return self

    def loss(self, batch: Batch) -> Losses:
        """Per frame of codes: the distance of log-mels and the commitment, or those of spectra."""
        if batch.audio is None:
            raise ValueError("a codec learns from audio: set data.input=audio")
        audio = batch.audio
        return self._mel_loss(audio) if self.config.part == "mel" else self._head_loss(audio)

    def _mel_loss(self, audio: Padded) -> Losses:
        codec = self.codec
        mels = codec.log_mels(audio)
        latents = codec.latents(mels)
        quantized: Quantized = codec.quantize(latents)
        decoded = codec.decode_mel(quantized.values, latents.lengths)[1]
        frames = latents.lengths.sum()
        mel = mel_distance(decoded, mels) / mels.lengths.sum()
        commitment = quantized.commitment / frames
        return Losses(mel + self.config.loss.commitment * commitment, frames, {"mel": mel.detach(), "commitment": commitment.detach()})

    def _head_loss(self, audio: Padded) -> Losses:
        codec, weights = self.codec, self.config.loss
        with torch.no_grad():
            mels = codec.log_mels(audio)
            latents = codec.latents(mels)
            states, decoded = codec.decode_mel(codec.quantize(latents).values, latents.lengths)
        made = codec.decode_audio(states, decoded, mels.lengths)
        size, frames = made.shape[1], latents.lengths.sum()
        wanted = F.pad(audio.values, (0, max(0, size - audio.values.shape[1])))[:, :size]
        wanted = wanted * lengths_to_mask(audio.lengths.clamp(max=size), size)
        parts = {}
        for window in weights.windows:
            parts[f"stft_{window}"] = spectral_distance(made, wanted, window) * (window // 4) / codec.hop / frames
        if weights.mel:
            parts["mel"] = mel_distance(codec.space.log_mel(made), mels) / mels.lengths.sum()
        if weights.wave:
            parts["wave"] = (made - wanted).abs().sum() / (frames * codec.hop)
        total = weights.stft * sum(parts[f"stft_{window}"] for window in weights.windows) / max(1, len(weights.windows))
        total = total + sum(getattr(weights, name) * parts[name] for name in ("mel", "wave") if name in parts)
        return Losses(total, frames, {name: value.detach() for name, value in parts.items()})


def mel_distance(found: Tensor, wanted: Padded) -> Tensor:
    """Mean absolute difference over bands of log-mels [B, n, mels], summed over the frames that are no padding."""
    return ((found - wanted.values).abs().mean(-1) * lengths_to_mask(wanted.lengths, found.shape[1])).sum()


def spectral_distance(found: Tensor, wanted: Tensor, window: int) -> Tensor:
    """Of two batches of samples [B, S] that are 0 past their ends, summed over the frames that hold anything: the mean over frequencies of
    the difference of log magnitudes, and the length of the difference of magnitudes by that of the wanted frame.

    Frames cover both ends wholly, so that padding adds only frames of zeros, which differ by nothing.
    """
    hann = torch.hann_window(window, device=found.device)

    def magnitudes(x: Tensor) -> Tensor:
        x = F.pad(x, (window, window)).unfold(1, window, window // 4) * hann
        spectrum = torch.view_as_real(torch.fft.rfft(x))
        return spectrum.square().sum(-1).add(1e-8).sqrt()

    a, b = magnitudes(found), magnitudes(wanted)
    logs = (a.log() - b.log()).abs().mean(-1)
    ratio = ((a - b).square().sum(-1) + 1e-12).sqrt() / (b.square().sum(-1).sqrt() + 0.1)
    floor = 1e-6 / (1e-4 * b.shape[-1] ** 0.5 + 0.1)  # of a frame of zeros
    return (logs + ratio - floor).sum()


def build(config: CodecConfig, tokens: TokenIds) -> CodecModel:
    """A fresh codec; it has no tokens."""
    return CodecModel(config)


SYSTEM = System(CodecConfig, build, reader="audio", evaluation="reconstruction", metric="loss", use="codec", vocabulary=no_text)
