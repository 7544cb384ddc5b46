"""Options and configuration keys that messages and docstrings name are there, and every option there is does something."""

import argparse
import ast
import dataclasses
import re
import typing

from voxkit.encoders.build import CONFIGS as ENCODERS
from voxkit.run_config import RunConfig
from voxkit.system import SYSTEMS, find_system

# of other programs (pip, git, curl, docker, espeak, huggingface-cli, sherpa-onnx), of the recipes' run.sh, of `voxkit` before its command
FOREIGN = {"--data-binary", "--tokens", "--encoder", "--decoder", "--joiner", "--decoding-method",
           "--zipformer-ctc-model", "--zipformer2-ctc-model",
           "--force-reinstall", "--list-voices", "--local-dir", "--no-deps", "--porcelain", "--shm-size",
           "--untracked-files", "--url", "--no-build-isolation", "--ngpu", "--stop-stage", "--stage", "--debug", "--version", "--help"}
# files, and attributes of objects, that look like keys
NO_KEYS = {"model.safetensors", "model.onnx", "model.int8.onnx", "train.log", "train.tsv"}  # files that look like keys
TOP = ("data", "train", "decode", "model")  # the groups of a configuration
SAYING = {"raise", "warn", "warning", "info", "error", "append"}  # how a message is made


def _strings(repository):
    """(where, text) of every string of voxkit that is not handed to add_argument as the name of an option."""
    for path in sorted((repository / "voxkit").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(repository)}:{node.lineno}", node.value


def _paths(cls, prefix=""):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield f"{prefix}{field.name}"
        for candidate in (hints[field.name], *typing.get_args(hints[field.name])):
            if dataclasses.is_dataclass(candidate):
                yield from _paths(candidate, f"{prefix}{field.name}.")


def test_every_option_named_exists(repository, options):
    there = {name for _, _, action in options for name in action.option_strings} | FOREIGN
    named = [(where, name) for where, text in _strings(repository) for name in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w-])", text)]
    assert len(named) > 200
    assert not [f"{where} names {name}" for where, name in named if name not in there]


def _docstrings(repository):
    """(where, text) of every docstring of voxkit."""
    for path in sorted((repository / "voxkit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(repository)}:{getattr(node, 'lineno', 1)}", text


def _messages(repository):
    """(where, text) of every string of voxkit that is said: raised, warned of, logged."""
    for path in sorted((repository / "voxkit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = "raise" if isinstance(node, ast.Raise) else getattr(getattr(node, "func", None), "attr", None)
            if name in SAYING:
                yield from ((f"{path.relative_to(repository)}:{node.lineno}", part.value) for part in ast.walk(node)
                            if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _is_module(repository, key):
    return any((repository / "voxkit" / end).exists() for end in (f"{key.replace('.', '/')}.py", f"{'/'.join(key.split('.')[:-1])}.py"))


def test_every_configuration_key_named_exists(repository):
    """Whole keys in docstrings and in what is said, there also parts of keys (`encoder.normalize`)."""
    keys = set(_paths(RunConfig))
    for system in SYSTEMS:
        keys |= {f"model.{path}" for path in _paths(find_system(system).config)}
    keys |= {"model.encoder.kind", "model.encoder.preset"}
    keys |= {f"model.encoder.{path}" for config in ENCODERS.values() for path in _paths(config)}
    ends = {".".join(key.split(".")[i:]) for key in keys for i in range(key.count(".") + 1)}
    groups = {key.split(".")[i] for key in keys for i in range(key.count("."))}

    def found(texts, first):
        pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join(sorted(first))})(?:\.[a-z_][a-z_0-9]*)+(?![\w(])")
        return [(where, key) for where, text in texts for key in pattern.findall(text)]

    named = found(_docstrings(repository), TOP) + found(_messages(repository), groups)
    assert len(named) > 60
    assert not [f"{where} names {key}" for where, key in named
                if key not in ends and key not in NO_KEYS and not _is_module(repository, key)]


HOLDERS = {"args", "given", "job", "config", "dataset"}  # what the values of options are read from


def _read(tree):
    """Names of attributes read from such an object, also by getattr with a literal, with one of a literal tuple of names, or by pattern."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("add_argument", "add_parser"):
            continue
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", getattr(node.value, "attr", None)) in HOLDERS:
            yield re.escape(node.attr)
        elif isinstance(node, (ast.Tuple, ast.List, ast.Dict)):
            parts = [*node.keys, *node.values] if isinstance(node, ast.Dict) else node.elts
            yield from (re.escape(part.value) for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))
        elif isinstance(node, ast.JoinedStr):
            yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in node.values)


def test_every_option_is_read(repository, options):
    """An option whose value no code looks at changes nothing."""
    rooms = ("cli", "experiments", "data", "serve", "infer")
    patterns = {p for room in rooms for path in (repository / "voxkit" / room).rglob("*.py")
                for p in _read(ast.parse(path.read_text(encoding="utf-8"))) if p.strip(".+")}
    dests = {action.dest: command for command, _, action in options if action.dest not in ("what", argparse.SUPPRESS)}
    assert len(dests) > 100
    assert not [f"{command} {dest}" for dest, command in dests.items() if not any(re.fullmatch(p, dest) for p in patterns)]
