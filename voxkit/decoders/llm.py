"""Any causal language model of transformers as a decoder that takes vectors: VoxLM puts audio among its token embeddings.

    llm = LLM(LLMConfig(name="Qwen/Qwen2-1.5B-Instruct"))
    states = llm(embeddings, lengths)                      # training: right-padded
    last, past = llm.start(embeddings, lengths)            # use: left-padded inside, a batch gives what its items give alone
    last, past = llm.step(llm.embed(tokens), past)
    logits = llm.logits(states, ids)                       # over some tokens alone

B utterances · N vectors · D width of the model · C tokens asked for
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.checkpoint.external import External
from voxkit.decoders.llm_config import LLMConfig
from voxkit.hub import Source, builds_shapes_only, check_weights, hub_options, locate, reading
from voxkit.masks import lengths_to_mask
from voxkit.optional import require
from voxkit.precision import resolve

_ADAPTER = "default"
_LOOKED_AT = 2 ** 16  # numbers of each tensor that a fingerprint covers: all of billions would take minutes at every start


@dataclass
class Past:
    """What a step needs of N rows: a value, which `step` and `select` leave as it is.

    Attributes:
        cache: keys and values of every layer, transformers' own.
        mask: [N, n] which of the cached places are no padding.
        positions: [N] of the next token.
    """

    cache: Any
    mask: Tensor
    positions: Tensor

    def select(self, index: Tensor) -> Past:
        """Rows index [M], repeats allowed."""
        cache = _copy(self.cache)
        cache.batch_select_indices(index)
        return Past(cache, self.mask[index], self.positions[index])


class LLM(External):
    """A causal language model between vectors and logits.

    Args:
        config: which one, and what of it learns.

    Attributes:
        dim: width of an embedding.
        vocab_size: rows of the embedding table, which may be more than the tokenizer has.
        rms: root mean square of the token embeddings as the model reads them (Gemma scales them inside): where a projector should begin.

    Raises:
        ValueError: no such folder or name, no causal language model, one with inputs to every layer, or one whose logits are made in a
            way of their own. MissingPackage: transformers, peft or bitsandbytes.
    """

    def __init__(self, config: LLMConfig) -> None:
        if problems := config.problems():
            raise ValueError("; ".join(problems))
        model, source = _load(config)
        super().__init__(source)
        self.config, self.model = config, model
        self.text_config = self.model.config.get_text_config()
        self.dim, self.vocab_size = int(self.text_config.hidden_size), int(self.model.get_input_embeddings().weight.shape[0])
        self._cache_name = _cache_argument(self.model.base_model)
        self.model.requires_grad_(config.learns == "all")
        if config.learns == "lora":
            _add_lora(self.model, config)
        self.rms = 1.0
        if not builds_shapes_only():
            self._check_logits()
            self.rms = self._embedding_rms()
        if config.gradient_checkpointing:
            self.enable_activation_checkpointing()

    @property
    def dtype(self) -> torch.dtype:
        """What the layers read."""
        return self.model.get_input_embeddings().weight.dtype

    def embed(self, tokens: Tensor) -> Tensor:
        """The model's own token ids [...] → embeddings [..., D], as its layers read them."""
        return self.model.get_input_embeddings()(tokens)

    def forward(self, embeddings: Tensor, lengths: Tensor) -> Tensor:
        """embeddings [B, N, D], right-padded, lengths [B] → states [B, N, D] that the vocabulary head reads."""
        mask = lengths_to_mask(lengths, embeddings.shape[1])
        return self._body(inputs_embeds=embeddings.to(self.dtype), attention_mask=mask.long(), use_cache=False)

    def start(self, embeddings: Tensor, lengths: Tensor) -> tuple[Tensor, Past]:
        """A batch of beginnings [B, N, D], lengths [B] of at least 1 → the state after the last vector of each [B, D], and the past."""
        if bool((lengths < 1).any()):
            raise ValueError("a beginning without vectors: give the language model at least one, such as its token for the beginning")
        size = int(lengths.max())
        mask = lengths_to_mask(lengths, size).flip(1)  # padding first: the last vectors stand side by side
        source = (torch.arange(size, device=lengths.device) - (size - lengths)[:, None]).clamp(min=0)
        padded = embeddings.gather(1, source[..., None].expand(-1, -1, embeddings.shape[2])).to(self.dtype)
        padded = padded.masked_fill(~mask[..., None], 0.0)
        cache = require("transformers", "llm").DynamicCache(config=self.text_config)
        states = self._body(inputs_embeds=padded, attention_mask=mask.long(), position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                            use_cache=True, **{self._cache_name: cache})
        return states[:, -1], Past(cache, mask, lengths.clone())

    def step(self, embeddings: Tensor, past: Past) -> tuple[Tensor, Past]:
        """One further vector of each row [N, D] → the state after it [N, D], and the past with it."""
        cache = _copy(past.cache)
        mask = F.pad(past.mask, (0, 1), value=True)
        states = self._body(inputs_embeds=embeddings[:, None].to(self.dtype), attention_mask=mask.long(),
                            position_ids=past.positions[:, None], use_cache=True, **{self._cache_name: cache})
        return states[:, -1], Past(cache, mask, past.positions + 1)

    def _body(self, **inputs: Any) -> Tensor:
        return self.model.base_model(**inputs).last_hidden_state

    def head(self, ids: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Weights [C, D] and bias [C] or None of the vocabulary head, for some of its tokens or all."""
        head = self.model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        if ids is None:
            return head.weight, bias
        return head.weight[ids], None if bias is None else bias[ids]

    @property
    def softcap(self) -> float:
        """Logits are bent to stay between this and its negative (Gemma 2); 0 = they are not."""
        return float(getattr(self.text_config, "final_logit_softcapping", None) or 0.0)

    def logits(self, states: Tensor, ids: Tensor | None = None) -> Tensor:
        """states [..., D] → logits [..., C] in float32, over some of the model's tokens or all."""
        weight, bias = self.head(ids)
        return bend(F.linear(states.to(weight.dtype), weight, bias).float(), self.softcap)

    def frozen_names(self) -> set[str]:
        """Entries of `state_dict()` that checkpoints refer to: the pretrained model's own, where they do not learn."""
        return set() if self.config.learns == "all" else {name for name in self.state_dict() if ".lora_" not in name}

    def enable_activation_checkpointing(self) -> None:
        """Recompute the layers in the backward pass: less memory, a third more time."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def looked_at(self, value: Tensor) -> Tensor:
        """Numbers at even distances: no two models have them in common."""
        flat = value.reshape(-1)
        return flat[::max(1, len(flat) // _LOOKED_AT)]

    def layers(self) -> list[nn.Module]:
        """The Transformer layers, for sharding one by one."""
        return list(self.model.base_model.layers)

    def merge(self) -> list[Any]:
        """Add LoRA's matrices into the weights beside them, as quick as without, for use → the layers that were not merged before."""
        layers = [m for m in self.model.modules() if hasattr(m, "lora_A") and not m.merged]
        for layer in layers:
            layer.merge()
        return layers

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Within it LoRA is added in; behind it is as before."""
        layers = self.merge()
        try:
            yield
        finally:
            for layer in layers:
                layer.unmerge()

    def save_adapter(self, folder: str | os.PathLike) -> None:
        """LoRA's matrices as a folder that peft loads over the pretrained model.

        Raises:
            ValueError: there are none (learns is not lora).
        """
        if self.config.learns != "lora":
            raise ValueError(f"no adapter to save: model.llm.learns is {self.config.learns}")
        peft, safetensors = require("peft", "llm", why="LoRA"), require("safetensors.torch")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
        # peft's own folders wrap the model once more
        safetensors.save_file({f"base_model.model.{name}": value.detach().contiguous().cpu() for name, value in weights.items()},
                              folder / "adapter_model.safetensors")
        options = _lora_config(peft, self.config)
        options.base_model_name_or_path, options.inference_mode, options.task_type = self.config.name, True, "CAUSAL_LM"
        options.save_pretrained(str(folder))

    def save_merged(self, folder: str | os.PathLike) -> None:
        """The whole language model with LoRA added in, as a Hugging Face folder that needs no peft."""
        with self.merged():
            weights = {name.replace(".base_layer.", "."): value for name, value in self.model.state_dict().items() if ".lora_" not in name}
            self.model.save_pretrained(str(folder), state_dict=weights)

    @torch.no_grad()
    def _embedding_rms(self) -> float:
        rows = torch.linspace(0, self.vocab_size - 1, min(self.vocab_size, 2048)).long()
        return float(self.embed(rows).float().square().mean().sqrt()) or 1.0

    @torch.no_grad()
    def _check_logits(self) -> None:
        """
        Raises:
            ValueError: the model makes logits in a way that `logits` does not know, or takes no vectors in place of tokens.
        """
        ids = torch.arange(min(8, self.vocab_size))[None]
        training = self.model.training
        self.model.eval()
        expected = self.model(input_ids=ids, use_cache=False).logits[0].float()
        found = self.logits(self(self.embed(ids), torch.tensor([ids.shape[1]]))[0])
        self.model.train(training)
        if not torch.allclose(found, expected, atol=1e-3 + 1e-2 * float(expected.abs().max())):
            raise ValueError(f"{self.config.name}: {type(self.model).__name__} reads vectors or makes logits in a way of its own; choose a "
                             "language model of another family (Qwen2, Llama, Phi, Gemma 2 or 3 work)")


def bend(logits: Tensor, cap: float) -> Tensor:
    """Logits within ±cap; as they are where cap is 0."""
    return cap * (logits / cap).tanh() if cap else logits


def _load(config: LLMConfig) -> tuple[Any, Source]:
    """The model and where it was read from; within `shape_only` on the meta device."""
    transformers = require("transformers", "llm", why="language models")
    if builds_shapes_only() and config.architecture:
        options, source = dict(config.architecture), Source(config.name)
        found = transformers.AutoConfig.for_model(options.pop("model_type"), **options)
    else:
        if not config.name:
            raise ValueError("model.llm.name: empty; give a Hugging Face name or folder of a causal language model")
        source = locate(config.name)
        with reading("language model", source):
            found = transformers.AutoConfig.from_pretrained(source.folder or config.name, **hub_options(source, config.revision))
        source = replace(source, revision=getattr(found, "_commit_hash", None) or "")
    refuse(found, config.name)
    if builds_shapes_only():
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(found), source
    if source.folder:
        check_weights(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if config.learns == "all" else resolve(config.dtype, device, "model.llm.dtype")
    options = {"quantization_config": _quantization(transformers, config.quantized, dtype)} if config.quantized else {}
    with reading("language model", source):
        model = transformers.AutoModelForCausalLM.from_pretrained(source.folder or config.name, dtype=dtype, use_safetensors=True,
                                                                  **hub_options(source, config.revision), **options)
    return model.eval(), source


def refuse(found: Any, name: str) -> None:
    """
    Raises:
        ValueError: the model of this configuration reads token ids in every layer (Gemma 3n, Gemma 4), which vectors do not have.
    """
    text = found.get_text_config()
    if getattr(text, "hidden_size_per_layer_input", 0):
        raise ValueError(f"{name}: {found.model_type} gives every layer an embedding of the token's id, and audio has no token ids; choose "
                         "a language model without inputs to each layer (Gemma 3, Qwen2.5, Llama 3, Phi-4)")


def _quantization(transformers: Any, kind: str, dtype: torch.dtype) -> Any:
    require("bitsandbytes", "quantized", why=f"model.llm.quantized={kind}")
    if kind == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _lora_config(peft: Any, config: LLMConfig) -> Any:
    names = [name.strip() for name in config.lora.targets.split(",")]
    return peft.LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout,
                           target_modules=names[0] if names == ["all-linear"] else names)


def _add_lora(model: Any, config: LLMConfig) -> None:
    peft = require("peft", "llm", why="LoRA (model.llm.learns=lora)")
    try:
        peft.inject_adapter_in_model(_lora_config(peft, config), model, adapter_name=_ADAPTER)
    except ValueError as error:
        raise ValueError(f"model.llm.lora.targets: {config.lora.targets!r} names no layers of {type(model).__name__}: {error}") from error
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.is_meta:
            parameter.data = parameter.data.float()  # small updates vanish in half precision


def _cache_argument(body: nn.Module) -> str:
    """transformers renames `past_key_values` to `cache`, model by model."""
    names = inspect.signature(body.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def _copy(cache: Any) -> Any:
    """The same keys and values in objects of their own: an update replaces tensors, it does not write into them."""
    out = copy.copy(cache)
    out.layers = [copy.copy(layer) for layer in cache.layers]
    return out
