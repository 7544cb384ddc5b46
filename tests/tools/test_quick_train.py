"""tools/quick_train.sh: one command from a configuration to a model that transcribes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("lhotse")

CONFIG = """
system: voxlm
name: mine
model:
  front_end: {kind: fbank, subsampling_dim: 32}
  encoder: {kind: transformer, dim: 32, heads: 2, ffn: 32, layers: 1}
  llm: {name: llm, lora: {rank: 2}}
  alignment: {dim: 16, kernel: 3, layers: 1}
data: {data_dir: data, train: [train], dev: [dev], max_duration: 10, num_workers: 0}
train: {epochs: 100, log_every: 1, schedule: {warmup_steps: 1}, precision: fp32, optimizer: {lr: 0.01}}
decode: {method: generate, validation_method: generate}
"""


def run(script: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(script.parents[1]), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", str(script), *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_configuration_becomes_a_model(repository, tmp_path, monkeypatch):
    from tests.decoders.tiny_llms import make_llm
    from tests.noise import noise_set
    from voxkit import VoxLM

    for name, count in (("train", 8), ("dev", 3)):
        noise_set(tmp_path / "data", name, count, lambda i: ["hold the bridge", "i need ammo"][i % 2], seconds=1.2)
    make_llm(tmp_path / "llm", "qwen2")
    (tmp_path / "conf.yaml").write_text(CONFIG)
    done = run(repository / "tools" / "quick_train.sh", "conf.yaml", "--steps", "5", "train.optimizer.lr=0.02", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    monkeypatch.chdir(tmp_path)
    model = VoxLM.from_pretrained(tmp_path / "output" / "models" / "mine")
    assert model.transcribe(tmp_path / "data" / "dev0.wav")["audio_duration"] == pytest.approx(1.2, abs=0.01)


def test_what_is_missing_is_named(repository, tmp_path):
    script = repository / "tools" / "quick_train.sh"
    assert "custom.yaml.example" in run(script, "nothing.yaml", cwd=tmp_path).stderr
    assert "usage" in run(script, "--help", cwd=tmp_path).stdout.lower() or "CONFIG" in run(script, "--help", cwd=tmp_path).stdout
    (tmp_path / "conf.yaml").write_text(CONFIG)
    done = run(script, "conf.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "model.llm.name" in done.stderr
    assert "what is 'more'" in run(script, "conf.yaml", "more", cwd=tmp_path).stderr
