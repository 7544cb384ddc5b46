"""What stage 6 of the LibriSpeech recipe runs, and of the others that train a language model, with a `voxkit` that only says what it was
asked for."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture
def stage_6(repository, tmp_path):
    voxkit = tmp_path / "voxkit"
    voxkit.write_text('#!/usr/bin/env bash\ncase $1 in lm|decode|prepare|train) echo "voxkit $*" ;; esac\n')
    voxkit.chmod(0o755)

    def run(*options, recipe="librispeech/voxformer", stages=("6", "6")):
        done = subprocess.run([str(repository / f"egs/{recipe}/run.sh"), "--stage", stages[0], "--stop-stage", stages[1], *options],
                              capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("voxkit ")]

    return run


def test_a_language_model_from_the_training_text_decodes_too(stage_6):
    plain, train, fused = stage_6("--train-sets", "a b", "--methods", "greedy joint", "--data", "d", "--exp", "e", "--vocab-size", "50")
    assert plain == "voxkit decode e/stage3 --data-dir d --sets test-clean-2 --methods greedy joint"
    assert train == "voxkit lm train --text d/cuts_a.jsonl.gz d/cuts_b.jsonl.gz --tokenizer d/bpe50 --order 4 --out d/lm4-bpe50.arpa"
    assert fused.startswith("voxkit decode e/stage3 --data-dir d --sets test-clean-2 --methods joint --lm d/lm4-bpe50.arpa --lm-weight")


def test_letters(stage_6):
    said = stage_6("--train-sets", "a", "--data", "d", "--exp", "e", "--tokens", "char", "--methods", "greedy prefix_beam",
                   "--lm-order", "8", "--ngpu", "0", stages=("3", "6"))
    *stages, plain, train, fused = said
    assert [line.split()[3] for line in stages] == [f"conf/mini_stage{n}.yaml" for n in (1, 2, 3)]
    assert all(" tokenizer=d/char " in line for line in stages)
    assert plain.endswith("--methods greedy prefix_beam")
    assert train == "voxkit lm train --text d/cuts_a.jsonl.gz --tokenizer d/char --order 8 --out d/lm8-char.arpa"
    assert "--methods prefix_beam --lm d/lm8-char.arpa" in fused


def test_other_tokens_are_refused_before_the_hours_of_training(repository):
    refused = subprocess.run([str(repository / "egs/librispeech/voxformer/run.sh"), "--stage", "9", "--tokens", "chars"],
                             capture_output=True, text=True)
    assert refused.returncode == 2 and "--tokens 'chars': bpe or char" in refused.stderr


def test_the_rates_are_those_of_the_plan(repository):
    """Stage 1 3e-4; stage 2 1e-4, opened layers 3e-5; stage 3 5e-5 and 1e-5, at most 3,000 steps, patience 3."""
    from voxkit.run_config import load_setup

    conf = repository / "egs/librispeech/voxformer/conf"
    found = []
    for stage in (1, 2, 3):
        train = load_setup(conf / f"stage{stage}.yaml").config.train
        scale = train.groups[0].lr_scale if train.groups else None
        found.append((train.optimizer.lr, scale and round(train.optimizer.lr * scale, 9), train.schedule.warmup_steps, train.max_steps,
                      train.patience))
        assert list(train.optimizer.betas) == [0.9, 0.98] and train.clip_grad == 1.0
    assert found == [(3e-4, None, 500, 0, 5), (1e-4, 3e-5, 100, 0, 3), (5e-5, 1e-5, 100, 3000, 3)]


@pytest.mark.parametrize("limit, references", [("0", "d/cuts_t.jsonl.gz"), ("5", "o/plain/t-first5_reference.tsv")])
def test_reports_have_audio_speakers_confidences_and_curves(repository, tmp_path, limit, references):
    """Which the cuts, the JSON lines and the runs know, and `id<TAB>text` does not."""
    name = "t" if limit == "0" else "t-first5"
    (tmp_path / "voxkit").write_text('#!/usr/bin/env bash\n[ "$1" = score ] && echo "voxkit $*"\nexit 0\n')
    (tmp_path / "voxkit").chmod(0o755)
    shutil.copytree(repository / "tools", tmp_path / "tools")
    local = tmp_path / "egs/librispeech/voxformer/local"
    shutil.copytree(repository / "egs/librispeech/voxformer/local", local)
    (local.parent / "o/lm").mkdir(parents=True)
    (local.parent / f"o/lm/{name}_joint_lm0.3.jsonl").touch()
    done = subprocess.run([str(local / "tables.sh"), "--stage", "3", "--stop-stage", "3", "--test-set", "t", "--data", "d", "--out", "o",
                           "--limit", limit, "--curves", "exp/stage1 exp/stage2"],
                          capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("voxkit score")]
    assert said == (f"voxkit score --ref {references} --hyp o/lm/{name}_joint_lm0.3.jsonl --against o/plain/{name}_greedy.jsonl "
                    f"--report o/lm/{name}_joint_lm0.3.html --curves exp/stage1 exp/stage2")


def test_without_one(stage_6):
    assert len(stage_6("--lm-order", "0")) == 1
    assert len(stage_6("--methods", "greedy")) == 1  # takes none


def test_one_that_knows_the_words_of_a_large_model(stage_6):
    _, sample, train, fused = stage_6("--train-sets", "a", "--data", "d", "--methods", "joint", "--sample-lm", "gemma", "--lm-order", "5")
    assert sample == "voxkit lm sample --text d/cuts_a.jsonl.gz --model gemma --out d/sampled-a-gemma.jsonl"
    assert "--sampled d/sampled-a-gemma.jsonl --prune 0 0 0 1" in train and train.endswith("--order 5 --out d/lm5-bpe300.arpa")
    assert "--lm d/lm5-bpe300.arpa" in fused


def test_synthetic_speech_is_trained_on_beside_the_rest(repository, stage_6):
    said = stage_6("--train-sets", "a b", "--data", "d", "--synthetic", "30", "--sample-lm", "models/gemma", "--ngpu", "0",
                   "--corpus-dir", "c", stages=("1", "5"))
    corpus, sample, substitute, prepare, *stages = said
    assert corpus.startswith("voxkit prepare librispeech")
    assert sample == ("voxkit lm sample --text d/cuts_a.jsonl.gz d/cuts_b.jsonl.gz --model models/gemma "
                      "--out d/sampled-a-b-models-gemma.jsonl")
    assert substitute == ("voxkit lm substitute --text d/cuts_a.jsonl.gz d/cuts_b.jsonl.gz --sampled d/sampled-a-b-models-gemma.jsonl "
                          "--lines 30 --out d/substituted.txt")
    assert prepare == "voxkit prepare synthetic --lines d/substituted.txt --voices hibari hibari pico:en-US pico:en-GB espeak --out d"
    assert ["data.train=[a,b,synthetic]" in line for line in stages] == [True] * 3
    assert stages[2].endswith("data.train=[a,b]")  # the last one counts: the domain is real speech
    for wrong, message in ((("--synthetic", "30"), "--synthetic 30 needs --sample-lm"),
                           (("--synthetic", "3k"), "--synthetic '3k': a number"),
                           (("--synthetic", ""), "--synthetic '': a number"),
                           (("--lm-order", "four"), "--lm-order 'four': a number")):
        refused = subprocess.run([str(repository / "egs/librispeech/voxformer/run.sh"), "--stage", "9", *wrong], capture_output=True,
                                 text=True)
        assert refused.returncode == 2 and message in refused.stderr


def test_what_a_large_model_would_say_is_drawn_once_for_each_text_and_model(stage_6, tmp_path):
    data = tmp_path / "d"
    data.mkdir()
    (data / "cuts_a.jsonl.gz").touch()

    def samples(*options):
        said = stage_6("--data", str(data), "--methods", "joint", "--train-sets", "a", "--sample-lm", "x/gemma", *options)
        return sum(line.startswith("voxkit lm sample") for line in said)

    assert samples() == 1
    (data / "sampled-a-x-gemma.jsonl").touch()
    assert samples() == 0 and samples("--sample-lm", "y/gemma") == 1 and samples("--train-sets", "a b") == 1
    os.utime(data / "cuts_a.jsonl.gz", (2e9, 2e9))
    assert samples() == 1  # prepared anew since


@pytest.mark.parametrize(("kind", "tokens"), [("char", "char"), ("bpe", "bpe50")])
def test_of_a_paraformer_those_methods_that_take_one(stage_6, kind, tokens):
    plain, train, fused = stage_6("--train-sets", "a b", "--data", "d", "--exp", "e", "--tokens", kind, "--vocab-size", "50",
                                  "--methods", "greedy guided beam ctc_greedy rescoring", recipe="librispeech/paraformer")
    assert plain.endswith("--methods greedy guided beam ctc_greedy rescoring")
    assert train == f"voxkit lm train --text d/cuts_a.jsonl.gz d/cuts_b.jsonl.gz --tokenizer d/{tokens} --order 4 --out d/lm4-{tokens}.arpa"
    assert f"--methods beam rescoring --lm d/lm4-{tokens}.arpa decode.lm_weight" in fused
    assert len(stage_6("--lm-order", "0", recipe="librispeech/paraformer")) == 1


def test_of_the_toy_where_it_is_asked_for(stage_6, tmp_path):
    (tmp_path / "audio/test").mkdir(parents=True)
    (tmp_path / "audio/test/one.flac").touch()
    common = ("--data", str(tmp_path))
    assert len(stage_6(*common, recipe="toy/voxformer")) == 1
    _, train, fused = stage_6(*common, "--lm-order", "3", recipe="toy/voxformer")
    assert train.endswith(f"--tokenizer {tmp_path}/bpe --order 3 --out {tmp_path}/lm3.arpa") and "cuts_train_domain.jsonl.gz" in train
    assert f"--methods joint --lm {tmp_path}/lm3.arpa --lm-weight" in fused
