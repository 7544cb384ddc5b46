"""The toy recipe's transducer, from synthesis to its error rates: learned in one stage, without k2."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_it_learns_and_its_searches_find_the_words(repository, tmp_path):
    pytest.importorskip("espeakng_loader", reason="the toy corpus needs the extra toy")
    recipe = tmp_path / "egs" / "toy" / "voxformer"
    shutil.copytree(repository / "egs/toy/voxformer", recipe, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(repository / "tools", tmp_path / "tools")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["./run.sh", "--alone", "transducer", "--stop-stage", "6", "--test-sets", "test", "--ngpu", "0",
         "--methods", "transducer_greedy transducer_beam"],
        cwd=recipe, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with next((recipe / "exp").glob("*_transducer/decode/results.csv")).open(encoding="utf-8") as file:
        found = {row["method"]: float(row["WER"]) for row in csv.DictReader(file)}
    assert found["transducer_greedy"] < 5 and found["transducer_beam"] < 5
