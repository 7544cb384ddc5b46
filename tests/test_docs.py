"""Options that the pages name are options."""

import contextlib
import dataclasses
import functools
import io
import re
import typing
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from voxkit.cli.main import COMMANDS, main
from voxkit.encoders.build import CONFIGS
from voxkit.run_config import RunConfig, make_setup
from voxkit.system import SYSTEMS, find_system

PAGES = sorted(["README.md", "egs/README.md", *(f"docs/{path.name}" for path in Path(__file__).parents[1].glob("docs/*.md"))])
NAMES_NONE = {"README.md", "egs/README.md", "docs/architecture.md", "docs/games.md", "docs/serving.md"}  # these may name no option of a run
FILES = ("log", "safetensors", "onnx", "int8.onnx")  # train.log, model.safetensors ...


ENCODER_OPTIONS = {"preset", *(field.name for config in CONFIGS.values() for field in dataclasses.fields(config))}


def is_option(name: str, system: str) -> bool:
    cls = RunConfig
    for part in name.split("."):
        if not dataclasses.is_dataclass(cls):
            return cls == dict[str, typing.Any] and (part == "kind" or part in ENCODER_OPTIONS)  # model.encoder: of any kind
        if part not in {f.name for f in dataclasses.fields(cls)}:
            return False
        cls = find_system(system).config if part == "model" else typing.get_type_hints(cls)[part]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])((?:data|train|model)(?:\.[a-z_0-9]+)+)(?![\w(])", text))
    named = {name for name in named if name.partition(".")[2] not in FILES}
    assert named or page in NAMES_NONE
    assert sorted(name for name in named if not any(is_option(name, system) for system in SYSTEMS)) == []


@pytest.mark.parametrize("page", ["egs/README.md", "docs/training.md"])
def test_configurations_are_taken(repository, page):
    lines = re.findall(r"^    (model: .+)$", (repository / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    for line in lines:
        make_setup(OmegaConf.create(line)).model.zipformer(512)


@functools.cache
def help_of(*command: str) -> str:
    shown = io.StringIO()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(shown):
        main([*command, "--help"])
    return shown.getvalue()


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_their_options(repository, page):
    """Every option in a `voxkit COMMAND ...` of a page is in that command's help; lines that end in a backslash go on."""
    text = re.sub(r"\\\n\s*", " ", (repository / page).read_text(encoding="utf-8"))
    for line in re.findall(rf"voxkit ((?:{'|'.join(COMMANDS)})\b[^`\n]*)", text):
        words = re.split(r"\s#|\s{6,}|, then ", line)[0].split()
        grouped = words[0] in ("pack", "lm", "plot", "prepare", "import") and len(words) > 1 and re.match(r"[a-z]", words[1])
        command = words[:2] if grouped else words[:1]
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(words)):
            assert re.search(rf"{option}\b", help_of(*command)), f"{page}: voxkit {' '.join(command)} has no {option} ({line})"
