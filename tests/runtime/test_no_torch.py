"""Nothing below voxkit/runtime imports torch, nor what stands on it: not when it is imported, and not later."""

import ast
import subprocess
import sys

TORCH = ("torch", "torchaudio", "lhotse", "transformers")


def test_every_module_loads_without_torch(repository):
    modules = [f"voxkit.runtime.{path.stem}" for path in sorted((repository / "voxkit/runtime").glob("*.py")) if path.stem != "__init__"]
    blocked = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in TORCH)  # an import of one is an ImportError
    done = subprocess.run([sys.executable, "-c", blocked + "".join(f"import {m}\n" for m in modules)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_function_imports_it_later(repository):
    for path in sorted((repository / "voxkit/runtime").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(
                node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & set(TORCH), path
