"""Weights that come from elsewhere: what stays frozen is referenced by name, revision and content, what is trained is saved.

A checkpoint of a model over a frozen encoder holds what was trained and a reference to the rest. The rest is found again by its name; its
content must be the one of training, or the checkpoint is refused: with other weights in the same folder every score would move, silently.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from voxkit.hub import Source

log = logging.getLogger("voxkit.train")


class External(nn.Module):
    """Base of modules that begin with pretrained weights.

    Args:
        source: where these were read from.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self._replaced: set[str] = set()
        self._fingerprints: dict[frozenset[str], str] = {}
        self.register_load_state_dict_pre_hook(_remember_replaced)

    def frozen_names(self) -> set[str]:
        """Entries of `state_dict()` that a checkpoint references: frozen, and still as they were read.

        A layer that an earlier stage trained and this one keeps frozen was loaded from a checkpoint; it stays in the next.
        """
        learning = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name for name in self.state_dict() if name not in learning and name not in self._replaced}

    def settings(self) -> dict[str, Any]:
        """What besides the weights came from the source and decides what the module computes; plain values."""
        return {}

    def enable_activation_checkpointing(self) -> None:
        """Recompute the layers that learn in the backward pass, where the module offers it."""

    def content(self, names: Iterable[str] | None = None) -> str:
        """Hash of entries of `state_dict()` and of `settings`; by default of those that a checkpoint references.

        Raises:
            KeyError: an entry that this module does not have.
        """
        key = frozenset(self.frozen_names() if names is None else names)
        if key not in self._fingerprints:
            state = self.state_dict()
            digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True, default=list).encode())
            for name in sorted(key):
                value = self.looked_at(state[name].detach())
                value = (value.float() if value.is_floating_point() else value).cpu().contiguous()
                digest.update(f"{name}{tuple(value.shape)}".encode())
                digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
            self._fingerprints[key] = digest.hexdigest()[:32]
        return self._fingerprints[key]

    def looked_at(self, value: torch.Tensor) -> torch.Tensor:
        """What of a tensor goes into `content`; by default all of it."""
        return value

    def reference(self) -> dict[str, str]:
        """What a checkpoint notes in place of the frozen weights."""
        return {"name": self.source.name, "revision": self.source.revision, "fingerprint": self.content(), "folder": self.source.folder}


def externals(model: nn.Module) -> dict[str, External]:
    """The external parts of a model by their place in it (`front_end.pretrained`)."""
    return {name: module for name, module in model.named_modules() if isinstance(module, External)}


def left_out(model: nn.Module) -> set[str]:
    """Names of the entries of a model's `state_dict()` that its checkpoints reference instead of holding them."""
    return {f"{place}.{name}" if place else name for place, module in externals(model).items() for name in module.frozen_names()}


def references(model: nn.Module) -> dict[str, dict[str, str]]:
    """Place → reference, for meta.json."""
    return {place: module.reference() for place, module in externals(model).items() if module.frozen_names()}


def check_externals(model: nn.Module, meta: Mapping[str, Any], where: str, parts: Sequence[str] = ()) -> None:
    """Refuse a model whose external weights are not those that a checkpoint was trained over.

    Args:
        meta: the checkpoint's meta.json; where: how to call it in messages.
        parts: the modules that are loaded, by name; others are not compared. Empty = all.

    Raises:
        ValueError: other weights; the message says which, and what to set.
    """
    own, noted, missing = externals(model), meta.get("externals", {}), meta.get("left_out", ())
    if missing and not noted:
        log.warning("%s does not say which external weights it was trained over: whether these are the same cannot be checked", where)
    for place, known in noted.items():
        if place not in own or parts and not any(f"{place}.".startswith(f"{part}.") for part in parts):
            continue
        module, prefix = own[place], f"{place}." if place else ""
        names = [name[len(prefix):] for name in missing if name.startswith(prefix)]
        try:
            found = module.content(names)
        except KeyError as error:
            found = f"another architecture, without {error.args[0]}"
        if found != known["fingerprint"]:
            source = module.source
            raise ValueError(
                f"{where} was trained over other weights of {place} than are here: {_described(known)} there, "
                f"{_described({'name': source.name, 'revision': source.revision, 'fingerprint': found, 'folder': source.folder})} here. "
                f"Put back those of training, or name their folder or revision (model.{place}.name=FOLDER, model.{place}.revision=COMMIT)")


def _described(reference: Mapping[str, str]) -> str:
    revision = f", revision {reference['revision']}" if reference.get("revision") else ""
    folder = f" in {reference['folder']}" if reference.get("folder") else ""
    return f"{reference.get('name')}{folder}{revision} (content {reference.get('fingerprint')})"


def _remember_replaced(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    own = set(module.state_dict())
    module._replaced |= own & {key[len(prefix):] for key in state_dict if key.startswith(prefix)}  # type: ignore[operator]
    module._fingerprints.clear()  # type: ignore[operator,union-attr]
