"""Attention beam search with and without copying the keys and values over the encoder states: `python -m benchmarks.attention_beam`.

A decoder of the base recipe's size, random weights, beam 10, 10 s utterances at 25 frames/s. "copied" is what a state did before it kept
cross-attention once per utterance: every step reorders the keys and values of every hypothesis. Searches alternate, so that whatever
else the machine does meets both; the ratio is the median of the pairs. Both give the same hypotheses (checked).
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.figures import Figures
from voxkit.decoders.transformer import DecoderState, TransformerDecoder, TransformerDecoderConfig
from voxkit.search.attention import attention_beam


class CopyingState(DecoderState):
    """Everything per hypothesis, all of it copied when a beam moves."""

    def select(self, index: Tensor) -> DecoderState:
        picked = replace(self, memory_mask=self.memory_mask[index], cross=[(k[index], v[index]) for k, v in self.cross],
                         past=[(k[index], v[index]) for k, v in self.past], rows=torch.arange(len(index)))
        return picked


class CopyingDecoder:
    """A decoder whose states copy."""

    def __init__(self, decoder: TransformerDecoder) -> None:
        self.decoder, self.step, self.bos, self.eos = decoder, decoder.step, decoder.bos, decoder.eos

    def init_state(self, memory: Tensor, lengths: Tensor) -> DecoderState:
        return CopyingState(**vars(self.decoder.init_state(memory, lengths)))


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--tokens", type=int, default=40, help="steps of the search")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    Figures.add_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    decoder = TransformerDecoder(TransformerDecoderConfig(dim=args.dim, layers=args.layers, ffn=4 * args.dim), 500, args.dim).eval()
    with torch.no_grad():
        decoder.output.bias[2] = -20.0  # never an end before the limit: as many steps for both
    memory, lengths = torch.randn(args.batch, args.frames, args.dim), torch.full((args.batch,), args.frames)
    ways = {"copied": CopyingDecoder(decoder), "kept": decoder}
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(args.pairs + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            found[name] = attention_beam(way, memory, lengths, args.beam, max_tokens_per_frame=args.tokens / args.frames, patience=1e9)
            times[name].append(time.perf_counter() - began)
    same = all(a[0].tokens == b[0].tokens for a, b in zip(found["copied"], found["kept"]))
    ratios = [a / b for a, b in zip(times["copied"][1:], times["kept"][1:])]
    Figures("attention_beam", args.json).add(f"kept against copied, beam {args.beam}, {args.tokens} tokens", ratios)
    for name, values in times.items():
        print(f"{name:8s} {statistics.median(values[1:]):.3f} s for {args.batch} utterances, beam {args.beam}, {args.tokens} tokens")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); hypotheses {'agree' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
