"""Recognizers that label speech, whoever made them, behind one call: audio → text, confidence, language.

    faster-whisper:small        Whisper by faster-whisper, any size or folder; a prompt is given to it
    http://host:8000/v1#name    any endpoint that transcribes as OpenAI's does (voxkit serve is one); it is given the prompt
    exp/whisper                 a checkpoint, a run, or an artifact of `voxkit export`; phrases are favored by its search
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from voxkit.eval.agreement import Label
from voxkit.hypothesis import Hypothesis
from voxkit.optional import require
from voxkit.rate import RATE
from voxkit.runtime.artifact import is_artifact

FASTER = "faster-whisper:"
_PATIENCE = 300  # seconds for an answer


class Labeler(Protocol):
    """A recognizer."""

    def label(self, audio: np.ndarray) -> Label:
        """What is said in audio [S] float32 at 16 kHz."""


class CheckpointLabeler:
    """A model of voxkit's.

    Args:
        path: a checkpoint, a run, or an artifact.
        method: its search; phrases: that it favors, where its method takes any.

    Raises:
        ValueError: no such model, or one that cannot do the method.
    """

    def __init__(self, path: str, method: str = "greedy", phrases: Sequence[str] = (), device: str = "cpu") -> None:
        self._artifact = is_artifact(path)
        self._recognizer: Any
        self._options: Any
        if self._artifact:
            from voxkit.runtime.artifact import Artifact
            from voxkit.runtime.recognizer import OnnxRecognizer
            from voxkit.runtime.recognizer import SearchOptions as Options

            self._recognizer = OnnxRecognizer(Artifact(path, device=device))
        else:
            from voxkit.infer.recognizer import Recognizer
            from voxkit.search.options import SearchOptions as Options  # type: ignore[assignment]

            self._recognizer = Recognizer.load(path, device)
        given = {"context": self._recognizer.phrases(list(phrases))} if phrases and "context" in _takes(self._recognizer, method) else {}
        self._options = Options(method, **given)
        self._recognizer.check(self._options)

    def label(self, audio: np.ndarray) -> Label:
        """See Labeler; the confidence is the geometric mean over the tokens, 1 where the search gives none."""
        if not self._artifact:
            import torch

            audio = torch.from_numpy(np.ascontiguousarray(audio))  # type: ignore[assignment]
        return _labeled(self._recognizer.transcribe(audio, self._options))


class FasterWhisper:
    """Whisper by faster-whisper (CTranslate2).

    Args:
        name: a size, a Hugging Face name or a folder; prompt: what it is told was said before; language: "" hears it out.

    Raises:
        MissingPackage: it is not installed.
    """

    def __init__(self, name: str, prompt: str = "", language: str = "", device: str = "cpu") -> None:
        module = require("faster_whisper", "label", why=f"the recognizer {FASTER}{name}")
        self._model = module.WhisperModel(name, device=device, compute_type="int8" if device == "cpu" else "float16")
        self._prompt, self._language = prompt or None, language or None

    def label(self, audio: np.ndarray) -> Label:
        """See Labeler; without timestamps, without what was said before."""
        segments, info = self._model.transcribe(audio, language=self._language, initial_prompt=self._prompt, without_timestamps=True,
                                                condition_on_previous_text=False)
        found = list(segments)
        sure = [segment.avg_logprob for segment in found]
        return Label(" ".join(" ".join(segment.text for segment in found).split()), math.exp(sum(sure) / len(sure)) if sure else 0.0,
                     info.language or "")


class Endpoint:
    """A service with OpenAI's `audio/transcriptions`.

    Args:
        address: up to /v1, and behind # the name of the model; prompt, language: as FasterWhisper.
    """

    def __init__(self, address: str, prompt: str = "", language: str = "") -> None:
        base, _, model = address.partition("#")
        self._url = base.rstrip("/") + "/audio/transcriptions"
        self._fields = {"model": model or "default", "response_format": "verbose_json", "prompt": prompt, "language": language}

    def label(self, audio: np.ndarray) -> Label:
        """See Labeler; the confidence is that of its segments, where it tells their log-probability, else of its words, else 1.

        Raises:
            ValueError: it cannot be reached, refuses, or does not answer in JSON.
        """
        import io
        import urllib.request

        import soundfile

        sound = io.BytesIO()
        soundfile.write(sound, audio, RATE, format="WAV", subtype="PCM_16")
        edge = uuid.uuid4().hex
        parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                 for name, value in self._fields.items() if value]
        parts += [f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'.encode(),
                  sound.getvalue(), f"\r\n--{edge}--\r\n".encode()]
        request = urllib.request.Request(self._url, b"".join(parts), {"Content-Type": f"multipart/form-data; boundary={edge}"})
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                found = json.load(answer)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._url}: no transcript came ({error})") from error
        if not isinstance(found, dict) or not isinstance(found.get("text"), str):
            raise ValueError(f"{self._url}: its answer has no text: {str(found)[:120]}")
        sure = [math.exp(s["avg_logprob"]) for s in found.get("segments") or [] if isinstance(s.get("avg_logprob"), (int, float))]
        sure = sure or [w["confidence"] for w in found.get("words") or [] if isinstance(w.get("confidence"), (int, float))]
        return Label(found["text"].strip(), math.exp(sum(math.log(max(p, 1e-6)) for p in sure) / len(sure)) if sure else 1.0,
                     str(found.get("language") or ""))


def open_labeler(name: str, *, method: str = "greedy", prompt: str = "", phrases: Sequence[str] = (), language: str = "",
                 device: str = "cpu") -> Labeler:
    """A recognizer by its name.

    Raises:
        ValueError: no such model; MissingPackage: its package is not installed.
    """
    if name.startswith(FASTER):
        return FasterWhisper(name.removeprefix(FASTER), prompt, language, device)
    if name.startswith(("http://", "https://")):
        return Endpoint(name, prompt, language)
    return CheckpointLabeler(name, method, phrases, device)


def _takes(recognizer: Any, method: str) -> Sequence[str]:
    """What of language models and phrases a method takes."""
    if hasattr(recognizer, "method"):
        return recognizer.method(method).takes
    return () if method == "greedy" else ("context",)


def _labeled(hypothesis: Hypothesis) -> Label:
    known = [max(p, 1e-6) for p in hypothesis.token_confidences]
    return Label(hypothesis.text, math.exp(sum(map(math.log, known)) / len(known)) if known else 1.0)
