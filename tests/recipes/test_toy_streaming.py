"""The toy recipe's streaming model on a hundred utterances: learnt for a few steps, exported four times, and all of them say the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_way_of_streaming_says_the_same(repository, tmp_path):
    pytest.importorskip("espeakng_loader", reason="the toy corpus needs the extra toy")
    pytest.importorskip("onnxruntime", reason="stage 7 needs the extra export")
    pytest.importorskip("sherpa_onnx", reason="stage 7 compares with sherpa-onnx: the extra sherpa", exc_type=ImportError)
    recipe = tmp_path / "egs" / "toy" / "voxformer"
    shutil.copytree(repository / "egs/toy/voxformer", recipe, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(repository / "tools", tmp_path / "tools")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = ["--alone", "streaming", "--prepare-options=--num-train 80 --num-dev 12 --num-test 12 --num-domain 20", "--vocab-size", "80",
               "--ngpu", "0", "--train-options=train.max_steps=4 data.max_duration=10",
               "--export-options=--utterances 4 --max-wer-increase 100", "--verify-options=--utterances 6 --max-wer-increase 100"]
    for stages in (["--stop-stage", "3"], ["--stage", "7"]):
        done = subprocess.run(["./run.sh", *options, *stages], cwd=recipe, env={**os.environ, "PATH": path}, capture_output=True, text=True,
                              timeout=900)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    verified = done.stdout.partition("whole utterances:")[2]
    lines = [line for line in verified.splitlines() if line.startswith(("torch", "runtime", "sherpa"))]
    assert [line.split("  ")[0] for line in lines] == [
        "torch", "runtime fp32, streaming-onnx", "runtime int8, streaming-int8",
        "torch offline, same chunk", "torch streaming", "runtime fp32, streaming-live", "sherpa-onnx fp32, streaming-sherpa"]
    assert "verified: all texts are equal where they must be" in done.stdout
    assert not (recipe / "data" / "encoder").exists()  # nothing pretrained takes part
