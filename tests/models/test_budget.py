"""What fits into memory: saved tensors are counted and not guessed; larger memories take more; the sizes that ship fit where they say."""

from __future__ import annotations

import pytest
import torch

from voxkit import config as configuration
from voxkit.cli.main import main
from voxkit.encoders.lact import weights_of
from voxkit.hub import shape_only
from voxkit.models.budget import best, parse_memory, plans, saved_bytes
from voxkit.nn.lact import FastConfig, LaCTAudioBlock
from voxkit.run_config import make_setup


def shaped(repository, name: str):
    setup = make_setup(configuration.load(repository / "egs/librispeech/lact_asr/conf" / f"{name}.yaml"))
    with shape_only(), torch.device("meta"):  # or three billion numbers would be drawn
        return setup.build_model(300)


@pytest.mark.parametrize("half", [False, True])
def test_shapes_alone_count_what_a_real_pass_keeps(half: bool):
    torch.manual_seed(0)
    layer, frames = LaCTAudioBlock(32, 2, 64, 16, fast=FastConfig(heads=2, chunk=16)), 100
    kept: dict[int, torch.Tensor] = {}
    own = {id(p) for p in layer.parameters()}

    def note(x):
        base = x if x._base is None else x._base
        if id(base) not in own:
            kept[id(base)] = base
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        layer(torch.randn(1, frames, 32, requires_grad=True), torch.tensor([frames]), layer.initial(1))
    real = sum(x.numel() * x.element_size() for x in kept.values())
    assert abs(saved_bytes(layer, frames, 32, 16, half) / real - 1) < 0.1


def test_more_memory_takes_more_and_a_smaller_chunk_keeps_more_states(repository):
    model = shaped(repository, "base")
    small, large = (plans(model, memory, 1) for memory in (8e9, 24e9))
    assert all(a.seconds <= b.seconds for a, b in zip(small, large))
    by = {(plan.chunk, plan.checkpointing): plan for plan in large}
    assert by[32, False].per_second > by[512, False].per_second and by[64, True].per_second < 0.3 * by[64, False].per_second
    assert best(large, 64, 600.0).chunk == 64
    assert best(plans(model, 0.2e9, 1), 64, 600.0) is None


@pytest.mark.parametrize("name, billions, memory", [("large_1b", 1.3, "24GB"), ("large_3b", 3.0, "48GB")])
def test_the_large_ones_train_on_two_gpus(repository, name: str, billions: float, memory: str):
    model = shaped(repository, name)
    assert abs(sum(p.numel() for p in model.encoder.parameters()) / 1e9 - billions) < 0.1
    found = best(plans(model, parse_memory(memory), 2), 256, 600.0, 2)
    assert found is not None and found.checkpointing and found.seconds >= 40
    assert len(weights_of(model.encoder.initial(1))) == len(model.encoder.fast_layers())


def test_info_recommends(repository, capsys):
    conf = str(repository / "egs/librispeech/lact_asr/conf/base.yaml")
    assert main(["info", conf, "--vocab-size", "300", "--memory", "24GB"]) == 0
    said = capsys.readouterr().out
    assert "take: data.max_duration=" in said and "train.accumulate=" in said and "fast.chunk=64" in said
    assert main(["info", conf, "--memory", "24"]) == 2
    assert "write it as 24GB" in capsys.readouterr().err
    assert parse_memory("1.5 GiB") == 1.5 * 2**30
