"""A small Llama to stand in for a pretrained language model where nothing can be downloaded: random weights and a byte-level BPE of the
training text, saved as an ordinary Hugging Face folder. The stages that follow train all of it, for it knows nothing yet.

    python local/llama.py --text data/cuts_train.jsonl.gz --out data/llama
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from voxkit.eval.texts import read_texts

END = "<|end|>"


def make_tokenizer(texts: list[str], size: int) -> Tokenizer:
    """As Llama 3's and Qwen's are, only smaller."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", required=True, metavar="CUTS")
    parser.add_argument("--out", type=Path, default=Path("data/llama"))
    parser.add_argument("--vocab-size", type=int, default=512)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()
    if (args.out / "model.safetensors").is_file():
        print(f"{args.out} is there")
        return
    torch.manual_seed(1)
    tokenizer = make_tokenizer(sorted({text for path in args.text for text in read_texts(path).texts.values()}), args.vocab_size)
    # initializer_range: of widths in the thousands 0.02, of this one more, else its embeddings are hardly there
    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=args.dim, intermediate_size=3 * args.dim,
                         num_hidden_layers=args.layers, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512,
                         tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0, initializer_range=0.08)
    part = args.out.with_name(args.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    LlamaForCausalLM(config).save_pretrained(part)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END).save_pretrained(str(part))
    shutil.rmtree(args.out, ignore_errors=True)
    part.rename(args.out)
    print(f"{args.out}: {tokenizer.get_vocab_size()} tokens, {args.layers} layers of {args.dim}")


if __name__ == "__main__":
    main()
