"""`voxkit prepare <corpus> --out data`: a corpus → checked lhotse cuts, `data/cuts_<split>.jsonl.gz`."""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

# corpus → (what it is, default normalization of its transcripts); each is a module of voxkit/data/corpora
CORPORA = {
    "librispeech": ("LibriSpeech and mini LibriSpeech: downloaded, or a tree that is there", "librispeech"),
    "toy": ("players' commands, synthesized on the spot", "none"),
    "toyseq": ("features like those of speech, every boundary known, made on the spot", "none"),
    "pieces": ("music whose timbre, tempo, key and motif are known, made on the spot", "none"),
    "synthetic": ("speech for text, by small synthesizers", "none"),
    "gaming": ("call-outs, briefings and dialogue of games, as unpack.py wrote them out", "librispeech"),
    "nonspeech": ("clips in which nobody speaks, labeled empty: made on the spot, or out of a folder of noise", "none"),
    "lhotse": ("any corpus that lhotse has a recipe for: lhotse:aishell, lhotse:commonvoice, lhotse:tedlium, ...", "none"),
    "folder": ("your own: audio and a table of transcripts, a Kaldi directory, lhotse manifests", "librispeech"),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("prepare", help="corpus → validated lhotse cuts", description=__doc__)
    metavar = "|".join("lhotse:NAME" if name == "lhotse" else name for name in CORPORA)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar=metavar)
    corpora.choices = corpora._name_parser_map = _Names()
    for name, (what, text) in CORPORA.items():
        module = importlib.import_module(f"voxkit.data.corpora.{name}")
        sub = corpora.add_parser(name, help=what, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.add_argument("--out", required=True, help="data directory; what is there already with the same options is kept")
        sub.add_argument("--force", action="store_true", help="make everything anew")
        sub.add_argument("--jobs", type=int, help="how many at once (default: every core)")
        sub.add_argument("--dask", metavar="ADDRESS", help="work on a Dask cluster instead, e.g. tcp://host:8786")
        checks = sub.add_argument_group("checks (what fails is named, counted, left out, and listed in validation.json)")
        checks.add_argument("--text", default=text, help=f"normalization of transcripts: none, librispeech, lower (default {text})")
        checks.add_argument("--min-duration", type=float, default=0.1, help="seconds (default 0.1)")
        checks.add_argument("--max-duration", type=float, default=40.0, help="seconds (default 40)")
        checks.add_argument("--max-characters-per-second", type=float, default=40.0, help="of transcripts (default 40)")
        checks.add_argument("--skip-decode", action="store_true", help="do not decode all audio; corrupt files stay unseen")
        sub.set_defaults(prepare=module.add_arguments(sub))


class _Names(dict):
    """Parsers by corpus; `lhotse:NAME` is parsed as `lhotse`."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith("lhotse:")

    def __missing__(self, name: str) -> argparse.ArgumentParser:
        return self["lhotse"]


def run(args: argparse.Namespace) -> None:
    from voxkit.data.validate import Checks

    logging.getLogger("lhotse").setLevel(logging.ERROR)
    checks = Checks(text=args.text, min_duration=args.min_duration, max_duration=args.max_duration,
                    max_characters_per_second=args.max_characters_per_second, decode=not args.skip_decode)
    if args.corpus == "lhotse":
        raise ValueError("which corpus of lhotse's? Write lhotse:NAME, for example lhotse:aishell")
    if args.force:
        (Path(args.out) / "prepare.json").unlink(missing_ok=True)
    preparation = args.prepare(args, checks)
    if preparation is not None:
        print(preparation.table())
