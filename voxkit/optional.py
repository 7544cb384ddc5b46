"""Optional packages: imported where they are used, and a missing one says the exact command that installs it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

_COMMANDS = {"k2": "tools/install_k2.sh", "kaldifeat": "tools/install_kaldifeat.sh",
             "resemblyzer": "pip install --no-deps resemblyzer   (after pip install 'voxkit[quality]')"}


class MissingPackage(ImportError):
    """An optional package is needed and not installed; the message is the command that installs it."""


def available(package: str) -> bool:
    """True where `import package` would find something (nothing is imported)."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def require(package: str, extra: str | None = None, *, why: str = "") -> ModuleType:
    """Import an optional package or say how to get it.

    Args:
        package: its import name, dots allowed ("onnxruntime.quantization").
        extra: the extra of setup.py that brings it; None for k2 and kaldifeat, which have installers of their own.
        why: what needs it, for the message.

    Raises:
        MissingPackage: with the command to run.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        root = package.split(".")[0]
        command = _COMMANDS.get(root) or f"pip install 'voxkit[{extra}]'   (from a checkout: pip install -e '.[{extra}]')"
        needed = f" for {why}" if why else ""
        raise MissingPackage(f"{root} is needed{needed} and cannot be imported ({error}); install it with: {command}") from error
