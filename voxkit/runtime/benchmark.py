"""How fast an artifact is on this machine: whole files, or as they would be spoken, with what waits for audio and what for the processor
told apart.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voxkit.audio.decode import EXTENSIONS, read_mono
from voxkit.rate import RATE
from voxkit.runtime.endpoint import Endpointing
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.runtime.word_times import WordTimes

_PIECE = 0.04  # seconds of audio that come at a time


@dataclass
class Speed:
    """Of a folder of files.

    Attributes:
        files, seconds: that were heard. threads: of onnxruntime. megabytes: of the artifact's graphs.
        wall, processor: seconds it took. load: seconds until it was ready. memory: megabytes of the process at its largest.
        first_partial: per file, seconds from the end of the first word to the first text: waiting for audio, computing.
        final: per file, seconds from the end of the last word to the final text: waiting (endpoint included), computing.
        by: where the words' ends are from.
        finalize: per file, seconds from `finalize` to the final text.
        state: megabytes of one session.
    """

    files: int = 0
    seconds: float = 0.0
    threads: int = 1
    megabytes: float = 0.0
    wall: float = 0.0
    processor: float = 0.0
    load: float = 0.0
    memory: float = 0.0
    first_partial: list[tuple[float, float]] = field(default_factory=list)
    final: list[tuple[float, float]] = field(default_factory=list)
    finalize: list[float] = field(default_factory=list)
    state: float = 0.0
    by: str = "as the artifact times them"

    def rows(self) -> list[dict[str, object]]:
        """What was measured, a line each."""
        found = [("audio", f"{self.files} files, {self.seconds:.1f} s"), ("threads", f"{self.threads}"),
                 ("size", f"{self.megabytes:.1f} MB"), ("memory", f"{self.memory:.0f} MB at most"), ("load", f"{self.load:.2f} s"),
                 ("RTF, wall", f"{self.wall / self.seconds:.4f}"), ("RTF, processor", f"{self.processor / self.seconds:.4f}")]
        if self.finalize:
            found.append(("state of a session", f"{self.state:.2f} MB"))
            delays = (("first partial after the first word's end", self.first_partial), ("final after the last word", self.final))
            for name, pairs in delays:
                if pairs:
                    waited, computed = (statistics.median(part) for part in zip(*pairs))
                    total = statistics.median(a + b for a, b in pairs)
                    found.append((name, f"{1000 * total:.0f} ms (waiting for audio {1000 * waited:.0f}, computing {1000 * computed:.0f}; "
                                        f"medians of {len(pairs)} of {self.files} files)"))
            found.append(("ends of words", self.by))
            late = float(np.quantile(self.finalize, 0.95))
            found.append(("final after finalize", f"{1000 * statistics.median(self.finalize):.0f} ms; 95 % within {1000 * late:.0f} ms"))
        return [{"what": what, "measured": value} for what, value in found]


def read_folder(folder: str | Path, limit: int = 0) -> list[tuple[str, np.ndarray]]:
    """The audio files below a folder, or so many of them at even distances: name without its ending, and [S] float32 at 16 kHz.

    Raises:
        ValueError: there is none, or one that cannot be read.
    """
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not paths:
        raise ValueError(f"{folder}: no audio files there ({', '.join(sorted(EXTENSIONS))})")
    chosen = [paths[i * len(paths) // limit] for i in range(limit)] if 0 < limit < len(paths) else paths
    return [(path.stem, read_mono(path)[0]) for path in chosen]


def measure(artifact: str | Path, recordings: Sequence[tuple[str, np.ndarray]], options: SearchOptions, threads: int = 1,
            endpointing: Endpointing | None = None, words: WordTimes | None = None, by: str = "") -> Speed:
    """Run an artifact over recordings, each alone and after one for warming up.

    Args:
        recordings: name, and [S] float32 at 16 kHz.
        endpointing: of a streaming artifact.
        words: by recording when its words were said; None: as the artifact itself times them, which CTC does by its peaks. by: where they
            are from.

    Raises:
        ValueError: words are given, and of none of the recordings.
    """
    if words is not None and not any(name in words for name, _ in recordings):
        raise ValueError(f"none of the {len(recordings)} recordings is among those with word times: {recordings[0][0]} is not one of "
                         f"{', '.join(list(words)[:3])} ...")
    folder = Path(artifact)
    began = time.perf_counter()
    opened = OnnxRecognizer(folder, threads=threads)
    streaming = opened.artifact.streaming is not None
    recognizer = StreamingRecognizer(opened.artifact, options) if streaming else opened
    speed = Speed(threads=threads, megabytes=sum((folder / name).stat().st_size for name in opened.artifact.meta["graphs"].values()) / 1e6)
    if isinstance(recognizer, StreamingRecognizer):
        recognizer.log_probs(recordings[0][1])
        speed.state = recognizer.state_bytes / 1e6
    else:
        recognizer.transcribe(recordings[0][1], options)
    speed.by = by or speed.by
    speed.load = time.perf_counter() - began
    for name, audio in recordings:
        wall, processor = time.perf_counter(), time.process_time()
        if isinstance(recognizer, StreamingRecognizer):
            _spoken(recognizer, audio, endpointing or Endpointing(), speed, None if words is None else words.get(name, []))
        else:
            recognizer.transcribe(audio, options)
        speed.wall += time.perf_counter() - wall
        speed.processor += time.process_time() - processor
        speed.files, speed.seconds = speed.files + 1, speed.seconds + len(audio) / RATE
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    speed.memory = largest / (1e6 if sys.platform == "darwin" else 1e3)
    return speed


def _spoken(recognizer: StreamingRecognizer, audio: np.ndarray, endpointing: Endpointing, speed: Speed,
            said: Sequence[tuple[float, float]] | None = None) -> None:
    """One recording as it would be spoken now, on a clock of its own: a piece is there when its audio is over, and an answer when what came
    before it is worked on. The last final text behind the last word counts.

    Args:
        said: start and end of its words; empty: not known, and no delay is taken; None: as the final text times them.
    """
    session, clock = recognizer.session(endpointing=endpointing), 0.0
    silence = np.zeros(int((endpointing.silence + 0.5) * RATE), np.float32)
    wave = np.concatenate([audio, silence])
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None
    timed: list[tuple[float, float]] = []
    for heard, piece in _pieces(wave):
        began = time.perf_counter()
        events = session.accept(piece)
        took = time.perf_counter() - began
        clock = max(clock, heard) + took
        for event in events:
            if not event.final and first is None:
                first = heard, clock - heard
            elif event.final and event.hypothesis.text:
                last = heard, clock - heard
                timed += [(word.start, word.end) for word in event.hypothesis.words]
    words = timed if said is None else said
    if words and first is not None:
        speed.first_partial.append((first[0] - words[0][1], first[1]))
    if words and last is not None and last[0] > words[-1][1]:
        speed.final.append((last[0] - words[-1][1], last[1]))
    session = recognizer.session(endpointing=None)
    session.feed(audio)
    recognizer.step([session])
    began = time.perf_counter()
    session.finalize()
    speed.finalize.append(time.perf_counter() - began)


def _pieces(wave: np.ndarray) -> Iterable[tuple[float, np.ndarray]]:
    size = int(_PIECE * RATE)
    for first in range(0, len(wave), size):
        piece = wave[first:first + size]
        yield (first + len(piece)) / RATE, piece
