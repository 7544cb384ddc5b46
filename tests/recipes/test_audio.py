"""The recipes of audio, every stage, on very little: toy pieces; the codec of LibriSpeech on noise, and the generator over it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.noise import noise_set


def ran(repository: Path, tmp_path: Path, recipe: str, *options: str) -> str:
    """The recipe's output; the test fails where it does."""
    folder = tmp_path / "egs" / recipe
    if not folder.exists():
        shutil.copytree(repository / "egs" / recipe, folder, ignore=shutil.ignore_patterns("data", "exp"))
    if not (tmp_path / "tools").exists():
        shutil.copytree(repository / "tools", tmp_path / "tools")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(repository)}
    done = subprocess.run(["./run.sh", *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_toy_pieces(repository, tmp_path):
    said = ran(repository, tmp_path, "toy/lact_audio", "--train-options=train.max_steps=2 data.max_duration=60",
               "--prepare-options=--num-train 4 --num-dev 2 --num-test 3 --seconds 16 --gap-low 10 --gap-high 20")
    assert "recall at returns, 3 pieces" in said and "first - this" in said
    exp = tmp_path / "egs/toy/lact_audio/exp"
    assert (exp / "recall.json").is_file() and (exp / "generated.wav").stat().st_size > 30 * 16_000


@pytest.mark.slow
def test_codec_then_generator(repository, tmp_path):
    small = ("train.max_steps=2 model.codec.dim=16 model.codec.encoder_layers=1 model.codec.decoder_layers=1 model.codec.head_layers=1 "
             "model.codec.quantizer.size=32 model.start_minutes=0.05")
    for recipe in ("codec", "lact_audio"):
        data = tmp_path / "egs" / "librispeech" / recipe / "data"
        shutil.copytree(repository / "egs/librispeech" / recipe, data.parent, ignore=shutil.ignore_patterns("data", "exp"))
        for name, count in (("train-clean-5", 6), ("dev-clean-2", 3), ("test-clean-2", 3)):
            noise_set(data, name, count, seconds=1.0)
    said = ran(repository, tmp_path, "librispeech/codec", "--stage", "3", "--measures", "mel", f"--train-options={small}")
    assert "codec, istft" in said and "k-means RVQ, Griffin-Lim" in said
    tiny = ("train.max_steps=2 model.vocab_size=32 model.lact.dim=16 model.lact.heads=2 model.lact.ffn=16 model.lact.layers=1 "
            "model.depth.dim=16 model.depth.heads=2 model.depth.ffn=16 model.depth.layers=1 data.max_duration=20")
    prompt = tmp_path / "egs/librispeech/lact_audio/data/test-clean-20.wav"
    for config in ("mini", "baseline_full_attention"):
        ran(repository, tmp_path, "librispeech/lact_audio", "--stage", "3", "--config", config, "--seconds", "1", "--prompt", str(prompt),
            f"--train-options={tiny}")
        assert (tmp_path / f"egs/librispeech/lact_audio/exp/generated_{config}.wav").stat().st_size > 16_000
