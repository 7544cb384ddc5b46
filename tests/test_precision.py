"""`auto` is what the machine is quick in; what it emulates is warned of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from voxkit import precision


@pytest.fixture(params=[True, False])
def quick(request, monkeypatch) -> bool:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: request.param)
    precision._warn_once.cache_clear()
    return request.param


def test_auto_takes_what_is_quick(quick):
    assert precision.resolve("auto", "cpu", "x") == (torch.bfloat16 if quick else torch.float32)
    assert precision.resolve("auto", "cuda", "x") == (torch.bfloat16 if quick else torch.float16)
    assert precision.resolve("auto", "mps", "x") == (torch.bfloat16 if quick else torch.float32)


def test_what_is_asked_for_is_taken_and_emulation_named(quick, caplog):
    with caplog.at_level(logging.WARNING):
        assert precision.resolve("bf16", "cpu", "train.precision") == torch.bfloat16
        assert precision.resolve("fp32", "cpu", "train.precision") == torch.float32
    assert ("train.precision=bf16: this CPU emulates it" in caplog.text) is not quick


def test_this_machine_says_what_it_is():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        pytest.skip("no /proc/cpuinfo to compare with")
    assert precision.computes_bfloat16("cpu") == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpuinfo.read_text().split()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_it(dtype):
    with precision.autocast(dtype, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
