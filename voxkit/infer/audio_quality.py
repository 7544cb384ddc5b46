"""How good audio is: measures that need a signal library or a model. `voxkit.eval` gets their numbers.

    measures = load_measures(["pesq", "stoi", "speaker"])
    measures["pesq"](found, reference)        # both [S] at 16 kHz

Every package is one of the extra `quality`; the weights of resemblyzer, DNSMOS and Distill-MOS lie in their wheels. resemblyzer is run
without its trimming of silence: two clips that are compared are trimmed by the same rule, none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxkit.codecs.spectrum import Spectrum
from voxkit.optional import require
from voxkit.rate import RATE

Measure = Callable[[Tensor, Tensor], float]  # found [S], reference [S] → a number


def fitted(found: Tensor, reference: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both as long as the reference: what is missing is silence."""
    found = torch.nn.functional.pad(found[:len(reference)], (0, max(0, len(reference) - len(found))))
    return found.cpu().float().numpy(), reference.cpu().float().numpy()


def pesq_wb() -> Measure:
    """Wide-band PESQ (ITU-T P.862.2), 1 to 4.64; NaN where it finds no utterance (silence)."""
    module = require("pesq", "quality", why="PESQ")

    def measure(found: Tensor, reference: Tensor) -> float:
        ours, theirs = fitted(found, reference)
        try:
            return float(module.pesq(RATE, theirs, ours, "wb"))
        except module.NoUtterancesError:
            return math.nan

    return measure


def stoi() -> Measure:
    """Short-time objective intelligibility (Taal et al. 2011), 0 to 1."""
    module = require("pystoi", "quality", why="STOI")

    def measure(found: Tensor, reference: Tensor) -> float:
        ours, theirs = fitted(found, reference)
        return float(module.stoi(theirs, ours, RATE))

    return measure


def si_sdr() -> Measure:
    """Scale-invariant ratio of signal to distortion in dB (Le Roux et al. 2019). Of codecs that make up phases it says little."""

    def measure(found: Tensor, reference: Tensor) -> float:
        ours, theirs = (x.astype(np.float64) - x.mean() for x in fitted(found, reference))
        if not theirs.any():
            return math.nan
        target = (ours @ theirs) / (theirs @ theirs) * theirs
        return float(10 * np.log10((target @ target + 1e-12) / ((ours - target) @ (ours - target) + 1e-12)))

    return measure


def mel_distance() -> Measure:
    """Mean absolute difference of log-mels (natural logarithms of magnitudes, 80 bands, 100 frames/s)."""
    space = Spectrum()

    def measure(found: Tensor, reference: Tensor) -> float:
        count = space.hop * space.frames(len(reference))
        a, b = (space.log_mel(torch.nn.functional.pad(torch.from_numpy(x), (0, count - len(x)))[None]) for x in fitted(found, reference))
        return float((a - b).abs().mean())

    return measure


def speaker_similarity() -> Measure:
    """Cosine of two speaker embeddings (GE2E, resemblyzer)."""
    return lambda found, reference: float(embed_speaker(found) @ embed_speaker(reference))


def embed_speaker(audio: Tensor) -> np.ndarray:
    """[S] at 16 kHz → [256] of length 1. Clips shorter than 1.6 s are repeated to that."""
    wave = audio.cpu().float().numpy()
    least = round(1.6 * RATE)
    if len(wave) < least:
        wave = np.tile(wave, -(-least // max(1, len(wave))))[:least]
    return speaker_encoder().embed_utterance(wave)


@functools.cache
def speaker_encoder() -> Any:
    """resemblyzer's network, once in a process."""
    return require("resemblyzer", "quality", why="speaker similarity").VoiceEncoder("cpu", verbose=False)


def dnsmos() -> Measure:
    """Overall quality that DNSMOS (Reddy et al. 2022) predicts, 1 to 5; the reference is not heard."""
    module = require("speechmos.dnsmos", "quality", why="DNSMOS")

    def measure(found: Tensor, reference: Tensor) -> float:
        wave = found.cpu().float().numpy()
        return float(module.run(wave / max(1.0, float(np.abs(wave).max())), RATE)["ovrl_mos"])

    return measure


def distill_mos() -> Measure:
    """Quality that Distill-MOS (Stahl & Gamper 2025) predicts, 1 to 5; the reference is not heard."""
    network = require("distillmos", "quality", why="Distill-MOS").ConvTransformerSQAModel().eval()

    def measure(found: Tensor, reference: Tensor) -> float:
        with torch.no_grad():
            return float(network(found.cpu().float()[None]))

    return measure


MEASURES: dict[str, Callable[[], Measure]] = {"pesq": pesq_wb, "stoi": stoi, "si_sdr": si_sdr, "mel": mel_distance,
                                              "speaker": speaker_similarity, "dnsmos": dnsmos, "distill_mos": distill_mos}


def load_measures(names: Sequence[str]) -> dict[str, Measure]:
    """Measures by name.

    Raises:
        ValueError: there is none of a name. MissingPackage: what it needs is not installed; the message says what installs it.
    """
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"measure {unknown[0]!r} is none of {', '.join(MEASURES)}")
    return {name: MEASURES[name]() for name in names}
