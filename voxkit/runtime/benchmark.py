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
from typing import NamedTuple

import numpy as np

from voxkit.audio.decode import EXTENSIONS, read_mono
from voxkit.rate import RATE
from voxkit.runtime.endpoint import Endpointing
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.runtime.word_times import WordTimes

_PIECE = 0.04  # seconds of audio that come at a time


class Delay(NamedTuple):
    """Seconds that an answer waits for audio (the algorithm: chunk, look-ahead, endpoint), and that it computes: by the clock, and where
    the processor had nothing else to do."""

    waiting: float
    computing: float
    processor: float


@dataclass
class Speed:
    """Of a folder of files.

    Attributes:
        files, seconds: that were heard. threads: of onnxruntime. megabytes: of the artifact's graphs.
        wall, processor: seconds it took. load: seconds until it was ready. memory: megabytes of the process at its largest.
        first_partial: per file, from the end of the first word to the first text that begins with the final text's first word.
        final: per file, from the end of the last word to the final text, endpoint included.
        by: where the words' ends are from.
        finalize: per file, seconds from `finalize` to the final text: by the clock, and of the processor.
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
    first_partial: list[Delay] = field(default_factory=list)
    final: list[Delay] = field(default_factory=list)
    finalize: list[tuple[float, float]] = field(default_factory=list)
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
            for name, all_of in delays:
                if all_of:
                    waited, computed, processor = (1000 * statistics.median(part) for part in zip(*all_of))
                    total = 1000 * statistics.median(one.waiting + one.computing for one in all_of)
                    found.append((name, f"{total:.0f} ms (waiting for audio {waited:.0f}, computing {computed:.0f}, of the processor "
                                        f"{processor:.0f}; medians of {len(all_of)} of {self.files} files)"))
            found.append(("ends of words", self.by))
            for name, values in zip(("final after finalize", "the same, of the processor"), zip(*self.finalize)):
                late = 1000 * float(np.quantile(values, 0.95))
                found.append((name, f"{1000 * statistics.median(values):.0f} ms; 95 % within {late:.0f} ms"))
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
    session, clock, busy = recognizer.session(endpointing=endpointing), 0.0, 0.0
    silence = np.zeros(int((endpointing.silence + 0.5) * RATE), np.float32)
    wave = np.concatenate([audio, silence])
    texts: list[tuple[str, Delay]] = []  # waiting counted from the beginning
    last: Delay | None = None
    said_first = ""
    timed: list[tuple[float, float]] = []
    for heard, piece in _pieces(wave):
        began, spent = time.perf_counter(), time.process_time()
        events = session.accept(piece)
        clock = max(clock, heard) + time.perf_counter() - began
        busy = max(busy, heard) + time.process_time() - spent
        for event in events:
            delay = Delay(heard, clock - heard, busy - heard)
            if event.hypothesis.text:
                texts.append((event.hypothesis.text.split()[0], delay))
            if event.final and event.hypothesis.text:
                last, said_first = delay, said_first or event.hypothesis.text.split()[0]
                timed += [(word.start, word.end) for word in event.hypothesis.words]
    words = timed if said is None else said
    if not words or last is None:
        return _finalized(recognizer, audio, speed)
    first = next(delay for word, delay in texts if word == said_first)
    speed.first_partial.append(first._replace(waiting=first.waiting - words[0][1]))
    if last.waiting > words[-1][1]:
        speed.final.append(last._replace(waiting=last.waiting - words[-1][1]))
    _finalized(recognizer, audio, speed)


def _finalized(recognizer: StreamingRecognizer, audio: np.ndarray, speed: Speed) -> None:
    """One recording that somebody says is over: what is left to do then."""
    session = recognizer.session(endpointing=None)
    session.feed(audio)
    recognizer.step([session])
    began, spent = time.perf_counter(), time.process_time()
    session.finalize()
    speed.finalize.append((time.perf_counter() - began, time.process_time() - spent))


def _pieces(wave: np.ndarray) -> Iterable[tuple[float, np.ndarray]]:
    size = int(_PIECE * RATE)
    for first in range(0, len(wave), size):
        piece = wave[first:first + size]
        yield (first + len(piece)) / RATE, piece
