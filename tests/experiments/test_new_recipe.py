"""`voxkit new-recipe`: a copy that differs in its data knobs only."""

import os
import subprocess

import pytest

from voxkit.cli.main import main
from voxkit.experiments import new_recipe

RUN = """#!/usr/bin/env bash
# VoxFormer on LibriSpeech.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                                   # first stage
stop_stage=7                              # last stage
corpus=librispeech                        # corpus
corpus_dir=                               # a tree that is there
parts=mini                                # mini or full
train_sets="train-clean-5"                # for training
dev_sets=dev-clean-2                      # for WER on the way
test_sets='test-clean-2 test-other'       # for stage 6

. ../../../tools/recipe.sh
parse_options "$@"

corpus=$corpus
if stage 1 "Prepare"; then
  run echo "$corpus|$corpus_dir|$parts|$train_sets|$dev_sets|$test_sets"
fi
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch, repository):
    """A small clone: one recipe, tools/recipe.sh, and a `voxkit` on PATH; the test stands in it."""
    template = tmp_path / "clone/egs/librispeech/voxformer"
    (template / "conf").mkdir(parents=True)
    (template / "run.sh").write_text(RUN)
    (template / "conf/stage1.yaml").write_text("system: voxformer\n")
    (template / "RESULTS.md").write_text("figures of another corpus")
    (template / "exp").mkdir()
    (tmp_path / "clone/tools").mkdir()
    (tmp_path / "clone/tools/recipe.sh").write_text((repository / "tools/recipe.sh").read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/voxkit").write_text("#!/bin/sh\n")
    (tmp_path / "bin/voxkit").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(new_recipe, "corpus_kinds", lambda: ["folder", "librispeech", "toy"])
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


@pytest.fixture
def speech(tmp_path):
    folder = tmp_path / "my speech"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"RIFF")
    (folder / "text.tsv").write_text("a.wav\thello\n")
    return folder


def run(folder, *options):
    return subprocess.run(["bash", str(folder / "run.sh"), *options], capture_output=True, text=True)


def test_the_copy_runs_on_the_new_data(checkout, speech, capsys):
    assert main(["new-recipe", "mycorpus", "--from", "librispeech/voxformer", "--data", f"folder:{speech}"]) == 0
    assert "cd egs/mycorpus/voxformer" in capsys.readouterr().out
    made = checkout / "egs/mycorpus/voxformer"
    result = run(made)
    assert result.returncode == 0, result.stderr
    assert f"folder|{speech}||train|dev|test" in result.stdout


def test_nothing_else_changes(checkout, speech):
    made = new_recipe.make("mycorpus", "librispeech/voxformer", f"folder:{speech}")
    old, new = RUN.splitlines(), (made / "run.sh").read_text().splitlines()
    assert "mycorpus" in new.pop(1), "its origin is told"
    assert len(old) == len(new)
    changed = [o.split("=")[0] for o, n in zip(old, new) if o != n]
    assert changed == list(new_recipe.DATA_KNOBS)
    assert all(n.endswith(" #" + o.split("#")[1]) for o, n in zip(old, new) if o != n), "comments stay"
    assert new[6].index("#") == old[6].index("#"), "in their column"
    assert (made / "conf/stage1.yaml").read_text() == "system: voxformer\n"
    assert not (made / "RESULTS.md").exists() and not (made / "exp").exists()
    assert os.access(made / "run.sh", os.X_OK)


def test_the_same_corpus_elsewhere_keeps_its_sets(checkout, speech):
    made = new_recipe.make("second", "librispeech/voxformer", f"librispeech:{speech}")
    assert f"librispeech|{speech}|mini|train-clean-5|dev-clean-2|test-clean-2 test-other" in run(made).stdout


def test_recipes_outside_the_checkout_find_its_tools(checkout, speech, tmp_path):
    made = new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}", egs=tmp_path / "elsewhere/egs")
    assert made == (tmp_path / "elsewhere/egs/mine/voxformer").resolve()
    assert run(made).returncode == 0


def test_it_works_from_inside_a_recipe(checkout, speech, monkeypatch):
    monkeypatch.chdir(checkout / "egs/librispeech/voxformer")
    assert new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}") == checkout / "egs/mine/voxformer"


def test_overwriting_is_asked_for(checkout, speech):
    new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}")
    with pytest.raises(FileExistsError, match="--force"):
        new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}")
    new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}", force=True)


@pytest.mark.parametrize("name, template, data, what", [
    ("My Corpus", "librispeech/voxformer", "folder:{}", "lower-case"),
    ("mine", "librispeech/lact", "folder:{}", "there are: librispeech/voxformer"),
    ("mine", "librispeech/voxformer", "{}", "write KIND:PATH"),
    ("mine", "librispeech/voxformer", "timit:{}", "there are: folder, librispeech, toy"),
    ("librispeech", "librispeech/voxformer", "folder:{}", "the template itself"),
])
def test_mistakes(checkout, speech, name, template, data, what):
    with pytest.raises(ValueError, match=what):
        new_recipe.make(name, template, data.format(speech))


def test_data_that_cannot_be_used(checkout, speech, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no"):
        new_recipe.make("mine", "librispeech/voxformer", f"folder:{tmp_path / 'nothing'}")
    (speech / "text.tsv").unlink()
    with pytest.raises(ValueError, match="no transcripts"):
        new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}")
    (speech / "a.wav").unlink()
    with pytest.raises(ValueError, match="no audio"):
        new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}")
    assert not (checkout / "egs/mine").exists(), "nothing is made of a mistake"


def test_whatever_preparation_reads_will_do(checkout, speech, tmp_path):
    table = tmp_path / "elsewhere" / "list.csv"
    table.parent.mkdir()
    table.write_text(f"audio,text\n{speech / 'a.wav'},hello\n")
    assert f"folder|{table}||train|dev|test" in run(new_recipe.make("one", "librispeech/voxformer", f"folder:{table}")).stdout
    assert f"folder|{table.parent}||train|dev|test" in run(new_recipe.make("two", "librispeech/voxformer", f"folder:{table.parent}")).stdout
    (speech / "text.tsv").unlink()
    (speech / "train_manifest.json").write_text('{"audio_filepath": "a.wav", "text": "hello"}\n')
    assert "||train|dev|test" in run(new_recipe.make("three", "librispeech/voxformer", f"folder:{speech}")).stdout


def test_a_folder_that_names_its_sets_otherwise(checkout, speech, tmp_path):
    for name in ("train_clean_5", "train_other", "dev_clean_2", "eval_2000"):
        (tmp_path / "kaldi" / name).mkdir(parents=True)
        (tmp_path / "kaldi" / name / "wav.scp").write_text(f"{name} {speech / 'a.wav'}\n")
        (tmp_path / "kaldi" / name / "text").write_text(f"{name} hello\n")
    made = new_recipe.make("mine", "librispeech/voxformer", f"folder:{tmp_path / 'kaldi'}")
    assert "||train_clean_5 train_other|dev_clean_2|eval_2000" in run(made).stdout


def test_a_template_without_the_knobs_is_refused(checkout, speech):
    path = checkout / "egs/librispeech/voxformer/run.sh"
    path.write_text(RUN.replace("parts=mini", "pieces=mini"))
    with pytest.raises(ValueError, match="no knob parts"):
        new_recipe.make("mine", "librispeech/voxformer", f"folder:{speech}")


@pytest.mark.parametrize("value", ["/a b/c", "it's", "a$b", "", "x#y", "100%"])
def test_knobs_keep_any_value(value, tmp_path):
    text = new_recipe.set_knobs(RUN, {"corpus_dir": value}, "run.sh").split("\n. ")[0].replace('cd "$', ': "$')
    result = subprocess.run(["bash", "-c", text + '\nprintf %s "$corpus_dir"'], capture_output=True, text=True)
    assert result.stdout == value


NO_TEMPLATES = {  # recipes over data that nobody brings, and what they lack
    "toy/voxlm": "corpus, corpus_dir, parts", "toy/lact_audio": "corpus_dir, parts, train_sets, dev_sets",
    "librispeech/lact_audio": "test_sets"}


def test_templates_of_this_checkout_have_the_knobs(repository):
    for path in repository.glob("egs/*/*/run.sh"):
        text = path.read_text()
        if lacking := NO_TEMPLATES.get(path.parent.relative_to(repository / "egs").as_posix()):
            with pytest.raises(ValueError, match=f"has no knob {lacking}:"):
                new_recipe.set_knobs(text, dict.fromkeys(new_recipe.DATA_KNOBS, "x"), str(path))
            continue
        new_recipe.set_knobs(text, dict.fromkeys(new_recipe.DATA_KNOBS, "x"), str(path))
