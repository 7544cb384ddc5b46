"""The named variants of VoxLM: which encoder and which language model, with the numbers of both, so that nothing needs a network to be
counted or shaped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from voxkit.decoders.llm_config import LLMConfig
from voxkit.encoders.front_end import FrontEndConfig
from voxkit.encoders.pretrained import PretrainedConfig
from voxkit.encoders.projector import ProjectorConfig
from voxkit.models.voxlm import VoxLMConfig
from voxkit.text.prompt import PromptConfig

_QWEN = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "bos_token_id": 151643}
LLMS: dict[str, dict[str, Any]] = {  # Hugging Face name → architecture
    "Qwen/Qwen2-0.5B-Instruct": {
        **_QWEN, "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "tie_word_embeddings": True, "eos_token_id": 151645},
    "Qwen/Qwen2.5-0.5B-Instruct": {
        **_QWEN, "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "tie_word_embeddings": True, "eos_token_id": 151645},
    "Qwen/Qwen2-1.5B-Instruct": {
        **_QWEN, "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "tie_word_embeddings": True, "eos_token_id": 151645},
    "Qwen/Qwen2.5-3B-Instruct": {
        **_QWEN, "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "tie_word_embeddings": True, "eos_token_id": 151645},
    "Qwen/Qwen2.5-7B-Instruct": {
        **_QWEN, "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "tie_word_embeddings": False, "eos_token_id": 151645},
    "meta-llama/Llama-3.1-8B-Instruct": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False, "max_position_embeddings": 131072,
        "bos_token_id": 128000, "eos_token_id": 128009},
    "microsoft/phi-4": {
        "model_type": "phi3", "vocab_size": 100352, "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40,
        "num_attention_heads": 40, "num_key_value_heads": 10, "tie_word_embeddings": False, "max_position_embeddings": 16384,
        "bos_token_id": 100257, "eos_token_id": 100265, "pad_token_id": 100349},
}


@dataclass(frozen=True)
class Variant:
    """One row: encoder and language model by Hugging Face name, the projector, the language that prompts name, what it is for."""

    encoder: str
    llm: str
    projector: str = "lexical"
    language: str = ""
    about: str = ""


VARIANTS: dict[str, Variant] = {
    "voxlm-0.5b": Variant("openai/whisper-tiny", "Qwen/Qwen2-0.5B-Instruct", about="the smallest that is trained in an hour"),
    "voxlm-2b": Variant("openai/whisper-small", "Qwen/Qwen2-1.5B-Instruct", about="the default"),
    "voxlm-4b-multilingual": Variant("openai/whisper-large-v3-turbo", "Qwen/Qwen2.5-3B-Instruct", about="99 languages"),
    "voxlm-9b-global": Variant("openai/whisper-large-v3", "Qwen/Qwen2.5-7B-Instruct", about="99 languages, the most accurate"),
    "voxlm-9b-india": Variant("indicwhisper", "Qwen/Qwen2.5-7B-Instruct", language="Hindi", about="the languages of India"),
    "voxlm-llama-8b": Variant("openai/whisper-large-v3", "meta-llama/Llama-3.1-8B-Instruct", about="Llama"),
    "voxlm-phi-4": Variant("openai/whisper-large-v3", "microsoft/phi-4", about="Phi, fused projections"),
    "voxlm-edge": Variant("openai/whisper-tiny", "Qwen/Qwen2.5-0.5B-Instruct", about="small devices"),
}
ALIASES = {"qwen-stt-2b": "voxlm-2b", "voxlm": "voxlm-2b"}
DEFAULT = "voxlm-2b"


def get_config(name: str = DEFAULT, *, encoder: str = "", llm: str = "") -> VoxLMConfig:
    """The configuration of a variant.

    Args:
        name: of VARIANTS or ALIASES.
        encoder, llm: folders or Hugging Face names to take in place of the variant's, such as where they were downloaded to.

    Raises:
        ValueError: no such variant; the message lists those there are.
    """
    known = ALIASES.get(name, name)
    if known not in VARIANTS:
        raise ValueError(f"{name!r} is no variant of VoxLM; there are {', '.join(VARIANTS)} (and {', '.join(ALIASES)})")
    row = VARIANTS[known]
    return VoxLMConfig(
        front_end=FrontEndConfig(kind="pretrained", pretrained=PretrainedConfig(name=encoder or row.encoder, dtype="auto")),
        llm=LLMConfig(name=llm or row.llm, architecture=dict(LLMS[row.llm])), projector=ProjectorConfig(kind=row.projector),
        prompt=PromptConfig(language=row.language))
