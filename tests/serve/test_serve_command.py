"""`voxkit serve` puts its options where they belong."""

import argparse

import pytest

from voxkit.cli import serve


def _options(*more):
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return parser.parse_args(["serve", "exp/main", *more])


def test_options_reach_the_application(monkeypatch):
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from types import SimpleNamespace

    from voxkit.recipe import DecodeConfig

    made = {}
    config = SimpleNamespace(decode=DecodeConfig(method="beam", beam=7))
    loaded = SimpleNamespace(model=None, tokenizer=None, recipe=SimpleNamespace(config=config))
    monkeypatch.setattr("voxkit.infer.checkpoint.load_checkpoint", lambda path, device: made.update(path=path, device=device) or loaded)
    monkeypatch.setattr("voxkit.serve.app.create_app", lambda recognizer, config: made.update(config=config))
    serve.build(_options("--device", "cpu", "--max-seconds", "5", "--max-megabytes", "2", "--max-batch", "3", "--timeout", "9"))
    config = made["config"]
    assert (made["path"], made["device"]) == ("exp/main", "cpu")
    assert (config.search.method, config.search.beam) == ("beam", 7)
    assert (config.limits.max_seconds, config.limits.max_bytes) == (5.0, 2 * 2**20)
    assert (config.batching.max_batch, config.batching.timeout) == (3, 9.0)
    serve.build(_options("--device", "cpu", "--method", "greedy", "--beam", "2"))
    assert (made["config"].search.method, made["config"].search.beam) == ("greedy", 2)
