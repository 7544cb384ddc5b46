"""The toy recipe of VoxLM, every stage, behind a VoxFormer that its own stage 0 trains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = "--prepare-options=--num-train 80 --num-dev 12 --num-test 12 --num-domain 20"


@pytest.mark.slow
def test_every_stage_runs(repository, tmp_path):
    for package, extra in (("espeakng_loader", "toy"), ("onnxruntime", "export"), ("transformers", "pretrained"), ("peft", "llm")):
        pytest.importorskip(package, reason=f"the recipe needs the extra {extra}")
    for name in ("voxformer", "voxlm"):
        shutil.copytree(repository / "egs/toy" / name, tmp_path / "egs/toy" / name, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(repository / "tools", tmp_path / "tools")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    small = subprocess.run(["./run.sh", SMALL, "--vocab-size", "80", "--ngpu", "0", "--stop-stage", "3", "--train-options=train.epochs=1"],
                           cwd=tmp_path / "egs/toy/voxformer", env=env, capture_output=True, text=True, timeout=900)
    assert small.returncode == 0, small.stdout[-3000:] + small.stderr[-3000:]
    recipe = tmp_path / "egs/toy/voxlm"
    quick = ["--ngpu", "0", "--nonspeech-minutes", "0.2", "--train-options", "train.max_steps=3"]
    done = subprocess.run(["./run.sh", *quick], cwd=recipe, env=env, capture_output=True, text=True,
                          timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "there: ../voxformer/exp/stage1" in done.stdout and "words/min" in done.stdout and '"audio_duration"' in done.stdout
    for found in ("data/llama/model.safetensors", "data/tokens/candidates.json", "exp/export/llm/speech.json"):
        assert (recipe / found).is_file(), found


@pytest.mark.parametrize("recipe", ["toy/voxlm", "librispeech/voxlm"])
def test_every_configuration_is_one(repository, recipe):
    from voxkit import config as configuration
    from voxkit.run_config import make_setup

    files = sorted((repository / "egs" / recipe / "conf").glob("*.yaml"))
    phases = [path for path in files if "phase" in path.name or "domain" in path.name]
    assert len(phases) >= 4
    variants = [path for path in files if path.name.startswith("voxlm-")]
    for path in phases:
        for variant in [None, *(variants if path.name == "phase1.yaml" else ())]:
            setup = make_setup(configuration.overlay([path] + ([variant] if variant else [])), path.name)
            assert setup.config.system == "voxlm" and setup.model.learns


def test_every_variant_of_the_recipe_is_one_of_the_table(repository):
    from voxkit import config as configuration
    from voxkit.models.voxlm_variants import VARIANTS

    found = {path.stem: configuration.load(path) for path in (repository / "egs/librispeech/voxlm/conf").glob("voxlm-*.yaml")}
    assert set(found) == set(VARIANTS)
    for name, node in found.items():
        assert (node.model.front_end.pretrained.name, node.model.llm.name) == (VARIANTS[name].encoder, VARIANTS[name].llm)
