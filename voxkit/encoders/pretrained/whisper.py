"""Whisper's encoder (Radford et al. 2022, arXiv 2212.04356) on audio as short as it is.

Whisper was trained on windows padded to 30 s with silence; running it so costs most of the time on short clips. Here the
table of sinusoidal positions is cut to the utterance instead. The frames of the padding that the two convolutions reach are
the silence Whisper knows, so state 0 equals Hugging Face's to rounding; from layer 1 on the states differ a little from the
padded ones, because the padding is not attended to.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.encoders.pretrained.backbone import Backbone, check_audio
from voxkit.masks import lengths_to_mask

SECONDS = 30


class WhisperLogMel(nn.Module):
    """Log-mel spectrogram as `WhisperFeatureExtractor` makes it, batched and on the audio's device.

    Frames at 100 per second; log10, cut at 8 below the utterance's maximum, (x + 4) / 4. The maximum is one over the utterance
    padded to 30 s, as Hugging Face has it: padding is digital silence (-10), so it matters only for all-silent audio. Audio of
    exactly 30 s differs in the last two frames, where Hugging Face reflects and we see silence.
    """

    def __init__(self, num_mel_bins: int, n_fft: int = 400, hop: int = 160):
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(num_frequency_bins=1 + n_fft // 2, num_mel_filters=num_mel_bins, min_frequency=0.0,
                                  max_frequency=8000.0, sampling_rate=16000, norm="slaney", mel_scale="slaney")
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("filters", torch.from_numpy(filters).float().T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        turns = (torch.arange(n_fft) * torch.arange(n_fft // 2 + 1)[:, None] % n_fft).double() / n_fft
        angle = 2 * math.pi * turns
        basis = torch.cat([angle.cos(), angle.sin()]) * torch.hann_window(n_fft, dtype=torch.float64)
        self.register_buffer("basis", basis.float()[:, None], persistent=False)  # [2 * bins, 1, n_fft], for exported graphs

    def forward(self, audio: Tensor, lengths: Tensor, frames: int) -> Tensor:
        """audio [B, S], lengths [B] → [B, M, frames]; frames past an utterance's end are silence."""
        audio = audio.float().masked_fill(~lengths_to_mask(lengths, audio.shape[1]), 0.0)
        if not torch.compiler.is_exporting():  # all frames an utterance's end reaches count in its maximum
            frames = max(frames, audio.shape[1] // self.hop + 2)
        audio = F.pad(audio, (0, frames * self.hop + self.n_fft - audio.shape[1]))
        power = self._power(audio)[..., :frames]
        log_mel = (self.filters @ power).clamp(min=1e-10).log10()
        return (torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    def _power(self, audio: Tensor) -> Tensor:
        """audio [B, S] → power spectrum [B, bins, frames]; in an exported graph the Fourier transform is one convolution."""
        if torch.compiler.is_exporting():
            edge = self.n_fft // 2
            audio = torch.cat([audio[:, 1:edge + 1].flip(1), audio], dim=1)
            real, imaginary = F.conv1d(audio[:, None], self.basis, stride=self.hop).chunk(2, dim=1)
        else:
            spectrum = torch.stft(audio, self.n_fft, self.hop, window=self.window, return_complex=True)
            real, imaginary = spectrum.real, spectrum.imag
        return real.square() + imaginary.square()


class WhisperBackbone(Backbone):
    """The encoder half of a Whisper model."""

    family = "whisper"
    frame_rate = 50.0

    def __init__(self, encoder: nn.Module, preprocessor: dict[str, Any]):
        """
        Args:
            encoder: transformers' WhisperEncoder.
            preprocessor: preprocessor_config.json; empty = Whisper's usual 25 ms windows every 10 ms.
        """
        super().__init__()
        config = encoder.config
        self.config = config
        self.dim = config.d_model
        self.log_mel = WhisperLogMel(config.num_mel_bins, preprocessor.get("n_fft", 400), preprocessor.get("hop_length", 160))
        self.max_samples = config.max_source_positions * 2 * self.log_mel.hop
        self.conv1, self.conv2 = encoder.conv1, encoder.conv2
        self.positions = encoder.embed_positions
        self.layers = encoder.layers
        self.last_norm = encoder.layer_norm

    def embed(self, audio: Tensor, lengths: Tensor, ids: list[str] | None = None) -> tuple[Tensor, Tensor]:
        hop = self.log_mel.hop
        check_audio(audio, lengths, 1, self.max_samples, ids, "Whisper's encoder")
        frames = lengths.add(2 * hop - 1).div(2 * hop, rounding_mode="floor")
        # in a graph the width of the audio stands for the longest utterance
        longest = audio.shape[1] if torch.compiler.is_exporting() else int(lengths.max())
        most = (longest + 2 * hop - 1) // (2 * hop)
        with torch.autocast(audio.device.type, enabled=False):  # the spectrum of quiet audio underflows in half precision
            mel = self._window(self.log_mel(audio[:, :longest], lengths, 2 * most + 2))  # one frame of silence more than the last sees
            if self.spec_augment is not None:
                mel = self.spec_augment(mel.transpose(1, 2), lengths.div(hop, rounding_mode="floor")).transpose(1, 2)
        x = F.gelu(self.conv2(self._window(F.gelu(self.conv1(mel)))))[..., :most].transpose(1, 2)
        return x + self.positions.weight[:most], frames

    def _window(self, x: Tensor) -> Tensor:
        """x [B, C, frames] with what is past 30 s taken away; in a graph, whose shapes depend on nothing, zeroed."""
        width = 2 * self.config.max_source_positions
        if torch.compiler.is_exporting():
            return x * (torch.arange(x.shape[-1], device=x.device) < width)
        return x[..., :width]

    def embed_modules(self) -> list[nn.Module]:
        return [self.conv1, self.conv2, self.positions]

    def options(self) -> dict[str, Any]:
        keys = ("num_mel_bins", "encoder_attention_heads", "activation_function", "max_source_positions")
        return {"n_fft": self.log_mel.n_fft, "hop": self.log_mel.hop, **{key: getattr(self.config, key) for key in keys}}

    def set_dropout(self, index: int, dropout: float | None, attention: float | None, activation: float | None) -> None:
        layer = self.layers[index]
        layer.dropout = layer.dropout if dropout is None else dropout
        layer.activation_dropout = layer.activation_dropout if activation is None else activation
        layer.self_attn.dropout = layer.self_attn.dropout if attention is None else attention
