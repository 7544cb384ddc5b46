"""Which packages are there, whether they can be imported, what the lack of each costs, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from voxkit.doctor import wheels
from voxkit.optional import available

OK, MISSING, BROKEN, MISMATCH = "ok", "missing", "broken", "mismatch"
UNPACKAGED = "from its source"  # importable, and no package manager knows it: k2 built as its documentation says, on PYTHONPATH


@dataclass(frozen=True)
class Known:
    """A package voxkit can use. extra None: needed; probe: import it for real (compiled against something else, so it may break)."""

    name: str
    module: str
    extra: str | None
    costs: str
    probe: bool = False


@dataclass
class PackageState:
    """What the doctor says of one package. `cause` is why it is not "ok", `mend` the command."""

    name: str
    status: str
    version: str | None
    needed: bool
    costs: str
    cause: str = ""
    mend: str = ""


PACKAGES = (
    Known("torch", "torch", None, "nothing works", probe=True),
    Known("torchaudio", "torchaudio", None, "no fbank, no resampling", probe=True),
    Known("lhotse", "lhotse", None, "no data", probe=True),
    Known("numpy", "numpy", None, "nothing works"),
    Known("soundfile", "soundfile", None, "no audio can be read", probe=True),
    Known("sentencepiece", "sentencepiece", None, "no tokenizer", probe=True),
    Known("omegaconf", "omegaconf", None, "no configurations"),
    Known("safetensors", "safetensors", None, "no checkpoints"),
    Known("jiwer", "jiwer", None, "no error rates"),
    Known("rich", "rich", None, "no progress bars"),
    Known("tensorboard", "tensorboard", None, "no TensorBoard logs"),
    Known("fsspec", "fsspec", None, "no mirrored checkpoints"),
    Known("psutil", "psutil", None, "no memory figures"),
    Known("k2", "k2", "k2", "no graph decoding (H, HL, HLG), lattice rescoring, pruned transducer loss; the rest works", probe=True),
    Known("kaldifeat", "kaldifeat", "kaldifeat", "fbank is computed by torchaudio: the same values, not batched on the GPU", probe=True),
    Known("fastapi", "fastapi", "serve", "no HTTP service"),
    Known("uvicorn", "uvicorn", "serve", "no HTTP service"),
    Known("python-multipart", "python_multipart", "serve", "the HTTP service takes no uploaded files"),
    Known("transformers", "transformers", "pretrained", "no pretrained encoders (WavLM, HuBERT, wav2vec 2.0, Whisper)"),
    Known("espeakng-loader", "espeakng_loader", "toy", "no toy corpus, no synthetic speech by espeak"),
    Known("hibari-tts", "hibari", "tts", "synthetic speech without hibari's voices"),
    Known("py-nanotts", "py_nanotts", "tts", "synthetic speech without Pico's voices"),
    Known("kenlm", "kenlm", "lm", "n-gram language models are read by voxkit's own reader, which is slower", probe=True),
    Known("dask", "dask", "dask", "preparation runs on this machine's cores only"),
    Known("distributed", "distributed", "dask", "preparation runs on this machine's cores only"),
    Known("s3fs", "s3fs", "s3", "checkpoints cannot be mirrored to s3://"),
    Known("matplotlib", "matplotlib", "plot", "no curves as PNG; TensorBoard and results.csv have them too"),
    Known("onnx", "onnx", "export", "no export"),
    Known("onnxscript", "onnxscript", "export", "no export"),
    Known("onnxruntime", "onnxruntime", "export", "exported models cannot be run here", probe=True),
)

_CAUSES = (
    ("undefined symbol", "it was built for another torch than the one installed"),
    ("symbol not found", "it was built for another torch than the one installed"),
    (r"lib(cuda|cublas|cudnn|cufft|nvrtc|torch_cuda|c10_cuda)\w*.*(cannot open|no such file)",
     "it is a CUDA build, and torch here does not bring that CUDA"),
    ("GLIBC", "the wheel is for a newer Linux than this one"),
    (r"_ARRAY_API|numpy\.core\.multiarray|compiled using NumPy 1", "it was built for NumPy 1, and NumPy 2 is installed"),
    (r"died with signal", "its compiled part crashed; mostly it was built for another torch or CPU"),
    (r"sndfile", "its C library libsndfile is missing (apt-get install libsndfile1, or reinstall soundfile)"),
    ("No module named", "a package that it needs is missing"),
)


def look(known: Iterable[Known] = PACKAGES) -> list[PackageState]:
    """Look at every package; the compiled ones are imported in a process of their own, so that a crash is only reported."""
    known = list(known)
    versions = {p.name: _version(p.name) or (UNPACKAGED if p.name in wheels.PAGES and available(p.module) else None) for p in known}
    errors = probe([p.module for p in known if p.probe and versions[p.name] is not None])
    found = []
    for p in known:
        error = errors.get(p.module)
        status = MISSING if versions[p.name] is None else BROKEN if error else OK
        item = PackageState(p.name, status, versions[p.name], p.extra is None, p.costs)
        if error:
            item.cause = f"{explain(error)}: {error}"
        if status != OK:
            item.mend = mend(p, versions, reinstall=status == BROKEN)
        found.append(item)
    _check_pair(found, versions)
    _check_builds(found, versions)
    return found


def explain(error: str) -> str:
    """An import error's likely cause in plain words."""
    for pattern, cause in _CAUSES:
        if re.search(pattern, error, re.IGNORECASE):
            return cause
    return "it cannot be imported"


def mend(package: Known, versions: dict[str, str | None], reinstall: bool = False) -> str:
    """The one command that brings a package."""
    if package.extra in wheels.PAGES:
        command = f"tools/install_{package.name}.sh"
        torch = versions.get("torch")
        if torch is None:
            return f"{command}   (after torch)"
        if wheels.known(package.name, torch):
            return f"{command}   (the official wheel for torch {torch})"
        there = ", ".join(wheels.KNOWN_TORCH[package.name])
        built = "; without one it is built from source" if package.name == "kaldifeat" else ""
        return f"{command}   (no wheel for torch {torch} is known{built}; wheels are known for torch {there})"
    if package.name in ("torch", "torchaudio"):
        return "pip install " + ("--force-reinstall " if reinstall else "") + _pair(versions)
    if package.extra is None or reinstall:
        return "pip install " + ("--force-reinstall --no-deps " if reinstall else "") + package.name
    return f"pip install -e '.[{package.extra}]'   (not from a checkout: pip install 'voxkit[{package.extra}]')"


def probe(modules: Iterable[str], timeout: float = 300) -> dict[str, str]:
    """Import modules in another process, torch first.

    Returns:
        The last line of the error for each that failed; a module whose import killed the process gets "died with signal N".
    """
    left = sorted(set(modules), key=lambda m: m != "torch")
    errors: dict[str, str] = {}
    while left:
        script = _PROBE.format(modules=left)
        try:
            result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return {**errors, **dict.fromkeys(left, f"its import took over {timeout:.0f} s")}
        lines = [line[len(_MARK):] for line in result.stdout.splitlines() if line.startswith(_MARK)]
        answers = [json.loads(line) for line in lines]
        errors.update({a["module"]: a["error"] for a in answers if a["error"]})
        if len(answers) == len(left):
            break
        dead, left = left[len(answers)], left[len(answers) + 1:]
        errors[dead] = (f"died with signal {-result.returncode}" if result.returncode < 0
                        else f"ended the process with status {result.returncode}")
        if dead != "torch":
            left = [m for m in left if m != "torch"]
    return errors


_MARK = "voxkit-probe "
_PROBE = """
import importlib, json
try:
    import torch
except BaseException:
    pass
for module in {modules!r}:
    error = ""
    try:
        importlib.import_module(module)
    except BaseException as e:
        lines = [line for line in str(e).splitlines() if line.strip()] or [type(e).__name__]
        error = lines[0]
    print("voxkit-probe " + json.dumps({{"module": module, "error": error}}), flush=True)
"""


def _check_pair(found: list[PackageState], versions: dict[str, str | None]) -> None:
    """torch and torchaudio come in pairs; another pair may import and still fail at the first call into its compiled part."""
    torch, torchaudio = versions.get("torch"), versions.get("torchaudio")
    item = next((f for f in found if f.name == "torchaudio"), None)
    if item is None or torch is None or torchaudio is None or item.status == BROKEN:
        return
    build = [v.split("+")[1] if "+" in v else "" for v in (torch, torchaudio)]
    same = torch.split("+")[0].split(".")[:2] == torchaudio.split("+")[0].split(".")[:2]
    if same and (build[0] == build[1] or "" in build):
        return
    item.status = MISMATCH
    item.cause = f"torchaudio {torchaudio} was built for torch {'.'.join(torchaudio.split('.')[:2])}, and torch is {torch}"
    item.mend = "pip install " + _pair(versions)


def _check_builds(found: list[PackageState], versions: dict[str, str | None]) -> None:
    """The official wheels of k2 and kaldifeat carry in their version what they were built for."""
    torch = versions.get("torch")
    for item in found:
        build = re.search(r"\+(?P<kind>cpu|cuda[\d.]+?|rocm[\d.]+?)\.torch(?P<torch>[\d.]+)$", item.version or "")
        if item.name not in wheels.PAGES or build is None or torch is None:
            continue
        plain, _, local = torch.partition("+")
        if build["torch"] != plain and item.status != BROKEN:
            item.status = MISMATCH
            item.cause = f"it was built for torch {build['torch']}, and torch is {plain}: it may crash or compute nonsense"
        elif build["kind"] == "cpu" and item.status == OK and not local.startswith("cpu") and _cuda():
            item.status = MISMATCH
            item.cause = "a CPU build beside a CUDA torch: it fails on GPU tensors (\"compiled without CUDA\")"
        else:
            continue
        item.mend = mend(next(p for p in PACKAGES if p.name == item.name), versions)


def _cuda() -> bool:
    try:
        import torch
    except Exception:
        return False
    return torch.cuda.is_available()


def _pair(versions: dict[str, str | None]) -> str:
    """The pair to install: the torch that is there where torchaudio has that version, else the newest pair."""
    torch = (versions.get("torch") or "2.11.0").split("+")[0]
    parts = tuple(int(n) for n in re.findall(r"\d+", torch)[:2])
    if not (2, 6) <= parts <= (2, 11):
        torch = "2.11.0"
    return f"torch=={torch} torchaudio=={torch}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
