#!/usr/bin/env python3
"""Holds the tree to DESIGN's arrows: which room of voxkit may import which, where torch and optional packages may be imported.

    python tools/check_tree.py     lists what breaks a rule; status 1 if anything does. Files over 400 lines are only warned of.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CROWDED = 400

# Modules at the root of voxkit that every room shares. `system` (the table of systems), `run_config` (the configuration of a whole run) and
# `run` (a run put together from system, data and trainer) are rooms of their own.
SHARED = {"batch", "masks", "config", "files", "rate", "optional", "hypothesis", "precision", "hub"}

_NETWORKS = {"nn", "ops"}
_PARTS = _NETWORKS | {"checkpoint", "encoders", "codecs", "predictors", "decoders", "losses"}
_MODELS = _PARTS | {"models", "audio", "text"}
_RUN = _MODELS | {"search", "align", "system", "run_config", "train", "checkpoint", "data", "eval"}

# room → the rooms it may import, itself and SHARED apart
ARROWS: dict[str, set[str]] = {
    "audio": set(),
    "text": set(),
    "ops": set(),
    "nn": {"ops"},
    "encoders": _NETWORKS | {"audio", "checkpoint"},
    "codecs": _NETWORKS | {"audio", "checkpoint"},
    "predictors": _NETWORKS,
    "decoders": _NETWORKS | {"checkpoint"},
    "losses": _NETWORKS,
    "models": _PARTS | {"audio", "text", "search", "system", "checkpoint"},
    "system": {"text", "models"},
    "search": {"ops", "text"},
    "align": {"ops", "text"},
    "data": {"audio", "text"},
    "checkpoint": set(),
    "train": {"ops", "checkpoint"},
    "eval": {"text"},
    "runtime": {"audio", "text", "search", "align"},  # of the last two what needs no tensors: check_imports finds torch behind them
    "client": {"audio"},
    "doctor": set(),
    "plot": {"checkpoint", "train"},
    "run_config": {"system", "models", "text", "data", "train"},
    "infer": _RUN | {"runtime"},
    "training": _RUN | {"infer"},
    "run": _RUN | {"training"},
    "export": _RUN | {"infer", "runtime"},
    "serve": _RUN | {"infer", "export", "runtime"},
    "experiments": _RUN | {"infer", "export", "runtime", "serve", "plot"},
    "cli": _RUN | {"training", "client", "run", "infer", "export", "runtime", "serve", "experiments", "doctor", "plot"},
}

# What lies at the root of the repository.
TOP = {".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "benchmarks", "docs", "egs", "pyproject.toml", "setup.py", "tests", "tools",
       "voxkit"}

WITHOUT_TORCH = {"client", "eval", "runtime"}
TORCH = {"torch", "torchaudio", "lhotse", "transformers", "k2", "kaldifeat"}  # torch itself, and what imports it

# Import names of what setup.py's core installs; these may be imported at the top of a module.
CORE = {"torch", "torchaudio", "lhotse", "sentencepiece", "soundfile", "numpy", "omegaconf", "safetensors", "jiwer", "rapidfuzz", "rich",
        "tensorboard", "fsspec", "psutil", "yaml", "tqdm"}
# Everything else that is imported anywhere: inside the function or module that owns it, never at import time.
OPTIONAL = {"k2", "kaldifeat", "transformers", "peft", "bitsandbytes", "jinja2", "tokenizers",
            "pesq", "pystoi", "resemblyzer", "speechmos", "distillmos", "onnx", "onnxscript", "onnxruntime", "tensorrt", "grpc", "fastapi",
            "uvicorn", "starlette", "pydantic", "triton", "faster_whisper", "kenlm", "pyctcdecode", "espeakng_loader", "hibari",
            "py_nanotts", "dask", "distributed", "matplotlib", "s3fs", "boto3", "httpx2", "pytest",
            "websockets", "httpx", "sounddevice", "prometheus_client", "python_multipart", "google", "grpc_health", "grpc_reflection"}

_MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home/(?!user\b|you\b|me\b))/?\w*/")


@dataclass(frozen=True)
class Import:
    """One import: the module's full name, the line, whether it runs when the file is imported, names taken out of the module; whether it
    is for type checkers alone."""

    module: str
    line: int
    at_import: bool
    names: tuple[str, ...] = ()
    typing: bool = False


def problems(root: Path = ROOT) -> list[str]:
    """Everything that breaks a rule, as `path:line: what`."""
    return [*check_top(root), *check_imports(root), *check_recipes(root), *check_paths(root)]


def check_top(root: Path = ROOT) -> list[str]:
    """Nothing else at the root of a git repository than what TOP names, but for what git ignores."""
    if not (root / ".git").exists():
        return []
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True,
                            check=True).stdout.splitlines()
    kept = {name.split("/")[0] for name in listed if (root / name).exists()}
    return [f"{name}: not of the top level (TOP in tools/check_tree.py): a download?" for name in sorted(kept - TOP)]


def check_imports(root: Path = ROOT) -> list[str]:
    """The arrows, torch where it must not be, optional or undeclared packages at import time."""
    files = {path: list(imports(path, root)) for path in sorted((root / "voxkit").rglob("*.py"))
             if not path.stem.endswith("_pb2")}  # made by a compiler
    found: list[str] = []
    for path, every in files.items():
        where, room = path.relative_to(root), room_of(path, root)
        if room is not None and room not in ARROWS:
            found.append(f"{where}: a new room {room!r}: say in tools/check_tree.py what it may import")
            continue
        for i in every:
            found += [f"{where}:{i.line}: {p}" for p in _import_problems(i, room) if not i.typing]
    return [*found, *_hidden_torch(files, root), *_circles(files, root)]


def check_recipes(root: Path = ROOT) -> list[str]:
    """No symlinks in egs, no Python outside local/."""
    found = []
    for path in sorted((root / "egs").rglob("*")):
        parts = path.relative_to(root).parts
        if {"data", "exp"} & set(parts[3:]):
            continue
        if path.is_symlink():
            found.append(f"{path.relative_to(root)}: a symlink; recipes share tools/recipe.sh and the voxkit command instead")
        elif path.suffix == ".py" and "local" not in parts:
            found.append(f"{path.relative_to(root)}: Python in a recipe belongs into voxkit, or into local/ where only it needs it")
    return found


def check_paths(root: Path = ROOT) -> list[str]:
    """No paths of one machine in code, configurations or scripts."""
    found = []
    for folder in ("voxkit", "egs", "tools", "tests"):
        for path in sorted((root / folder).rglob("*")):
            parts = path.relative_to(root).parts
            if path.suffix not in (".py", ".sh", ".yaml", ".md") or {"data", "exp"} & set(parts[3:]) or path == Path(__file__).resolve():
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = _MACHINE_PATH.search(line)
                if match:
                    found.append(f"{path.relative_to(root)}:{number}: a path of one machine: {match.group()}")
    return found


def crowded(root: Path = ROOT) -> list[str]:
    """Files that have grown too long to read in a sitting."""
    counted = ((path, len(path.read_text(encoding="utf-8").splitlines()))
               for folder in ("voxkit", "tests", "tools") for path in sorted((root / folder).rglob("*.py")))
    return [f"{path.relative_to(root)}: {lines} lines, {CROWDED} is crowded" for path, lines in counted if lines > CROWDED]


def room_of(path: Path, root: Path = ROOT) -> str | None:
    """The room of a file of voxkit: its folder, "run_config", or None for the shared modules of the root."""
    parts = path.relative_to(root / "voxkit").parts
    if len(parts) > 1:
        return parts[0]
    return None if path.stem in SHARED | {"__init__"} else path.stem


def imports(path: Path, root: Path = ROOT) -> Iterator[Import]:
    """Every import of a file, relative ones made absolute."""
    package = list(path.relative_to(root).with_suffix("").parts)
    package = package[:-1]
    yield from _walk(ast.parse(path.read_text(encoding="utf-8")), package, at_import=True)


def _walk(node: ast.AST, package: list[str], at_import: bool, typing: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_import, (), typing)
        elif isinstance(child, ast.ImportFrom):
            base = package[:len(package) - child.level + 1] if child.level else []
            module = ".".join([*base, *([child.module] if child.module else [])])
            if module in ("voxkit", "") or child.module is None:  # from voxkit import config: the names are modules
                for alias in child.names:
                    yield Import(f"{module}.{alias.name}", child.lineno, at_import, (), typing)
            else:
                yield Import(module, child.lineno, at_import, tuple(alias.name for alias in child.names), typing)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.body:
                yield from _walk(ast.Module([other], []), package, False, typing=True)
            for other in child.orelse:
                yield from _walk(ast.Module([other], []), package, at_import, typing)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _walk(child, package, at_import and not inside, typing)


def _import_problems(i: Import, room: str | None) -> Iterator[str]:
    top, _, rest = i.module.partition(".")
    if top == "voxkit":
        target = rest.split(".")[0]
        if target.startswith("__") or target in SHARED or target == room or target == "":
            return
        if room is None:
            yield f"the root imports {i.module}: shared modules import no room"
        elif target not in ARROWS[room]:
            allowed = ", ".join(sorted(ARROWS[room])) or "no other room"
            yield f"{room} imports {i.module}: it may import {allowed}"
        return
    if top in sys.stdlib_module_names or top == "__future__":
        return
    if room in WITHOUT_TORCH and top in TORCH:
        yield f"{room} imports no torch, and {top} is or brings it"
    if top in CORE:
        return
    if top not in OPTIONAL:
        yield f"imports {top}, which neither CORE nor OPTIONAL of tools/check_tree.py names (and setup.py?)"
    elif i.at_import:
        yield f"imports the optional package {top} at import time: import it in the function that needs it, by voxkit.optional.require"


def _modules(files: dict[Path, list[Import]], root: Path) -> dict[str, Path]:
    """Full name of a module → its file."""
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _circles(files: dict[Path, list[Import]], root: Path) -> list[str]:
    """Files that import one another in a circle, at import time or for type checkers; imports inside functions are no part of one."""
    modules = _modules(files, root)
    needs = {path: sorted({modules[name] for i in every if i.at_import or i.typing
                           for name in (i.module, *(f"{i.module}.{one}" for one in i.names)) if name in modules} - {path})
             for path, every in files.items()}
    # The least number reachable and the place on the stack (Tarjan 1972), without recursion: each room of more than one file is a circle.
    order: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    found = []
    for start in needs:
        work = [(start, iter(needs[start]))] if start not in order else []
        while work:
            path, rest = work[-1]
            if path not in order:
                order[path] = low[path] = len(order)
                stack.append(path)
            for other in rest:
                if other not in order:
                    work.append((other, iter(needs[other])))
                    break
                if other in stack:
                    low[path] = min(low[path], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[path])
                if low[path] == order[path]:
                    circle = stack[stack.index(path):]
                    del stack[stack.index(path):]
                    if len(circle) > 1:
                        found.append("a circle of imports: " + ", ".join(sorted(str(one.relative_to(root)) for one in circle)))
    return found


def _hidden_torch(files: dict[Path, list[Import]], root: Path) -> list[str]:
    """Rooms without torch must not get it through a module of voxkit that they import."""
    modules = _modules(files, root)

    def reached(path: Path, seen: set[Path]) -> Iterator[Path]:
        if path in seen:
            return
        seen.add(path)
        yield path
        for i in files[path]:
            named = [i.module, i.module.rpartition(".")[0], *(f"{i.module}.{name}" for name in i.names)]
            for target in (modules[name] for name in named if i.at_import and name in modules):
                yield from reached(target, seen)

    found = []
    for path in files:
        if room_of(path, root) not in WITHOUT_TORCH:
            continue
        for other in reached(path, set()):
            if other != path and any(i.at_import and i.module.split(".")[0] in TORCH for i in files[other]):
                found.append(f"{path.relative_to(root)}: gets torch through {other.relative_to(root)}")
    return found


def main() -> int:
    """Print and count."""
    found = problems()
    for line in crowded():
        print(f"warning: {line}")
    for line in found:
        print(line)
    print(f"{len(found)} broken rules of the tree" if found else "The tree keeps its rules.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
