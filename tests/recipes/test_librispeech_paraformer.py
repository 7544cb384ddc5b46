"""What stage 3 of LibriSpeech's Paraformer recipe runs, with a `voxkit` that only says what it was asked for."""

import os
import subprocess

import pytest


@pytest.fixture
def training(repository, tmp_path):
    voxkit = tmp_path / "voxkit"
    voxkit.write_text('#!/usr/bin/env bash\necho "voxkit $*"\n')
    voxkit.chmod(0o755)

    def run(*options):
        done = subprocess.run([str(repository / "egs/librispeech/paraformer/run.sh"), "--stage", "3", "--stop-stage", "3", "--ngpu", "0",
                               *options], capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        (said,) = [line for line in done.stdout.splitlines() if line.startswith("voxkit train")]
        return said

    return run


def test_from_scratch_the_ctc_head_learns_first(training):
    said = training("--config", "mini_fbank", "--tokens", "char")
    assert said.startswith("voxkit train --config conf/mini_fbank.yaml --name mini_fbank_char")
    assert "tokenizer=data/char " in said and "model.loss.boundary_start=1000" in said and "init" not in said


def test_what_a_voxformer_knows_already_is_laid_over(training):
    said = training("--init", "../voxformer/exp/stage2", "--train-options", "init_parts=[front_end,encoder,ctc]")
    assert said.startswith("voxkit train --config conf/mini_pretrained.yaml conf/continued.yaml --name mini_pretrained_bpe")
    assert said.endswith("init=../voxformer/exp/stage2 init_parts=[front_end,encoder,ctc]") and "boundary_start" not in said
