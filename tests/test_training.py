"""A recipe becomes a run: trained on a few waveforms, continued, decoded; `max_duration: auto`."""

import subprocess
import sys
from functools import partial

import pytest

from tests.encoders.tiny import save_model
from tests.noise import MODEL, noise_set
from voxkit.checkpoint.runs import latest_run
from voxkit.cli.main import main
from voxkit.text.sentencepiece import train_characters
from voxkit.train.logging import read_metrics
from voxkit.train.probe import find_max_duration

CONFIG = MODEL + """data: {max_duration: 10, num_workers: 0, train: [train], dev: [dev]}
train: {epochs: 2, log_every: 1, schedule: {warmup_steps: 2}, precision: fp32}
"""
TRAIN = ["train", "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    pytest.importorskip("lhotse")
    data = tmp_path / "data"
    for name, count in (("train", 8), ("dev", 3)):
        noise_set(data, name, count, lambda i: "heal me" if i % 2 else "ward", seconds=1.0)
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


@pytest.mark.slow
def test_two_processes_and_a_dev_set_of_one_batch(project, repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "voxkit.cli.main", "train",
                    "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens", "train.epochs=1"], check=True, timeout=300)
    measured = [r for r in read_metrics(latest_run("exp", "tiny") / "metrics.json") if r["kind"] == "validation"]
    assert len(measured) == 1 and measured[0]["wer"] > 0 and measured[0]["loss"] > 0


def test_a_run_continued_with_other_options_says_which(project, capsys):
    train = [*TRAIN, "train.epochs=1"]
    assert main(train) == 0 and main([*train, "--max-hours", "2"]) == 0
    assert "other options" not in capsys.readouterr().err
    assert main([*train, "model.loss.ctc=0.5"]) == 0
    said = (latest_run("exp", "tiny") / "train.log").read_text()
    assert "was begun with other options: model.loss.ctc=0.5 (was 0.3)" in said and len(list(project.glob("exp/*_tiny"))) == 1


def test_a_missing_set_names_those_there_are(project, capsys):
    assert main(["train", "--config", "conf.yaml", "tokenizer=data/tokens", "data.train=[trian]"]) == 2
    assert "prepared in data: dev, train" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["audio", "fbank"])
def test_cuts_of_features_alone_are_refused_before_anything_is_written(project, capsys, kind):
    toyseq = ["prepare", "toyseq", "--out", "seq", "--num-train", "2", "--num-dev", "1", "--num-test", "1"]
    assert main(toyseq) == 0
    assert main([*TRAIN, "data.data_dir=seq", f"data.input={kind}"]) == 2
    assert f"data.train: train holds features and no audio, and data.input is {kind}; set data.input: features" in capsys.readouterr().err
    assert main([*TRAIN, "data.input=features"]) == 2
    assert "data.train: train comes without features (data.input is features)" in capsys.readouterr().err
    assert main([*TRAIN, "data.dev=[seq/cuts_dev.jsonl.gz]"]) == 2 and "data.dev: seq/cuts_dev" in capsys.readouterr().err
    assert not (project / "exp").exists()


@pytest.mark.parametrize("given", ["tokenizer=", "tokenizer=null"])
def test_an_empty_tokenizer_says_what_makes_one(project, capsys, given):
    assert main(["train", "--config", "conf.yaml", given]) == 2
    assert "tokenizer: empty; give the directory that `voxkit tokenize` made" in capsys.readouterr().err and not (project / "exp").exists()


def test_a_search_that_the_model_lacks_is_said_before_training(project, capsys):
    assert main([*TRAIN, "decode.validation_method=guided"]) == 2
    assert "decode.validation_method: method guided needs a parallel decoder, and this model has none" in capsys.readouterr().err
    assert not (latest_run("exp", "tiny") / "metrics.json").exists()


def test_auto_finds_and_keeps_a_batch_size(project, monkeypatch):
    monkeypatch.setattr("voxkit.training.speech.find_max_duration", partial(find_max_duration, high=40.0))
    assert main(["train", "--config", "conf.yaml", "tokenizer=data/tokens", "data.max_duration=auto", "train.epochs=1",
                 "--device", "cpu"]) == 0
    kept = float((latest_run("exp", "tiny") / "max_duration.txt").read_text())
    assert 10 <= kept <= 40
    log = (latest_run("exp", "tiny") / "train.log").read_text()
    assert log.count("probe: 10 s takes") == 1 and log.count(f"data.max_duration: auto is {kept:.0f} s") == 1


def test_processes_of_one_machine_share_its_memory(project, monkeypatch):
    shares = []
    monkeypatch.setattr("voxkit.training.speech.find_max_duration", lambda *args, share, **more: shares.append(share) or 10.0)
    for count in (1, 4):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
        assert main([*TRAIN, "data.max_duration=auto", "train.epochs=1", "--fresh"]) == 0
    assert shares[1] == shares[0] / 4


def test_an_utterance_of_dev_that_ctc_cannot_align(project):
    noise_set(project / "data", "fast", 1, lambda i: "heal me " * 8)
    assert main([*TRAIN, "data.dev=[dev,fast]", "train.epochs=1"]) == 0
    run = latest_run("exp", "tiny")
    measured = [r for r in read_metrics(run / "metrics.json") if r["kind"] == "validation"]
    assert 0 < measured[-1]["loss"] < 1000 and "dev: fast0 counts in the WER alone" in (run / "train.log").read_text()


def test_what_the_data_has_to_say_is_in_the_log(project, capsys):
    assert main([*TRAIN, "data.max_seconds=1.3", "train.epochs=1"]) == 0
    printed = capsys.readouterr().err
    for text in (printed, (latest_run("exp", "tiny") / "train.log").read_text()):
        assert text.count("training data: left out 1 of 8 utterances") == 1


def test_a_cache_in_another_precision_is_told(project):
    pytest.importorskip("transformers")
    name = save_model("hubert-large", project)
    options = [*TRAIN, "cache=true", "model.front_end.kind=pretrained", "model.front_end.adapter_dim=96", "train.epochs=1",
               f"model.front_end.pretrained.name={name}"]
    said = []
    for precision in ("float32", "float32", "bfloat16"):
        assert main([*options, "--fresh", f"model.front_end.pretrained.dtype={precision}"]) == 0
        said.append((latest_run("exp", "tiny") / "train.log").read_text())
    assert "state cache data/states: 8 cuts" in said[0] and "8 cuts" not in said[1] and "state cache data/states: 8 cuts" in said[2]
    assert "are encoded anew" not in said[0] + said[1]
    assert "holds the states of 8 of 8 cuts as this encoder gives them in float32, and here it computes in bfloat16" in said[2]


def test_what_is_too_long_for_whisper_when_slowed_down_is_left_out(project):
    pytest.importorskip("transformers")
    noise_set(project / "data", "long", 1, seconds=28.0)
    name = save_model("whisper", project)
    assert main([*TRAIN, "data.train=[train,long]", "data.speed_perturb=[0.9]", "data.max_duration=40", "train.epochs=1",
                 "model.front_end.kind=pretrained", "model.front_end.adapter_dim=96", f"model.front_end.pretrained.name={name}"]) == 0
    log = (latest_run("exp", "tiny") / "train.log").read_text()
    assert "left out 1 of 9 utterances: 1 longer than data.max_seconds=27 (long0)" in log


def test_a_fresh_run_does_not_go_on_from_a_mirror(project, capsys):
    command = [*TRAIN, f"train.mirror=file://{project}/mirror/${{name}}", "train.epochs=1"]
    assert main(command) == 0 and list((project / "mirror/tiny").glob("step-*.complete"))
    assert main([*command, "--fresh"]) == 2
    assert "holds checkpoints of an earlier run" in capsys.readouterr().err
    assert main([*command, "--fresh", "name=other"]) == 0 and list((project / "mirror/other").glob("step-*.complete"))


def test_a_share_of_a_set(project):
    from voxkit.data.sets import read_sets

    data = project / "data"
    whole = [cut.id for cut in read_sets(str(data), ["train"])]
    part = [cut.id for cut in read_sets(str(data), ["train:0.5"])]
    assert len(part) == len(whole) // 2 and set(part) < set(whole) and part != whole[:len(part)]
    with pytest.raises(ValueError, match="train:1.5"):
        read_sets(str(data), ["train:1.5"])
