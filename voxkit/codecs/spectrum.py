"""Spectra on one time line: log-mel frames, and the way from magnitudes back to samples (overlap-add, Griffin-Lim).

Frame n is a window of `window` samples around the n-th hop: it begins (window - hop) / 2 samples before it. S samples are ceil(S / hop)
frames, and analysis and synthesis share the places, so that both stream: a frame is known (window - hop) / 2 samples after its hop has
ended, and as many samples wait for the frames to come.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from voxkit.rate import RATE

FLOOR = 1e-5  # of mel magnitudes, before the logarithm


class Spectrum(nn.Module):
    """Short-time spectra of audio at 16 kHz.

    Args:
        window: samples of the Hann window and of the transform; hop: between two frames; mels: bands from 0 to 8 kHz.
    """

    def __init__(self, window: int = 640, hop: int = 160, mels: int = 80) -> None:
        super().__init__()
        if window % hop or (window - hop) % 2:
            raise ValueError(f"a window of {window} samples is not a whole number of hops of {hop}, or not even around one")
        self.window, self.hop, self.mels = window, hop, mels
        self.edge = (window - hop) // 2
        with torch.device("cpu"):  # tables, also where parameters have no values (meta)
            bands = melscale_fbanks(window // 2 + 1, 0.0, RATE / 2, mels, RATE, norm="slaney", mel_scale="slaney")  # [window/2 + 1, mels]
            tables = {"hann": torch.hann_window(window), "bands": bands, "inverse": torch.linalg.pinv(bands)}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def frames(self, samples: Tensor | int) -> Tensor | int:
        """How many frames so many samples have."""
        return -(-samples // self.hop)

    def log_mel(self, audio: Tensor) -> Tensor:
        """audio [B, n · hop] → [B, n, mels]: logarithms of magnitudes in mel bands, at least log(FLOOR)."""
        return self.from_windows(F.pad(audio, (self.edge, self.edge)))

    def from_windows(self, audio: Tensor) -> Tensor:
        """The same of audio [B, edge + n · hop + edge] that has its edges."""
        spectrum = torch.fft.rfft(audio.unfold(1, self.window, self.hop) * self.hann)
        return (spectrum.abs() @ self.bands).clamp(min=FLOOR).log()

    def magnitudes(self, log_mel: Tensor) -> Tensor:
        """[B, n, mels] → magnitudes [B, n, window / 2 + 1] with about these bands, above 0."""
        return (log_mel.exp() @ self.inverse).clamp(min=FLOOR)

    def spectrum(self, audio: Tensor) -> Tensor:
        """audio [B, n · hop] → complex [B, n, window / 2 + 1]."""
        return torch.fft.rfft(F.pad(audio, (self.edge, self.edge)).unfold(1, self.window, self.hop) * self.hann)

    def synthesize(self, spectrum: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Complex [B, n, window / 2 + 1], lengths [B] in frames (None: n) → [B, n · hop], zeros past each length."""
        if lengths is not None:
            on = torch.arange(spectrum.shape[1], device=lengths.device) < lengths[:, None]
            total, weight = self._added(spectrum * on[..., None], on)
        else:
            total, weight = self._added(spectrum, None)
        end = self.edge + spectrum.shape[1] * self.hop
        out = total[:, self.edge:end] / weight[:, self.edge:end].clamp(min=1e-8)
        if lengths is None:
            return out
        return out.masked_fill(torch.arange(out.shape[1], device=out.device) >= (lengths * self.hop)[:, None], 0.0)

    def init_state(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Before the first frame: samples that later frames add to, the sum of their squared windows, samples that are to be left out."""
        waiting = self.window - self.hop
        return (self.hann.new_zeros(batch, waiting), self.hann.new_zeros(1, waiting), torch.tensor(self.edge, device=self.hann.device))

    def stream(self, spectrum: Tensor, state: tuple[Tensor, Tensor, Tensor], *,
               final: bool = False) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The next frames, any number of them → the samples that are complete with them, and the state after them. The first frames give
        `edge` samples fewer, and `final` gives them at the end: altogether it is what `synthesize` gives."""
        before, squares, left_out = state
        done, waiting = spectrum.shape[1] * self.hop, self.window - self.hop
        total, weight = self._added(spectrum, None)
        total = torch.cat((total[:, :waiting] + before, total[:, waiting:]), 1)
        weight = torch.cat((weight[:, :waiting] + squares, weight[:, waiting:]), 1)
        end = done + (self.edge if final else 0)
        skip = min(int(left_out), end)
        out = total[:, skip:end] / weight[:, skip:end].clamp(min=1e-8)
        return out, (total[:, done:], weight[:, done:], left_out - skip)

    def _added(self, spectrum: Tensor, on: Tensor | None) -> tuple[Tensor, Tensor]:
        """Windowed pieces overlapped [B, window - hop + n · hop], and the sum of their squared windows: [B, ...], or [1, ...] where all
        frames are there."""
        size = self.window - self.hop + spectrum.shape[1] * self.hop
        if not spectrum.shape[1]:
            return self.hann.new_zeros(len(spectrum), size), self.hann.new_zeros(1, size)
        pieces = torch.fft.irfft(spectrum, n=self.window) * self.hann
        squares = self.hann.square().expand(1, spectrum.shape[1], -1)
        return overlap_add(pieces, self.hop, size), overlap_add(squares if on is None else squares * on[..., None], self.hop, size)


def overlap_add(pieces: Tensor, hop: int, size: int) -> Tensor:
    """pieces [B, n, W], each `hop` samples after the one before → their sum [B, size]; size = W - hop + n · hop."""
    out = F.fold(pieces.mT, (1, size), (1, pieces.shape[2]), stride=(1, hop))
    return out[:, 0, 0]


@torch.no_grad()
def griffin_lim(space: Spectrum, magnitudes: Tensor, lengths: Tensor, iterations: int = 32, momentum: float = 0.99,
                phase: Tensor | None = None) -> Tensor:
    """Samples whose spectra have about these magnitudes (Griffin & Lim 1984; with momentum, Perraudin et al. 2013).

    Args:
        magnitudes: [B, n, window / 2 + 1]; lengths: [B] frames of each. A batch gives what its items give alone.
        phase: complex, of that shape, to begin with; None: phases that are the same for every call.

    Returns:
        [B, n · hop], zeros past each length.
    """
    count = magnitudes.shape[1]
    if phase is None:  # one seed for each place in time, whatever the batch
        generator = torch.Generator().manual_seed(0)
        angle = 2 * torch.pi * torch.rand(count, magnitudes.shape[2], generator=generator)
        phase = torch.polar(torch.ones_like(angle), angle).to(magnitudes.device)[None]
    before = torch.zeros_like(phase)
    for _ in range(iterations):
        now = space.spectrum(space.synthesize(magnitudes * phase, lengths))
        phase = now + momentum * (now - before)
        phase = phase / phase.abs().clamp(min=1e-8)
        before = now
    return space.synthesize(magnitudes * phase, lengths)
