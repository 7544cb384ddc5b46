"""DESIGN's arrows hold in this tree, and the check that says so sees what it should."""

import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def check(repository):
    spec = importlib.util.spec_from_file_location("check_tree", repository / "tools" / "check_tree.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_tree"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """Write files of a small tree; returns its root."""

    def write(files):
        for folder in ("voxkit", "egs", "tools", "tests"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return write


def test_this_tree_keeps_its_rules(check):
    assert check.problems() == []


@pytest.mark.parametrize("path, text, what", [
    ("voxkit/nn/a.py", "from voxkit.encoders.b import C", "nn imports voxkit.encoders.b"),
    ("voxkit/nn/a.py", "from ..encoders import b", "nn imports voxkit.encoders"),
    ("voxkit/nn/a.py", "from voxkit import models", "nn imports voxkit.models"),
    ("voxkit/train/a.py", "import voxkit.data.loader", "train imports voxkit.data.loader"),
    ("voxkit/data/a.py", "def f():\n    from voxkit.models import voxformer", "data imports voxkit.models"),
    ("voxkit/search/a.py", "from voxkit.models import voxformer", "search imports voxkit.models"),
    ("voxkit/batch.py", "from voxkit.nn import x", "shared modules import no room"),
    ("voxkit/eval/a.py", "def f():\n    import torch", "imports no torch"),
    ("voxkit/decoders/a.py", "import transformers", "optional package transformers"),
    ("voxkit/decoders/a.py", "try:\n    import k2\nexcept ImportError:\n    k2 = None", "optional package k2"),
    ("voxkit/decoders/a.py", "import unheard_of", "imports unheard_of"),
    ("voxkit/attic/a.py", "", "a new room 'attic'"),
    ("egs/a/b/helper.py", "", "belongs into voxkit"),
    ("egs/a/b/conf/x.yaml", "data: /" + "root/speech/x", "a path of one machine"),
])
def test_what_it_sees(check, tree, path, text, what):
    found = check.problems(tree({path: text}))
    assert len(found) == 1 and what in found[0] and path in found[0], found


@pytest.mark.parametrize("a, b, c, circle", [
    ("from voxkit.nn.b import B", "from voxkit.nn.c import C", "from voxkit.nn import a", True),
    ("from voxkit.nn.b import B", "from voxkit.nn.c import C", "if TYPE_CHECKING:\n    from voxkit.nn.a import A", True),
    ("from voxkit.nn.b import B", "from voxkit.nn.c import C", "def f():\n    from voxkit.nn.a import A", False),
    ("from voxkit.nn.b import B\nfrom voxkit.nn import c", "from voxkit.nn.c import C", "", False),
])
def test_circles_are_seen(check, tree, a, b, c, circle):
    found = check.problems(tree({"voxkit/nn/a.py": a, "voxkit/nn/b.py": b, "voxkit/nn/c.py": c}))
    assert found == (["a circle of imports: voxkit/nn/a.py, voxkit/nn/b.py, voxkit/nn/c.py"] if circle else [])


def test_what_does_not_belong_at_the_top_is_seen(check, tree):
    root = tree({"package-1.0.whl": "", "README.md": "", ".gitignore": "*.log\n", "a.log": "", "voxkit/batch.py": ""})
    assert check.check_top(root) == []  # no repository, no rule
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    found = check.check_top(root)
    assert len(found) == 1 and found[0].startswith("package-1.0.whl: not of the top level")


@pytest.mark.parametrize("path, text", [
    ("voxkit/encoders/a.py", "from voxkit.nn.b import C\nfrom voxkit.batch import Batch\nimport torch, math"),
    ("voxkit/encoders/a.py", "def f():\n    import transformers"),
    ("voxkit/data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from voxkit.models import m"),
    ("voxkit/cli/a.py", "from voxkit.models import m\nfrom voxkit.data import d"),
    ("egs/a/b/local/helper.py", ""),
])
def test_what_it_lets_pass(check, tree, path, text):
    assert check.problems(tree({path: text})) == []


def test_torch_through_another_module_is_seen(check, tree):
    root = tree({"voxkit/eval/a.py": "from voxkit.text import b", "voxkit/text/b.py": "import torch", "voxkit/text/__init__.py": ""})
    assert any("gets torch through voxkit/text/b.py" in p for p in check.problems(root))


def test_symlinks_in_recipes(check, tree):
    root = tree({"egs/a/b/run.sh": ""})
    (root / "egs/a/b/steps.sh").symlink_to("run.sh")
    assert any("symlink" in p for p in check.problems(root))


def test_crowded_files_are_warned_of(check, tree):
    assert check.crowded(tree({"voxkit/nn/a.py": "x = 1\n" * 401})) == ["voxkit/nn/a.py: 401 lines, 400 is crowded"]


def test_core_of_the_check_is_the_core_of_setup(check, repository):
    text = (repository / "setup.py").read_text().split("CORE = [")[1].split("]")[0]
    declared = {line.split('"')[1] for line in text.splitlines() if '"' in line}
    names = {"".join(c for c in d if c.isalnum() or c in "-_").rstrip("0123456789") for d in declared}
    through_others = {"yaml", "tqdm"}  # omegaconf brings one, lhotse the other
    for module in check.CORE - through_others:
        assert any(name.startswith(module) for name in names), module
