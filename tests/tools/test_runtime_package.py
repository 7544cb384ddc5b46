"""voxkit-runtime: an environment without torch that transcribes."""

import json
import os
import subprocess
import sys
import venv

import pytest

from tests.export.tiny import loaded, waves
from voxkit.audio.io import write_audio
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import GateOptions
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")
FOREIGN = ("torch", "torchaudio", "lhotse", "transformers")


def gathered(repository, folder):
    """The sources as the package has them."""
    code = (repository / "tools/runtime/setup.py").read_text(encoding="utf-8").split("\nif (ROOT")[0]
    space = {"__file__": str(repository / "tools/runtime/setup.py")}
    exec(compile(code, "setup.py", "exec"), space)
    space["gather"](folder)
    return folder


def test_nothing_is_missing_in_the_package(repository, tmp_path):
    """Every module of it loads from the copied sources alone, torch and its like blocked."""
    root = gathered(repository, tmp_path / "src")
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in sorted((root / "voxkit").rglob("*.py"))]
    blocked = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in (*FOREIGN, "omegaconf", "jiwer", "onnx"))
    code = blocked + "".join(f"import {name.removesuffix('.__init__')}\n" for name in names) + "print(voxkit.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(root))


@pytest.mark.slow
def test_an_environment_without_torch_transcribes(repository, tmp_path):
    folder = tmp_path / "python"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(repository / "tools/runtime")],
                               capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"no package index to install from: {installed.stderr[-300:]}")
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True).stdout
    names = {entry["name"].lower() for entry in json.loads(listed)}
    assert "voxkit-runtime" in names and not names & set(FOREIGN)
    artifact, _ = export_checkpoint(loaded(tmp_path, "fbank"), tmp_path / "artifact", options=ExportOptions(gate=GateOptions(2e-2)))
    path = write_audio(tmp_path / "order.wav", waves(2.0)[0], subtype="FLOAT")
    expected = OnnxRecognizer(artifact, threads=1).transcribe(path, SearchOptions("joint", words=True))
    command = [folder / "bin" / "voxkit", "transcribe", artifact, path, "--method", "joint", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["words"] == expected.to_json()["words"] != []
