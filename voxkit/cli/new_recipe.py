"""`voxkit new-recipe`: a recipe for your own data out of one that is there.

    voxkit new-recipe mycorpus --from librispeech/voxformer --data folder:/data/mycorpus

copies run.sh and conf/ to egs/mycorpus/voxformer and points the knobs on top of run.sh at your data. Model, training and
stages stay as they are: edit them in the copy.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `new-recipe` to the commands."""
    parser = subparsers.add_parser("new-recipe", help="a recipe for your own data from one that is there", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of your corpus: the new folder under egs/")
    parser.add_argument("--from", dest="template", default="librispeech/voxformer", metavar="DATASET/MODEL", help="recipe to copy")
    parser.add_argument("--data", required=True, metavar="KIND:PATH",
                        help="folder:PATH for audio with a TSV or CSV, a Kaldi directory or lhotse manifests; "
                             "lhotse:NAME:PATH for a corpus that lhotse has a recipe for; or another corpus by its name")
    parser.add_argument("--egs", type=Path, help="the egs folder (default: ./egs, else that of the checkout voxkit is installed from)")
    parser.add_argument("--force", action="store_true", help="overwrite run.sh and conf/ of a recipe that is there")


def run(args: argparse.Namespace) -> int:
    """Make the recipe and say how to run it."""
    from voxkit.experiments.new_recipe import make

    where = make(args.name, args.template, args.data, egs=args.egs, force=args.force)
    shown = where.relative_to(Path.cwd()) if where.is_relative_to(Path.cwd()) else where
    print(f"Made {shown}. Next:\n\n  cd {shown}\n"
          "  ./run.sh --stop-stage 1     # prepare: what is wrong with the data is named and counted\n"
          "  ./run.sh                    # everything\n"
          "  ./run.sh --help             # the knobs")
    return 0
