"""A parallel decoder against an autoregressive one of the same size: `python -m benchmarks.parallel_decoding`.

Both have random weights and look at the same encoder states (25 frames/s, 10 s utterances); both give out 50 tokens per utterance: the
weights of CIF are set to sum to it, and the end of sentence is forbidden to the other before that. With `--runs PARAFORMER VOXFORMER --cuts
CUTS` they are trained ones, on real speech: CIF says how many tokens there are, the other stops where it has heard the end, or where CTC
expects no more. The encoder is not counted, but CIF's predictor is. One CPU thread; contestants take turns, the ratio is the median of the
rounds'.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor

from benchmarks.figures import Figures
from voxkit.data.config import DataConfig
from voxkit.data.loader import build_eval_loader
from voxkit.data.manifests import load_cuts
from voxkit.decoders.parallel import ParallelDecoder
from voxkit.decoders.transformer import DecoderState, TransformerDecoder, TransformerDecoderConfig
from voxkit.eval.table import format_table
from voxkit.infer.recognizer import Recognizer
from voxkit.predictors import CifPredictor
from voxkit.search.attention import attention_beam
from voxkit.search.ctc_length import expected_tokens
from voxkit.search.parallel import parallel_beam, parallel_greedy

Search = Callable[[int], "list[int]"]


class Endless:
    """A decoder that never ends a sentence: how long it speaks is then decided by the search's limit.

    Args:
        decoder: the one that does the work.
    """

    def __init__(self, decoder: TransformerDecoder) -> None:
        self.decoder, self.bos, self.eos = decoder, decoder.bos, decoder.eos

    def init_state(self, memory: Tensor, lengths: Tensor) -> DecoderState:
        return self.decoder.init_state(memory, lengths)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        log_probs, state = self.decoder.step(tokens, state)
        log_probs[:, self.decoder.eos] = -1e4
        return log_probs, state


def random_weights(args: argparse.Namespace) -> tuple[Search, Search, str]:
    """The two searches, beam → tokens of each utterance, and what they are."""
    torch.manual_seed(0)
    config = TransformerDecoderConfig(dim=args.dim, heads=4, ffn=4 * args.dim, layers=args.layers)
    parallel = ParallelDecoder(config, args.vocab, args.dim).eval()
    autoregressive = Endless(TransformerDecoder(config, args.vocab, args.dim).eval())
    predictor = CifPredictor(args.dim).eval()
    states, lengths = torch.randn(args.batch, args.frames, args.dim), torch.full((args.batch,), args.frames)
    counts = torch.full((args.batch,), args.tokens)

    def checked(name: str, said: list[int]) -> list[int]:
        if not all(abs(n - args.tokens) <= 1 for n in said):
            raise RuntimeError(f"{name} gave {said} tokens where {args.tokens} were to be compared")
        return said

    def at_once(beam: int) -> list[int]:
        found = predictor(states, lengths, counts)
        log_probs = parallel(found.vectors, found.lengths, states, lengths).log_softmax(-1)
        return checked("parallel", _search_at_once(log_probs, counts, beam))

    def one_by_one(beam: int) -> list[int]:
        rows = attention_beam(autoregressive, states, lengths, beam, max_tokens_per_frame=args.tokens / args.frames)
        return checked("autoregressive", [len(row[0].tokens) for row in rows])

    title = f"{args.batch} utterances × {args.frames} frames → {args.tokens} tokens, {args.layers} layers of {args.dim}"
    return at_once, one_by_one, title


def trained(args: argparse.Namespace) -> tuple[Search, Search, str]:
    """The same of two runs, for the first utterances of --cuts.

    Raises:
        ValueError: the first run is no Paraformer, the second has no autoregressive decoder.
    """
    paraformer, other = (Recognizer.load(path, overrides=args.overrides) for path in args.runs)
    if paraformer.model.heads.parallel is None or not isinstance(other.model.heads.decoder, TransformerDecoder):
        raise ValueError(f"--runs {' '.join(args.runs)}: first a Paraformer, then a VoxFormer")
    cuts = list(islice(load_cuts(args.cuts), args.batch))
    batch = next(iter(build_eval_loader(cuts, None, DataConfig(num_workers=0), max_duration=1e9)))
    mine, theirs = paraformer.encode(batch), other.encode(batch)
    expected = expected_tokens(other.model.ctc_log_probs(theirs.states), theirs.lengths)

    def at_once(beam: int) -> list[int]:
        found = paraformer.model.predict(mine.states, mine.lengths)
        return _search_at_once(found.log_probs, found.lengths, beam)

    def one_by_one(beam: int) -> list[int]:
        rows = attention_beam(other.model.heads.decoder, theirs.states, theirs.lengths, beam, expected=expected)
        return [len(row[0].tokens) for row in rows]

    seconds = sum(cut.duration for cut in cuts)
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (paraformer.model.predictor, paraformer.model.decoder,
                                                                          other.model.decoder)]
    return at_once, one_by_one, (f"{len(cuts)} utterances, {seconds:.0f} s; predictor and decoder {sizes[0]:.2f} + {sizes[1]:.2f} M "
                                 f"parameters, autoregressive {sizes[2]:.2f} M")


def _search_at_once(log_probs: Tensor, counts: Tensor, beam: int) -> list[int]:
    if beam == 1:
        return [len(h.tokens) for h in parallel_greedy(log_probs, counts)]
    return [len(row[0].tokens) for row in parallel_beam(log_probs, counts, beam)]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"batch": 8, "frames": 250, "tokens": 50, "dim": 256, "layers": 3, "vocab": 300, "beam": 4, "rounds": 5}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--runs", nargs=2, metavar=("PARAFORMER", "VOXFORMER"), help="trained models instead of random weights")
    parser.add_argument("--cuts", help="with --runs: the speech")
    parser.add_argument("overrides", nargs="*", help="with --runs: key=value, e.g. model.front_end.pretrained.name=/path/to/whisper-base")
    Figures.add_argument(parser)
    args = parser.parse_args()
    if bool(args.runs) != bool(args.cuts):
        parser.error("--runs and --cuts belong together")
    torch.set_num_threads(1)
    rows = []
    with torch.inference_mode():
        at_once, one_by_one, title = trained(args) if args.runs else random_weights(args)
        for beam in (1, args.beam):
            times: dict[str, list[float]] = {"parallel": [], "autoregressive": []}
            said: dict[str, list[int]] = {}
            for _ in range(args.rounds + 1):
                for name, search in (("parallel", at_once), ("autoregressive", one_by_one)):
                    began = time.perf_counter()
                    said[name] = search(beam)
                    times[name].append(time.perf_counter() - began)
            ratios = [a / b for a, b in zip(times["autoregressive"][1:], times["parallel"][1:])]
            Figures("parallel_decoding", args.json).add(f"parallel against autoregressive, beam {beam}", ratios)
            for name, values in times.items():
                rows.append({"decoder": name, "beam": beam, "tokens": sum(said[name]),
                             "ms per utterance": f"{1e3 * statistics.median(values[1:]) / len(said[name]):.1f}",
                             "times slower": f"{statistics.median(ratios):.1f}" if name == "autoregressive" else ""})
    print(format_table(rows, title=title))


if __name__ == "__main__":
    main()
