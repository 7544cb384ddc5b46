"""Copies of checkpoints elsewhere: whole ones only count, a run goes on from them, a failing mirror stops nothing."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid

import pytest
import torch

from tests.train.toys import tiny_config, tiny_trainer, weights
from voxkit.checkpoint.folder import list_checkpoints
from voxkit.checkpoint.format import read_meta
from voxkit.train.config import ScheduleConfig
from voxkit.train.logging import read_metrics
from voxkit.train.mirror import Mirror


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    return f"file://{tmp_path}/elsewhere" if request.param == "file" else f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture
def s3(monkeypatch):
    """A bucket on a moto server on the loopback."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    import s3fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket/runs/one"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def config(url, **changes):
    return tiny_config(mirror=url, schedule=ScheduleConfig(warmup_steps=3, total_steps=21), **changes)


def goes_on_elsewhere(url, tmp_path):
    """Half of a run here, the other half from the mirror in a new place: as an unbroken one."""
    whole = tiny_trainer(tmp_path / "whole", config(""))
    whole.fit()
    tiny_trainer(tmp_path / "here", config(url, max_steps=10)).fit()
    there = tiny_trainer(tmp_path / "there", config(url), seed=9)
    there.on_step = lambda step, values: used.append(there.budget.hours)
    used: list = []
    assert there.fit().step == 21
    assert used[0] >= read_meta(tmp_path / "here" / "checkpoints" / "step-00000010")["hours"] > 0
    assert all(torch.equal(v, weights(there.model)[k]) for k, v in weights(whole.model).items())
    kept = {c.path.name for c in list_checkpoints(tmp_path / "there" / "checkpoints")}
    mirror = Mirror(url, tmp_path / "there")
    assert set(mirror.complete()) == kept  # what was pruned here went there too
    assert [r["step"] for r in read_metrics(tmp_path / "there" / "metrics.json") if r["kind"] == "validation"] == [7, 10, 14, 21]


def test_a_run_goes_on_from_its_mirror(url, tmp_path, monkeypatch):
    monkeypatch.setattr("voxkit.train.mirror.WAITING", 100)
    goes_on_elsewhere(url, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_on_from_s3(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("voxkit.train.mirror.WAITING", 100)
    goes_on_elsewhere(s3, tmp_path)


def test_a_mirror_belongs_to_one_run(url, tmp_path):
    tiny_trainer(tmp_path / "a", config(url, max_steps=10), extra_meta={"name": "stage1"}).fit()
    kept = Mirror(url, tmp_path / "a").complete()
    with pytest.raises(ValueError, match="holds the run 'stage1', and this one is 'stage2'"):
        tiny_trainer(tmp_path / "b", config(url), extra_meta={"name": "stage2"}).fit()
    assert Mirror(url, tmp_path / "a").complete() == kept and not list_checkpoints(tmp_path / "b" / "checkpoints")
    assert tiny_trainer(tmp_path / "c", config(url), extra_meta={"name": "stage1"}).fit().step == 21


def test_a_partial_copy_is_never_taken_for_whole(url, tmp_path):
    tiny_trainer(tmp_path / "a", config(url, max_steps=10)).fit()
    mirror = Mirror(url, tmp_path / "a")
    newest = max(mirror.complete())
    mirror.fs.rm(f"{mirror.root}/{newest}.complete")
    (tmp_path / "b" / "checkpoints").mkdir(parents=True)
    assert Mirror(url, tmp_path / "b").fetch(tmp_path / "b" / "checkpoints").name == max(mirror.complete()) < newest
    mirror.fs.pipe_file(f"{mirror.root}/{max(mirror.complete())}/meta.json", b"{")
    shutil.rmtree(tmp_path / "b" / "checkpoints")
    (tmp_path / "b" / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="meta.json came with 1 of"):
        Mirror(url, tmp_path / "b").fetch(tmp_path / "b" / "checkpoints")
    assert not list_checkpoints(tmp_path / "b" / "checkpoints")


def test_own_checkpoints_come_first(url, tmp_path):
    tiny_trainer(tmp_path / "a", config(url, max_steps=12)).fit()
    tiny_trainer(tmp_path / "b", config("", max_steps=5)).fit()
    trainer = tiny_trainer(tmp_path / "b", config(url, max_steps=6))
    assert trainer.fit().step == 6


def test_every_few_and_always_the_last(url, tmp_path, monkeypatch):
    monkeypatch.setattr("voxkit.train.mirror.WAITING", 100)
    tiny_trainer(tmp_path, config(url, mirror_every=3, keep_last=20, checkpoint_every=2, validate_every=2)).fit()
    assert sorted(Mirror(url, tmp_path).complete()) == [f"step-{n:08d}" for n in (2, 7, 12, 16, 21)]


class Flaky:
    """A file system that fails so many times."""

    def __init__(self, fs, times):
        self.fs, self.times = fs, times

    def __getattr__(self, name):
        return getattr(self.fs, name)

    def put_file(self, *args):
        self.times -= 1
        if self.times >= 0:
            raise ConnectionError("no route to host")
        return self.fs.put_file(*args)


def test_tries_again_and_a_mirror_that_is_gone_stops_nothing(url, tmp_path, monkeypatch, caplog):
    files = Mirror(url, tmp_path)
    trainer = tiny_trainer(tmp_path / "a", config(url))
    monkeypatch.setattr("voxkit.train.mirror._file_system", lambda url: (Flaky(files.fs, 2), files.root))
    monkeypatch.setattr("voxkit.train.mirror.PAUSE", 0.0)
    trainer.fit()
    assert "step-00000021" in files.complete() and "is not in the mirror" not in caplog.text
    monkeypatch.setattr("voxkit.train.mirror._file_system", lambda url: (Flaky(files.fs, 10**9), files.root))
    files.fs.rm(files.root, recursive=True)
    assert tiny_trainer(tmp_path / "b", config(url)).fit().reason == "finished"
    assert "is not in the mirror" in caplog.text and "no route to host" in caplog.text and "training goes on" in caplog.text


def test_a_slow_mirror_holds_no_more_than_a_few(tmp_path, monkeypatch):
    gate = threading.Event()
    mirror = Mirror(f"file://{tmp_path}/elsewhere", tmp_path)
    monkeypatch.setattr(mirror, "_upload", lambda checkpoint, keep: (gate.wait(), uploaded.append(checkpoint.name)))
    uploaded: list = []
    for n in range(8):
        mirror.push(tmp_path / f"step-{n}", [])
        while n == 0 and mirror.busy != ["step-0"]:
            time.sleep(0.001)
    assert mirror.busy == ["step-0", "step-5", "step-6", "step-7"]
    gate.set()
    mirror.close()
    assert uploaded == ["step-0", "step-5", "step-6", "step-7"]


def test_unknown_urls_are_explained(tmp_path):
    with pytest.raises(ValueError, match="train.mirror 'nonsense://x'"):
        Mirror("nonsense://x", tmp_path)


@pytest.mark.parametrize("file", ["../../../x", "/tmp/x", "training/../../x", "a\\..\\x"])
def test_a_mark_that_points_outside_the_run_is_refused(url, tmp_path, file):
    tiny_trainer(tmp_path / "a", config(url, max_steps=10)).fit()
    mirror = Mirror(url, tmp_path / "a")
    newest = max(mirror.complete())
    mirror.fs.pipe_file(f"{mirror.root}/{newest}.complete", json.dumps({"files": {**mirror.complete()[newest], file: 3}}).encode())
    with pytest.raises(ValueError, match="names files outside the run .*nothing is fetched"):
        tiny_trainer(tmp_path / "deep" / "b" / "run", config(url)).fit()
    assert not list((tmp_path / "deep").rglob("x")) and not list_checkpoints(tmp_path / "deep" / "b" / "run" / "checkpoints")


@pytest.mark.parametrize("file", ["model.safetensors", "training/tensors.pt"])
def test_a_copy_with_other_content_is_refused(url, tmp_path, file):
    tiny_trainer(tmp_path / "a", config(url, max_steps=10)).fit()
    mirror = Mirror(url, tmp_path / "a")
    newest = max(mirror.complete())
    mirror.fs.pipe_file(f"{mirror.root}/{newest}/{file}", bytes(mirror.complete()[newest][file]))
    with pytest.raises(ValueError, match=f"{file} has the right size and other content.*fall back on an older checkpoint"):
        tiny_trainer(tmp_path / "b", config(url)).fit()
