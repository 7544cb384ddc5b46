"""Recordings of many minutes. tests/test_long_audio.py runs this folder in a process of its own, under a limit of memory."""

import os

import numpy as np
import pytest
import soundfile
import torch

from voxkit.config import OmegaConf
from voxkit.infer.recognizer import Recognizer
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_characters

MINUTES = 10


def pytest_collection_modifyitems(items):
    if not os.environ.get("VOXKIT_MEMORY_LIMIT"):
        for item in items:
            if item.path.parent.name == "long_audio":
                item.add_marker(pytest.mark.skip(reason="run by tests/test_long_audio.py, under a limit of memory"))


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """Ten minutes of stereo noise at 44.1 kHz, written piece by piece."""
    path, rng = tmp_path_factory.mktemp("long") / "long.wav", np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        for _ in range(MINUTES * 6):
            file.write(rng.normal(0, 0.05, (441_000, 2)).astype("float32"))
    return path


@pytest.fixture(scope="session")
def recognizer(tmp_path_factory):
    """A causal model with random weights."""
    vocabulary = train_characters(["heal me now", "push the left lane"], tmp_path_factory.mktemp("tokens"))
    torch.manual_seed(0)
    setup = make_setup(OmegaConf.create({"system": "voxformer", "model": {
        "front_end": {"kind": "fbank", "subsampling_dim": 32},
        "encoder": {"preset": "toy", "causal": True, "chunk_size": [8, -1], "left_context": [16, -1]},
        "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}}}))
    return Recognizer(setup.build_model(vocabulary).eval(), vocabulary)
