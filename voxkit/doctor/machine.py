"""The machine: cores, instruction sets, memory, disk, devices, and the batch duration to begin with."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

# Instruction sets that decide how fast a CPU trains and runs INT8.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "neon", "asimd", "asimddp", "sve")

# A rule of thumb, not a measurement: GB of activations per second of audio in a batch when a Zipformer of 45-65 M parameters
# trains (icefall's recipes use 1000 s on 32 GB in half precision); weights, optimizer and CUDA itself take `_FIXED_GB` first.
_GB_PER_SECOND = {"cuda": 0.03, "mps": 0.06, "cpu": 0.06}
_FIXED_GB = {"cuda": 3.0, "mps": 3.0, "cpu": 3.0}
_LARGEST = {"cuda": 2000.0, "mps": 200.0, "cpu": 100.0}  # beyond it nothing gets faster, or steps get too few


@dataclass(frozen=True)
class Device:
    """A device to train on: kind "cuda", "mps" or "cpu", its name, memory in GB (free where it is known)."""

    kind: str
    name: str
    memory_gb: float
    detail: str = ""


@dataclass
class Machine:
    """Sizes in GB (10^9 bytes)."""

    system: str
    python: str
    cpu: str
    cores: int
    usable_cores: int
    flags: list[str]
    memory_gb: float
    available_gb: float
    disk_free_gb: float
    shm_free_gb: float | None
    devices: list[Device] = field(default_factory=list)
    max_duration: float = 0.0


def look(folder: str | os.PathLike = ".") -> Machine:
    """Look at this machine; `folder` is where runs will be written."""
    memory, available = _memory()
    shm = Path("/dev/shm")
    machine = Machine(
        system=platform.platform(), python=platform.python_version(), cpu=_cpu_name(), cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(), flags=_cpu_flags(), memory_gb=memory, available_gb=available,
        disk_free_gb=shutil.disk_usage(folder).free / 1e9,
        shm_free_gb=shutil.disk_usage(shm).free / 1e9 if shm.is_dir() else None,
    )
    machine.devices = _accelerators() + [Device("cpu", machine.cpu, available)]
    machine.max_duration = suggest_max_duration(machine.devices[0])
    return machine


def suggest_max_duration(device: Device) -> float:
    """Seconds of audio in a batch to begin training with on a device; `data.max_duration: auto` measures instead.

    Rounded down to tens (to twenties from 100 on), never below 10.
    """
    usable = max(0.0, device.memory_gb - _FIXED_GB[device.kind]) * 0.8
    seconds = min(usable / _GB_PER_SECOND[device.kind], _LARGEST[device.kind])
    step = 20 if seconds >= 100 else 10
    return max(10.0, seconds // step * step)


def warnings(machine: Machine) -> list[str]:
    """What will bite later: little disk, little memory, little shared memory."""
    found = []
    if machine.disk_free_gb < 10:
        found.append(f"{machine.disk_free_gb:.1f} GB of disk left: LibriSpeech takes 60 GB, its 5-hour part 1 GB, a run's checkpoints 2 GB")
    if machine.memory_gb < 4:
        found.append(f"{machine.memory_gb:.1f} GB of memory: training wants 4 GB; try data.num_workers=0 and a small data.max_duration")
    if machine.shm_free_gb is not None and machine.shm_free_gb < 0.5:
        found.append(f"{machine.shm_free_gb:.2f} GB in /dev/shm: loader workers will die with a bus error; "
                     "in Docker use --shm-size=2g, or set data.num_workers=0")
    return found


def _memory() -> tuple[float, float]:
    """Total and available memory in GB, within a container's limit."""
    import psutil

    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text())
        except (OSError, ValueError):
            continue
        if limit < total:
            total, available = limit, min(available, limit)
    return total / 1e9, available / 1e9


def _usable_cores() -> int:
    """Cores this process may run on: affinity, then a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cores


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cpu_name() -> str:
    if sys.platform == "darwin":
        import subprocess

        answer = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [flag for flag in _FLAGS if flag in flags]


def _accelerators() -> list[Device]:
    try:
        import torch
    except Exception:  # a broken torch is reported among the packages
        return []
    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            try:
                free = torch.cuda.mem_get_info(index)[0] / 1e9
            except RuntimeError as error:
                free = properties.total_memory / 1e9
                detail = f"its free memory cannot be asked for: {error}"
            else:
                detail = f"{properties.total_memory / 1e9:.0f} GB in all, compute capability {properties.major}.{properties.minor}"
                detail += "" if torch.cuda.is_bf16_supported() else ", no bf16: use fp16"
            found.append(Device("cuda", properties.name, free, detail))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", _memory()[1]))
    return found
