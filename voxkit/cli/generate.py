"""`voxkit generate`: audio from a generator over codes, from nothing or going on from a prompt; to a file, or as it is made to stdout."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

HELP = "audio from a generator, to a file or as it is made (LaCT audio)"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("generate", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name, of system lact_audio")
    parser.add_argument("--prompt", metavar="FILE", help="audio to go on from; -: read it from stdin")
    parser.add_argument("--prompt-seconds", type=float, default=0.0, metavar="S", help="only its last S seconds")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio to make (10)")
    parser.add_argument("--out", metavar="FILE", help="where it goes; with several seeds NAME-SEED.wav")
    parser.add_argument("--stream", action="store_true", help="write 16-bit samples to stdout, buffer by buffer, as they are made")
    parser.add_argument("--buffer", type=float, default=0.5, metavar="S", help="seconds of a buffer, 0.04 to 2 (0.5)")
    parser.add_argument("--seeds", type=int, nargs="+", help="one sequence for each; the same seed gives the same audio (0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0: greedy (1)")
    parser.add_argument("--top-k", type=int, default=0, help="only so many likeliest codes")
    parser.add_argument("--top-p", type=float, default=1.0, help="only the likeliest codes with this probability together")
    parser.add_argument("--repetition-window", type=int, default=0, metavar="FRAMES", help="codes said in it become less likely")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="by how much, in logits (1)")
    parser.add_argument("--state", metavar="FILE", help="go on from a state that --save-state wrote")
    parser.add_argument("--save-state", metavar="FILE", help="keep the state at the end")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    import torch

    from voxkit.audio.io import write_audio
    from voxkit.experiments.generate import GenerateJob, generate
    from voxkit.infer.code_sampling import SamplingOptions

    if bool(args.out) == args.stream:
        raise ValueError("give --out FILE for a file, or --stream for samples on stdout")
    if args.seeds and args.state:
        raise ValueError("--seeds: a state goes on with the seeds that it was begun with: leave them out beside --state")
    seeds = tuple(args.seeds or [0])
    if args.stream and (len(seeds) > 1 or not 0.04 <= args.buffer <= 2):
        raise ValueError("--stream: one seed, and buffers of 0.04 to 2 seconds")
    sampling = SamplingOptions(args.temperature, args.top_k, args.top_p, args.repetition_window, args.repetition_penalty)
    prompt = io.BytesIO(sys.stdin.buffer.read()) if args.prompt == "-" else args.prompt
    made = generate(GenerateJob(args.checkpoint, args.seconds, prompt, args.prompt_seconds, seeds,
                                args.buffer if args.stream else 0.0, args.state, bool(args.save_state), sampling, args.device))
    pieces = []
    for audio in made:
        if args.stream:
            sys.stdout.buffer.write((audio[0].clamp(-1, 1) * 32767).round().to(torch.int16).cpu().numpy().astype("<i2").tobytes())
            sys.stdout.buffer.flush()
        else:
            pieces.append(audio)
    if args.save_state:
        made.save(args.save_state)
    if args.out:
        whole, out = torch.cat(pieces, 1), Path(args.out)
        for seed, audio in zip(made.state.seeds, whole):
            path = out if len(whole) == 1 else out.with_name(f"{out.stem}-{seed}{out.suffix}")
            write_audio(path, audio.clamp(-1, 1), made.rate)
            print(path)
    print(f"{made.made:.2f} s of audio in {made.spent:.2f} s, the first after {made.first:.3f} s; state {made.state.bytes / 1e6:.2f} MB",
          file=sys.stderr)
    return 0
