"""`voxkit lm`: language models from text. train: an n-gram, over words or the pieces of a tokenizer; sample: what a pretrained causal
model expects at every place of a text, for `train --sampled`; substitute: the text with such words in the place of others;
train-neural: an LSTM or Transformer over pieces; perplexity: what an n-gram says of a text;
rare-words: a list to try biasing with."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Register the command."""
    p = subparsers.add_parser("lm", help="train and try language models", description=__doc__)
    actions = p.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--text", nargs="+", required=True, help="lines of text, or lhotse cuts (.jsonl, .jsonl.gz)")
    common.add_argument("--ids", action="store_true", help="lines begin with an utterance id, which is no text")
    common.add_argument("--normalize", default="none", help="text rule: none, lower, librispeech")
    spelled = argparse.ArgumentParser(add_help=False)
    spelled.add_argument("--tokenizer", help="tokenizer.model: the model is over its pieces; without it over words")
    t = actions.add_parser("train", parents=[common, spelled], help="modified Kneser-Ney → ARPA")
    t.add_argument("--order", type=int, default=4)
    t.add_argument("--sampled", nargs="+", default=[], metavar="FILE", help="what `voxkit lm sample` drew, counted besides")
    t.add_argument("--prune", nargs="+", type=int, default=[0], metavar="N",
                   help="for orders 1, 2, ..., the last for those above too: leave out n-grams that count so much or less; 0 0 1 drops "
                        "trigrams and longer ones that count one")
    t.add_argument("--out", required=True, help="lm.arpa or lm.arpa.gz")
    t.set_defaults(run=run)
    s = actions.add_parser("sample", parents=[common], help="the words that a pretrained causal language model expects at every place of "
                                                            "--text → --sampled of train: an n-gram that knows more words than the text")
    s.add_argument("--model", required=True, help="causal language model of Hugging Face, by name or folder")
    s.add_argument("--draws", type=int, default=16, help="words drawn at each place")
    s.add_argument("--seed", type=int, default=0)
    s.add_argument("--device", default="cpu")
    s.add_argument("--out", required=True, help="sampled.jsonl")
    s.set_defaults(run=run)
    b = actions.add_parser("substitute", parents=[common], help="--text with words that `sample` drew in the place of others, those first "
                                                                "that were said least: text for `voxkit prepare synthetic`")
    b.add_argument("--sampled", required=True, metavar="FILE", help="what `voxkit lm sample` drew from the same --text")
    b.add_argument("--lines", type=int, default=1000, help="how many; the text is gone through again where it has fewer (default 1000)")
    b.add_argument("--share", type=float, default=0.5, help="of the words that give way (default 0.5)")
    b.add_argument("--seed", type=int, default=0, help="of what gives way (default 0)")
    b.add_argument("--out", required=True, help="text file")
    b.set_defaults(run=run)
    n = actions.add_parser("train-neural", parents=[common, spelled], help="LSTM or Transformer over pieces → a run directory, for --lm of "
                                                                           "decode")
    n.add_argument("--dev", nargs="+", required=True, help="text, or cuts, that perplexity is measured on")
    n.add_argument("--out", required=True, help="run directory; one that is there is continued")
    n.add_argument("--kind", default="lstm", choices=["lstm", "transformer"])
    n.add_argument("--dim", type=int, default=256)
    n.add_argument("--layers", type=int, default=2)
    n.add_argument("--dropout", type=float, default=0.3)
    n.add_argument("--epochs", type=int, default=20)
    n.add_argument("--lr", type=float, default=2e-3)
    n.add_argument("--seed", type=int, default=0)
    n.add_argument("--device", default="cpu")
    n.set_defaults(run=run)
    g = actions.add_parser("graph", parents=[common, spelled], help="decoding graph for the k2 methods: HL, with --lm HLG; the words are "
                                                                    "those of --text and of the models")
    g.add_argument("--lm", help="ARPA over words; none: HL")
    g.add_argument("--rescore-lm", help="a larger ARPA over words, for k2_nbest_rescoring and k2_rescoring")
    g.add_argument("--out", required=True)
    g.set_defaults(run=run)
    r = actions.add_parser("rare-words", parents=[common], help="a phrase list to try biasing with: words of a test set that --text hardly "
                                                                "has, and as many that nobody says")
    r.add_argument("--test", required=True, help="texts or cuts of the test set")
    r.add_argument("--said", type=int, default=50, help="words of the test set")
    r.add_argument("--total", type=int, default=100, help="words in the list")
    r.add_argument("--at-most", type=int, default=1, help="occurrences in --text")
    r.add_argument("--out", required=True)
    r.set_defaults(run=run)
    q = actions.add_parser("perplexity", parents=[common, spelled], help="perplexity of a text")
    q.add_argument("--lm", required=True, help="ARPA file")
    q.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Train, or measure."""
    from voxkit.search.ngram import NgramModel, train

    if args.action == "rare-words":
        return _rare_words(args)
    if args.action == "graph":
        return _graph(args)
    if args.action == "train-neural":
        return _train_neural(args)
    if args.action == "sample":
        return _sample(args)
    if args.action == "substitute":
        return _substitute(args)
    split, vocabulary, coverage = _splitter(args.tokenizer)
    sentences = [split(line) for line in _lines(args.text, args.ids, args.normalize)]
    if coverage is not None and (lacking := coverage.check(" ".join(args.text))):
        print(lacking)
    if args.action == "train":
        start = time.monotonic()
        more = (c for path in args.sampled for c in _sampled(path, split))
        model = train(sentences, args.order, vocabulary=vocabulary, continuations=more, prune=args.prune)
        model.write(args.out)
        sizes = ", ".join(f"{n}: {len(grams)}" for n, grams in enumerate(model.ngrams, 1))
        print(f"{args.out}: {len(sentences)} sentences, n-grams {sizes}, {time.monotonic() - start:.1f} s; "
              f"perplexity on its own text {model.perplexity(sentences[:2000]):.1f}")
    else:
        print(f"perplexity {NgramModel.read(args.lm).perplexity(sentences):.2f} on {len(sentences)} sentences")
    return 0


def _sampled(path: str, split: Callable[[str], list[str]]) -> Iterable[tuple[list[str], list[str], int]]:
    import functools

    from voxkit.infer.text_sampling import read_places

    return read_places(path, functools.lru_cache(maxsize=1 << 18)(split))


def _sample(args: argparse.Namespace) -> int:
    from voxkit.files import writing
    from voxkit.infer.pretrained_lm import PretrainedLM
    from voxkit.infer.text_sampling import expected_words

    if args.draws < 1:
        raise ValueError(f"--draws {args.draws}: at least 1")
    texts = _lines(args.text, args.ids, args.normalize)
    lm = PretrainedLM.load(args.model, args.device)
    places, words, start = 0, 0, time.monotonic()
    with writing(args.out) as file:
        for found in expected_words(lm, texts, args.draws, seed=args.seed):
            file.writelines(place.line() for place in found)
            places += len(found)
            words += sum(place.words.total() for place in found)
            print(f"{places} places, {words} words, {time.monotonic() - start:.0f} s", end="\r", flush=True)
    print(f"{args.out}: {words} words at {places} places of {len(texts)} texts, {time.monotonic() - start:.0f} s")
    return 0


def _substitute(args: argparse.Namespace) -> int:
    from voxkit.files import writing
    from voxkit.infer.text_sampling import substituted_lines

    if args.lines < 1:
        raise ValueError(f"--lines {args.lines}: at least 1")
    if not 0 < args.share <= 1:
        raise ValueError(f"--share {args.share}: above 0, at most 1")
    texts = _lines(args.text, args.ids, args.normalize)
    known = {word for text in texts for word in text.split()}
    words: set[str] = set()
    count = 0
    with writing(args.out) as file:
        for line in substituted_lines(texts, args.sampled, args.lines, share=args.share, seed=args.seed):
            file.write(line + "\n")
            words.update(line.split())
            count += len(line.split())
    print(f"{args.out}: {count} words in {args.lines} lines, {len(words)} different; {len(words - known)} of them --text does not have")
    return 0


def _graph(args: argparse.Namespace) -> int:
    from voxkit.search.k2_graphs import build_graph
    from voxkit.search.ngram import BOS, EOS, UNK, NgramModel
    from voxkit.text.vocabulary import load_vocabulary

    if args.tokenizer is None:
        raise ValueError("graph needs --tokenizer: words are spelled in its pieces")
    tokenizer = load_vocabulary(args.tokenizer)
    lm, larger = (NgramModel.read(path) if path else None for path in (args.lm, args.rescore_lm))
    words = {word for line in _lines(args.text, args.ids, args.normalize) for word in line.split()}
    words |= {word for model in (lm, larger) if model for word in model.vocabulary} - {BOS, EOS, UNK}
    spellings = {word: tokenizer.encode(word) for word in words}
    spellings = {word: tokens for word, tokens in spellings.items() if tokens and tokenizer.unk not in tokens}
    build_graph(spellings, tokenizer.size, args.out, lm, larger, tokenizer.fingerprint())
    print(f"{args.out}: {'HLG' if args.lm else 'HL'} over {len(spellings)} words")
    return 0


def _train_neural(args: argparse.Namespace) -> int:
    from voxkit.run import train
    from voxkit.training.neural_lm import neural_lm_setup

    if args.tokenizer is None:
        raise ValueError("train-neural needs --tokenizer: the model is over its pieces")
    model = {"kind": args.kind, "dim": args.dim, "layers": args.layers, "dropout": args.dropout, "ffn": 4 * args.dim}
    setup = neural_lm_setup(_lines(args.text, args.ids, args.normalize), _lines(args.dev, args.ids, args.normalize), args.tokenizer,
                            args.out, model=model, epochs=args.epochs, lr=args.lr, seed=args.seed)
    result, run_dir = train(setup, run_dir=args.out, device=args.device)
    print(f"{run_dir}: best perplexity per token on dev {result.best:.2f} after {result.epoch} epochs")
    return 0


def _rare_words(args: argparse.Namespace) -> int:
    from voxkit.eval.biasing import rare_words
    from voxkit.files import write_text

    found = rare_words(_lines(args.text, args.ids, args.normalize), _lines([args.test], args.ids, args.normalize), args.said, args.total,
                       at_most=args.at_most)
    write_text(args.out, "".join(word + "\n" for word in found))
    print(f"{args.out}: {args.said} words of {args.test}, each at most {args.at_most} times in the text, {args.total - args.said} others")
    return 0


def _splitter(tokenizer: str | None) -> tuple[Callable[[str], list[str]], list[str] | None, Any]:
    """How a line is parted, the words that there are, and what was found that cannot be spelled."""
    if tokenizer is None:
        return str.split, None, None
    from voxkit.text.coverage import Coverage
    from voxkit.text.vocabulary import load_vocabulary

    vocabulary = load_vocabulary(tokenizer)
    coverage, pieces = Coverage(vocabulary), list(vocabulary.pieces)
    return (lambda text: [pieces[i] for i in coverage.encode(repr(text[:40]), text)],
            [p for i, p in enumerate(pieces) if i not in vocabulary.specials], coverage)


def _lines(paths: Iterable[str], ids: bool, normalize: str) -> list[str]:
    from pathlib import Path

    from voxkit.eval.normalize import normalization
    from voxkit.eval.texts import read_texts
    from voxkit.files import read_lines

    rule, out = normalization(normalize), []
    for path in paths:
        if ids or path.endswith((".jsonl", ".jsonl.gz")):
            lines: Iterable[str] = read_texts(path).texts.values()
        elif not Path(path).is_file():
            raise ValueError(f"{path}: no such file; --text takes lines of text")
        else:
            lines = read_lines(path)
        out += [text for text in map(rule, lines) if text]
    return out
