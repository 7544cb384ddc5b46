"""A recipe becomes a run: trained on a few waveforms, continued, decoded; `max_duration: auto`."""

from functools import partial

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.text.tokenizer import train_characters
from voxkit.train.logging import read_metrics
from voxkit.train.probe import find_max_duration
from voxkit.train.run_dir import latest_run

CONFIG = """
name: tiny
model:
  front_end: {kind: fbank, subsampling_dim: 96}
  encoder: {preset: toy}
  decoder: {dim: 16, heads: 2, ffn: 32, layers: 1}
data: {max_duration: 10, num_workers: 0, train: [train], dev: [dev]}
train: {epochs: 2, log_every: 1, schedule: {warmup_steps: 2}, precision: fp32}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    lhotse = pytest.importorskip("lhotse")
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 8), ("dev", 3)):
        cuts = []
        for i in range(count):
            path = data / f"{name}{i}.wav"
            soundfile.write(path, (rng.standard_normal(16000 + 800 * i) * 0.1).astype("float32"), 16000)
            recording = lhotse.Recording.from_file(path, recording_id=f"{name}{i}")
            cut = recording.to_cut()
            cut.supervisions = [lhotse.SupervisionSegment(f"{name}{i}", f"{name}{i}", 0, cut.duration, text="heal me" if i % 2 else "ward",
                                                          speaker=f"s{i % 3}")]
            cuts.append(cut)
        lhotse.CutSet.from_cuts(cuts).to_file(data / f"cuts_{name}.jsonl.gz")
    train_characters(["heal me", "ward"], data / "tokens")
    (tmp_path / "conf.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_then_decode_then_transcribe(project, capsys):
    assert main(["train", "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens"]) == 0
    run = latest_run("exp", "tiny")
    kinds = {line["kind"] for line in read_metrics(run / "metrics.json")}
    assert {"train", "validation"} <= kinds
    for name in ("config.yaml", "git.txt", "packages.txt", "train.log", "results.csv", "tensorboard", "checkpoints"):
        assert (run / name).exists(), name
    assert main(["decode", "exp/tiny", "--sets", "dev", "--methods", "greedy", "rescoring", "--beam", "3", "--words",
                 "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "greedy" in printed and "rescoring" in printed and "WER" in printed
    assert (run / "decode" / "dev_greedy.tsv").read_text().count("\n") == 3
    assert main(["transcribe", "exp/tiny", "data/dev0.wav", "--json"]) == 0
    assert '"audio_duration"' in capsys.readouterr().out


def test_a_missing_set_names_those_there_are(project, capsys):
    assert main(["train", "--config", "conf.yaml", "tokenizer=data/tokens", "data.train=[trian]"]) == 2
    assert "prepared in data: dev, train" in capsys.readouterr().err


def test_auto_finds_and_keeps_a_batch_size(project, monkeypatch):
    monkeypatch.setattr("voxkit.training.find_max_duration", partial(find_max_duration, high=40.0))
    assert main(["train", "--config", "conf.yaml", "tokenizer=data/tokens", "data.max_duration=auto", "train.epochs=1",
                 "--device", "cpu"]) == 0
    kept = float((latest_run("exp", "tiny") / "max_duration.txt").read_text())
    assert 10 <= kept <= 40


def test_a_share_of_a_set(project):
    from voxkit.training import read_sets

    data = project / "data"
    whole = [cut.id for cut in read_sets(str(data), ["train"])]
    part = [cut.id for cut in read_sets(str(data), ["train:0.5"])]
    assert len(part) == len(whole) // 2 and set(part) < set(whole) and part != whole[:len(part)]
    with pytest.raises(ValueError, match="train:1.5"):
        read_sets(str(data), ["train:1.5"])
