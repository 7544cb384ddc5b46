"""Checkpoints that are not what was written: named, refused, and a run falls back on the one before."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.train.toys import TinyModel, tiny_config, tiny_trainer, weights
from voxkit.checkpoint.averaging import average_checkpoints, write_averaged
from voxkit.checkpoint.folder import list_checkpoints
from voxkit.checkpoint.format import DamagedCheckpoint, amend_checkpoint, damage, inside, read_meta, write_checkpoint
from voxkit.checkpoint.weights import load_model_weights, read_training, read_weights
from voxkit.train.config import AverageConfig, ScheduleConfig


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def half_zeros(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def config(**changes):
    schedule = ScheduleConfig(warmup_steps=3, total_steps=21)
    return tiny_config(average=AverageConfig(kind="ema", every=1), schedule=schedule, **changes)


@pytest.mark.parametrize("name, spoil", [("model.safetensors", half_zeros), ("model.safetensors", cut), ("average.safetensors", zeros),
                                         ("training/state.json", zeros), ("training/tensors.pt", half_zeros), ("training/tensors.pt", cut)])
def test_a_run_falls_back_on_the_checkpoint_before(tmp_path, name, spoil, caplog):
    whole = tiny_trainer(tmp_path / "a", config())
    whole.fit()
    tiny_trainer(tmp_path / "b", config(max_steps=12)).fit()
    newest, before = list_checkpoints(tmp_path / "b" / "checkpoints")[-1], list_checkpoints(tmp_path / "b" / "checkpoints")[-2]
    spoil(newest.path / name)
    resumed = tiny_trainer(tmp_path / "b", config(), seed=5)
    resumed.fit()
    assert resumed.started_at == before.step < newest.step
    assert all(torch.equal(value, weights(resumed.model)[key]) for key, value in weights(whole.model).items())
    assert name in caplog.text and ("cannot be resumed" in caplog.text or "ignoring checkpoint" in caplog.text)
    assert name in (tmp_path / "b" / "train.log").read_text()


@pytest.mark.parametrize("spoil", [zeros, half_zeros, cut])
def test_weights_are_looked_into_before_they_are_used(tmp_path, spoil):
    path = write_checkpoint(tmp_path, TinyModel(), {"step": 1}, average={"a": torch.ones(3)}).path
    for kind in ("model", "average"):
        assert read_weights(path, kind)
        spoil(path / f"{kind}.safetensors")
        with pytest.raises(DamagedCheckpoint, match=rf"{kind}.safetensors is damaged: .*copy .* or use another checkpoint"):
            read_weights(path, kind)
    with pytest.raises(ValueError):
        load_model_weights(TinyModel(), path)


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 300, b"[1]", b'{"step": "x", "files": {}}', b'{"step": 3}',
                                     b'{"step": 1, "files": {"../../secret": 3}}', b'{"step": 1, "files": {"/etc/passwd": 3}}'])
def test_a_meta_json_that_is_none_is_named(tmp_path, content):
    path = write_checkpoint(tmp_path, TinyModel(), {"step": 1}).path
    (path / "meta.json").write_bytes(content)
    assert "meta.json" in damage(path)
    with pytest.raises(DamagedCheckpoint, match=r"meta.json (cannot be read|names files outside)"):
        read_meta(path)


def test_names_of_files_stay_inside():
    assert inside("model.safetensors") and inside("training/tensors.pt")
    for name in ("", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "..", "C:/x", "a\\..\\b", "a\0b"):
        assert not inside(name)


# -- code out of data --------------------------------------------------------------------------------------------------------

class Runs:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def plant(path: Path, how: str, target: Path) -> None:
    """A training state that runs code, its hashes made to agree."""
    file = path / "training" / "tensors.pt"
    if how == "torch":
        torch.save({**torch.load(file, weights_only=True), "evil": Runs(target)}, file)
    elif how == "old":
        torch.save({"evil": Runs(target)}, file, _use_new_zipfile_serialization=False)
    else:
        file.write_bytes(pickle.dumps(Runs(target)))
    meta = read_meta(path)
    meta["files"]["training/tensors.pt"] = file.stat().st_size
    del meta["sha256"]["training/tensors.pt"]
    (path / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("how", ["torch", "old", "pickle"])
def test_code_in_the_training_state_does_not_run(tmp_path, how):
    result = tiny_trainer(tmp_path / "run", tiny_config(max_steps=5)).fit()
    plant(result.checkpoint, how, tmp_path / "ran")
    with pytest.raises(ValueError):
        read_training(result.checkpoint)
    with pytest.raises(ValueError, match="tensors.pt (holds more than tensors|is damaged)"):
        tiny_trainer(tmp_path / "run").fit()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_nor_does_it_through_a_mirror(tmp_path, how):
    mirror = tmp_path / "mirror"
    result = tiny_trainer(tmp_path / "here", tiny_config(max_steps=5, mirror=f"file://{mirror}")).fit()
    copy = mirror / result.checkpoint.name
    plant(copy, how, tmp_path / "ran")
    mark = mirror / f"{copy.name}.complete"
    sizes = {p.relative_to(copy).as_posix(): p.stat().st_size for p in copy.rglob("*") if p.is_file()}
    mark.write_text(json.dumps({"files": sizes}))
    with pytest.raises(ValueError, match="tensors.pt (holds more than tensors|is damaged)"):
        tiny_trainer(tmp_path / "there", tiny_config(mirror=f"file://{mirror}")).fit()
    assert not (tmp_path / "ran").exists()


# -- writing -----------------------------------------------------------------------------------------------------------------

FULL = """
    import resource, signal, sys
    from pathlib import Path
    import torch
    from tests.train.toys import TinyModel
    from voxkit.checkpoint.folder import list_checkpoints
    from voxkit.checkpoint.format import damage, write_checkpoint
    root = Path(sys.argv[1])
    write_checkpoint(root, TinyModel(), {"step": 1}, training=({}, {"x": torch.zeros(10)}))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    model = TinyModel()
    training = ({}, {"x": torch.zeros(100_000)}) if sys.argv[2] == "training" else None
    if sys.argv[2] == "weights":
        model.large = torch.nn.Linear(300, 300)
    extra = (lambda folder: (folder / "notes").write_bytes(bytes(200_000))) if sys.argv[2] == "extra" else None
    try:
        write_checkpoint(root, model, {"step": 2}, training=training, save_extra=extra)
    except ValueError as error:
        print(error)
    print([(c.path.name, damage(c.path, content=True)) for c in list_checkpoints(root)], sorted(p.name for p in root.iterdir()))
"""


@pytest.mark.parametrize("what", ["weights", "training", "extra"])
def test_a_full_disk_is_named_and_leaves_whole_checkpoints(tmp_path, what, repository):
    """A limit on the size of a file stands for the end of the disk."""
    assert hasattr(resource, "RLIMIT_FSIZE")
    script = textwrap.dedent(FULL)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), what], capture_output=True, text=True, cwd=repository,
                          env={**os.environ, "PYTHONPATH": str(repository)})
    assert done.returncode == 0, done.stderr
    message, listing = done.stdout.strip().rsplit("\n", 1)
    assert "step-00000002 cannot be written" in message and "Free space on its disk" in message
    assert listing == "[('step-00000001', '')] ['latest', 'step-00000001']"


def test_amending_copies_nothing_and_keeps_the_rest(tmp_path):
    path = write_checkpoint(tmp_path, TinyModel(), {"step": 1, "metrics": {}}, training=({"a": 1}, {"x": torch.ones(2)})).path
    inode = (path / "model.safetensors").stat().st_ino
    amend_checkpoint(path, {"metrics": {"wer": 0.5}}, {"a": 2})
    assert damage(path, training=True, content=True) == "" and read_meta(path)["metrics"] == {"wer": 0.5}
    assert read_training(path)[0] == {"a": 2} and (path / "model.safetensors").stat().st_ino == inode
    assert not list(tmp_path.glob(".*"))


# -- averages ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("other", [{"tokenizer": "b"}, {"tokenizer": "a", "externals": {"encoder": {"fingerprint": "2"}}}])
def test_checkpoints_over_other_tokens_or_encoders_are_not_averaged(tmp_path, other):
    same = {"tokenizer": "a", "externals": {"encoder": {"fingerprint": "1"}}}
    paths = []
    for step, more in ((1, same), (2, same), (3, other)):
        path = write_checkpoint(tmp_path, TinyModel(), {"step": step, "tokenizer": more["tokenizer"]}).path
        meta = {**read_meta(path), **more}
        (path / "meta.json").write_text(json.dumps(meta))
        paths.append(path)
    write_averaged(average_checkpoints(paths[:2]), paths[:2], tmp_path / "mean")
    with pytest.raises(ValueError, match=r"step-00000003 was trained (with another tokenizer \(b\)|over other external weights)"):
        average_checkpoints(paths)
