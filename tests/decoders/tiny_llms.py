"""Small random language models in the formats of the real ones: Hugging Face folders with a tokenizer each."""

from __future__ import annotations

from pathlib import Path

import torch

TEXTS = ["HOLD THE LEFT BRIDGE NOW", "TWO ENEMIES AT THE RIVER", "I NEED AMMO", "run back to the castle", "Where is the wizard?",
         "नमस्ते दुनिया", "你好世界"]
_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES = {
    "qwen2": {**_SIZES, "tie_word_embeddings": True},
    "llama": _SIZES,
    "phi3": {**_SIZES, "pad_token_id": 0},
    "gemma3_text": {**_SIZES, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 16,
                    "layer_types": ["sliding_attention", "full_attention"]},
    "gemma2": {**_SIZES, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 5.0},
}
CHAT = ("{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}")


def make_tokenizer(folder: Path, *, chat: bool = False, size: int = 320) -> int:
    """A byte-level BPE as Qwen's and Llama's are → its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>" if chat else "<|endoftext|>", pad_token="<|endoftext|>")
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(str(folder))
    return tokenizer.get_vocab_size()


def make_llm(folder: Path, family: str = "qwen2", *, chat: bool = False, seed: int = 0) -> Path:
    """The folder of a random model of the family."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    size = make_tokenizer(folder, chat=chat)
    config = AutoConfig.for_model(family, vocab_size=size + 5, bos_token_id=0, eos_token_id=2 if chat else 0, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at the start of a training, so that outputs differ
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    return folder
