"""Checkpoint directories: what is in them, what is kept, what fits which model."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.train.toys import TinyModel, WithFrozenPart, tiny_config, tiny_trainer, weights
from voxkit.checkpoint.folder import best_checkpoints, list_checkpoints, prune, recover, resolve
from voxkit.checkpoint.format import damage, get_pointer, read_meta, set_pointer, write_checkpoint
from voxkit.checkpoint.weights import load_model_weights, read_weights
from voxkit.train.config import AverageConfig


def write(root, step, metrics=None, model=None, **more):
    return write_checkpoint(root, model or TinyModel(), {"step": step, "metrics": metrics or {}}, training=({}, {}), **more).path


def test_a_checkpoint_describes_itself(tmp_path):
    def extra(folder):
        (folder / "config.yaml").write_text("a: 1\n")

    config = tiny_config(average=AverageConfig(kind="mean"), epochs=2)
    result = tiny_trainer(tmp_path, config, save_extra=extra, extra_meta={"system": "tiny"}).fit()
    names = {p.relative_to(result.checkpoint).as_posix() for p in result.checkpoint.rglob("*") if p.is_file()}
    assert names == {"config.yaml", "model.safetensors", "average.safetensors", "meta.json", "training/state.json", "training/tensors.pt"}
    meta = read_meta(result.checkpoint)
    assert (meta["step"], meta["epoch"], meta["system"]) == (14, 2, "tiny")
    assert meta["average"] == {"kind": "mean", "count": 1} and set(meta["metrics"]) == {"error"} and meta["git"]


def test_keeps_the_last_and_the_best(tmp_path):
    for step, error in enumerate([5.0, 1.0, 4.0, None, 3.0, 9.0], 1):
        write(tmp_path, step, {"wer": error} if error else {})
    kept = prune(tmp_path, 1, 2, "wer", "min")
    assert kept == ["step-00000002", "step-00000005", "step-00000006"] == [c.path.name for c in list_checkpoints(tmp_path)]
    assert [c.resumable for c in list_checkpoints(tmp_path)] == [False, False, True]
    assert [c.step for c in best_checkpoints(list_checkpoints(tmp_path), "wer", "max", 2)] == [6, 5]
    write(tmp_path, 7)
    assert "step-00000005" in prune(tmp_path, 1, 1, "wer", "min", busy=["step-00000005"]) or (tmp_path / "step-00000005").exists()
    assert not list(tmp_path.glob(".*"))


def test_pointers_and_resolve(tmp_path):
    root = tmp_path / "checkpoints"
    for step in (1, 2, 3):
        write(root, step)
    assert resolve(tmp_path) == resolve(root) == root / "step-00000003" == resolve(root / "step-00000003")
    set_pointer(root, "best", "step-00000001")
    assert resolve(tmp_path) == root / "step-00000001" and resolve(tmp_path, "latest").name == "step-00000003"
    for torn in ("", "step-0000", "../../etc", "\0"):
        (root / "best").write_text(torn)
        assert get_pointer(root, "best") is None
    assert resolve(tmp_path) == root / "step-00000003"
    with pytest.raises(ValueError, match="no checkpoint in"):
        resolve(tmp_path / "nothing")


def test_damage_is_named(tmp_path):
    path = write(tmp_path, 1)
    assert damage(path, training=True) == ""
    (path / "training" / "state.json").unlink()
    assert damage(path) == "" and "training/state.json is missing" in damage(path, training=True)
    (path / "meta.json").write_text('{"step": 1, "fi')
    assert "meta.json cannot be read" in damage(path)
    with pytest.raises(ValueError, match="not whole"):
        resolve(path)


def test_recover_after_a_kill_between_two_renames(tmp_path):
    path = write(tmp_path, 1)
    path.rename(tmp_path / ".old-step-00000001")
    (tmp_path / ".tmp-step-00000001").mkdir()
    (tmp_path / ".trash-step-00000000").mkdir()
    recover(tmp_path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["latest", "step-00000001"]


def test_load_is_strict_and_names_what_differs(tmp_path):
    path = write(tmp_path, 1)
    model = TinyModel()
    load_model_weights(model, path)
    other = TinyModel(dim=6)
    other.extra = nn.Linear(1, 1)
    del other.seen
    with pytest.raises(ValueError) as error:
        load_model_weights(other, path)
    for text in ("2 missing there: extra.weight, extra.bias", "1 unknown here: seen", "body.0.weight [8, 4] there, [8, 6] here"):
        assert text in str(error.value)


def test_what_was_frozen_may_be_missing_and_what_is_frozen_now_is_loaded(tmp_path):
    frozen, opened = WithFrozenPart(), WithFrozenPart(frozen=(0,))
    path = write(tmp_path, 1, model=frozen)
    assert not any(name.startswith("pretrained") for name in read_weights(path))
    before = weights(opened)
    load_model_weights(opened, path)  # stage 2 opens a layer that stage 1 left out
    assert torch.equal(opened.pretrained.layers[1].weight, before["pretrained.layers.1.weight"])
    assert torch.equal(opened.head.weight, frozen.head.weight)
    with torch.no_grad():
        opened.pretrained.layers[1].weight += 1
    path = write(tmp_path, 2, model=opened)
    kept = {name for name in read_weights(path) if name.startswith("pretrained")}
    assert kept == {"pretrained.layers.1.weight", "pretrained.layers.1.bias"}
    load_model_weights(frozen, path)  # and a tuned layer comes back into a model that has it frozen
    assert torch.equal(frozen.pretrained.layers[1].weight, opened.pretrained.layers[1].weight)
    assert "pretrained.layers.1.weight" in read_weights(write(tmp_path, 3, model=frozen))  # which the next checkpoint keeps
    with pytest.raises(ValueError, match="missing there: pretrained.layers.0.weight, pretrained.layers.0.bias"):
        load_model_weights(WithFrozenPart(frozen=()), write(tmp_path, 4))


def test_shared_and_transposed_tensors_are_written(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())

    model, copy = Tied(), Tied()
    load_model_weights(copy, write(tmp_path, 1, model=model))
    assert torch.equal(copy.b.weight, model.a.weight) and torch.equal(copy.turned, model.turned)


def test_auto_takes_the_weights_that_were_validated(tmp_path):
    config = tiny_config(average=AverageConfig(kind="mean", every=1, validate=True))
    trainer = tiny_trainer(tmp_path, config)
    result = trainer.fit()
    mean = read_weights(result.checkpoint, "average")
    expected = sum(float(mean[name].abs().sum()) for name, _ in trainer.model.named_parameters())
    assert result.metrics["error"] == pytest.approx(expected, rel=1e-5)
    model = TinyModel()
    assert load_model_weights(model, tmp_path)["validated"] == "average"
    assert torch.equal(model.head.weight, read_weights(resolve(tmp_path), "average")["head.weight"])
    with pytest.raises(ValueError, match="no running average was kept"):
        read_weights(write(tmp_path / "x", 1), "average")


def test_meta_is_json(tmp_path):
    path = write(tmp_path, 3, {"wer": 0.5})
    assert json.loads((path / "meta.json").read_text())["files"]["model.safetensors"] > 0
