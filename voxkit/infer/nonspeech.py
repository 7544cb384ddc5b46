"""Audio in which nobody speaks, and what a recognizer says to it: its hallucination rate in words per minute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from voxkit.batch import Batch, Padded
from voxkit.data.nonspeech_clips import folder_clips, made_clips
from voxkit.rate import RATE

__all__ = ["Hallucinations", "folder_clips", "hallucinations", "made_clips"]


@dataclass
class Hallucinations:
    """Of one condition: clips, those with words, all words, seconds, and what was said (id → text)."""

    clips: int = 0
    speaking: int = 0
    words: int = 0
    seconds: float = 0.0
    said: dict[str, str] = field(default_factory=dict)

    @property
    def per_minute(self) -> float:
        """Words per minute of audio."""
        return 60 * self.words / self.seconds if self.seconds else 0.0


def hallucinations(recognizer: Any, clips: Iterator[tuple[str, str, Tensor]], options: Any,
                   batch_size: int = 8) -> dict[str, Hallucinations]:
    """Recognize clips without speech; condition → what came of it, "all" last."""
    out: dict[str, Hallucinations] = {}
    total = Hallucinations()
    waiting: list[tuple[str, str, Tensor]] = []

    def flush() -> None:
        if not waiting:
            return
        batch = Batch([id for _, id, _ in waiting], audio=Padded.of([wave for _, _, wave in waiting]))
        for (condition, id, wave), h in zip(waiting, recognizer.recognize(batch, options)):
            for part in (out.setdefault(condition, Hallucinations()), total):
                part.clips, part.seconds = part.clips + 1, part.seconds + len(wave) / RATE
                part.words, part.speaking = part.words + len(h.text.split()), part.speaking + bool(h.text.split())
                if h.text:
                    part.said[id] = h.text
        waiting.clear()

    for clip in clips:
        waiting.append(clip)
        if len(waiting) == batch_size:
            flush()
    flush()
    return {**out, "all": total}
