"""What every system answers: text, words with times and confidences, as one JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Word:
    """A recognized word: start and end in seconds from the beginning of the audio, confidence in [0, 1]."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass
class Hypothesis:
    """The answer for one utterance.

    Attributes:
        text: the transcript.
        words: with times where the search gives them; else empty.
        score: total log-probability under the search that made it (natural log, higher is better).
        tokens: token ids, without blank, bos and eos.
        audio_duration: seconds.
        token_confidences: of each token, in [0, 1]; empty where the search gives none.
        stopped: why a language model was not believed (voxkit.search.hallucination.REASONS), so that the text is CTC's, or empty.
    """

    text: str
    words: list[Word] = field(default_factory=list)
    score: float = 0.0
    tokens: list[int] = field(default_factory=list)
    audio_duration: float = 0.0
    token_confidences: list[float] = field(default_factory=list)
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        """`{"text", "words": [{"word", "start", "end", "confidence"}], "audio_duration"}`, times rounded to milliseconds."""
        words = [{**asdict(w), "start": round(w.start, 3), "end": round(w.end, 3), "confidence": round(w.confidence, 4)}
                 for w in self.words]
        return {"text": self.text, "words": words, "audio_duration": round(self.audio_duration, 3)}
