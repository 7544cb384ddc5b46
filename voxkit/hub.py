"""Pretrained models by Hugging Face name or folder: which of the two it is, where the folder lies, and plain errors.

Only data is read from them: code that a folder brings along (auto_map) is refused, and so are weights in a folder that are a pickle.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from voxkit.files import read_text

_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")  # those that may name code
_TO_SAFETENSORS = ("""python -c "import torch, safetensors.torch as s; """
                   """s.save_file({k: v.contiguous().clone() for k, v in torch.load('pytorch_model.bin', weights_only=True).items()}, """
                   """'model.safetensors', {'format': 'pt'})\"""")

_shape_only: contextvars.ContextVar[bool] = contextvars.ContextVar("shape_only", default=False)


@contextlib.contextmanager
def shape_only() -> Iterator[None]:
    """Within it pretrained encoders and language models are built without weights, on the meta device: enough to count and to name
    parameters."""
    token = _shape_only.set(True)
    try:
        yield
    finally:
        _shape_only.reset(token)


def builds_shapes_only() -> bool:
    """Whether this runs within `shape_only`."""
    return _shape_only.get()


@dataclass(frozen=True)
class Source:
    """Where pretrained weights are read from.

    Attributes:
        name: as the configuration has it: a Hugging Face name, or a folder.
        folder: absolute path of the folder; empty for weights from the hub.
        revision: commit on the hub; empty where none is known.
    """

    name: str
    folder: str = ""
    revision: str = ""


@dataclass(frozen=True)
class _Places:
    """Where relative folders are looked for first, and where folders of some names lay in training."""

    bases: tuple[Path, ...] = ()
    noted: Mapping[str, str] = field(default_factory=dict)


_places: contextvars.ContextVar[_Places | None] = contextvars.ContextVar("places", default=None)


@contextlib.contextmanager
def looking_from(bases: Sequence[Path], noted: Mapping[str, str]) -> Iterator[None]:
    """Within it a relative folder is looked for from each of `bases`, then where it lay in training, then from the working directory.

    Args:
        noted: name → absolute path of the folder that a checkpoint noted. Such a name is a folder's, and never looked up on the hub.
    """
    token = _places.set(_Places(tuple(bases), noted))
    try:
        yield
    finally:
        _places.reset(token)


def locate(name: str) -> Source:
    """Whether it is a folder, which is then never looked for on the hub, and where that lies.

    Raises:
        ValueError: a folder without a model in it, with code, or missing.
    """
    places, path = _places.get() or _Places(), Path(name).expanduser()
    candidates = [path] if path.is_absolute() else [*(base / path for base in places.bases), Path(places.noted.get(name) or path), path]
    for folder in candidates:
        if folder.is_dir():
            _check_folder(name, folder)
            return Source(name, str(folder.resolve()))
    known_parts = [base / path.parts[0] for base in (*places.bases, Path())] if len(path.parts) > 1 else []
    if places.noted.get(name) or name.startswith((".", "~")) or name.endswith(os.sep) or path.is_absolute() or name.count("/") > 1 \
            or any(part.is_dir() for part in known_parts):
        looked = ", ".join(dict.fromkeys(str(folder.absolute()) for folder in candidates))
        raise ValueError(f"{name}: no such folder; looked for {looked}. Put it there, or give its path as the name")
    return Source(name)


def is_folder(name: str) -> bool:
    """Whether `locate` finds a folder of that name; errors as there."""
    return bool(locate(name).folder)


def check_weights(source: Source) -> None:
    """
    Raises:
        ValueError: a folder whose weights are not safetensors.
    """
    folder = Path(source.folder)
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise ValueError(f"{source.name}: its weights are a pickle ({', '.join(pickles)}), which could run code when it is read; only "
                         f"model.safetensors is read from a folder. In the folder, `{_TO_SAFETENSORS}` converts them as plain tensors")
    raise ValueError(f"{source.name}: no model.safetensors in {folder}; a Hugging Face folder holds config.json and the weights")


def hub_options(source: Source, revision: str = "") -> dict[str, Any]:
    """What every `from_pretrained` is told: no network for a folder, no code from either."""
    return {"local_files_only": bool(source.folder), "trust_remote_code": False,
            **({"revision": revision} if revision and not source.folder else {})}


@contextlib.contextmanager
def reading(what: str, source: Source | str, local: bool | None = None) -> Iterator[None]:
    """Around `from_pretrained`: no progress bars or lists of unused weights, and what the hub client raises turned into what to do next.

    Raises:
        ValueError: the `what`, such as "pretrained encoder", cannot be read.
    """
    source = source if isinstance(source, Source) else Source(source, source if local else "")
    try:
        with _quiet():
            yield
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        advice = ("the folder must hold config.json and model.safetensors" if source.folder else
                  "check the spelling and the network; without a network, download it elsewhere "
                  f"(`hf download {source.name} --local-dir FOLDER`) and give the folder as the name")
        raise ValueError(f"cannot load the {what} {source.name}: {first}; {advice}") from error


def _check_folder(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name}: a folder without config.json; a Hugging Face folder holds config.json and the weights")
    for file in (folder / config for config in _CONFIGS):
        if not file.is_file():
            continue
        try:
            found = json.loads(read_text(file))
        except ValueError as error:
            raise ValueError(f"{name}: {file} is no JSON: {error}") from error
        if isinstance(found, dict) and "auto_map" in found:
            raise ValueError(f"{name}: {file} names code of its own (auto_map), which is not run. A model of transformers' own families "
                             "needs none: delete auto_map from the file if it is one")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
