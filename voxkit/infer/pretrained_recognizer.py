"""Pretrained models that recognize without training: as a checkpoint like any other, or straight into memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from voxkit import config as configuration
from voxkit.checkpoint.format import write_checkpoint
from voxkit.hub import locate
from voxkit.infer.recognizer import Recognizer
from voxkit.models.whisper import Whisper, read_pretrained
from voxkit.optional import require
from voxkit.run_config import DecodeConfig, RunConfig, Setup
from voxkit.text.huggingface import HuggingFaceVocabulary

_SILENCE = ("<|nospeech|>", "<|nocaptions|>")


def from_pretrained(name: str | os.PathLike, device: torch.device | str = "cpu", *, language: str = "auto",
                    task: str = "transcribe") -> Recognizer:
    """A recognizer of a pretrained Whisper, by Hugging Face name or folder.

    Args:
        language: "en", ... or "auto", which finds it out for every utterance. task: "transcribe" or "translate".

    Raises:
        ValueError: no such folder or name, no Whisper, or a language that it does not know; MissingPackage: transformers, tokenizers.
    """
    model, vocabulary = _read(name, language, task)
    return Recognizer(model.to(device), vocabulary, device)


def import_whisper(name: str | os.PathLike, out: str | os.PathLike, language: str = "auto", task: str = "transcribe") -> Path:
    """Write a pretrained Whisper as a run with one checkpoint, which every command takes → the checkpoint.

    Raises:
        ValueError: as `from_pretrained`; or `out` is there and holds something else.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "checkpoints").is_dir():
        raise ValueError(f"{out} is there and no run; choose another directory, or remove it")
    model, vocabulary = _read(name, language, task)
    english = language == "en" or not model.config.tokens.languages
    decode = DecodeConfig(normalize="whisper-english" if english else "librispeech")  # it writes capitals and marks, references may not
    setup = Setup(RunConfig(name=out.name, system="whisper", decode=decode), model.config)

    def extra(folder: Path) -> None:
        configuration.save(setup.as_mapping(), folder / "config.yaml")
        vocabulary.save(folder)

    meta = {"step": 0, "tokenizer": vocabulary.fingerprint(), "imported": locate(os.fspath(name)).name}
    return write_checkpoint(out / "checkpoints", model, meta, save_extra=extra).path


def _read(name: str | os.PathLike, language: str, task: str) -> tuple[Whisper, HuggingFaceVocabulary]:
    config, model = read_pretrained(name, language, task)
    source = locate(os.fspath(name))
    if source.folder:
        vocabulary = HuggingFaceVocabulary.load(source.folder)
    else:
        cached_file = require("transformers.utils", "pretrained", why="importing a Whisper").cached_file
        files = {file: Path(cached_file(source.name, file)).read_bytes() for file in ("tokenizer.json", "tokenizer_config.json")}
        vocabulary = HuggingFaceVocabulary(files, source.name)
    model.decoder.silent[:, vocabulary.size:] = True  # time marks, which some vocabularies do not list
    model.config.tokens.silence = next((vocabulary.pieces.index(name) for name in _SILENCE if name in vocabulary.pieces), None)
    return model, vocabulary
