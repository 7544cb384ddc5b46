"""The largest batch that fits: what `max_duration: auto` measures before training."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import torch

from voxkit.train.remedies import is_out_of_memory

log = logging.getLogger("voxkit.train")

SHARE = 0.85  # of the memory that may be used, the rest is for what differs between batches


def find_max_duration(make_batch: Callable[[float], Any], step: Callable[[Any], None], *, device: torch.device | str = "cpu",
                      low: float = 10.0, high: float = 2400.0, share: float = SHARE, limit_bytes: int | None = None,
                      measure: Callable[[Callable[[], None]], int] | None = None) -> float:
    """The largest batch duration, in seconds of padded audio, whose training step fits into memory.

    On CUDA durations are doubled until one does not fit, then the gap is halved three times. On a CPU, where a step that does not
    fit takes the machine down with it, memory is measured on small batches and the line through the last two is followed.

    Args:
        make_batch: seconds → a batch of the longest utterances there are, so that padding and attention are at their worst.
        step: forward and backward on it, as in training (an optimizer's state must be there or counted in `share`).
        low, high: seconds; low must fit.
        share: of the memory that may be used; less where several processes share a machine's.
        limit_bytes: instead of what the device has free.
        measure: runs a step and gives its peak of memory in bytes above what was used before, for tests.

    Raises:
        ValueError: not even `low` fits.
    """
    device = torch.device(device)

    def attempt(seconds: float) -> int | None:
        failed = False
        peak = 0
        try:
            batch = make_batch(seconds)
            peak = (measure or (_cuda_peak if device.type == "cuda" else _rss_peak))(lambda: step(batch))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = True
        batch = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        log.info("probe: %.0f s %s", seconds, "does not fit" if failed else f"takes {peak / 2**20:.0f} MiB")
        return None if failed else peak

    limit = share * (limit_bytes if limit_bytes is not None else _free(device))
    peak = attempt(low)
    if peak is None or peak > limit:
        raise ValueError(f"a batch of {low:.0f} s does not fit into {limit / 2**30:.1f} GiB of memory on {device}; use a smaller model, "
                         "train.precision=bf16, train.activation_checkpointing=true, or leave out long utterances (data.max_seconds)")
    if device.type == "cuda":
        return _bisect(attempt, low, peak, high, limit)
    return _extrapolate(attempt, low, peak, high, limit)


def _bisect(attempt: Callable[[float], int | None], low: float, peak: int, high: float, limit: float) -> float:
    fits, too_long = low, None
    while fits < high and (too_long is None or too_long / fits > 1.1):
        seconds = min(high, 2 * fits) if too_long is None else (fits + too_long) / 2
        peak_here = attempt(seconds)
        if peak_here is not None and peak_here <= limit:
            fits = seconds
        else:
            too_long = seconds
    return fits


def _extrapolate(attempt: Callable[[float], int | None], low: float, peak: int, high: float, limit: float) -> float:
    """Grow by what the line through the last two measurements allows, at most doubling, and not into the limit."""
    before, before_peak, fits = 0.0, 0, low
    while fits < high:
        slope = max((peak - before_peak) / (fits - before), 1e-9)
        allowed = fits + (limit - peak) / slope
        seconds = min(high, 2 * fits, allowed)
        if seconds < 1.1 * fits:
            break
        peak_here = attempt(seconds)
        if peak_here is None or peak_here > limit:
            break
        before, before_peak, fits, peak = fits, peak, seconds, max(peak_here, peak)
    return fits


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return min(psutil.virtual_memory().available, _cgroup_free())


def _cgroup_free() -> int:
    """What the container allows, where there is one (version 2, else version 1)."""
    for limit, used in (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
                        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes")):
        try:
            with open(limit) as a, open(used) as b:
                return max(0, int(a.read()) - int(b.read()))
        except (OSError, ValueError):
            continue
    return 2**62


def _cuda_peak(run: Callable[[], None]) -> int:
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _rss_peak(run: Callable[[], None]) -> int:
    """Resident memory, looked at every five milliseconds while the step runs."""
    import psutil

    process, done, peak = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        run()
    finally:
        peak[0] = max(peak[0], process.memory_info().rss)
        done.set()
        thread.join()
    return max(0, peak[0] - before)
