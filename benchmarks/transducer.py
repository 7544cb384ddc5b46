"""Transducer searches, vectorized, beside plain loops over the same utterances: `python -m benchmarks.transducer`.

Vocabulary 500, 10 s utterances at 25 frames/s, decoder and joiner 512 wide as icefall's. The head is made by hand so that it behaves like a
trained one: blank over most frames, a token in a fifth of them, with rivals. The plain loops take an utterance at a time and a frame at a
time; the joiner sees all hypotheses at once, equal texts meet in a dictionary, and the decoder's output is kept for each context. Both
take turns, the ratio is the median of the rounds'; token errors show that both find the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.figures import Figures
from voxkit.decoders.transducer import Transducer, TransducerConfig
from voxkit.eval.table import format_table
from voxkit.eval.wer import edit_errors
from voxkit.search.transducer import transducer_greedy
from voxkit.search.transducer_beam import transducer_beam

Search = Callable[[Tensor], "list[list[int]]"]  # states [B, T, D] → tokens of each


def trained_like(vocab: int, dim: int = 512) -> Transducer:
    """A head that says what the state stands for: rows of the joiner's output are the directions of its input."""
    torch.manual_seed(0)
    head = Transducer(TransducerConfig(decoder_dim=dim, joiner_dim=dim), vocab, dim).eval()
    directions = torch.randn(vocab, dim) / dim ** 0.5
    with torch.no_grad():
        head.joiner.encoder_proj.weight.copy_(torch.eye(dim))
        head.joiner.encoder_proj.bias.zero_()
        head.joiner.decoder_proj.weight.mul_(0.1)
        head.joiner.output_linear.weight.copy_(20 * directions)
        head.joiner.output_linear.bias.zero_()
    return head


def synthetic(head: Transducer, count: int, frames: int, seed: int = 0) -> tuple[Tensor, list[list[int]]]:
    """States [N, T, D] and the tokens they stand for."""
    rng = torch.Generator().manual_seed(seed)
    directions = head.joiner.output_linear.weight.detach() / 20
    vocab, dim = directions.shape
    spoken = torch.rand(count, frames, generator=rng) < 0.2
    tokens = torch.randint(1, vocab, (count, frames), generator=rng).masked_fill(~spoken, head.blank)
    rivals = torch.randint(1, vocab, (count, frames), generator=rng)
    states = directions[tokens] + 0.7 * spoken[..., None] * directions[rivals]
    states += 0.3 * torch.randn(count, frames, dim, generator=rng) / dim ** 0.5
    return states, [row[said].tolist() for row, said in zip(tokens, spoken)]


@torch.no_grad()
def plain_greedy(head: Transducer, states: Tensor) -> list[list[int]]:
    """One utterance and one frame after the other."""
    out = []
    for heard in head.hear(states):
        context, tokens = head.init_context(1), []
        said = head.say(context)[0]
        for frame in heard:
            token = int(head.join(frame, said).argmax())
            if token != head.blank:
                tokens.append(token)
                context = torch.cat((context[:, 1:], torch.tensor([[token]])), dim=1)
                said = head.say(context)[0]
        out.append(tokens)
    return out


@torch.no_grad()
def plain_beam(head: Transducer, states: Tensor, beam: int) -> list[list[int]]:
    """Likewise, with a dictionary of texts."""
    width, out = head.decoder.context, []
    for heard in head.hear(states):
        start = tuple(head.init_context(1)[0].tolist())
        known: dict[tuple[int, ...], Tensor] = {}
        beams = {start: torch.zeros(())}
        for frame in heard:
            for text in beams:
                context = text[-width:]
                if context not in known:
                    known[context] = head.say(torch.tensor([context]))[0]
            texts, scores = list(beams), torch.stack(list(beams.values()))
            x = head.join(frame, torch.stack([known[text[-width:]] for text in texts]))
            top, index = (x + scores[:, None]).flatten().topk(beam)
            beams = {}
            for score, at in zip(top, index.tolist()):
                text, token = texts[at // x.shape[1]], at % x.shape[1]
                text = text if token == head.blank else (*text, token)
                beams[text] = torch.logaddexp(beams[text], score) if text in beams else score
        out.append(list(max(beams, key=lambda text: float(beams[text]))[width:]))
    return out


def main() -> None:
    """Run and print."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--utterances", type=int, default=16)
    p.add_argument("--frames", type=int, default=250)
    p.add_argument("--vocab", type=int, default=500)
    p.add_argument("--beam", type=int, default=4)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--cpu-time", action="store_true", help="count the processor's time, not the clock's: beside other jobs, one thread")
    Figures.add_argument(p)
    args = p.parse_args()
    figures = Figures("transducer", args.json)
    clock = time.process_time if args.cpu_time else time.perf_counter
    head = trained_like(args.vocab)
    states, truth = synthetic(head, args.utterances, args.frames)

    def lengths(x: Tensor) -> Tensor:
        return torch.full((len(x),), x.shape[1])

    contestants: dict[str, tuple[Search, Search]] = {
        "greedy": (lambda x: [h.tokens for h in transducer_greedy(head, x, lengths(x))], lambda x: plain_greedy(head, x)),
        f"beam {args.beam}": (lambda x: [row[0].tokens for row in transducer_beam(head, x, lengths(x), args.beam)],
                              lambda x: plain_beam(head, x, args.beam)),
    }
    rows = []
    for name, (vectorized, plain) in contestants.items():
        for size in [n for n in (1, 4, 16, 64) if n <= args.utterances]:
            times: tuple[list[float], list[float]] = ([], [])
            for r in range(args.rounds + 1):
                for search, taken in zip((vectorized, plain), times):
                    began = clock()
                    found = search(states[:size])
                    if r:  # the first warms up
                        taken.append(clock() - began)
                    if search is vectorized:
                        ours = found
            errors = [sum(map(edit_errors, truth, texts)) / sum(map(len, truth[:size])) for texts in (ours, found)]
            ratios = [b / a for a, b in zip(*times)]
            figures.add(f"{name}, {size} utterances together against plain loops", ratios)
            rows.append({"search": name, "batch": size, "ms per utterance": f"{1000 * statistics.median(times[0]) / size:.2f}",
                         "plain loop": f"{1000 * statistics.median(times[1]) / size:.2f}",
                         "times faster": f"{statistics.median(ratios):.1f}", "token errors %": f"{100 * errors[0]:.2f}",
                         "plain": f"{100 * errors[1]:.2f}"})
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, vocabulary {args.vocab}, {args.frames} frames")
    print(format_table(rows))


if __name__ == "__main__":
    main()
