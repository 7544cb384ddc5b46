"""Configurations: YAML files that overlay one another (`base:`), `a.b=c` overrides, dataclasses that refuse what they do not know.

OmegaConf does the merging and the types; this file adds the `base:` chain and errors that name the key, the file and the valid names.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Sequence, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from voxkit.files import read_text, write_text

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every problem found, each naming its option."""


def load(path: str | os.PathLike, overrides: Sequence[str] = ()) -> DictConfig:
    """Read a YAML file, its `base:` chain (paths relative to the file that names them; a list overlays left to right) and overrides.

    Raises:
        ConfigError: the file is missing or not YAML, a base chain runs in a circle, an override has no `=`.
    """
    return merge(_read(Path(path), ()), overrides)


def load_plain(path: str | os.PathLike, overrides: Sequence[str] = ()) -> DictConfig:
    """Read a configuration that came with data (a checkpoint's, a run's): what it says is taken as it is written.

    Args:
        overrides: of the user's own, as in `load`.

    Raises:
        ConfigError: it is no mapping in YAML, or it reaches beyond itself: `base:` (another file), `${...}` (the environment, other
    options). """
    path = Path(path)
    node = _parse(path)
    if "base" in node:
        raise ConfigError(f"{path}: base: {node.base!r} names another file, and the configuration of a checkpoint stands for itself; "
                          "one that voxkit wrote has none")
    reaching = [f"{name}: {value!r}" for name, value in _leaves(OmegaConf.to_container(node)) if isinstance(value, str) and "${" in value]
    if reaching:
        raise ConfigError(f"{path}: {'; '.join(reaching)}: the configuration of a checkpoint is plain data, and ${{...}} would be filled "
                          "in from this machine; write the value itself")
    return merge(node, overrides)


def merge(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Lay `a.b=c` overrides over a configuration; values are read as YAML (`null`, `[1, 2]`, `true`)."""
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r}: write it as key=value, for example train.optimizer.lr=1e-4")
    return OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))  # type: ignore[return-value]


def overlay(paths: Sequence[str | os.PathLike], overrides: Sequence[str] = ()) -> DictConfig:
    """Several files, each laid over the ones before it, then overrides."""
    return merge(OmegaConf.merge(*(_read(Path(path), ()) for path in paths)), overrides)  # type: ignore[arg-type]


def structure(cls: type[T], node: Any, where: str = "config") -> T:
    """A (nested) dataclass from a plain mapping, types checked, unknown keys refused, `problems()` of every level gathered.

    Args:
        cls: the dataclass.
        node: mapping or DictConfig; None means all defaults.
        where: how the mapping is called in messages.

    Raises:
        ConfigError: with all problems together.
    """
    node = OmegaConf.create({}) if node is None else node
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else dict(node)
    problems = _unknown(cls, plain, where)
    if problems:
        raise ConfigError(_listing(problems))
    try:
        instance = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), _empty_texts(cls, plain)))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise ConfigError(f"{where}.{key}: {str(error).splitlines()[0]}" if key else f"{where}: {error}") from error
    problems = _problems(instance, where)
    if problems:
        raise ConfigError(_listing(problems))
    return instance  # type: ignore[return-value]


def save(config: Any, path: str | os.PathLike) -> None:
    """Write a DictConfig, mapping or dataclass as YAML, atomically."""
    node = OmegaConf.structured(config) if dataclasses.is_dataclass(config) else OmegaConf.create(config)
    write_text(path, OmegaConf.to_yaml(node, resolve=True))


def _read(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: its `base:` chain comes back to itself: {' → '.join(p.name for p in (*seen, path))}")
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        named = f", named as base by {seen[-1]}" if seen else ""
        raise ConfigError(f"no configuration {path}{named}" + (f"; there are: {', '.join(beside)}" if beside else ""))
    own = _parse(path)
    bases = own.pop("base", None) or []
    bases = [bases] if isinstance(bases, str) else list(bases)
    layers = [_read(path.parent / base, (*seen, path)) for base in bases]
    return OmegaConf.merge(*layers, own)  # type: ignore[return-value]


def _parse(path: Path) -> DictConfig:
    try:
        node = OmegaConf.load(io.StringIO(read_text(path)))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{path}: expected a mapping of options at the top, found {type(node).__name__}")
    return node


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists by its full name, `a.b[0].c`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _leaves(value, f"{name}[{i}]")
    else:
        yield name, node


def _unknown(cls: type, plain: Any, where: str) -> list[str]:
    """Unknown keys at every level, with the nearest valid name."""
    if not isinstance(plain, dict):
        return [f"{where}: expected a mapping of options, found {plain!r}"]
    import typing

    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    problems = []
    for key, value in plain.items():
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            problems.append(f"{where}.{key}: no such option" + (f"; did you mean {close[0]!r}?" if close else "")
                            + f" Valid: {', '.join(names)}")
            continue
        inner = _dataclass_of(hints[key])
        if inner is not None and value is not None:
            problems += _unknown(inner, value, f"{where}.{key}")
    return problems


def _empty_texts(cls: type, plain: Any) -> dict[str, Any]:
    """`key=` and `key: null` are an empty text where that is the option's default, which is how such options say "none"."""
    import typing

    hints, defaults = typing.get_type_hints(cls), {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    out = {}
    for key, value in plain.items():
        inner = _dataclass_of(hints[key])
        if value is None and hints[key] is str and defaults[key] == "":
            value = ""
        elif inner is not None and isinstance(value, dict):
            value = _empty_texts(inner, value)
        out[key] = value
    return out


def _dataclass_of(hint: Any) -> type | None:
    import typing

    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate) and typing.get_origin(hint) not in (list, dict):
            return candidate
    return None


def _problems(instance: Any, where: str) -> list[str]:
    found = [f"{where}.{p}" for p in instance.problems()] if hasattr(instance, "problems") else []
    for f in dataclasses.fields(instance):
        value = getattr(instance, f.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found += _problems(value, f"{where}.{f.name}")
        else:
            found += _not_numbers(value, f"{where}.{f.name}", f.metadata.get("unbounded", False))
    return found


def _not_numbers(value: Any, where: str, unbounded: bool) -> list[str]:
    """NaN is no value of any option, and infinity only of one whose field has `metadata={"unbounded": True}`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # in a list: its own problems() are the list's to ask for
        return [p for f in dataclasses.fields(value) for p in _not_numbers(getattr(value, f.name), f"{where}.{f.name}", False)]
    if isinstance(value, dict):
        return [p for key, inner in value.items() for p in _not_numbers(inner, f"{where}.{key}", True)]  # its owner structures it
    if isinstance(value, (list, tuple)):
        return [p for i, inner in enumerate(value) for p in _not_numbers(inner, f"{where}[{i}]", unbounded)]
    if isinstance(value, float) and not math.isfinite(value) and not (unbounded and value == value):
        return [f"{where}: {value} is no number"]
    return []


def _listing(problems: list[str]) -> str:
    return problems[0] if len(problems) == 1 else f"{len(problems)} problems:\n  " + "\n  ".join(problems)
