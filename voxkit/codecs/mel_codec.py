"""MelCodec: log-mel frames → ConvNeXt → residual quantizer → ConvNeXt → log-mel and samples.

    audio ─ log-mel, 100/s, `stack` to a frame ─ encoder ─ quantizer ─ decoder ─┬─ log-mel ─ Griffin-Lim
                                                                                └─ iSTFT head (Vocos) ─ Griffin-Lim ("refined")
                                                                                   magnitude and phase of 100 spectra/s

Encoder and decoder are corrections: what is quantized is the frame itself plus what the encoder adds, and the decoded mel is what was
quantized plus what the decoder adds. A fresh codec with books by k-means is therefore the baseline (voxkit/codecs/baseline.py), and
training goes on from there. The mel goes first and the head second (voxkit/models/codec.py). The head's magnitudes are those of the
decoded mel times a learned correction; its phases are its own. Griffin-Lim needs no training, and does not stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.batch import Padded
from voxkit.codecs.contract import Codec
from voxkit.codecs.convnext import ConvNeXt
from voxkit.codecs.finite_scalar import FiniteScalar
from voxkit.codecs.quantizer import Quantized, QuantizerConfig, ResidualVQ
from voxkit.codecs.spectrum import Spectrum, griffin_lim
from voxkit.masks import lengths_to_mask
from voxkit.rate import RATE

HEADS = ("istft", "griffin_lim", "refined")
_MEAN, _SPREAD = -5.0, 2.5  # of the log-mels of speech, about; silence is log(1e-5) = -11.5
_LOUDEST = 7.0  # log magnitude of a spectrum of 640 samples between -1 and 1: at most log(320) = 5.8


@dataclass
class MelCodecConfig:
    """Attributes:
    stack: log-mel frames, 100 a second, to a frame of codes: 2 = 50 frames/s, 4 = 25.
    mels: bands.
    dim: width of encoder, decoder and head; encoder_layers, decoder_layers, head_layers: their blocks; the head's run 100 times a second.
    expansion: inner width of a block by dim; kernel: frames that a block sees.
    causal: no block looks ahead; the codec streams. Latency: a frame and 15 ms to encode, `lookahead` frames and 15 ms to decode.
    lookahead: of a causal decoder: frames after its own that a frame is decoded with. Neighbors overlap, and what one has lost to the
        quantizer the next may tell.
    quantizer: books.
    head: what `decode` uses unless told: istft, the trained head, which streams; griffin_lim, on the decoded mel, no training; refined,
        Griffin-Lim on the head's magnitudes from the head's phases.
    """

    stack: int = 2
    mels: int = 80
    dim: int = 192
    encoder_layers: int = 5
    decoder_layers: int = 5
    head_layers: int = 3
    expansion: float = 3.0
    kernel: int = 7
    causal: bool = False
    lookahead: int = 0
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    head: str = "istft"

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is below {least}" for name, least in
                 (("stack", 1), ("mels", 1), ("dim", 1), ("encoder_layers", 0), ("decoder_layers", 0), ("head_layers", 0), ("lookahead", 0))
                 if getattr(self, name) < least]
        if self.kernel < 1 or self.kernel % 2 == 0:
            found.append(f"kernel: {self.kernel} is not an odd number above 0")
        if self.lookahead and not self.causal:
            found.append(f"lookahead: {self.lookahead}: a decoder that is not causal looks ahead as far as its blocks reach; set it to 0")
        if self.expansion <= 0:
            found.append(f"expansion: {self.expansion} is not above 0")
        return found + ([] if self.head in HEADS else [f"head: {self.head!r} is none of {', '.join(HEADS)}"])


class ISTFTHead(nn.Module):
    """States at the rate of the mel frames → complex spectra."""

    def __init__(self, config: MelCodecConfig, space: Spectrum) -> None:
        super().__init__()
        self.bins = space.window // 2 + 1
        self.body = ConvNeXt(config.dim + config.mels, config.dim, config.head_layers, config.expansion, config.kernel, config.causal)
        self.output = nn.Linear(config.dim, 3 * self.bins)
        with torch.no_grad():
            self.output.weight[:self.bins].mul_(0.01)
            self.output.bias[:self.bins].zero_()

    def spectra(self, y: Tensor, magnitudes: Tensor) -> Tensor:
        """The body's output [B, n, D] and the decoded mel's magnitudes [B, n, bins] → complex [B, n, bins]."""
        gain, x, y = self.output(y).float().split(self.bins, -1)
        loudness = (magnitudes.log() + gain).clamp(max=_LOUDEST).exp()
        length = (x.square() + y.square() + 1e-9).rsqrt()
        return torch.complex(loudness * x * length, loudness * y * length)


def straight(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that begins as the identity, or, of another width, as orthogonal rows or columns."""
    layer = nn.Linear(inputs, outputs)
    nn.init.eye_(layer.weight) if inputs == outputs else nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def silent(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that begins as 0: a correction that is not there yet."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class MelDecoder(nn.Module):
    """Quantized frames → states and log-mels."""

    def __init__(self, config: MelCodecConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.direct = straight(dim, config.stack * config.mels)
        self.body = ConvNeXt(dim, config.dim, config.decoder_layers, config.expansion, config.kernel, config.causal)
        self.fine = nn.Linear(config.dim, config.stack * config.dim)
        self.mel = silent(config.dim, config.mels)

    def finish(self, values: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """What was quantized [B, T, ...], the body's output for it [B, T, D] → states [B, T · stack, D], log-mels [B, T · stack, mels]."""
        x = F.gelu(self._fine(self.fine(x)))
        return x, (self._fine(self.direct(values)) + self.mel(x)) * _SPREAD + _MEAN

    def _fine(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.config.stack, -1)).flatten(1, 2)


class MelCodec(Codec):
    """The codec.

    Args:
        config: sizes.

    Attributes:
        encoder, quantizer, decoder, head: its parts.
    """

    sample_rate = RATE

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.config, self.space = config, Spectrum(mels=config.mels)
        finite = config.quantizer.kind == "finite_scalar"
        self.quantizer = FiniteScalar(config.quantizer) if finite else ResidualVQ(config.quantizer, config.stack * config.mels)
        self.codebooks, self.size = self.quantizer.codebooks, self.quantizer.size
        self.hop = self.space.hop * config.stack
        self.frame_rate = RATE / self.hop
        self.encoder = ConvNeXt(config.stack * config.mels, config.dim, config.encoder_layers, config.expansion, config.kernel,
                                config.causal)
        self.direct = straight(config.stack * config.mels, self.quantizer.dim)
        self.project = silent(config.dim, self.quantizer.dim)
        self.decoder = MelDecoder(config, self.quantizer.dim)
        self.head = ISTFTHead(config, self.space)

    def log_mels(self, audio: Padded) -> Padded:
        """audio [B, S] → log-mels [B, T · stack, mels] of whole code frames; zeros are heard past each length."""
        frames = -(-audio.lengths // self.hop)
        size = int(frames.max()) * self.hop
        on = torch.arange(audio.values.shape[1], device=audio.values.device) < audio.lengths[:, None]
        values = audio.values.masked_fill(~on, 0.0)[:, :size]
        return Padded(self.space.log_mel(F.pad(values, (0, size - values.shape[1]))), frames * self.config.stack)

    def latents(self, mels: Padded) -> Padded:
        """Log-mels [B, T · stack, mels] → what is quantized, [B, T, D]."""
        x, lengths = self._stacked(mels.values), mels.lengths // self.config.stack
        return Padded(self.direct(x) + self.project(self.encoder(x, lengths)), lengths)

    def quantize(self, latents: Padded, used: Tensor | None = None) -> Quantized:
        """Latents → entries, codes, commitment; `used`: [B] books of each sequence."""
        return self.quantizer(latents.values, lengths_to_mask(latents.lengths, latents.values.shape[1]), used)

    def decode_mel(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Quantized [B, T, D], lengths [B] → states [B, T · stack, D] and log-mels [B, T · stack, mels]."""
        ahead = self.config.lookahead
        if not ahead:
            return self.decoder.finish(values, self.decoder.body(values, lengths))
        heard = F.pad(values * lengths_to_mask(lengths, values.shape[1])[..., None], (0, 0, 0, ahead))
        return self.decoder.finish(values, self.decoder.body(heard, lengths + ahead)[:, ahead:])

    def decode_audio(self, states: Tensor, mels: Tensor, lengths: Tensor) -> Tensor:
        """States and log-mels, lengths [B] in mel frames → audio [B, S] of the iSTFT head, zeros past each length."""
        return self.space.synthesize(self._spectra(states, mels, lengths), lengths)

    @torch.no_grad()
    def encode(self, audio: Padded) -> Padded:
        """audio [B, S] → codes [B, T, Q]."""
        latents = self.latents(self.log_mels(audio))
        return Padded(self.quantizer.codes(latents.values), latents.lengths)

    @torch.no_grad()
    def decode(self, codes: Padded, head: str | None = None) -> Padded:
        """codes [B, T, q] of the first q books → audio [B, S].

        Args:
            head: istft, griffin_lim or refined; None: as the configuration says.
        """
        self.check_codes(codes.values)
        head = head or self.config.head
        if head not in HEADS:
            raise ValueError(f"head: {head!r} is none of {', '.join(HEADS)}")
        states, mels = self.decode_mel(self.quantizer.lookup(codes.values), codes.lengths)
        lengths = codes.lengths * self.config.stack
        if head == "griffin_lim":
            return Padded(griffin_lim(self.space, self.space.magnitudes(mels), lengths), codes.lengths * self.hop)
        if head == "refined":
            spectra = self._spectra(states, mels, lengths)
            size = spectra.abs()
            return Padded(griffin_lim(self.space, size, lengths, phase=spectra / size.clamp(min=1e-8)), codes.lengths * self.hop)
        return Padded(self.decode_audio(states, mels, lengths), codes.lengths * self.hop)

    def init_encoder(self, batch: int = 1) -> tuple[Tensor, ...]:
        """State before the first sample: samples that wait for a whole frame (the first frame begins before them), the blocks' frames.

        Raises:
            ValueError: a codec that is not causal.
        """
        like = self.project.weight.new_zeros(batch, self.space.edge)
        return like, *self.encoder.init_state(like)

    @torch.no_grad()
    def stream_encode(self, audio: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next samples [B, n], any number of them → codes [B, T, Q] that are due with them, and the state after them.

        Args:
            final: the audio ends here; altogether the codes are those of `encode`.
        """
        heard = torch.cat((state[0], audio), 1)
        if final:
            heard = F.pad(heard, (0, self.space.edge + -(heard.shape[1] - self.space.edge) % self.hop))
        count = max(0, (heard.shape[1] - 2 * self.space.edge) // self.hop)
        rest = heard[:, count * self.hop:]
        if not count:
            return torch.zeros(len(audio), 0, self.codebooks, dtype=torch.long, device=audio.device), (rest, *state[1:])
        mels = self.space.from_windows(heard[:, :count * self.hop + 2 * self.space.edge])
        mels = self._stacked(mels)
        x, after = self.encoder.stream(mels, state[1:])
        return self.quantizer.codes(self.direct(mels) + self.project(x)), (rest, *after)

    def init_decoder(self, batch: int = 1) -> tuple[Tensor, ...]:
        """State before the first frame: frames that wait for those they are decoded with, the decoder's blocks, the head's blocks, three
        tensors of the synthesis (`Spectrum.init_state`).

        Raises:
            ValueError: a codec that is not causal.
        """
        like = self.project.weight.new_zeros(batch)
        waiting = like.new_zeros(batch, 0, self.quantizer.dim)
        return waiting, *self.decoder.body.init_state(like), *self.head.body.init_state(like), *self.space.init_state(batch)

    @torch.no_grad()
    def stream_decode(self, codes: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next codes [B, n, q], any number of them → the samples that are complete with them, and the state after them.

        Args:
            final: the codes end here; altogether the samples are those of `decode` with the iSTFT head.
        """
        waiting, state = state[0], state[1:]
        first, second, ahead = len(self.decoder.body.blocks), len(self.head.body.blocks), self.config.lookahead
        values = self.quantizer.lookup(codes)
        x, body = self.decoder.body.stream(F.pad(values, (0, 0, 0, ahead if final else 0)), state[:first])
        x = x[:, ahead - waiting.shape[1]:]  # what the first frames say is of frames before them
        values = torch.cat((waiting, values), 1)
        waiting, values = values[:, x.shape[1]:], values[:, :x.shape[1]]
        states, mels = self.decoder.finish(values, x)
        y, head = self.head.body.stream(torch.cat((states, (mels - _MEAN) / _SPREAD), -1), state[first:first + second])
        spectra = self.head.spectra(y, self.space.magnitudes(mels))
        audio, synthesis = self.space.stream(spectra, state[first + second:], final=final)
        return audio, (waiting, *body, *head, *synthesis)

    def _spectra(self, states: Tensor, mels: Tensor, lengths: Tensor) -> Tensor:
        y = self.head.body(torch.cat((states, (mels - _MEAN) / _SPREAD), -1), lengths)
        return self.head.spectra(y, self.space.magnitudes(mels))

    def _stacked(self, mels: Tensor) -> Tensor:
        return ((mels - _MEAN) / _SPREAD).unflatten(1, (-1, self.config.stack)).flatten(2)
