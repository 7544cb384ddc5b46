"""`voxkit tokenize --cuts data/cuts_train.jsonl.gz --out data/bpe500`: a tokenizer from the transcripts of cuts."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("tokenize", help="train a SentencePiece or character tokenizer", description=__doc__)
    parser.add_argument("--cuts", nargs="+", required=True, metavar="CUTS", help="training sets: cuts_<split>.jsonl.gz")
    parser.add_argument("--kind", choices=("bpe", "char"), default="bpe", help="byte-pair encoding (default) or characters")
    parser.add_argument("--vocab-size", type=int, default=2000, help="tokens in all, for bpe (default 2000)")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory that gets tokenizer.model and tokens.txt")


def run(args: argparse.Namespace) -> None:
    from voxkit.data.manifests import existing
    from voxkit.eval.texts import read_texts  # without lhotse and torch, which take longer than the rest
    from voxkit.files import write_text
    from voxkit.text.sentencepiece import train_bpe, train_characters

    texts = [text for path in args.cuts for text in read_texts(existing(path)).texts.values() if text]
    out = Path(args.out)
    if args.kind == "bpe":
        tokenizer = train_bpe(texts, args.vocab_size, out / "tokenizer.model")
    else:
        tokenizer = train_characters(texts, out / "tokenizer.model")
    write_text(out / "tokens.txt", "".join(f"{piece} {i}\n" for i, piece in enumerate(tokenizer.pieces)))
    tokens, words = sum(len(tokenizer.encode(t)) for t in texts), sum(len(t.split()) for t in texts)
    print(f"{out / 'tokenizer.model'}: {tokenizer.size} tokens from {len(texts)} transcripts, "
          f"{tokens / max(words, 1):.2f} tokens a word; pad = blank 0, bos 1, eos 2, unk 3")
