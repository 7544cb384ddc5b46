"""Sound of any recording: soundfile reads what it can, ffmpeg every other container (video, m4a, webm ...), where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from voxkit.audio.decode import AudioError, read_mono
from voxkit.rate import RATE


def read_media(path: str | os.PathLike) -> np.ndarray:
    """The first sound track as [S] float32 at 16 kHz, mono.

    Raises:
        AudioError: there is no such file, it has no sound, or ffmpeg is needed and not there.
    """
    try:
        return read_mono(path)[0]
    except AudioError as error:
        if not Path(path).is_file():
            raise
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(f"{error}; or install ffmpeg, which reads it as it is") from error
    done = subprocess.run([program, "-nostdin", "-v", "error", "-i", os.fspath(path), "-map", "0:a:0", "-ac", "1", "-ar", str(RATE),
                           "-f", "f32le", "-"], capture_output=True)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AudioError(f"{path}: ffmpeg finds no sound in it{f' ({said[-1]})' if said else ''}")
    return np.frombuffer(done.stdout, np.float32).copy()
