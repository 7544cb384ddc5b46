"""The toy recipe of Paraformer, every stage, on a few utterances."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_stage_runs(repository, tmp_path):
    recipe = tmp_path / "egs" / "toy" / "paraformer"
    shutil.copytree(repository / "egs/toy/paraformer", recipe, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(repository / "tools", tmp_path / "tools")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["./run.sh", "--ngpu", "0", "--prepare-options=--num-train 60 --num-dev 6 --num-test 8",
                           "--train-options=train.epochs=1 model.encoder.layers=1"],
                          cwd=recipe, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "ms off" in done.stdout and "TER" in done.stdout and '"audio_duration"' in done.stdout
    for method in ("greedy", "beam", "prefix_beam", "rescoring"):
        assert any((recipe / "exp").glob(f"*_main/decode/test_{method}.jsonl")), method
