"""Seconds and memory to the first batch of a large set: `python -m benchmarks.manifests --cuts 28000 280000 2800000`.

The manifests are made up: cuts like LibriSpeech's (recordings of 1 to 17 s, transcripts of some 12 characters a second) that all read one
file of noise, once as `voxkit prepare` writes them, once as a plain .jsonl and once as anybody's .jsonl.gz. Each is opened in a process of
its own. What is measured begins after the imports and ends with the first batch of `build_train_loader` (BPE pieces, 200 s a batch, no
worker processes): the clock, the processor's time, which other jobs do not lengthen as much, and the peak of memory above the imports.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures

WORDS = "the of and to in he was that his it with as had for she not but at on her be my have him is said me which by so this all".split()
KINDS = ("prepared", "jsonl", "gz")


def rows(count: int, audio: Path, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Cuts as dicts; those of a speaker lie together, as in LibriSpeech."""
    draw = random.Random(seed)
    for i in range(count):
        id = f"{i // 120:06}-{i // 24:07}-{i:08}"
        duration = round(min(max(draw.gauss(12.3, 3.8), 1.0), 17.0), 3)
        text = " ".join(draw.choices(WORDS, k=round(duration * 2.7)))
        yield {"id": id, "start": 0.0, "duration": duration, "channel": 0,
               "supervisions": [{"id": id, "recording_id": id, "start": 0.0, "duration": duration, "channel": 0, "text": text,
                                 "language": "English", "speaker": id[:6]}],
               "recording": {"id": id, "sources": [{"type": "file", "channels": [0], "source": str(audio)}], "sampling_rate": 16000,
                             "num_samples": 17 * 16000, "duration": 17.0, "channel_ids": [0]}, "type": "MonoCut"}


def make(folder: Path, count: int, kind: str) -> Path:
    """Write one manifest, and the noise."""
    import numpy as np
    import soundfile

    from voxkit.data.pieces import write_blocks

    audio = folder / "noise.wav"
    if not audio.is_file():
        soundfile.write(audio, np.random.default_rng(0).normal(scale=0.1, size=17 * 16000), 16000)
    path = folder / f"cuts_{kind}{count}.jsonl{'' if kind == 'jsonl' else '.gz'}"
    if kind == "prepared":
        with open(path, "wb") as file:
            write_blocks(file, rows(count, audio))
    else:
        with (open(path, "wb") if kind == "jsonl" else gzip.open(path, "wb", compresslevel=4)) as file:
            for row in rows(count, audio):
                file.write(json.dumps(row).encode() + b"\n")
    return path


class Pieces:
    """SentencePiece, trained on the words that the transcripts are made of."""

    def __init__(self) -> None:
        import sentencepiece

        model = io.BytesIO()
        draw = random.Random(1)
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([" ".join(draw.choices(WORDS, k=30)) for _ in range(200)]),
                                                 model_writer=model, vocab_size=60, model_type="bpe", minloglevel=2)
        self.encode = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode


def measure(path: Path) -> dict[str, float]:
    """In this process: seconds to the first batch, and memory above the imports in MB."""
    import lhotse.dataset  # noqa: F401
    import torch  # noqa: F401

    from voxkit.data.config import DataConfig
    from voxkit.data.loader import build_train_loader
    from voxkit.data.sets import read_sets

    tokenizer = Pieces()
    before, start, used = _memory("VmRSS"), time.perf_counter(), time.process_time()
    loader = build_train_loader(read_sets(str(path.parent), [str(path)]), tokenizer, DataConfig(num_workers=0), seed=1)
    batch = next(iter(loader))
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used, "megabytes": _memory("VmHWM") - before,
            "utterances": batch.size}


def _memory(kind: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(kind)).split()[1]) / 1024


def main() -> None:
    """Make the manifests, measure each in a process of its own, print a table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cuts", type=int, nargs="+", default=[28000, 280000])
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    p.add_argument("--folder", type=Path, help="where to put the manifests (default: a temporary folder)")
    Figures.add_argument(p)
    p.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        print(f"{'manifest':<10}{'cuts':>10}{'to make':>10}{'first batch':>13}{'CPU':>9}{'memory':>10}")
        for count in args.cuts:
            for kind in args.kinds:
                start = time.perf_counter()
                path = make(folder, count, kind)
                made = time.perf_counter() - start
                out = subprocess.run([sys.executable, "-m", "benchmarks.manifests", "--one", str(path)], check=True, capture_output=True)
                found = json.loads(out.stdout.splitlines()[-1])
                print(f"{kind:<10}{count:>10}{made:>8.1f} s{found['seconds']:>11.2f} s{found['cpu_seconds']:>7.2f} s"
                      f"{found['megabytes']:>7.0f} MB", flush=True)
                Figures("manifests", args.json).add(f"memory to the first batch, {kind}, {count} cuts", [found["megabytes"]], "MB")
                path.unlink()


if __name__ == "__main__":
    main()
