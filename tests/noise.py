"""The smallest world a run can live in: a tiny model from filterbanks, and sets of noise with a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

MODEL = """
name: tiny
model:
  front_end: {kind: fbank, subsampling_dim: 96}
  encoder: {preset: toy}
  decoder: {dim: 16, heads: 2, ffn: 32, layers: 1}
"""


def noise_set(data: Path, name: str, count: int, text: Callable[[int], str] = lambda i: "heal me", seconds: float = 0.75,
              words: Callable[[int], list[Any]] | None = None, seed: int = 0) -> list[Any]:
    """`count` utterances of noise, each 50 ms longer than the last, of two speakers, as data/cuts_NAME.jsonl.gz → the cuts.

    Args:
        words: i → lhotse's AlignmentItems of utterance i.
    """
    import lhotse

    rng, cuts = np.random.default_rng(seed), []
    data.mkdir(exist_ok=True)
    for i in range(count):
        id, path = f"{name}{i}", data / f"{name}{i}.wav"
        soundfile.write(path, (rng.standard_normal(round(16000 * seconds) + 800 * i) * 0.1).astype("float32"), 16000)
        cut = lhotse.Recording.from_file(path, recording_id=id).to_cut()
        cut.supervisions = [lhotse.SupervisionSegment(id, id, 0, cut.duration, text=text(i), speaker=f"s{i % 2}",
                                                      alignment={"word": words(i)} if words else None)]
        cuts.append(cut)
    lhotse.CutSet.from_cuts(cuts).to_file(data / f"cuts_{name}.jsonl.gz")
    return cuts
