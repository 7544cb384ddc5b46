"""A pretrained language model over n-best lists, what hypotheses begin with once against every hypothesis whole:
`python -m benchmarks.pretrained_lm --model FOLDER --text cuts_dev.jsonl.gz`.

The lists are made of a text of about 25 words: at six places of it one of three words, as recognizers hesitate. Processor time, one thread.
"""

from __future__ import annotations

import argparse
import random
import time

import torch

from benchmarks.figures import Figures
from voxkit.eval.table import format_table
from voxkit.eval.texts import read_texts
from voxkit.infer.pretrained_lm import PretrainedLM


def variants(text: str, others: list[str], count: int, seed: int = 0) -> list[str]:
    """So many different texts, the given one among them."""
    rng, base = random.Random(seed), text.split()
    places = {i: [base[i], rng.choice(others), rng.choice(others)] for i in rng.sample(range(len(base)), min(6, len(base)))}
    out = {text}
    while len(out) < count:
        out.add(" ".join(rng.choice(places[i]) if i in places and rng.random() < 0.4 else word for i, word in enumerate(base)))
    return sorted(out)


def main() -> None:
    """Run and print."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True, help="Hugging Face name or folder")
    p.add_argument("--text", required=True, help="cuts, or lines of id<TAB>text, to make the lists of")
    p.add_argument("--sizes", nargs="+", type=int, default=[10, 100], help="hypotheses of a list")
    Figures.add_argument(p)
    args = p.parse_args()
    torch.set_num_threads(1)
    texts = list(read_texts(args.text).texts.values())
    chosen = min(texts, key=lambda text: abs(len(text.split()) - 25))
    words = sorted({word for text in texts for word in text.split()})
    lm, rows = PretrainedLM.load(args.model), []
    for size in args.sizes:
        spent = {}
        for tree in (True, False) if lm.tree else (False,):
            lm.tree = tree
            lm.score(["to warm up"])
            lm.known.clear()
            start = time.process_time()
            lm.score(variants(chosen, words, size))
            spent[tree] = time.process_time() - start
            lm.known.clear()
        lm.tree = True in spent
        rows.append({"hypotheses": size, "whole, s": f"{spent[False]:.2f}"})
        if lm.tree:
            Figures("pretrained_lm", args.json).add(f"beginnings once against whole, {size} hypotheses", [spent[False] / spent[True]])
            rows[-1] |= {"beginnings once, s": f"{spent[True]:.2f}", "times faster": f"{spent[False] / spent[True]:.1f}"}
    print(f"torch {torch.__version__}, {lm.model.dtype}, {len(chosen.split())} words")
    print(format_table(rows))


if __name__ == "__main__":
    main()
