"""Chunk and left context of a causal model, from milliseconds: what a stream works on at a time, and the offline pass that equals it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chunk:
    """frames of the encoder's input per chunk, left: frames before it that are seen; -1 = everything. ms: milliseconds of one frame."""

    frames: int
    left: int
    ms: float

    def set(self, model: Any) -> None:
        """Let the model's encoder work so, in streaming and offline."""
        model.encoder.set_chunk(self.frames, self.left)

    def name(self, streamed: bool) -> str:
        """For files and rows: "stream320left1280", "chunk320left1280" (the equal offline pass), or "whole"."""
        if self.frames < 0:
            return "whole"
        left = f"{self.left * self.ms:g}" if self.left > 0 else "all"
        return f"{'stream' if streamed else 'chunk'}{self.frames * self.ms:g}left{left}"


def chunk_of(model: Any, chunk_ms: float | None = None, left_ms: float | None = None, *, streaming: bool = True) -> Chunk:
    """Check what was asked for; where nothing was, it is the first bounded chunk and left context that the model was trained with.

    Args:
        model: with a causal Zipformer; chunk_ms, left_ms: milliseconds, -1 = everything, which is not for streaming.

    Raises:
        ValueError: a model that has no chunks; milliseconds that do not fit its frames, with the nearest that do; no bound where a stream
            needs one.
    """
    config = getattr(model.encoder, "config", None)
    if not getattr(config, "causal", False):
        raise ValueError("--chunk-ms: the model is not causal and sees the whole utterance at once; train with model.encoder.causal=true "
                         "model.encoder.chunk_size=[16,32,-1] model.encoder.left_context=[64,128,-1] (docs/training.md, Causal models)")
    frame = 1000 * model.front_end.seconds_per_frame
    step = math.lcm(*config.downsampling_factor, config.output_downsampling) * frame
    trained = next((size for size in config.chunk_size if size > 0), -1) * frame
    chunk = _bounded("--chunk-ms", chunk_ms, trained, step, f"a chunk of this model is a multiple of {step:g} ms", streaming)
    if chunk < 0:
        if left_ms not in (None, -1):
            raise ValueError(f"--left-ms {left_ms:g}: with --chunk-ms -1 everything is seen; omit it")
        return Chunk(-1, -1, frame)
    trained = next((size for size in config.left_context if size > 0), -1) * frame
    trained = max(1, trained // chunk) * chunk if trained > 0 else -1
    left = _bounded("--left-ms", left_ms, trained, chunk, f"the left context is whole chunks of {chunk:g} ms", streaming)
    return Chunk(round(chunk / frame), round(left / frame) if left > 0 else -1, frame)


def _bounded(option: str, asked: float | None, trained: float, step: float, rule: str, streaming: bool) -> float:
    """Milliseconds, or -1; `trained` (below 0: without bound) where nothing is asked for."""
    if asked is None:
        if trained < 0 and streaming:
            raise ValueError(f"{option}: the model was trained without bound, which does not stream; give it: {rule}")
        return trained if trained > 0 else -1
    if asked == -1 and not streaming:
        return -1
    if asked <= 0 or abs(asked / step - round(asked / step)) > 1e-6:
        below, above = step * math.floor(max(asked, 0) / step), step * math.ceil(max(asked, step) / step)
        near = f"{below:g} or {above:g}" if 0 < below < above else f"{above:g}"
        raise ValueError(f"{option} {asked:g}: {rule}; use {near}")
    return asked
