"""Log-mel filterbank after Kaldi, as icefall trains with: 25 ms frames every 10 ms, Povey window, no dither, no snipped edges.

One utterance's features do not depend on what it is batched with: the signal is reflected at each utterance's own end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchaudio.compliance.kaldi as kaldi
from torch import Tensor, nn

from voxkit.optional import available, require

PADDING = math.log(1e-10)  # value of the frames that fill up a batch; icefall's
_FLOOR = torch.finfo(torch.float32).eps  # Kaldi's least energy of a mel bin
_FRAME, _SHIFT, _FFT = 400, 160, 512  # samples at 16 kHz
_EDGE = _FRAME // 2 - _SHIFT // 2  # samples that the first frame reaches before the beginning
_PREEMPHASIS = 0.97
_KEPT = 2  # frames before the next one whose samples a stream keeps: so no window reaches beyond them, and no backend gets less than one


class Fbank(nn.Module):
    """Waveforms → log-mel energies at 100 frames/s.

    Args:
        num_bins: mel bins.
        low_freq, high_freq: Hz; a high_freq of 0 or below counts from the Nyquist frequency.
        backend: `torch` (batched, any device, exportable), `kaldifeat`, `torchaudio` (one utterance at a time), or `auto`:
            kaldifeat where it is installed, torch else. They agree within rounding (tests/audio/test_fbank.py).

    Raises:
        ValueError: an unknown backend, or frequencies out of order.
    """

    frames_per_second = 100.0

    def __init__(self, num_bins: int = 80, low_freq: float = 20.0, high_freq: float = -400.0, backend: str = "auto") -> None:
        super().__init__()
        if backend not in BACKENDS and backend != "auto":
            raise ValueError(f"fbank backend {backend!r} is none of auto, {', '.join(BACKENDS)}")
        top = high_freq if high_freq > 0 else 8000 + high_freq
        if not 0 <= low_freq < top <= 8000 or num_bins < 4:
            raise ValueError(f"fbank of {num_bins} bins from {low_freq} to {top} Hz: needs 4 bins and 0 <= low < high <= 8000")
        self.num_bins, self.low_freq, self.high_freq = num_bins, low_freq, high_freq
        self.backend = ("kaldifeat" if available("kaldifeat") else "torch") if backend == "auto" else backend
        window = torch.hann_window(_FRAME, periodic=False, dtype=torch.float64).pow(0.85)
        time = torch.arange(_FRAME, dtype=torch.float64)
        angle = 2 * math.pi / _FFT * time[:, None] * torch.arange(_FFT // 2, dtype=torch.float64)
        mel, _ = kaldi.get_mel_banks(num_bins, _FFT, 16000.0, low_freq, high_freq, 100.0, -500.0, 1.0)
        # Mean removal, pre-emphasis, window and Fourier transform are linear: in an exported graph one convolution does them all.
        basis = _preprocessing() @ (window[:, None] * torch.cat([angle.cos(), angle.sin()], dim=1))
        self.register_buffer("window", window.float(), persistent=False)  # [400]
        self.register_buffer("basis", basis.float(), persistent=False)  # [400, 512]
        self.register_buffer("mel", mel.T.float().contiguous(), persistent=False)  # [256, bins]
        self._kaldifeat: tuple[torch.device, Callable[[Tensor], Tensor]] | None = None  # a tuple, so that it is no submodule

    @staticmethod
    def num_frames(samples: Tensor | int) -> Tensor | int:
        """Frames of so many samples: one for every 160, rounded."""
        return (samples + _SHIFT // 2) // _SHIFT

    @torch.no_grad()
    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """audio [B, S] float32 in [-1, 1] at 16 kHz, lengths [B] (None: all whole) → features [B, T, F], lengths [B].

        Frames past an utterance's end hold PADDING.

        Raises:
            ValueError: audio that is not [B, S], or shorter than one frame for every utterance.
        """
        if audio.ndim != 2:
            raise ValueError(f"fbank takes audio [B, S], not {list(audio.shape)}; one waveform: audio[None]")
        if lengths is None:
            lengths = torch.full((audio.shape[0],), audio.shape[1], device=audio.device)
        frames = self.num_frames(lengths)
        with torch.autocast(audio.device.type, enabled=False):
            if self.backend == "torch" or _exporting():
                features = self._batched(audio.float(), lengths)
            else:
                features = self._one_by_one(audio.float(), lengths, BACKENDS[self.backend](self))
        padded = torch.arange(features.shape[1], device=audio.device)[None, :] >= frames[:, None]
        return features.masked_fill(padded[..., None], PADDING), frames

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first sample: samples kept [B, n], and how many frames that are out already begin in them [B] (int64)."""
        return torch.zeros(batch_size, 0, device=device), torch.zeros(batch_size, dtype=torch.long, device=device)

    def stream(self, audio: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next samples [B, S], any number of them → the frames that are whole with them [B, T, F], and the state after them.

        Args:
            final: the audio ends here: its last frames, which reach beyond its end, come out too. All frames are then those of `forward`.
        """
        kept, done = state[0], int(state[1][0])
        audio = torch.cat((kept, audio.to(kept.dtype)), dim=1)
        size = audio.shape[1]
        whole = self.num_frames(size) if final else max(done, (size + _EDGE - _FRAME) // _SHIFT + 1)
        features = self(audio)[0][:, done:whole] if whole > done else audio.new_zeros(len(audio), 0, self.num_bins)
        skipped = max(0, whole - _KEPT)  # frames whose samples are let go
        return features, (audio[:, skipped * _SHIFT:], torch.full_like(state[1], whole - skipped))

    def _batched(self, audio: Tensor, lengths: Tensor) -> Tensor:
        most = (audio.shape[1] + _SHIFT // 2) // _SHIFT
        if not _exporting() and most == 0:
            return audio.new_zeros(len(audio), 0, self.num_bins)
        # Where sample i of the extended signal is taken from: the utterance runs to and fro, its last and first samples doubled.
        period = 2 * lengths.clamp(min=1)[:, None]
        position = torch.remainder(torch.arange(most * _SHIFT + _FRAME - _SHIFT, device=audio.device)[None, :] - _EDGE, period)
        extended = audio.gather(1, torch.minimum(position, period - 1 - position))
        if _exporting():
            real, imaginary = F.conv1d(extended[:, None], self.basis.T[:, None], stride=_SHIFT).chunk(2, dim=1)
            return (self.mel.T @ (real.square() + imaginary.square())).clamp(min=_FLOOR).log().transpose(1, 2).contiguous()
        rows = [extended] if audio.is_cuda else extended.split(1)  # a CPU likes what fits its cache
        return torch.cat([(_power(row.unfold(1, _FRAME, _SHIFT), self.window) @ self.mel).clamp_(min=_FLOOR).log_() for row in rows])

    def _one_by_one(self, audio: Tensor, lengths: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        out = audio.new_zeros(len(audio), int(self.num_frames(audio.shape[1])), self.num_bins)
        for i, length in enumerate(lengths.tolist()):
            if length >= _FRAME:
                features = compute(audio[i, :length])
                out[i, :len(features)] = features
            elif length:  # torchaudio refuses less than a frame
                features = self._batched(audio[i:i + 1, :length], lengths[i:i + 1])[0]
                out[i, :len(features)] = features
        return out

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kaldifeat": None}  # kaldifeat's objects cannot be pickled


def _exporting() -> bool:
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def _power(frames: Tensor, window: Tensor) -> Tensor:
    """Samples of each frame [B, T, 400] → power spectrum [B, T, 256], the Nyquist frequency left out."""
    frames = frames - frames.mean(dim=-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    spectrum = torch.fft.rfft(frames.sub_(before, alpha=_PREEMPHASIS).mul_(window), _FFT)
    return torch.view_as_real(spectrum[..., :-1]).square().sum(-1)


def _preprocessing() -> Tensor:
    """[400, 400]: removal of the mean, then pre-emphasis, as a matrix right of a row of samples."""
    center = torch.eye(_FRAME, dtype=torch.float64) - 1 / _FRAME
    emphasis = torch.eye(_FRAME, dtype=torch.float64)
    emphasis.diagonal(1).fill_(-_PREEMPHASIS)
    emphasis[0, 0] -= _PREEMPHASIS
    return center @ emphasis


def _torchaudio(module: Fbank) -> Callable[[Tensor], Tensor]:
    return lambda wave: kaldi.fbank(wave[None], num_mel_bins=module.num_bins, low_freq=module.low_freq, high_freq=module.high_freq,
                                    dither=0.0, snip_edges=False, sample_frequency=16000.0)


def _kaldifeat(module: Fbank) -> Callable[[Tensor], Tensor]:
    device = module.mel.device
    if module._kaldifeat is None or module._kaldifeat[0] != device:
        kaldifeat = require("kaldifeat", why="fbank backend kaldifeat")
        options = kaldifeat.FbankOptions()
        options.device = device
        options.frame_opts.dither = 0
        options.frame_opts.snip_edges = False
        options.frame_opts.samp_freq = 16000
        options.mel_opts.num_bins = module.num_bins
        options.mel_opts.low_freq = module.low_freq
        options.mel_opts.high_freq = module.high_freq
        module._kaldifeat = (device, kaldifeat.Fbank(options))
    return module._kaldifeat[1]


BACKENDS: dict[str, Callable[[Fbank], Callable[[Tensor], Tensor]]] = {
    "torch": lambda module: lambda wave: module._batched(wave[None], torch.tensor([len(wave)]))[0],
    "torchaudio": _torchaudio,
    "kaldifeat": _kaldifeat,
}
