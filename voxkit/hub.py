"""Pretrained models by Hugging Face name or folder: which of the two it is, and plain errors where it cannot be read."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator
from pathlib import Path

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


def is_folder(name: str) -> bool:
    """Whether it is a folder, which is then never looked for on the hub.

    Raises:
        ValueError: a folder without a model in it, or what can be neither a folder nor a name.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{name}: a folder without config.json; a Hugging Face folder holds config.json and the weights")
        return True
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise ValueError(f"{name}: no such folder (a Hugging Face name has the form owner/model)")
    return False


@contextlib.contextmanager
def reading(what: str, name: str, local: bool) -> Iterator[None]:
    """Around `from_pretrained`: no progress bars or lists of unused weights, and what the hub client raises turned into what to do next.

    Raises:
        ValueError: the `what`, such as "pretrained encoder", cannot be read.
    """
    try:
        with _quiet():
            yield
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        advice = ("the folder must hold config.json and model.safetensors or pytorch_model.bin" if local else
                  "check the spelling and the network; without a network, download it elsewhere "
                  f"(`hf download {name} --local-dir FOLDER`) and give the folder as the name")
        raise ValueError(f"cannot load the {what} {name}: {first}; {advice}") from error


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
