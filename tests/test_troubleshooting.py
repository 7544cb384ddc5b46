"""The troubleshooting page quotes messages as the code has them."""

import ast
import re

import pytest


def _messages(root):
    """Every string of the package, f-strings with … for their values; adjacent literals are one string."""
    found = []
    for path in (root / "voxkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


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
    """413, 503 and 504, and 422 where the reason is not plain from the message, have a place on the page."""
    page = " ".join(_headings(repository))
    for word in ("ragged", "not finite", "at most", "bytes", "waiting already", "no result within", "audio alone"):
        assert word in page, word


def test_options_that_the_page_names_exist(repository):
    from voxkit import config as configuration
    from voxkit.recipe import structure_recipe

    page = (repository / "docs/troubleshooting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:model|data|train|decode)(?:\.\w+)+)(?::[^`]*)?`", page))
    assert len(named) > 6
    recipe = structure_recipe(configuration.OmegaConf.create({"system": "paraformer"})).as_mapping()
    for name in named:
        assert configuration.OmegaConf.select(recipe, name, default="absent") != "absent", name
