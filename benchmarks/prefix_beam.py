"""CTC prefix beam search against pyctcdecode's on the same scores: `python -m benchmarks.prefix_beam`.

Beam 10, vocabulary 500, 10 s utterances at 25 frames/s, no language model. The scores are synthetic but shaped like a
trained CTC model's: blank over most frames, spikes with a few rivals. Every utterance is timed in turn by all contestants
(paired), so that a busy machine slows them alike; the ratio printed is the median of the per-utterance ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.figures import Figures
from voxkit.eval.table import format_table
from voxkit.eval.wer import edit_errors
from voxkit.search.greedy import ctc_greedy
from voxkit.search.prefix_beam import ctc_prefix_beam

EXACT: dict = {"blank_skip": None, "min_log_prob": None, "prune": None}


def synthetic(count: int, frames: int, vocab: int, tokens_per_frame: float = 0.2, seed: int = 0) -> tuple[torch.Tensor, list[list[int]]]:
    """Log-probabilities [N, T, V] and the tokens they were made from."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(count, frames, vocab, generator=rng)
    x[..., 0] += 15 + torch.randn(count, frames, generator=rng)
    truth = []
    for b in range(count):
        places = torch.rand(frames, generator=rng) < tokens_per_frame
        places[1:] &= ~places[:-1]
        tokens = torch.randint(1, vocab, (int(places.sum()),), generator=rng)
        rivals = torch.randint(1, vocab, (3, len(tokens)), generator=rng)
        at = places.nonzero().flatten()
        for i, row in enumerate([tokens, *rivals]):
            x[b, at, row] += (21 if i == 0 else 15) + 2 * torch.randn(len(tokens), generator=rng)
            after = (at + 1).clamp(max=frames - 1)
            x[b, after, row] += 6
        truth.append(tokens.tolist())
    return x.log_softmax(-1), truth


def pyctcdecode_search(vocab: int, beam: int) -> Callable[[torch.Tensor], list[int]]:
    """Their decoder as a function [T, V] → tokens; private-use characters stand for tokens, so texts map back."""
    import logging

    from pyctcdecode import build_ctcdecoder

    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    labels = ["", *(chr(0xE000 + i) for i in range(1, vocab))]
    decoder = build_ctcdecoder(labels)

    def search(x: torch.Tensor) -> list[int]:
        return [ord(c) - 0xE000 for c in decoder.decode(x.numpy(), beam_width=beam).replace(" ", "")]

    return search


def main() -> None:
    """Run and print."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--utterances", type=int, default=32)
    p.add_argument("--frames", type=int, default=250)
    p.add_argument("--vocab", type=int, default=500)
    p.add_argument("--beam", type=int, default=10)
    p.add_argument("--cpu-time", action="store_true", help="count the processor's time, not the clock's: beside other jobs, one thread")
    Figures.add_argument(p)
    args = p.parse_args()
    figures = Figures("prefix_beam", args.json)
    clock = time.process_time if args.cpu_time else time.perf_counter
    x, truth = synthetic(args.utterances, args.frames, args.vocab)
    length = torch.tensor([args.frames])
    theirs = pyctcdecode_search(args.vocab, args.beam)
    contestants: dict[str, Callable[[torch.Tensor], list[int]]] = {
        "pyctcdecode": theirs,
        "prefix beam": lambda u: ctc_prefix_beam(u[None], length, args.beam)[0][0].tokens,
        "prefix beam, nothing pruned": lambda u: ctc_prefix_beam(u[None], length, args.beam, **EXACT)[0][0].tokens,
        "prefix beam, arrays": lambda u: ctc_prefix_beam(u[None], length, args.beam, engine="arrays")[0][0].tokens,
        "prefix beam, tensors": lambda u: ctc_prefix_beam(u[None], length, args.beam, engine="tensor")[0][0].tokens,
        "greedy": lambda u: ctc_greedy(u[None], length)[0].tokens,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    errors = dict.fromkeys(contestants, 0)
    for search in contestants.values():
        search(x[0])
    for u, reference in zip(x, truth):
        for name, search in contestants.items():
            start = clock()
            tokens = search(u)
            times[name].append(clock() - start)
            errors[name] += edit_errors(reference, tokens)
    total, rows = sum(map(len, truth)), []
    for name in contestants:
        ratios = [a / b for a, b in zip(times["pyctcdecode"], times[name])]
        if name != "pyctcdecode":
            figures.add(f"{name} against pyctcdecode, beam {args.beam}", ratios)
        rows.append({"search": name, "ms per utterance": f"{1000 * statistics.median(times[name]):.2f}",
                     "times faster": f"{statistics.median(ratios):.1f}", "token errors %": f"{100 * errors[name] / total:.2f}"})
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, beam {args.beam}, vocabulary {args.vocab}, {args.frames} frames")
    print(format_table(rows) + "\n")
    print(format_table(list(batches(x, args.beam, clock, figures))))


def batches(x: torch.Tensor, beam: int, clock: Callable[[], float], figures: Figures, sizes: Sequence[int] = (2, 4, 8, 16, 32),
            rounds: int = 5) -> Iterator[dict[str, str]]:
    """Rows about batches against the same utterances one by one; both take turns."""
    length = torch.tensor([x.shape[1]])
    for name, how in (("the default", {}), ("nothing pruned", EXACT), ("tensors", {"engine": "tensor"})):
        for size in [n for n in sizes if n <= len(x)]:
            of_batch, of_singles = [], []
            for r in range(rounds + 1):
                start = clock()
                ctc_prefix_beam(x[:size], length.expand(size), beam, **how)
                middle = clock()
                for u in x[:size]:
                    ctc_prefix_beam(u[None], length, beam, **how)
                if r:  # the first warms up
                    of_batch.append(middle - start)
                    of_singles.append(clock() - middle)
            ratios = [one / all for one, all in zip(of_singles, of_batch)]
            figures.add(f"{name}, {size} utterances together against one by one", ratios)
            ratio = statistics.median(ratios)
            yield {"prefix beam": name, "batch": f"{size}", "ms per utterance": f"{1000 * statistics.median(of_batch) / size:.2f}",
                   "one by one": f"{1000 * statistics.median(of_singles) / size:.2f}", "times faster": f"{ratio:.1f}"}


if __name__ == "__main__":
    main()
