"""How training data become batches, and what validation measures, for the systems that voxkit.system names.

    reader      READERS[system.reader](setup, model, vocabulary, run_dir, world) → `.train`, `.dev` (None without a dev set)
    evaluation  EVALUATIONS[system.evaluation](setup, vocabulary, dev, world) → `.check(model)`, then `(model) → metrics`

A reader or an evaluation for a new kind of system is a file here and a line in one of the two tables.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

READERS = {"speech": "voxkit.training.speech:SpeechReader", "sentences": "voxkit.training.sentences:SentenceReader",
           "sessions": "voxkit.training.sessions:SessionReader", "speech_llm": "voxkit.training.speech_llm:SpeechLLMReader",
           "audio": "voxkit.training.audio:AudioReader", "codes": "voxkit.training.codes:CodesReader"}
EVALUATIONS = {"recognition": "voxkit.training.recognition:Recognition", "perplexity": "voxkit.training.perplexity:Perplexity",
               "reconstruction": "voxkit.training.reconstruction:Reconstruction"}


def named(table: dict[str, str], name: str) -> Callable[..., Any]:
    """The entry of a table.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in table:
        raise ValueError(f"{name!r} is none of {', '.join(table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
