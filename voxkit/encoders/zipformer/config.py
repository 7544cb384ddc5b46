"""The options of a Zipformer, and the sizes that have a name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

STACK_FIELDS = ("num_layers", "encoder_dim", "unmasked_dim", "num_heads", "feedforward_dim", "kernel", "query_head_dim",
                "pos_head_dim", "value_head_dim")


@dataclass
class ZipformerConfig:
    """One entry per stack in each list; a list of one entry holds for all stacks.

    Attributes:
        input_dim: width of the input; it is cut or padded with zeros to the first stack's.
        downsampling_factor: by how much each stack works slower than the input.
        num_layers, encoder_dim, num_heads, feedforward_dim, kernel: of each stack; a layer's three feed-forward modules have 3/4, 1
            and 5/4 of feedforward_dim; kernels are odd.
        unmasked_dim: channels that the masking of high channels in training leaves alone.
        query_head_dim, pos_head_dim, value_head_dim: per head.
        pos_dim: width of the relative positional encoding, even.
        dropout, initial_dropout, dropout_batches: of the feed-forward modules: it falls from initial_dropout to dropout.
        warmup_batches: over which layers are let in one after the other.
        schedule_speed: steps of the published schedules that one optimizer step counts as; above 1 where there are few steps.
        output_downsampling: 2 (published) or 1, on the output.
        causal: with chunk-causal convolutions, so that it can stream.
        chunk_size, left_context: frames of the input, causal only; in training a random choice from each list per batch, else the
            first of each (see `Zipformer.set_chunk`). -1 = everything. left_context is rounded down to whole chunks.
        isolate_padding: True = what stands in the padding has no effect at all. False = as published: frames just past the end leak into
            the front end and the downsampling (imported models, to give what they gave).
        checkpointing: recompute the activations of each layer in the backward pass.
    """

    input_dim: int = 512
    downsampling_factor: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 4, 2])
    num_layers: list[int] = field(default_factory=lambda: [2, 2, 3, 4, 3, 2])
    encoder_dim: list[int] = field(default_factory=lambda: [192, 256, 384, 512, 384, 256])
    unmasked_dim: list[int] = field(default_factory=lambda: [192, 192, 256, 256, 256, 192])
    num_heads: list[int] = field(default_factory=lambda: [4, 4, 4, 8, 4, 4])
    feedforward_dim: list[int] = field(default_factory=lambda: [512, 768, 1024, 1536, 1024, 768])
    kernel: list[int] = field(default_factory=lambda: [31, 31, 15, 15, 15, 31])
    query_head_dim: list[int] = field(default_factory=lambda: [32])
    pos_head_dim: list[int] = field(default_factory=lambda: [4])
    value_head_dim: list[int] = field(default_factory=lambda: [12])
    pos_dim: int = 48
    dropout: float = 0.1
    initial_dropout: float = 0.3
    dropout_batches: float = 20000.0
    warmup_batches: float = 4000.0
    schedule_speed: float = 1.0
    output_downsampling: int = 2
    causal: bool = False
    chunk_size: list[int] = field(default_factory=lambda: [-1])
    left_context: list[int] = field(default_factory=lambda: [-1])
    isolate_padding: bool = True
    checkpointing: bool = False

    @property
    def num_stacks(self) -> int:
        return len(self.downsampling_factor)

    @property
    def output_dim(self) -> int:
        """Width of the output: the widest stack's."""
        return max(self.encoder_dim)

    def stack(self, index: int) -> dict[str, int]:
        """The options of one stack, by name."""
        values = {name: getattr(self, name) for name in STACK_FIELDS}
        return {name: value[index] if len(value) > 1 else value[0] for name, value in values.items()}

    def problems(self) -> list[str]:
        """What does not fit together, one sentence each."""
        found = []
        for name in STACK_FIELDS:
            value = getattr(self, name)
            if len(value) not in (1, self.num_stacks):
                found.append(f"{name}: {len(value)} entries for {self.num_stacks} stacks (downsampling_factor); give one, or one per stack")
            elif any(v < 1 for v in value):
                found.append(f"{name}: {list(value)} has an entry below 1")
        if not self.num_stacks or any(f < 1 for f in self.downsampling_factor):
            found.append(f"downsampling_factor: {list(self.downsampling_factor)} should be one or more numbers of at least 1")
        if found:
            return found
        for i in range(self.num_stacks):
            stack = self.stack(i)
            if stack["kernel"] % 2 == 0:
                found.append(f"kernel: {stack['kernel']} of stack {i} is even")
            if stack["unmasked_dim"] > stack["encoder_dim"]:
                found.append(f"unmasked_dim: {stack['unmasked_dim']} of stack {i} is above its encoder_dim, {stack['encoder_dim']}")
        if self.pos_dim % 2:
            found.append(f"pos_dim: {self.pos_dim} is odd")
        if self.input_dim < 1:
            found.append(f"input_dim: {self.input_dim} is below 1")
        if self.output_downsampling not in (1, 2):
            found.append(f"output_downsampling: {self.output_downsampling} is neither 1 nor 2")
        for name in ("dropout", "initial_dropout"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"{name}: {getattr(self, name)} is not in [0, 1)")
        if self.schedule_speed <= 0:
            found.append(f"schedule_speed: {self.schedule_speed} is not above 0")
        return found + self.chunk_problems()

    def chunk_problems(self) -> list[str]:
        """What is wrong with chunk_size and left_context."""
        if not self.chunk_size or not self.left_context:
            return ["chunk_size: chunk_size and left_context need at least one entry (-1 = everything)"]
        if not self.causal:
            chunked = list(self.chunk_size) != [-1] or list(self.left_context) != [-1]
            return ["chunk_size: chunks need causal: true"] if chunked else []
        multiple = max(max(self.downsampling_factor), self.output_downsampling)
        return [f"chunk_size: {chunk} is no multiple of {factor}, a downsampling factor (or -1); try {max(1, chunk // multiple) * multiple}"
                for chunk in self.chunk_size if chunk != -1
                for factor in [next((f for f in (*self.downsampling_factor, self.output_downsampling) if chunk < 1 or chunk % f), 0)]
                if factor]


# The published sizes S, M and L (with the convolutional fbank front end; widths of input are its output); `plan` is VoxFormer's;
# `mini` spends its time at 25 and 12.5 frames/s, for CPUs; `toy` is for the toy corpus and tests.
PRESETS: dict[str, dict[str, Any]] = {
    "plan": {"input_dim": 512, "downsampling_factor": [1, 1, 2, 2, 4, 4], "num_layers": [1], "encoder_dim": [512], "unmasked_dim": [256],
             "num_heads": [8], "feedforward_dim": [576], "kernel": [31, 31, 31, 31, 15, 15]},
    "S": {"input_dim": 192, "num_layers": [2], "encoder_dim": [192, 256, 256, 256, 256, 256], "unmasked_dim": [192],
          "feedforward_dim": [512, 768, 768, 768, 768, 768]},
    "M": {"input_dim": 192},
    "L": {"input_dim": 192, "num_layers": [2, 2, 4, 5, 4, 2], "encoder_dim": [192, 256, 512, 768, 512, 256],
          "unmasked_dim": [192, 192, 256, 320, 256, 192], "feedforward_dim": [512, 768, 1536, 2048, 1536, 768]},
    "mini": {"input_dim": 512, "downsampling_factor": [2, 4, 2], "num_layers": [1, 3, 1], "encoder_dim": [256], "unmasked_dim": [192],
             "num_heads": [4], "feedforward_dim": [512], "kernel": [31, 15, 31]},
    "toy": {"input_dim": 192, "downsampling_factor": [2, 2, 2], "num_layers": [1], "encoder_dim": [128], "unmasked_dim": [96],
            "num_heads": [4], "query_head_dim": [16], "feedforward_dim": [256], "kernel": [15], "pos_dim": 32},
}


def from_preset(name: str, **changes: Any) -> ZipformerConfig:
    """The configuration of a named size, with changes.

    Raises:
        ValueError: an unknown name, listing the known ones; a change that is no option.
    """
    if name not in PRESETS:
        raise ValueError(f"Zipformer preset {name!r} is none of {', '.join(PRESETS)}")
    known = asdict(ZipformerConfig())
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ValueError(f"Zipformer has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return ZipformerConfig(**{**PRESETS[name], **changes})
