"""What a model has learned of a speaker, as a file or as bytes that a client keeps: versioned, for one model, of limited size, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from voxkit import files
from voxkit.encoders.lact import Carried, LaCTEncoder

VERSION = 1
LIMIT = 64 << 20  # bytes
_SIGNATURE = 32


@dataclass
class SessionState:
    """Of one speaker.

    Attributes:
        carried: the tensors that `encode` gives and takes, of one utterance; None = nothing was heard yet.
        utterances, seconds: how much was heard.
        fallbacks: utterances that were recognized from the initial weights, because the state knew them less well.
    """

    carried: Carried | None = None
    utterances: int = 0
    seconds: float = 0.0
    fallbacks: int = 0


def fingerprint(encoder: LaCTEncoder) -> str:
    """Of the initial fast weights, which a state is a change of."""
    found = hashlib.sha256(repr(encoder.config).encode())
    for layer in encoder.fast_layers():
        for w in (layer.w0, layer.w1, layer.w2):
            found.update(w.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def to_bytes(state: SessionState, encoder: LaCTEncoder) -> bytes:
    """A state as safetensors: float32 tensors `0`, `1`, ..., and in the header what it belongs to.

    Raises:
        ValueError: nothing was heard, there is nothing to keep.
    """
    if state.carried is None:
        raise ValueError("the state is empty: no audio was heard")
    tensors = {str(n): x.detach().float().cpu().contiguous() for n, x in enumerate(state.carried)}
    about = {"version": VERSION, "model": fingerprint(encoder), "utterances": state.utterances, "seconds": f"{state.seconds:.3f}",
             "fallbacks": state.fallbacks}
    return save(tensors, metadata={name: str(value) for name, value in about.items()})


def from_bytes(raw: bytes, encoder: LaCTEncoder, where: str = "the state", device: torch.device | str = "cpu") -> SessionState:
    """What `to_bytes` wrote.

    Raises:
        ValueError: none, of another version, of another model, or with numbers that are none; `where` names it.
    """
    try:
        about, tensors = _metadata(raw), load(raw)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{where} is no speaker's state ({error}); `voxkit adapt` makes one") from error
    if about.get("version") != str(VERSION):
        raise ValueError(f"{where} is of version {about.get('version', 'none')}, and this voxkit reads version {VERSION}; make it anew "
                         "with `voxkit adapt`")
    if about.get("model") != fingerprint(encoder):
        raise ValueError(f"{where} was learned by another model ({about.get('model')}, this one is {fingerprint(encoder)}); make it anew "
                         "with `voxkit adapt`")
    wanted = encoder.initial(1)
    carried = tuple(tensors[str(n)] for n in range(len(tensors))) if set(tensors) == {str(n) for n in range(len(wanted))} else ()
    if len(carried) != len(wanted) or any(a.shape != b.shape or not a.isfinite().all() for a, b in zip(carried, wanted)):
        raise ValueError(f"{where} is damaged: its tensors are not those of this model, or not finite; make it anew with `voxkit adapt`")
    return SessionState(tuple(x.to(device) for x in carried), int(about["utterances"]), float(about["seconds"]), int(about["fallbacks"]))


def write_state(path: str | os.PathLike, state: SessionState, encoder: LaCTEncoder) -> None:
    """Write a state file, whole or not at all."""
    raw = to_bytes(state, encoder)
    with files.writing(path, "wb") as file:
        file.write(raw)


def read_state(path: str | os.PathLike, encoder: LaCTEncoder, device: torch.device | str = "cpu") -> SessionState:
    """Read a state file.

    Raises:
        ValueError: as `from_bytes`. OSError: it cannot be read.
    """
    if os.path.getsize(path) > LIMIT:
        raise ValueError(f"{path} has more than {LIMIT >> 20} MiB: it is no speaker's state")
    with open(path, "rb") as file:
        return from_bytes(file.read(), encoder, str(path), device)


def seal(raw: bytes, key: bytes) -> bytes:
    """Bytes that a client may keep and cannot change: their HMAC-SHA256 stands before them."""
    return hmac.digest(key, raw, "sha256") + raw


def unseal(sealed: bytes, key: bytes, limit: int = LIMIT) -> bytes:
    """What was sealed.

    Raises:
        ValueError: too large, or not sealed with this key.
    """
    if len(sealed) > limit + _SIGNATURE:
        raise ValueError(f"the state has {len(sealed)} bytes, and at most {limit} are taken")
    signature, raw = sealed[:_SIGNATURE], sealed[_SIGNATURE:]
    if not hmac.compare_digest(signature, hmac.digest(key, raw, "sha256")):
        raise ValueError("the state was not given out by this service, or was changed since; begin without one")
    return raw


def _metadata(raw: bytes) -> dict[str, str]:
    """The header's own words. safetensors reads them from files alone: 8 bytes of length, then JSON."""
    size = int.from_bytes(raw[:8], "little")
    if not 0 < size <= len(raw) - 8:
        raise ValueError("it has no header")
    found = json.loads(raw[8:8 + size]).get("__metadata__", {})
    return {str(name): str(value) for name, value in found.items()}


def mean_change(state: SessionState, encoder: LaCTEncoder) -> Tensor:
    """How far each layer's weights have moved, relative to their size: [layers]."""
    return encoder.change(state.carried or encoder.initial(1)).mean((0, 2))
