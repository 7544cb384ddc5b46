"""Starting from the weights of another run: the stage before, or parts of another system."""

from __future__ import annotations

from collections.abc import Sequence

from voxkit.checkpoint.external import check_externals
from voxkit.checkpoint.format import read_meta
from voxkit.checkpoint.loading import find_checkpoint
from voxkit.checkpoint.weights import load_state, read_weights
from voxkit.models.contract import SpeechModel
from voxkit.text.vocabulary import Vocabulary

WITHOUT_VOCABULARY = {"front_end", "encoder"}  # parts that know no tokens


def initialize(model: SpeechModel, path: str, vocabulary: Vocabulary, parts: Sequence[str] = ()) -> None:
    """Take the weights of a checkpoint or run; a frozen layer that is open now keeps its pretrained weights.

    Args:
        parts: modules of the model to take, e.g. front_end and encoder, which know no tokens, or front_end.adapter; empty = all.

    Raises:
        ValueError: another tokenizer, weights of another architecture, or a part that one of the two does not have.
    """
    checkpoint = find_checkpoint(path)
    meta = read_meta(checkpoint)
    other = meta.get("tokenizer")
    if other and other != vocabulary.fingerprint() and (not parts or {part.split(".")[0] for part in parts} - WITHOUT_VOCABULARY):
        raise ValueError(f"init: {checkpoint} was trained with another tokenizer ({other}, this one is {vocabulary.fingerprint()}): "
                         "its outputs would mean other pieces; use its tokenizer.model, take only what knows no pieces "
                         "(init_parts=[front_end,encoder]), or start from scratch")
    check_externals(model, meta, f"init: {checkpoint}", parts)
    load_state(model, read_weights(checkpoint, "auto"), set(meta.get("left_out", ())), str(checkpoint), parts)
    if not parts or "encoder" in parts:
        model.schedule_offset = int(meta["step"]) + int(meta.get("schedule_offset", 0))
