"""What the recipe of games runs, with a `voxkit` that only says what it was asked for, and the rates of its stage 3."""

import os
import subprocess

import pytest

RECIPE = "egs/gaming/voxformer"


@pytest.fixture
def stages(repository, tmp_path):
    voxkit = tmp_path / "voxkit"
    voxkit.write_text('#!/usr/bin/env bash\necho "voxkit $*"\n')
    voxkit.chmod(0o755)
    for folder in ("music", "held"):
        (tmp_path / "corpus/noise" / folder).mkdir(parents=True)

    def run(first, last, *options):
        done = subprocess.run([str(repository / RECIPE / "run.sh"), "--stage", first, "--stop-stage", last, "--ngpu", "0", "--data",
                               str(tmp_path / "d"), "--exp", "e", "--corpus-dir", str(tmp_path / "corpus"), "--noise-folders", "music",
                               "--silence-folders", "held", *options],
                              capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        return [line.replace(str(tmp_path), "T") for line in done.stdout.splitlines() if line.startswith("voxkit ")]

    return run


INIT = ("--init", "x/stage2", "--tokenizer", "t")


def test_nothing_of_a_test_set_gets_into_training(stages, tmp_path):
    prepared = stages("1", "2", *INIT)
    held = "--held-out T/d/cuts_callouts.jsonl.gz T/d/cuts_briefings.jsonl.gz"
    assert prepared[2] == f"voxkit pack sentences strategy --part train --count 4000 {held} --leave-out --out T/d/sentences.txt"
    assert "--other-voices-than synthetic" in prepared[4] and "--part test" in prepared[4]
    assert prepared[5].startswith("voxkit pack check strategy --tokenizer t --text librispeech --train T/d/cuts_fotaq_train.jsonl.gz")
    assert prepared[5].endswith(held) and "cuts_train-clean-5.jsonl.gz" in prepared[5]
    assert len(prepared) == 7 and (tmp_path / "d/noise/music").is_dir() and not (tmp_path / "d/noise/held").exists()


def test_it_starts_from_a_general_recognizer_or_trains_one(stages):
    (train,) = stages("3", "5", *INIT)
    assert "--config conf/mini_stage3.yaml --exp e --init x/stage2 data.data_dir=T/d tokenizer=t data.noise=T/d/noise" in train
    assert "data.train=[fotaq_train,bass_train,synthetic,train-clean-5:0.3] data.dev=[fotaq_dev,bass_dev]" in train
    one, two, three = stages("3", "5")
    assert "conf/mini_stage1.yaml" in one and "--init e/stage1" in two and "--init e/stage2" in three
    assert all("tokenizer=T/d/bpe300" in line for line in (one, two, three))
    assert "voxkit tokenize" in stages("2", "2")[0]


def test_it_is_measured_beside_the_general_one_with_the_same_pack(stages):
    said = stages("6", "7", *INIT)
    decoded = [line for line in said if line.startswith("voxkit decode")]
    assert [line.split()[2] for line in decoded] == ["x/stage2", "x/stage2", "e/stage3", "e/stage3"]
    assert sum("--phrases T/d/phrases.txt" in line for line in decoded) == 2
    scored = [line for line in said if line.startswith("voxkit score")]
    assert len(scored) == 4 and all("--hyp e/decode/stage3/pack/" in line and "--against e/decode/stage2/pack/" in line for line in scored)
    assert "--condition label" in scored[0] and "--commands strategy" in scored[2]
    assert said[-2].startswith("voxkit hallucinate e/stage3 --folders T/corpus/noise/held --minutes 10")
    assert said[-2].endswith("--commands strategy") and said[-1].startswith("voxkit export")


def test_an_init_without_its_tokenizer_is_refused(repository):
    refused = subprocess.run([str(repository / RECIPE / "run.sh"), "--stage", "9", "--init", "x"], capture_output=True, text=True)
    assert refused.returncode == 2 and "--tokenizer" in refused.stderr


@pytest.mark.parametrize("size", ["", "mini_"])
def test_the_rates_are_those_of_the_plan(repository, size):
    from voxkit.run_config import load_setup

    config = load_setup(repository / RECIPE / f"conf/{size}stage3.yaml").config
    train, (group,) = config.train, config.train.groups
    assert (train.optimizer.name, train.optimizer.lr, round(train.optimizer.lr * group.lr_scale, 9)) == ("adamw", 5e-5, 1e-5)
    assert (train.schedule.name, train.schedule.warmup_steps, train.max_steps, train.patience) == ("cosine", 100, 3000, 3)
    assert config.data.noise_snr == [0.0, 20.0] and config.data.microphone.changes and not config.cache
    assert group.pattern == "front_end.pretrained.*"
