"""Parameter groups by name pattern, and the optimizer over them."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import torch
from torch import nn

from voxkit.train.config import OPTIMIZERS, GroupConfig, OptimizerConfig
from voxkit.train.muon import Muon, matrix_names


def matches(pattern: str, name: str) -> bool:
    """Whether a parameter's full name fits a glob, or a regular expression after `re:`."""
    return bool(re.search(pattern[3:], name)) if pattern.startswith("re:") else fnmatch.fnmatchcase(name, pattern)


def parameter_groups(model: nn.Module, config: OptimizerConfig, groups: list[GroupConfig]) -> list[dict[str, Any]]:
    """The trainable parameters as groups for an optimizer: {"params", "names", "lr", "weight_decay", "name"}.

    A parameter belongs to the first group whose pattern matches, else to the rest; each is split into matrices and
    vectors, which weight decay leaves alone unless `config.decay_vectors`. ScaledAdam, which has no weight decay, gets it undivided; for
    Muon the matrices that its steps are for stand apart ({"matrices": True}).

    Raises:
        ValueError: nothing to train, or a pattern that matches no trainable parameter.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("the model has no trainable parameter: everything is frozen")
    taken: dict[str, int] = {}
    for i, group in enumerate(groups):
        found = [name for name in trainable if matches(group.pattern, name)]
        if not found:
            tops = sorted({".".join(name.split(".")[:2]) for name in trainable})
            frozen = any(matches(group.pattern, name) for name, _ in model.named_parameters())
            raise ValueError(f"train.groups[{i}].pattern {group.pattern!r} matches no trainable parameter"
                             + (" (those that it matches are frozen)" if frozen else "") + f"; names start with: {', '.join(tops)}")
        for name in found:
            taken.setdefault(name, i)
    orthogonal = matrix_names(model) if config.name == "muon" else set()
    out: list[dict[str, Any]] = []
    for i, group in enumerate([*groups, GroupConfig(pattern="rest")]):
        names = [name for name in trainable if taken.get(name, len(groups)) == i]
        lr = group.lr or config.lr * group.lr_scale
        decay = config.weight_decay if group.weight_decay < 0 else group.weight_decay
        undivided = config.decay_vectors or not decay or config.name == "scaled_adam"
        vectors = set() if undivided else {name for name in names if trainable[name].ndim < 2}
        for among, part_decay, options in ((orthogonal, decay, {"matrices": True}), (set(names) - orthogonal - vectors, decay, {}),
                                           (vectors, 0.0, {})):
            if part := [name for name in names if name in among]:
                out.append({"params": [trainable[name] for name in part], "names": part, "lr": lr, "weight_decay": part_decay,
                            "name": group.pattern, **options})
    return out


def build_optimizer(model: nn.Module, config: OptimizerConfig, groups: list[GroupConfig]) -> torch.optim.Optimizer:
    """AdamW, Adam, Muon or ScaledAdam over the model's trainable parameters.

    Raises:
        ValueError: as `parameter_groups`; an unknown name.
    """
    params = parameter_groups(model, config, groups)
    betas = (config.betas[0], config.betas[1])
    for group in params:
        group.pop("names")
    if config.name == "scaled_adam":
        from voxkit.train.scaled_adam import ScaledAdam

        return ScaledAdam(params, lr=config.lr, clipping_scale=config.clipping_scale or None, betas=betas)
    if config.name == "muon":
        return Muon(params, lr=config.lr, momentum=config.momentum, betas=betas, eps=config.eps)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    if config.name not in kinds:
        raise ValueError(f"train.optimizer.name {config.name!r} is none of {', '.join(OPTIMIZERS)}")
    return kinds[config.name](params, lr=config.lr, betas=betas, eps=config.eps)
