"""Options that the pages name are options."""

import dataclasses
import re
import typing

import pytest
from omegaconf import OmegaConf

from voxkit.run_config import RunConfig, make_setup
from voxkit.system import SYSTEMS, find_system

PAGES = ("README.md", "egs/README.md", "docs/training.md", "docs/troubleshooting.md", "docs/voxlm.md", "docs/adaptation.md",
         "docs/audio.md")
FILES = ("log", "safetensors", "onnx", "int8.onnx")  # train.log, model.safetensors ...


def is_option(name: str, system: str) -> bool:
    cls = RunConfig
    for part in name.split("."):
        if not dataclasses.is_dataclass(cls):
            return cls == dict[str, typing.Any]  # a Zipformer's options: its own code checks them
        if part not in {f.name for f in dataclasses.fields(cls)}:
            return False
        cls = find_system(system).config if part == "model" else typing.get_type_hints(cls)[part]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])((?:data|train|model)(?:\.[a-z_0-9]+)+)", text))
    named = {name for name in named if name.partition(".")[2] not in FILES}
    assert named or page in ("README.md", "egs/README.md")
    assert sorted(name for name in named if not any(is_option(name, system) for system in SYSTEMS)) == []


@pytest.mark.parametrize("page", ["egs/README.md", "docs/training.md"])
def test_configurations_are_taken(repository, page):
    lines = re.findall(r"^    (model: .+)$", (repository / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    for line in lines:
        make_setup(OmegaConf.create(line)).model.zipformer(512)
