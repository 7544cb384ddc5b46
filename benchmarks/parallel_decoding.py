"""A parallel decoder against an autoregressive one of the same size: `python -m benchmarks.parallel_decoding`.

Both have random weights and look at the same encoder states (25 frames/s, 10 s utterances); both give out 50 tokens per utterance: the
weights of CIF are set to sum to it, and the end of sentence is forbidden to the other before that. The encoder, the same for both, is not
counted, but CIF's predictor is. One CPU thread; contestants take turns, the ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from voxkit.decoders.parallel import ParallelDecoder
from voxkit.decoders.transformer import DecoderState, TransformerDecoder, TransformerDecoderConfig
from voxkit.eval.table import format_table
from voxkit.predictors import CifPredictor
from voxkit.search.attention import attention_beam
from voxkit.search.parallel import parallel_beam, parallel_greedy


class Endless:
    """A decoder that never ends a sentence: how long it speaks is then decided by the search's limit.

    Args:
        decoder: the one that does the work.
    """

    def __init__(self, decoder: TransformerDecoder) -> None:
        self.decoder = decoder

    def init_state(self, memory: Tensor, lengths: Tensor) -> DecoderState:
        return self.decoder.init_state(memory, lengths)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        log_probs, state = self.decoder.step(tokens, state)
        log_probs[:, self.decoder.eos] = -1e4
        return log_probs, state


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"batch": 8, "frames": 250, "tokens": 50, "dim": 256, "layers": 3, "vocab": 300, "beam": 4, "rounds": 5}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = TransformerDecoderConfig(dim=args.dim, heads=4, ffn=4 * args.dim, layers=args.layers)
    parallel = ParallelDecoder(config, args.vocab, args.dim).eval()
    autoregressive = Endless(TransformerDecoder(config, args.vocab, args.dim).eval())
    predictor = CifPredictor(args.dim).eval()
    states, lengths = torch.randn(args.batch, args.frames, args.dim), torch.full((args.batch,), args.frames)
    counts = torch.full((args.batch,), args.tokens)

    def at_once(beam: int) -> list[int]:
        found = predictor(states, lengths, counts)
        log_probs = parallel(found.vectors, found.lengths, states, lengths).log_softmax(-1)
        if beam == 1:
            return [len(h.tokens) for h in parallel_greedy(log_probs, counts)]
        return [len(row[0].tokens) for row in parallel_beam(log_probs, counts, beam)]

    def one_by_one(beam: int) -> list[int]:
        rows = attention_beam(autoregressive, states, lengths, beam, max_tokens_per_frame=args.tokens / args.frames)
        return [len(row[0].tokens) for row in rows]

    rows = []
    with torch.inference_mode():
        for beam in (1, args.beam):
            times: dict[str, list[float]] = {"parallel": [], "autoregressive": []}
            for _ in range(args.rounds + 1):
                for name, search in (("parallel", at_once), ("autoregressive", one_by_one)):
                    began = time.perf_counter()
                    said = search(beam)
                    times[name].append(time.perf_counter() - began)
                    if not all(abs(n - args.tokens) <= 1 for n in said):
                        raise RuntimeError(f"{name} gave {said} tokens where {args.tokens} were to be compared")
            ratios = [a / b for a, b in zip(times["autoregressive"][1:], times["parallel"][1:])]
            for name, values in times.items():
                rows.append({"decoder": name, "beam": beam, "ms per utterance": f"{1e3 * statistics.median(values[1:]) / args.batch:.1f}",
                             "times slower": f"{statistics.median(ratios):.1f}" if name == "autoregressive" else ""})
    title = f"{args.batch} utterances × {args.frames} frames → {args.tokens} tokens, {args.layers} layers of {args.dim}"
    print(format_table(rows, title=title))


if __name__ == "__main__":
    main()
