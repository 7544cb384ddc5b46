"""`voxkit hallucinate`: what a checkpoint says where nobody speaks, in words per minute: on silence and noises made on the spot, and on the
recordings of a folder (each subfolder is a condition); with a record of each method from which one command repeats it."""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

HELP = "words per minute where nobody speaks"
WHERE = "decode/hallucination_METHOD.json in a run"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.record import add_again_argument
    from voxkit.cli.search_options import add_search_arguments, add_tuned_argument

    parser = subparsers.add_parser("hallucinate", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    add_again_argument(parser, "it for one method", WHERE)
    parser.add_argument("--folders", nargs="*", default=[], help="recordings without speech, besides what is made")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each condition")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a clip")
    parser.add_argument("--methods", nargs="+", default=None, help="greedy, prefix_beam, attention, joint, rescoring")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    parser.add_argument("--out", help="by default decode/ in the run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli import record

    if args.again:
        record.refuse_besides(args, add_parser, "hallucinate", ("device", "out"))
        known = record.read(args.again, "hallucinate", WHERE)
        now = hallucinate(_arguments(known, args))
        return record.compare(known, known["result"], now, f"{now[-1]['words/min']} words a minute")
    if not args.checkpoint:
        raise ValueError("give a checkpoint, or --again with the record of a method")
    hallucinate(args)
    return 0


def hallucinate(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Recognise, print and write → the rows of the table."""
    from voxkit import files
    from voxkit.checkpoint.loading import decode_dir
    from voxkit.cli import record
    from voxkit.cli.fingerprint import sha256
    from voxkit.cli.search_options import build_search
    from voxkit.eval.table import format_table
    from voxkit.files import append_csv
    from voxkit.infer.checkpoint import load_checkpoint
    from voxkit.infer.nonspeech import folder_clips, hallucinations, made_clips
    from voxkit.infer.recognizer import Recognizer
    from voxkit.train.distributed import choose_device

    if args.minutes <= 0 or args.seconds <= 0:
        raise ValueError("--minutes and --seconds must be above 0")
    device = choose_device(args.device)
    loaded = load_checkpoint(args.checkpoint, device, args.overrides)
    recognizer = Recognizer(loaded.model, loaded.tokenizer, device)
    search = build_search(args, recognizer, loaded.recipe.config.decode, decode_dir(loaded.path))
    out = Path(args.out) if args.out else decode_dir(loaded.path)
    rows: list[dict[str, Any]] = []
    methods = args.methods or [loaded.recipe.config.decode.method]
    search.check(methods)
    weights, folders, made = sha256(loaded.path / "model.safetensors"), None, record.made_by("torch")
    for method in methods:
        clips = chain(made_clips(args.minutes, args.seconds), *(folder_clips(f, args.minutes, args.seconds) for f in args.folders))
        options, label = search.of(method), search.label(method)
        found = hallucinations(recognizer, clips, options)
        stem, here = f"hallucination_{label}", []
        for condition, h in found.items():
            here.append({"method": label, "condition": condition, "minutes": f"{h.seconds / 60:.1f}", "clips": h.clips,
                         "with words": h.speaking, "words": h.words, "words/min": f"{h.per_minute:.2f}"})
            append_csv(out / "hallucination.csv", {"date": made["date"], **here[-1], "checkpoint": str(loaded.path),
                                                   "record": f"{stem}.json"})
        said = [{"id": id, "text": text} for id, text in found["all"].said.items()]
        files.write_text(out / f"{stem}.jsonl", "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in said))
        folders = [record.stamped(folder, out / f"{stem}.json") for folder in args.folders] if folders is None else folders
        record.write(out / f"{stem}.json", "hallucinate", {
            **record.checkpoint_part(loaded, out / f"{stem}.json", weights), **record.search_part(search, options, out / f"{stem}.json"),
            "folders": folders, "minutes": args.minutes, "seconds": args.seconds, "overrides": args.overrides, "device": args.device,
            **made, "result": here})
        rows += here
    print(format_table(rows, title=str(loaded.path)))
    print(f"what was said, records and hallucination.csv: {out}")
    return rows


def _arguments(known: dict[str, Any], given: argparse.Namespace) -> argparse.Namespace:
    """The options that repeat one method; device and out may be given anew."""
    from voxkit.cli import record

    folders = [record.unchanged("recordings", folder, known["folder"]) for folder in known["folders"]]
    out = record.again_folder(known, given.out)
    kept = {key: known[key] for key in ("minutes", "seconds")}
    return argparse.Namespace(**{**vars(given), **record.search_arguments(known, out), **kept, "folders": folders, "out": str(out)})
