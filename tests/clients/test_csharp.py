"""What only the C# client has: its JSON reader; and the Unity package around it."""

import json
import re
import shutil
import subprocess

import pytest

GOOD = ['{}', '[]', ' [ 1 , -0.5e3, 1E+2 , 0 ] ', '{"a": {"b": [true, false, null]}, "a": "last"}',
        '"\\u00e9\\ud83d\\ude00 \\"\\\\\\/\\b\\f\\n\\r\\t"', '"Übergröße 😀 \u2028"', '-1e-7', '123456789012', '[[[[[[[[[[]]]]]]]]]]', '""']
BAD = ['', '{', '[1,]', '{"a" 1}', '{"a": 1,}', '01', '1.', '.5', '+1', '1e', '"\\x"', '"\\u12g4"', '"a', "'a'", 'nul',
       'true false', '[1 2]', '{1: 2}', 'NaN',
       '-', '"\t"', '[' * 100 + ']' * 100]


def test_the_reader_reads_what_is_json_and_nothing_else(repository, tmp_path):
    if shutil.which("mcs") is None:
        pytest.skip("no mcs: apt-get install mono-mcs mono-runtime libmono-system4.0-cil libmono-system-core4.0-cil")
    program = tmp_path / "echo.exe"
    sources = [repository / "tests/clients/drivers/JsonEcho.cs", repository / "tools/clients/unity/Runtime/Core/Json.cs"]
    subprocess.run(["mcs", f"-out:{program}", *map(str, sources)], check=True)
    done = subprocess.run(["mono", str(program)], input="\n".join([*GOOD, *BAD]) + "\n", capture_output=True, text=True, encoding="utf-8",
                          env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}, check=True)
    answers = done.stdout.splitlines()
    assert [json.loads(answer) for answer in answers[:len(GOOD)]] == [json.loads(line) for line in GOOD]
    assert answers[len(GOOD):] == ["error"] * len(BAD)


def test_the_unity_package_is_whole(repository):
    """Unity ignores what has no .meta file in a package that it fetched; each has its own identifier."""
    package = repository / "tools/clients/unity"
    manifest = json.loads((package / "package.json").read_text(encoding="utf-8"))
    assert manifest["name"] == "org.voxkit.client" and re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    for sample in manifest["samples"]:
        assert (package / sample["path"]).is_dir()
    assets = [path for path in package.rglob("*") if path.suffix != ".meta" and not any(part.endswith("~") for part in path.parts)]
    identifiers = {}
    for path in assets:
        meta = path.with_name(path.name + ".meta")
        assert meta.is_file(), f"{meta} is missing"
        identifiers[re.search(r"^guid: ([0-9a-f]{32})$", meta.read_text(encoding="utf-8"), re.M).group(1)] = path
    assert len(identifiers) == len(assets)
    orphans = [meta for meta in package.rglob("*.meta") if not meta.with_name(meta.name.removesuffix(".meta")).exists()]
    assert orphans == []
    for name in ("Voxkit.asmdef", "Core/Voxkit.Core.asmdef"):
        assert json.loads((package / "Runtime" / name).read_text(encoding="utf-8"))["name"] == name.split("/")[-1].removesuffix(".asmdef")


def test_the_unity_component_compiles_against_what_it_uses_of_the_engine(repository, tmp_path):
    """The engine is not here: its API is stood in for by signatures, so that this finds typing mistakes and nothing else."""
    if shutil.which("mcs") is None:
        pytest.skip("no mcs: apt-get install mono-mcs mono-runtime libmono-system4.0-cil libmono-system-core4.0-cil")
    package = repository / "tools/clients/unity"
    sources = [*(package / "Runtime").rglob("*.cs"), *(package / "Samples~").rglob("*.cs"),
               repository / "tests/clients/drivers/UnityEngine.cs"]
    done = subprocess.run(["mcs", "-target:library", "-warnaserror", "-nowarn:649", f"-out:{tmp_path / 'unity.dll'}", *map(str, sources)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
