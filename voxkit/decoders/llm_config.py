"""Options of a causal language model used as a decoder: which one, what of it learns, in which numbers it computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LEARNS = ("lora", "all", "none")
DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZED = ("", "4bit", "8bit")


@dataclass
class LoraOptions:
    """Low-rank matrices beside the frozen weights (Hu et al. 2021, arXiv 2106.09685), by peft.

    Attributes:
        rank: of the matrices.
        alpha: their output is scaled by alpha / rank.
        dropout: before them, in training.
        targets: names of the layers they stand beside, separated by commas; all-linear is every linear layer but the vocabulary's, which
            is the one name that fits every family (Phi has fused qkv).
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: str = "all-linear"

    def problems(self) -> list[str]:
        found = [] if self.rank >= 1 else [f"rank: {self.rank} is below 1; to train without LoRA set learns: none"]
        if not self.alpha > 0 or self.alpha == float("inf"):
            found.append(f"alpha: {self.alpha} is not a number above 0")
        if not 0 <= self.dropout < 1:
            found.append(f"dropout: {self.dropout} is not in [0, 1)")
        if not self.targets.strip():
            found.append("targets: empty; all-linear, or names of layers such as q_proj,v_proj")
        return found


@dataclass
class LLMConfig:
    """Attributes:
    name: Hugging Face name ("Qwen/Qwen2-1.5B-Instruct") or a folder with config.json, model.safetensors and tokenizer.json.
    revision: commit on the hub; empty = the newest.
    architecture: `model_type` and the sizes of that type's configuration in transformers, by which the model can be built without
        weights (`voxkit info`, on the meta device); not read where there are weights.
    learns: lora (the rest is frozen and referenced by checkpoints), all (a small model from scratch; checkpoints hold it), none.
    lora: sizes of LoRA.
    dtype: of the frozen weights: auto is half precision where the machine computes in it.
    quantized: 4bit or 8bit, by bitsandbytes, on CUDA; empty = as they are.
    gradient_checkpointing: recompute the layers in the backward pass: less memory, a third more time.
    """

    name: str = ""
    revision: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)
    learns: str = "lora"
    lora: LoraOptions = field(default_factory=LoraOptions)
    dtype: str = "auto"
    quantized: str = ""
    gradient_checkpointing: bool = False

    def problems(self) -> list[str]:
        found = [f"{name}: {value!r} is none of {', '.join(repr(v) for v in valid)}"
                 for name, value, valid in (("learns", self.learns, LEARNS), ("dtype", self.dtype, DTYPES),
                                            ("quantized", self.quantized, QUANTIZED)) if value not in valid]
        if self.quantized and self.learns == "all":
            found.append(f"quantized: {self.quantized} weights cannot learn; set learns: lora, or quantized to empty")
        if self.learns == "all" and self.dtype not in ("auto", "float32"):
            found.append(f"dtype: {self.dtype} weights lose small updates; where all learn set float32 (train.precision may be bf16)")
        if self.architecture and "model_type" not in self.architecture:
            found.append("architecture: lacks model_type, e.g. qwen2 or llama")
        return found
