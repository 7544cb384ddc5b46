"""`voxkit tokenize --cuts data/cuts_train.jsonl.gz --out data/bpe500`: a tokenizer from the transcripts of cuts; with `--kind llm --llm
FOLDER` those of a language model's tokens that the transcripts use, for VoxLM."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("tokenize", help="train a SentencePiece or character tokenizer, or choose tokens of a language model",
                                   description=__doc__)
    parser.add_argument("--cuts", nargs="+", required=True, metavar="CUTS", help="training sets: cuts_<split>.jsonl.gz")
    parser.add_argument("--kind", choices=("bpe", "char", "llm"), default="bpe",
                        help="byte-pair encoding (default), characters, or a language model's own tokens")
    parser.add_argument("--llm", metavar="FOLDER", help="with --kind llm: the folder of the language model (tokenizer.json)")
    parser.add_argument("--whole", action="store_true", help="with --kind llm: all its tokens, not only those of the transcripts")
    parser.add_argument("--vocab-size", type=int, default=2000, help="tokens in all, for bpe (default 2000)")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory that gets the tokenizer's files and tokens.txt")


def run(args: argparse.Namespace) -> None:
    from voxkit.data.manifests import existing
    from voxkit.eval.texts import read_texts  # without lhotse and torch, which take longer than the rest
    from voxkit.files import write_text
    from voxkit.text.sentencepiece import train_bpe, train_characters

    texts = [text for path in args.cuts for text in read_texts(existing(path)).texts.values() if text]
    out = Path(args.out)
    if (args.kind == "llm") != bool(args.llm) or args.whole and not args.llm:
        raise ValueError("--kind llm takes --llm FOLDER (and --whole), the language model whose tokens they are; other kinds take neither")
    if args.kind == "llm":
        _of_llm(args.llm, args.whole, texts, out)
        return
    if args.kind == "bpe":
        tokenizer = train_bpe(texts, args.vocab_size, out / "tokenizer.model")
    else:
        tokenizer = train_characters(texts, out / "tokenizer.model")
    write_text(out / "tokens.txt", "".join(f"{piece} {i}\n" for i, piece in enumerate(tokenizer.pieces)))
    tokens, words = sum(len(tokenizer.encode(t)) for t in texts), sum(len(t.split()) for t in texts)
    print(f"{out / 'tokenizer.model'}: {tokenizer.size} tokens from {len(texts)} transcripts, "
          f"{tokens / max(words, 1):.2f} tokens a word; pad = blank 0, bos 1, eos 2, unk 3")


def _of_llm(folder: str, whole: bool, texts: list[str], out: Path) -> None:
    from voxkit.files import write_text
    from voxkit.text.huggingface import HuggingFaceVocabulary
    from voxkit.text.llm_vocabulary import LLMVocabulary

    base = HuggingFaceVocabulary.load(folder)
    vocabulary = LLMVocabulary.whole(base) if whole else LLMVocabulary.of_texts(base, texts)
    vocabulary.save(out)
    write_text(out / "tokens.txt", "".join(f"{piece} {i}\n" for i, piece in enumerate(vocabulary.pieces)))
    tokens, words = sum(len(vocabulary.encode(t)) for t in texts), sum(len(t.split()) for t in texts)
    print(f"{out}: {vocabulary.size} of {base.size} tokens, CTC tells {vocabulary.heard} of them apart; {tokens / max(words, 1):.2f} "
          f"tokens a word in {len(texts)} transcripts; blank 0, end 1")
