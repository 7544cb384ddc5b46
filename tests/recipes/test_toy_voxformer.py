"""The toy recipe, every stage, on a corpus of a hundred utterances: from synthesis to ONNX."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = "--prepare-options=--num-train 80 --num-dev 12 --num-test 12 --num-domain 20"


@pytest.mark.slow
def test_every_stage_runs(repository, tmp_path):
    pytest.importorskip("espeakng_loader", reason="the toy corpus needs the extra toy")
    pytest.importorskip("onnxruntime", reason="stage 7 needs the extra export")
    recipe = tmp_path / "egs" / "toy" / "voxformer"
    shutil.copytree(repository / "egs/toy/voxformer", recipe, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(repository / "tools", tmp_path / "tools")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["./run.sh", SMALL, "--vocab-size", "80", "--ngpu", "0",
         "--train-options=train.epochs=1", "--export-options=--utterances 4 --max-wer-increase 100",
         "--verify-options=--utterances 4 --max-wer-increase 100"],
        cwd=recipe, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "WER" in done.stdout and '"audio_duration"' in done.stdout
    assert "verified: all texts are equal where they must be" in done.stdout
    for found in ("exp/onnx/encoder.onnx", "exp/int8/encoder.onnx", "data/encoder/model.safetensors", "data/validation.json"):
        assert (recipe / found).is_file(), found
    again = subprocess.run(["./run.sh", "--stop-stage", "2", SMALL, "--vocab-size", "80"], cwd=recipe,
                           env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr[-2000:]
