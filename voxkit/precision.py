"""Which float a machine computes in quickly: what `auto` means in `train.precision` and `model.front_end.pretrained.dtype`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
           "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def computes_bfloat16(device: str | torch.device) -> bool:
    """Whether bfloat16 is an instruction of the device: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX, ARM's with BF16
    (these are recognized by torch from 2.11 on).

    Elsewhere PyTorch emulates it; on a CPU with AVX2 alone a matrix product then takes a hundred times as long as in float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if kind != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):  # torch from 2.11 on; "bf16" is ARM's
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def resolve(precision: str, device: str | torch.device, option: str) -> torch.dtype:
    """The dtype to compute in.

    Args:
        precision: one of PRECISIONS, or torch's names float32, bfloat16, float16. auto: bfloat16 where the device computes in it, else
            float16 on CUDA (training scales the loss), else float32.
        device: where.
        option: its name in the configuration, for the warning that a CPU emulates what was asked for, given once.
    """
    quick = computes_bfloat16(device)
    if precision == "auto":
        slower = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        return torch.bfloat16 if quick else slower
    dtype = _DTYPES[precision]
    if dtype != torch.float32 and torch.device(device).type == "cpu" and not (quick and dtype == torch.bfloat16):
        _warn_once(option, precision)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """As messages and files have it: bfloat16."""
    return str(dtype).removeprefix("torch.")


def autocast(dtype: torch.dtype, device: str | torch.device) -> torch.autocast:
    """Autocast to a dtype; float32 switches it off."""
    enabled = dtype != torch.float32
    return torch.autocast(torch.device(device).type, dtype if enabled else torch.bfloat16, enabled=enabled)


@contextmanager
def no_grad_pass(device: str | torch.device) -> Iterator[None]:
    """`torch.no_grad` for a pass through weights that a later pass under the same autocast trains.

    Before torch 2.11 autocast keeps the weights that it casts here, without their history, for the later pass, which then gives
    them no gradient (pytorch issue 112583). So nothing is kept.
    """
    kind = torch.device(device).type
    with torch.no_grad(), torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False):
        yield


@cache
def _warn_once(option: str, precision: str) -> None:
    log.warning("%s=%s: this CPU emulates it, up to a hundred times slower than float32; `auto` takes what the machine is quick in",
                option, precision)
