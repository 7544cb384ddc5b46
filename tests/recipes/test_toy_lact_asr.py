"""The toy recipe of LaCT ASR, every stage, on a few utterances; and what the configurations of LaCT ASR promise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from voxkit import config as configuration
from voxkit.hub import shape_only
from voxkit.models.lact_asr import BaselineASRTransformer
from voxkit.run_config import make_setup


@pytest.mark.slow
def test_every_stage_runs(repository, tmp_path):
    recipe = tmp_path / "egs" / "toy" / "lact_asr"
    shutil.copytree(repository / "egs/toy/lact_asr", recipe, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(repository / "tools", tmp_path / "tools")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    small = "train.max_steps=6 train.epochs=2 data.sessions.utterances=[1,2] model.encoder.layers=2 model.encoder.fast_layers=1"
    done = subprocess.run(["./run.sh", "--ngpu", "0", "--vocab-size", "60", "--methods", "greedy", f"--train-options={small}",
                           "--prepare-options=--num-train 60 --num-dev 6 --num-test 150 --num-domain 4"],
                          cwd=recipe, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "own state against another session's" in done.stdout and "fallbacks" in done.stdout
    assert (recipe / "exp" / "contrast_main.json").is_file() and (recipe / "exp" / "speaker.safetensors").is_file()


def shaped(path: Path):
    """Model and configuration, without weights; one whose pretrained encoder has no known shape is skipped."""
    setup = make_setup(configuration.load(path))
    with shape_only(), torch.device("meta"):
        return setup.build_model(300), setup


def test_every_configuration_builds(repository):
    folder, seen = repository / "egs/librispeech/lact_asr/conf", []
    for path in sorted(folder.rglob("*.yaml")):
        model, setup = shaped(path)
        assert setup.config.system == "lact_asr" and setup.config.name == path.stem, path
        seen.append(path.stem)
        if "ablation" in path.parts and path.stem not in ("window_only", "updates_off", "reset_trained"):
            assert model.carries and model.encoder.config.updates, path
    assert {"base", "mini", "toy", "large_1b", "large_3b", "baseline_full_attention", "baseline_whisper", "baseline_wav2vec2"} <= set(seen)


def test_the_full_attention_of_mini_has_as_many_parameters(repository):
    folder = repository / "egs/librispeech/lact_asr/conf"
    ours, setup = shaped(folder / "mini.yaml")
    theirs, _ = shaped(folder / "baseline_full_attention.yaml")
    sizes = [sum(p.numel() for p in model.encoder.parameters()) for model in (ours, theirs)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.01
    with shape_only(), torch.device("meta"):
        setup.model.vocab_size = 300
        made = BaselineASRTransformer(setup.model)
    assert abs(sum(p.numel() for p in made.encoder.parameters()) / sizes[0] - 1) < 0.01
