"""The troubleshooting page quotes messages as the code has them."""

import ast
import re

import pytest


def _messages(root):
    """Every string of the package, f-strings with … for their values; adjacent literals are one string."""
    found = []
    for path in (root / "voxkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += _texts(node)
    return found


def _texts(node):
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _headings(root):
    text = (root / "docs/troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### `(.+)`$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def messages(repository):
    return _messages(repository)


def test_every_quoted_message_is_in_the_code(repository, messages):
    headings = _headings(repository)
    assert len(headings) > 20 and len(set(headings)) == len(headings)
    missing = [h for h in headings if not any(h in message for message in messages)]
    assert not missing, f"docs/troubleshooting.md quotes what no code says: {missing}"


def test_a_message_that_is_nowhere_would_be_missed(messages):
    assert not any("the moon is made of …" + " cheese" in message for message in messages)


def test_every_refusal_of_the_service_is_explained(repository):
    """Whatever a RequestError says has a heading that quotes it."""
    headings, said = _headings(repository), []
    for path in (repository / "voxkit/serve").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RequestError" and len(node.args) == 2:
                said += _texts(node.args[1])
    assert len(said) > 20
    unexplained = [message for message in said if not any(heading in message for heading in headings)]
    assert not unexplained, f"docs/troubleshooting.md has no heading for {unexplained}"


def test_options_that_the_page_names_exist(repository):
    from voxkit import config as configuration
    from voxkit.run_config import make_setup

    page = (repository / "docs/troubleshooting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:model|data|train|decode)(?:\.\w+)+)(?::[^`]*)?`", page))
    named.discard("model.safetensors")  # a file
    assert len(named) > 6
    setup = make_setup(configuration.OmegaConf.create({"system": "paraformer"})).as_mapping()
    for name in named:
        assert configuration.OmegaConf.select(setup, name, default="absent") != "absent", name
