"""Making states of speakers from their audio, for recognition that begins where they left off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from voxkit.audio.io import EXTENSIONS, read_audio
from voxkit.files import read_lines
from voxkit.infer.adaptation import Adaptation
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.session_state import mean_change
from voxkit.rate import RATE


@dataclass(frozen=True)
class AdaptJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME.
    audio: files, and folders that are searched to the bottom, in the order of their names.
    out: the state file; with `rttm` the folder for a file of each speaker.
    state: a state file to go on from; None = the initial weights.
    rttm: who speaks when in the one file of `audio`.
    guard: let go of an utterance that the state knows less well than the initial weights.
    device: cpu or cuda.
    """

    checkpoint: str
    audio: tuple[str, ...]
    out: str
    state: str | None = None
    rttm: str | None = None
    guard: bool = True
    device: str = "cpu"


@dataclass(frozen=True)
class Adapted:
    """A state that was written: whose (empty: nobody's name), where, utterances and seconds heard, fallbacks, change of each layer."""

    speaker: str
    path: str
    utterances: int
    seconds: float
    fallbacks: int
    change: list[float]


def adapt(job: AdaptJob) -> list[Adapted]:
    """Hear everything, write the states.

    Raises:
        ValueError: no audio, a model that carries nothing, a state of another model, an RTTM file for several recordings.
    """
    adaptation = Adaptation(Recognizer.load(job.checkpoint, job.device), guard=job.guard)
    if job.state is not None:
        if job.rttm is not None:
            raise ValueError("--state is one speaker's, and --rttm names several: give one of the two")
        adaptation.load("", job.state)
    for speaker, audio in _spoken(job):
        adaptation.hear(audio, speaker)
    done = []
    for speaker, state in adaptation.states.items():
        path = Path(job.out) / f"{speaker}.safetensors" if job.rttm is not None else Path(job.out)
        adaptation.save(speaker, path)
        done.append(Adapted(speaker, str(path), state.utterances, state.seconds, state.fallbacks,
                            mean_change(state, adaptation.model.encoder).tolist()))
    return done


def _spoken(job: AdaptJob) -> Iterator[tuple[str, str | Tensor]]:
    """Who says what: ("", file) for each file, or (speaker, waveform) for each line of the RTTM file."""
    files = audio_files(job.audio)
    if job.rttm is None:
        yield from (("", str(path)) for path in files)
        return
    if len(files) != 1:
        raise ValueError(f"--rttm describes one recording, and {len(files)} files were given")
    wave = read_audio(files[0])[0]
    for begin, seconds, speaker in segments(job.rttm, files[0].stem):
        yield speaker, wave[round(begin * RATE):round((begin + seconds) * RATE)]


def audio_files(given: tuple[str, ...]) -> list[Path]:
    """Files, and those in folders.

    Raises:
        ValueError: something that is not there, or a folder without audio.
    """
    found: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
            if not inside:
                raise ValueError(f"{path}: no audio in this folder; looked for {', '.join(sorted(EXTENSIONS))}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    return found


def segments(rttm: str, recording: str) -> list[tuple[float, float, str]]:
    """The lines of a recording in an RTTM file by time: (begin, seconds, speaker).

    Raises:
        ValueError: it is no RTTM, or has no line for the recording.
    """
    found, others = [], set()
    for number, line in enumerate(read_lines(rttm), 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            name, begin, seconds, speaker = fields[1], float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError) as error:
            raise ValueError(f"{rttm}:{number}: not a line of RTTM (SPEAKER recording channel begin seconds <NA> <NA> speaker ...)"
                             ) from error
        if name == recording:
            found.append((begin, seconds, speaker))
        else:
            others.add(name)
    if not found:
        raise ValueError(f"{rttm}: no SPEAKER line for {recording}" + (f"; there are {', '.join(sorted(others)[:5])}" if others else ""))
    return sorted(found)
