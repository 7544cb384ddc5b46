"""Weights that a checkpoint references: found again, by content, or refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.encoders import tiny
from voxkit import config as configuration
from voxkit.checkpoint.external import externals, left_out
from voxkit.checkpoint.format import read_meta, write_checkpoint
from voxkit.checkpoint.weights import load_model_weights
from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder
from voxkit.hub import locate, looking_from
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_characters
from voxkit.training.initialize import initialize

KINDS = ["whisper", "hubert-base"]


@pytest.fixture(params=KINDS)
def recipe_folder(request, tmp_path, monkeypatch) -> Path:
    """A recipe's folder with data/encoder, data/tokens and a checkpoint in exp, and the working directory there."""
    folder = tmp_path / "recipe"
    tiny.save_model(request.param, folder / "models").rename(folder / "encoder_made")
    (folder / "data").mkdir()
    (folder / "encoder_made").rename(folder / "data" / "encoder")
    monkeypatch.chdir(folder)
    make_checkpoint(folder / "exp" / "20260101_000000_stage1" / "checkpoints")
    return folder


def make_checkpoint(root: Path, step: int = 1, name: str = "data/encoder", **options) -> Path:
    tokenizer = train_characters(["heal me now"], root.parent / "tokens")
    made = build(name, **options)
    torch.manual_seed(0)
    model = made.build_model(tokenizer.size)

    def extra(directory: Path) -> None:
        configuration.save(made.as_mapping(), directory / "config.yaml")
        tokenizer.save(directory / "tokenizer.model")

    return write_checkpoint(root, model, {"step": step, "tokenizer": tokenizer.fingerprint()}, save_extra=extra).path


def build(name: str, **options):
    front_end = {"kind": "pretrained", "pretrained": {"name": name, **options}, "adapter_hidden": 24, "adapter_dim": 24}
    node = {"model": {"front_end": front_end, "encoder": {"preset": "toy"}, "loss": {"attention": 0.0, "start_attention": 0.0}}}
    return make_setup(configuration.OmegaConf.create(node))


def change_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = next(n for n in sorted(state) if "decoder" not in n and n.endswith(("fc1.weight", "intermediate_dense.weight")))
    state[name] = state[name] + 1e-3
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_preprocessing(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    known = json.loads(path.read_text())
    changed = {"do_normalize": not known["do_normalize"]} if "do_normalize" in known else {"n_fft": 512}
    path.write_text(json.dumps({**known, **changed}))


def test_the_reference_is_noted_and_the_frozen_weights_are_not_copied(recipe_folder):
    loaded = load_checkpoint("exp/stage1")
    reference = read_meta(loaded.path)["externals"]["front_end.pretrained"]
    assert reference == {"name": "data/encoder", "revision": "", "folder": str(recipe_folder / "data" / "encoder"),
                         "fingerprint": loaded.model.front_end.pretrained.content()}
    held = set(load_file(loaded.path / "model.safetensors"))
    assert left_out(loaded.model) and not held & left_out(loaded.model) and held | left_out(loaded.model) == set(loaded.model.state_dict())
    assert list(externals(loaded.model)) == ["front_end.pretrained"]


@pytest.mark.parametrize("change", [change_weights, change_preprocessing])
def test_other_weights_under_the_same_name_are_refused(recipe_folder, change):
    before = load_checkpoint("exp/stage1")
    change(recipe_folder / "data" / "encoder")
    with pytest.raises(ValueError, match="over other weights of front_end.pretrained than are here: data/encoder .*Put back") as error:
        load_checkpoint("exp/stage1")
    assert before.meta["externals"]["front_end.pretrained"]["fingerprint"] in str(error.value)
    with pytest.raises(ValueError, match="init: .* was trained over other weights"):
        initialize(build("data/encoder").build_model(before.vocabulary.size), str(before.path), before.vocabulary)
    initialize(build("data/encoder").build_model(before.vocabulary.size), str(before.path), before.vocabulary, ["encoder"])  # not this part


def test_what_an_earlier_stage_trained_is_not_compared(recipe_folder):
    """Layer 4 of the encoder is open: its weights come from the checkpoint, whatever the folder holds."""
    path = make_checkpoint(recipe_folder / "exp" / "open" / "checkpoints", unfreeze=[4])
    state = load_file(recipe_folder / "data" / "encoder" / "model.safetensors")
    mine = [name for name in state if ".layers.3." in name and "decoder" not in name]
    save_file({**state, **{name: state[name] + 1 for name in mine}}, recipe_folder / "data" / "encoder" / "model.safetensors",
              metadata={"format": "pt"})
    loaded = load_checkpoint(path)
    kept = load_file(path / "model.safetensors")
    assert mine and all(torch.equal(value, kept[name]) for name, value in loaded.model.state_dict().items() if name in kept)
    change_weights(recipe_folder / "data" / "encoder")  # a frozen layer
    with pytest.raises(ValueError, match="other weights"):
        load_checkpoint(path)


def test_a_relative_folder_is_found_from_the_checkpoint(recipe_folder, tmp_path, monkeypatch):
    expected = load_checkpoint("exp/stage1").model.state_dict()
    moved = tmp_path / "elsewhere"
    shutil.move(recipe_folder, moved)  # the whole recipe, to another place
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    monkeypatch.chdir(other)
    found = load_checkpoint(moved / "exp" / "stage1")
    assert found.model.front_end.pretrained.source.folder == str(moved / "data" / "encoder")
    assert all(torch.equal(value, found.model.state_dict()[name]) for name, value in expected.items())


def test_the_folder_of_training_is_kept_absolute(recipe_folder, tmp_path, monkeypatch):
    """Only the checkpoint goes elsewhere; one goes with its recipe and finds the nearer folder."""
    copied = shutil.copytree(recipe_folder / "exp", tmp_path / "big_disk" / "exp")
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint(copied / "stage1").model.front_end.pretrained.source.folder == str(recipe_folder / "data" / "encoder")


@pytest.mark.parametrize("name", ["data/encoder", "encoders/a/b", "./encoder"])
def test_a_missing_folder_is_said_to_be_missing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=f"{name}: no such folder; looked for {tmp_path}"):
        PretrainedEncoder(PretrainedConfig(name=name))


def test_a_missing_folder_of_a_checkpoint_is_not_looked_up_on_a_hub(recipe_folder, tmp_path, monkeypatch):
    shutil.rmtree(recipe_folder / "data")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(ValueError, match="data/encoder: no such folder; looked for .*recipe/data/encoder"):
        load_checkpoint(recipe_folder / "exp" / "stage1")


def test_names_of_the_hub_stay_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("microsoft/wavlm-base-plus").folder == "" == locate("gpt2").folder
    with looking_from([tmp_path], {"a/b": str(tmp_path / "a" / "b")}), pytest.raises(ValueError, match="no such folder"):
        locate("a/b")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_folder_is_refused(kind, file, tmp_path):
    folder = tiny.save_model(kind, tmp_path)
    known = json.loads((folder / file).read_text())
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\n")
    (folder / file).write_text(json.dumps({**known, "auto_map": {"AutoConfig": "modeling.Model", "AutoModel": "modeling.Model"}}))
    with pytest.raises(ValueError, match=rf"{file} names code of its own \(auto_map\), which is not run"):
        PretrainedEncoder(PretrainedConfig(name=str(folder)))
    assert not (tmp_path / "ran").exists()


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_of_weights_is_refused_and_the_command_converts_it(kind, tmp_path):
    folder = tiny.save_model(kind, tmp_path)
    expected = PretrainedEncoder(PretrainedConfig(name=str(folder))).content()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"weights are a pickle \(pytorch_model.bin\)") as error:
        PretrainedEncoder(PretrainedConfig(name=str(folder)))
    command = str(error.value).split("`")[1].removeprefix("python -c ").strip('"')
    subprocess.run([sys.executable, "-c", command], cwd=folder, check=True)
    assert PretrainedEncoder(PretrainedConfig(name=str(folder))).content() == expected
    torch.save({"x": torch.ones(1), "evil": _Runs(tmp_path / "ran")}, folder / "pytorch_model.bin")
    assert subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True).returncode != 0
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_without_references_says_that_it_cannot_be_compared(recipe_folder, caplog):
    loaded = load_checkpoint("exp/stage1")
    meta = read_meta(loaded.path)
    del meta["externals"]
    (loaded.path / "meta.json").write_text(json.dumps(meta))
    load_model_weights(loaded.model, loaded.path)
    assert "cannot be checked" in caplog.text
