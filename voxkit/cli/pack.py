"""`voxkit pack`: what the players of a game say, from a pack: a YAML file, or one of those that voxkit brings by name (shooter, strategy).

    voxkit pack check shooter --tokenizer exp/stage3/tokenizer.model
    voxkit pack sentences shooter --count 5000 --held-out data/cuts_callouts.jsonl.gz --leave-out --out lines.txt
    voxkit pack phrases shooter --text librispeech --out phrases.txt
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Register the command."""
    p = subparsers.add_parser("pack", help="lexicons of games: sentences, phrases, prompts", description=__doc__,
                              formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = p.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("pack", help="a YAML file, or the name of a built-in pack")
    written = argparse.ArgumentParser(add_help=False)
    written.add_argument("--out", help="file to write; by default it is printed")
    spelled = argparse.ArgumentParser(add_help=False)
    spelled.add_argument("--text", help="text rule of the model's transcripts: none, librispeech, lower")
    held = argparse.ArgumentParser(add_help=False)
    held.add_argument("--held-out", nargs="+", default=[], metavar="FILE", help="texts or cuts of test sets: none of their sentences may "
                                                                                "be trained on")
    s = actions.add_parser("sentences", parents=[common, held, written], help="distinct sentences for training and synthetic speech")
    s.add_argument("--count", type=int, default=5000, help="at most; 0: all (default 5000)")
    s.add_argument("--seed", type=int, default=0)
    s.add_argument("--part", default="", choices=["", "train", "dev", "test"], help="those that belong to this part by their words")
    s.add_argument("--leave-out", action="store_true", help="leave out and name what --held-out holds, in place of refusing it")
    s.add_argument("--json", action="store_true", help="JSON lines with id, text, intent and slots, for `voxkit score --commands`")
    f = actions.add_parser("phrases", parents=[common, spelled, written], help="a file for --phrases, or for sherpa-onnx's hotwords")
    f.add_argument("--sherpa", action="store_true", help="as a hotwords file of sherpa-onnx")
    t = actions.add_parser("prompt", parents=[common, written], help="the phrases as a prompt")
    t.add_argument("--characters", type=int, default=600, help="at most (default 600, about what Whisper's prompt takes)")
    c = actions.add_parser("check", parents=[common, spelled, held], help="what is wrong or suspicious")
    c.add_argument("--tokenizer", help="of the model: phrases that it cannot spell are an error")
    c.add_argument("--train", nargs="+", default=[], metavar="FILE", help="with --held-out: training texts or cuts, refused where they "
                                                                          "share a sentence")
    r = actions.add_parser("read", parents=[written], help="a plain list or a localization table → a pack")
    r.add_argument("table", help="phrases, one a line, maybe with a weight behind a tab; or .csv or .tsv with a header")
    r.add_argument("--class", dest="kind", default="name", help="class of its terms (default name)")
    r.add_argument("--column", default="", help="of a table: the one that holds the strings")
    r.add_argument("--longest", type=int, default=4, help="of a table: words of a string that may be a name (default 4)")
    r.add_argument("--name", default="game", help="of the pack")
    p.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    from voxkit.text.pack import load_pack

    if args.action == "read":
        return _read(args)
    pack = load_pack(args.pack)
    return {"sentences": _sentences, "phrases": _phrases, "prompt": _prompt, "check": _check}[args.action](args, pack)


def _sentences(args: argparse.Namespace, pack: Any) -> int:
    from voxkit.text.pack_sentences import overlap, refuse_overlap, sentences

    found = sentences(pack, args.count, args.seed, args.part)
    held_out = _texts(args.held_out)
    if args.leave_out:
        shared = overlap((s.text for s in found), held_out)
        found = [s for s in found if s.text not in shared]
        for text, places in shared.items():
            print(f"left out, as it is in {', '.join(places)}: {text}", file=sys.stderr)
    else:
        refuse_overlap((s.text for s in found), held_out)
    if args.json:
        lines = [json.dumps({"id": f"{pack.name}-{i:06d}", "text": s.text, "intent": s.intent, "kind": s.kind, "slots": dict(s.slots)},
                            ensure_ascii=False) for i, s in enumerate(found)]
    else:
        lines = [s.text for s in found]
    return _say(args, lines, f"{len(found)} sentences")


def _phrases(args: argparse.Namespace, pack: Any) -> int:
    from voxkit.text.pack import check_spelling
    from voxkit.text.pack_lists import hotword_lines, phrase_lines

    rule = args.text or ("librispeech" if args.sherpa else "none")
    check_spelling(pack, rule=rule)
    lines = hotword_lines(pack, rule) if args.sherpa else phrase_lines(pack, rule)
    return _say(args, lines, f"{len(lines)} phrases")


def _prompt(args: argparse.Namespace, pack: Any) -> int:
    from voxkit.text.pack_lists import prompt

    text = prompt(pack, args.characters)
    return _say(args, [text], f"{len(text)} characters")


def _check(args: argparse.Namespace, pack: Any) -> int:
    from voxkit.text.pack import check_spelling, warnings
    from voxkit.text.pack_sentences import refuse_overlap, size
    from voxkit.text.vocabulary import load_vocabulary

    if args.train and not args.held_out:
        raise ValueError("--train: say with --held-out which test sets it must share nothing with")
    for line in warnings(pack):
        print(f"warning: {line}", file=sys.stderr)
    check_spelling(pack, load_vocabulary(args.tokenizer) if args.tokenizer else None, args.text or "none")
    for path, texts in _texts(args.train).items():
        try:
            refuse_overlap(texts, _texts(args.held_out))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    print(f"{pack.name}: {len(pack.terms)} terms of {len(pack.classes)} classes, {len(pack.templates)} templates, {size(pack)} ways to say "
          "something")
    return 0


def _read(args: argparse.Namespace) -> int:
    from voxkit.text.pack import warnings
    from voxkit.text.pack_lists import pack_of, read_list, read_localization, to_yaml

    left_out = 0
    if args.table.lower().endswith((".csv", ".tsv")):
        terms, left_out = read_localization(args.table, args.kind, column=args.column, longest=args.longest)
    else:
        terms = read_list(args.table, args.kind)
    pack = pack_of(args.name, terms)
    for line in warnings(pack):
        print(f"warning: {line}", file=sys.stderr)
    return _say(args, [to_yaml(pack).rstrip("\n")], f"{len(terms)} terms{f', {left_out} strings that are no names' if left_out else ''}")


def _texts(paths: list[str]) -> dict[str, list[str]]:
    from voxkit.eval.texts import read_texts
    from voxkit.files import read_lines

    out = {}
    for path in paths:
        plain = path.endswith(".txt")
        out[path] = [line for line in read_lines(path) if line.strip()] if plain else list(read_texts(path).texts.values())
    return out


def _say(args: argparse.Namespace, lines: list[str], what: str) -> int:
    from voxkit.files import write_text

    if args.out:
        write_text(args.out, "".join(line + "\n" for line in lines))
        print(f"{args.out}: {what}")
    else:
        print("\n".join(lines))
    return 0
