"""The systems, by name. One literal dict: a new system is one line here."""

from __future__ import annotations

import importlib

SYSTEMS = {  # name: (module, model class, configuration class)
    "voxformer": ("voxkit.models.voxformer", "VoxFormer", "VoxFormerConfig"),
    "paraformer": ("voxkit.models.paraformer", "Paraformer", "ParaformerConfig"),
}


def system_classes(name: str) -> tuple[type, type]:
    """(model class, configuration class) of a system.

    Raises:
        ValueError: no such system; the message lists those there are.
    """
    if name not in SYSTEMS:
        raise ValueError(f"system: {name!r} is none of {', '.join(SYSTEMS)}")
    module, model, config = SYSTEMS[name]
    loaded = importlib.import_module(module)
    return getattr(loaded, model), getattr(loaded, config)
