"""The configuration of a neural language model's training, for `voxkit lm train-neural`: the rest is `voxkit train` on system token_lm."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from voxkit.data.sentences import SentenceLoader
from voxkit.files import write_text
from voxkit.run_config import Setup, make_setup
from voxkit.text.vocabulary import load_vocabulary


def neural_lm_setup(texts: Sequence[str], dev: Sequence[str], tokenizer: str | os.PathLike, out: str | os.PathLike, *,
                    model: Mapping[str, Any], epochs: int = 20, lr: float = 2e-3, seed: int = 0) -> Setup:
    """A checked configuration that trains on these sentences; they are kept in `out`/text, so that the run can be repeated from there.

    Args:
        model: options of TokenLMConfig.

    Raises:
        ValueError: no sentences; ConfigError: options that do not exist.
    """
    files = {name: Path(out) / "text" / f"{name}.txt" for name in ("train", "dev")}
    for name, sentences in (("train", texts), ("dev", dev)):
        write_text(files[name], "".join(sentence + "\n" for sentence in sentences))
    vocabulary = load_vocabulary(tokenizer)
    batches = len(SentenceLoader([vocabulary.encode(text) for text in texts]))
    return make_setup(OmegaConf.create({
        "name": Path(out).name, "system": "token_lm", "seed": seed, "tokenizer": str(Path(tokenizer).resolve()), "model": dict(model),
        "data": {"train": [str(files["train"])], "dev": [str(files["dev"])]},
        "train": {"epochs": epochs, "optimizer": {"lr": lr}, "schedule": {"warmup_steps": max(1, min(100, epochs * batches // 10))},
                  "precision": "fp32", "clip_grad": 1.0, "keep_best": 1, "keep_last": 1, "average": {"best": 0}}}), "lm train-neural")
