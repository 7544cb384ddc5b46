"""What stages 3 and 6 of LibriSpeech's Paraformer recipe run, with a `voxkit` that only says what it was asked for."""

import os
import subprocess

import pytest


@pytest.fixture
def lines(repository, tmp_path):
    voxkit = tmp_path / "voxkit"
    voxkit.write_text('#!/usr/bin/env bash\necho "voxkit $*"\n')
    voxkit.chmod(0o755)

    def run(stage, *options):
        recipe = repository / "egs/librispeech/paraformer/run.sh"
        done = subprocess.run([str(recipe), "--stage", stage, "--stop-stage", stage, "--ngpu", "0", *options], text=True,
                              capture_output=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("voxkit ")]

    return run


@pytest.fixture
def said(lines):
    def run(stage, *options):
        (line,) = lines(stage, *options)
        return line

    return run


def test_from_scratch_the_ctc_head_learns_first(said):
    line = said("3", "--config", "mini_fbank", "--tokens", "char")
    assert line.startswith("voxkit train --config conf/mini_fbank.yaml --name mini_fbank_char")
    assert "tokenizer=data/char " in line and "model.loss.boundary_start=1000" in line and "init" not in line


def test_what_a_voxformer_knows_already_is_laid_over(said):
    line = said("3", "--init", "../voxformer/exp/stage2", "--train-options", "init_parts=[front_end,encoder,ctc]")
    assert line.startswith("voxkit train --config conf/mini_pretrained.yaml conf/continued.yaml --name mini_pretrained_bpe_init ")
    assert line.endswith("init=../voxformer/exp/stage2 init_parts=[front_end,encoder,ctc]") and "boundary_start" not in line


def test_a_run_from_scratch_and_one_from_a_voxformer_are_two(lines):
    for options, name in (([], "mini_pretrained_bpe"), (["--init", "../voxformer/exp/stage2"], "mini_pretrained_bpe_init")):
        assert f" --name {name} " in lines("3", *options)[0]
        decoded = [line for line in lines("6", *options) if line.startswith("voxkit decode ")]
        assert len(decoded) == 2 and all(line.startswith(f"voxkit decode exp/{name} ") for line in decoded)


def test_the_recipes_own_weights_are_not_typed(lines):
    """Typed ones are refused where none of the methods looks at them, as `beam` alone at a bonus."""
    plain, _, fused = lines("6", "--methods", "greedy beam")
    assert "--length-bonus" not in fused and fused.endswith("--lm data/lm4-bpe300.arpa decode.lm_weight=0.3 decode.length_bonus=0.5")
    assert "decode." not in plain
    assert lines("6", "--lm-options=--lm-weight 0.6")[2].endswith(" --lm-weight 0.6")


def test_what_was_trained_with_boundaries_is_searched_with_them_too(said):
    assert "--methods greedy guided beam" in said("6", "--lm-order", "0")
