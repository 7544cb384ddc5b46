"""espeak-ng through ctypes: words to waveforms, some five hundred times faster than real time, with nothing else to install.

The wheel `espeakng-loader` brings the library and its voices; https://github.com/espeak-ng/espeak-ng documents the
calls (`speak_lib.h`). Only what the toy corpus and synthetic speech need is here.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voxkit.optional import require

SAMPLING_RATE = 22050

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: the callback gets the samples before espeak_Synth returns
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Synthesizer:
    """One private espeak-ng. What it says depends on its seed and on what it has said before, and on nothing else.

    The library keeps pitch flutter and noise in global variables that nothing resets, so each instance loads a copy of
    its own: the same calls on a new instance give the same samples, in whichever process and after whatever else.

    Args:
        seed: of its noise.
        timbres: voice variants of one's own, name → text of the file, beside which neither espeak-ng's are to be had nor
            other languages than English.

    Raises:
        MissingPackage: espeakng-loader is not installed; the message is the command.
    """

    def __init__(self, seed: int = 0, timbres: Mapping[str, str] | None = None):
        loader = require("espeakng_loader", "toy", why="the toy corpus")
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._receive)  # must live as long as the library may call it
        self._library = _private_copy(Path(loader.get_library_path()))
        folder = Path(loader.get_data_path())
        self._data = folder
        self._folder = _with_timbres(folder, timbres) if timbres else None  # lives as long as the library may read it
        data = os.fsencode(self._folder.name if self._folder else folder)
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if rate != SAMPLING_RATE:
            raise RuntimeError(f"espeak-ng answered {rate} where its sampling rate of {SAMPLING_RATE} was expected; "
                               "reinstall it: pip install --force-reinstall espeakng-loader")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def set_voice(self, accent: str, variant: str, *, rate: int, pitch: int, pitch_range: int) -> None:
        """Choose who speaks.

        Args:
            accent: a language, such as "en-us" or "en-gb-scotland" ("en" is British).
            variant: a timbre: one of `timbres`, or of espeak's `voices/!v`, such as "f3".
            rate: words a minute, 80 to 450.
            pitch: 0 to 99, where 50 is the variant's own.
            pitch_range: 0 (monotone) to 99, where 50 is the variant's own.

        Raises:
            ValueError: espeak-ng does not know the voice.
        """
        variants = Path(self._folder.name if self._folder else self._data) / "voices" / "!v"
        if not (variants / variant).is_file():  # espeak-ng would speak with its own voice, and say nothing of it
            raise ValueError(f"espeak-ng has no voice {accent}+{variant}")
        if self._library.espeak_SetVoiceByName(f"{accent}+{variant}".encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {accent}+{variant}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def say(self, text: str) -> np.ndarray:
        """The waveform [S] of a text: float32 in -1..1 at 22.05 kHz, with espeak's silence around it."""
        self._chunks.clear()
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None)
        if status != 0 or not self._chunks:
            raise RuntimeError(f"espeak-ng made no sound of {text!r} (status {status})")
        return np.frombuffer(b"".join(self._chunks), dtype=np.int16).astype(np.float32) / 32768

    def _receive(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0


def _private_copy(path: Path) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="voxkit-espeak-", ignore_cleanup_errors=True) as directory:
        return ctypes.CDLL(shutil.copy(path, directory))


def _with_timbres(folder: Path, timbres: Mapping[str, str]) -> tempfile.TemporaryDirectory[str]:
    """espeak-ng's data directory by links, with other voice variants, and English alone: to link a hundred dictionaries takes as long as
    to say a hundred words."""
    made = tempfile.TemporaryDirectory(prefix="voxkit-espeak-", ignore_cleanup_errors=True)
    variants = Path(made.name) / "voices" / "!v"
    variants.mkdir(parents=True)
    for entry in os.scandir(folder.resolve()):
        if entry.name != "voices" and (entry.name == "en_dict" or not entry.name.endswith("_dict")):
            os.symlink(entry.path, os.path.join(made.name, entry.name))
    for name, text in timbres.items():
        (variants / name).write_text(text, encoding="ascii")
    return made
