"""Does a state that was carried help? Sessions with a hidden channel: `python -m benchmarks.lact_adaptation`.

Tokens are vectors; every session adds a vector of its own to all of them, which no single utterance of three to six tokens tells for sure.
Two recognizers of two layers learn the same sessions, one whose state goes from utterance to utterance in training and one that begins
anew each time. Both are then read with their own session's state, with another session's, and without: token error rates on utterances 2
to 8 of held-out sessions, with bootstrap intervals over the sessions.
"""

from __future__ import annotations

import argparse
import math
import random
import time

import torch
from rapidfuzz.distance import Levenshtein

from voxkit.audio.specaugment import SpecAugmentConfig
from voxkit.batch import Batch, Padded, turns
from voxkit.encoders.front_end import FrontEndConfig
from voxkit.eval.table import format_table
from voxkit.models.lact_asr import CarryConfig, LaCTASR, LaCTASRConfig, LaCTLossConfig

TOKENS, WIDTH, FIRST = 12, 16, 3  # ids 0 to 2 are blank, begin and end
CHANNEL, NOISE = 1.5, 0.5
MODES = ("reset", "carried", "other")


def make_sessions(draw: torch.Generator, sessions: int, utterances: int) -> Batch:
    """A batch of sessions, each with a channel of its own."""
    vectors = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(7))
    features, tokens, names = [], [], []
    for session in range(sessions):
        channel = CHANNEL * torch.randn(WIDTH, generator=draw)
        for _ in range(utterances):
            count = int(torch.randint(3, 7, (1,), generator=draw))
            said = torch.randint(TOKENS, (count,), generator=draw)
            frames = vectors[said].repeat_interleave(torch.randint(3, 5, (count,), generator=draw), 0)
            features.append(frames + channel + NOISE * torch.randn(frames.shape, generator=draw))
            tokens.append(said + FIRST)
            names.append(str(session))
    return Batch([str(n) for n in range(len(tokens))], features=Padded.of(features), tokens=Padded.of(tokens), sessions=names)


def make_model(carry: bool, seed: int) -> LaCTASR:
    """Two layers of width 64, 0.1 M parameters."""
    torch.manual_seed(seed)
    front_end = FrontEndConfig(kind="stacked", fbank_bins=WIDTH, stack=1, stride=1, subsampling_dim=48,
                               spec_augment=SpecAugmentConfig(prob=0.0))
    encoder = {"kind": "lact", "dim": 64, "heads": 2, "ffn": 96, "layers": 2, "dropout": 0.0, "left": 8,
               "fast": {"heads": 2, "chunk": 16, "rate": 0.1, "gate": 0.2}}
    return LaCTASR(LaCTASRConfig(vocab_size=FIRST + TOKENS, front_end=front_end, encoder=encoder, dropout=0.0,
                                 loss=LaCTLossConfig(ctc=1.0, attention=0.0), carry=CarryConfig(enabled=carry)))


def train(model: LaCTASR, steps: int, seed: int, rate: float = 3e-3) -> float:
    """Utterances alone for the first third, then sessions of 2, 4 and 8 → the mean loss of the last steps."""
    draw, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    model.train()
    for step in range(steps):
        done = step / steps
        length = next(n for until, n in ((1 / 3, 1), (0.5, 2), (0.7, 4), (1.0, 8)) if done < until)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        loss = model.loss(make_sessions(draw, 64 // length, length)).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-20:]) / len(losses[-20:])


@torch.no_grad()
def errors(model: LaCTASR, batch: Batch, mode: str) -> list[tuple[int, int]]:
    """(errors, tokens) of each session on its utterances from the second on, read with its own state, another session's, or none."""
    model.eval()
    assert batch.features is not None and batch.tokens is not None and batch.sessions is not None
    found = [(0, 0)] * len(set(batch.sessions))
    own = None
    for turn, rows in enumerate(turns(batch.sessions)):
        part = Batch([batch.ids[row] for row in rows], features=Padded(batch.features.values[rows], batch.features.lengths[rows]))
        state = own if mode == "carried" else None
        if mode == "other" and own is not None:
            state = tuple(x.unflatten(0, (len(rows), -1)).roll(1, 0).flatten(0, 1) for x in own)
        encoded = model.encode(part, state)
        own = encoded.carried if mode == "carried" else model.encode(part, own).carried
        best = model.ctc_log_probs(encoded.states).argmax(-1)
        for place, row in enumerate(rows if turn else []):
            said = [t for t in best[place, :encoded.lengths[place]].unique_consecutive().tolist() if t]
            truth = batch.tokens.values[row, :batch.tokens.lengths[row]].tolist()
            wrong, count = found[place]
            found[place] = wrong + Levenshtein.distance(said, truth), count + len(truth)
    return found


def rate(counts: list[tuple[int, int]]) -> float:
    """Errors per token."""
    return sum(wrong for wrong, _ in counts) / max(1, sum(count for _, count in counts))


def interval(a: list[tuple[int, int]], b: list[tuple[int, int]], rounds: int = 1000) -> tuple[float, float]:
    """95 % of rate(a) / rate(b) - 1 over resampled sessions, the same for both."""
    draw, ratios = random.Random(0), []
    for _ in range(rounds):
        picked = [draw.randrange(len(a)) for _ in a]
        ratios.append(rate([a[n] for n in picked]) / max(1e-9, rate([b[n] for n in picked])) - 1)
    ratios.sort()
    return ratios[round(0.025 * rounds)], ratios[round(0.975 * rounds) - 1]


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="of each model; 500 are about a minute of one core")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sessions", type=int, default=200, help="held out, of eight utterances")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test, rows = make_sessions(torch.Generator().manual_seed(1000), args.sessions, 8), []
    for seed in args.seeds:
        for carry in (True, False):
            began, model = time.process_time(), make_model(carry, seed)
            train(model, args.steps, seed)
            seconds = time.process_time() - began
            counts = {mode: errors(model, test, mode) for mode in MODES}
            relative = {mode: "{:+.1%} ({:+.1%} to {:+.1%})".format(rate(counts[mode]) / rate(counts["reset"]) - 1,
                                                                    *interval(counts[mode], counts["reset"])) for mode in MODES[1:]}
            rows.append({"seed": seed, "trained": "carried" if carry else "reset", **{mode: f"{rate(counts[mode]):.1%}" for mode in MODES},
                         "carried / reset": relative["carried"], "other / reset": relative["other"], "CPU s": f"{seconds:.0f}"})
    print(format_table(rows, title="token error rate on utterances 2 to 8, by the state they are read with"))


if __name__ == "__main__":
    main()
