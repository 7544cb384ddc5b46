"""The Unreal plugin, as far as it can be looked at without the engine."""

import json
import re
import shutil
import subprocess

import pytest


def test_the_plugin_names_its_module(repository):
    plugin = repository / "tools/clients/unreal/Voxkit"
    (module,) = json.loads((plugin / "Voxkit.uplugin").read_text(encoding="utf-8"))["Modules"]
    build = (plugin / "Source" / module["Name"] / f"{module['Name']}.Build.cs").read_text(encoding="utf-8")
    assert f"public class {module['Name']} : ModuleRules" in build
    used = {"IWebSocket.h": "WebSockets", "JsonObject.h": "Json", "AudioCaptureCore.h": "AudioCaptureCore"}
    sources = "".join(path.read_text(encoding="utf-8") for path in plugin.rglob("*.[hc]*"))
    assert all(header in sources and f'"{name}"' in build for header, name in used.items())


def test_the_plugin_compiles_against_what_it_uses_of_the_engine(repository, tmp_path):
    """The engine is not here: its API is stood in for by signatures, so that this finds typing mistakes and nothing else."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: apt-get install g++")
    source = repository / "tools/clients/unreal/Voxkit/Source/Voxkit"
    stand_in = repository / "tests/clients/drivers/Unreal.h"
    files = sorted(source.rglob("*.cpp"))
    for path in [*files, *source.glob("*/*.h")]:  # each engine header that is included is the stand-in
        for name in re.findall(r'#include "(.+)"', path.read_text(encoding="utf-8")):
            if not list(source.rglob(name.split("/")[-1])):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(f'#include "{stand_in}"\n', encoding="utf-8")
    flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
    done = subprocess.run(["g++", *flags, f"-I{source / 'Public'}",
                           f"-I{tmp_path}", *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
