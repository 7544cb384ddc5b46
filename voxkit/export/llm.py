"""The language model of an exported speech model: LoRA added in, as a Hugging Face folder that any server of language models takes.

The graphs beside it give the frames and what CTC hears; `speech.json` says how the two meet: which of the language model's tokens CTC's ids
are, what stands before and behind the audio, and how the projector makes vectors of frames.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from voxkit.files import write_json


def export_llm(model: Any, folder: Path) -> Path:
    """Write the folder `llm` of an artifact.

    Args:
        model: a `voxkit.models.voxlm.VoxLM`, its LoRA added in or not.
        folder: the artifact's.
    """
    out = folder / "llm"
    model.llm.save_merged(out)
    model.vocabulary.base.save(out)
    write_json(out / "speech.json", {
        "model_ids": model.vocabulary.model_ids, "heard": model.vocabulary.heard, "before": model.prompt.before(),
        "after": list(model.prompt.after), "projector": asdict(model.config.projector), "seconds_per_frame": model.seconds_per_frame})
    return out
