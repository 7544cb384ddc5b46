"""docs/games.md names what is there."""

import contextlib
import io
import re

import pytest

from voxkit.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs/games.md").read_text(encoding="utf-8")


def test_paths_are_there(repository, page):
    named = set(re.findall(r"(?<![\w./-])((?:tools|voxkit|egs|docs)/[\w./-]*\w)", page))
    named -= {"docs/games.md"}
    assert len(named) > 10 and sorted(name for name in named if not (repository / name).exists()) == []


def test_commands_have_their_options(page):
    lines = re.findall(rf"voxkit ((?:{'|'.join(COMMANDS)})\b[^`\n]*)", page)
    assert {line.split()[0] for line in lines} >= {"export", "serve", "client", "transcribe", "pack"}
    for line in lines:
        words = line.split("#")[0].split()
        command = words[:2] if words[0] == "pack" else words[:1]
        shown = io.StringIO()
        with pytest.raises(SystemExit), contextlib.redirect_stdout(shown):
            main([*command, "--help"])
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", shown.getvalue()), f"voxkit {' '.join(command)} has no {option}"


def test_names_are_those_of_the_clients(repository, page):
    unity = (repository / "tools/clients/unity/Runtime/VoxkitListener.cs").read_text(encoding="utf-8")
    unreal = (repository / "tools/clients/unreal/Voxkit/Source/Voxkit/Public/VoxkitListenerComponent.h").read_text(encoding="utf-8")
    names = ("onFinal", "onPartial", "onResult", "SetPhrases", "Voxkit Listener")
    assert all(name in unity and name in page for name in names)
    for node in re.findall(r"\*\*(Start Listening|Press|Release|On Final)\*\*", page):
        assert node.replace(" ", "") in unreal
    from voxkit.client.errors import RETRIED

    codes = {int(code) for code in re.findall(r"^\|[^|]*?\b(4\d\d\d|1006)\b", page, re.M)}
    assert codes >= {code for code in RETRIED if code >= 4000} | {1006, 4400, 4401}
