"""The `voxkit` command: a table of sub-commands; only the one that is asked for is imported.

A sub-command is a module `voxkit/cli/<name>.py` with `add_parser(subparsers)` and `run(args) -> int | None`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from voxkit import __version__
from voxkit.cli.arguments import Parser

# command → (module in voxkit/cli, what `voxkit --help` says of it)
COMMANDS = {
    "prepare": ("prepare", "corpus → validated lhotse cuts"),
    "tokenize": ("tokenize", "train a SentencePiece or character tokenizer"),
    "train": ("train", "train a model from a configuration"),
    "average": ("average", "average checkpoints into one"),
    "decode": ("decode", "transcribe test sets with a checkpoint"),
    "tune": ("tune", "choose the weights of the searches on a development set"),
    "score": ("score", "word and character error rates with intervals"),
    "score-codec": ("score_codec", "how good a codec is, beside one that needs no training"),
    "hallucinate": ("hallucinate", "words per minute where nobody speaks"),
    "transcribe": ("transcribe", "transcribe audio files"),
    "pseudo-label": ("pseudo_label", "a team's own media → labeled cuts, where two recognizers agree"),
    "adapt": ("adapt", "audio of a speaker → a state that recognition begins with (LaCT ASR)"),
    "contrast": ("contrast", "does a carried state help? the same utterances with it, with another's, and without (LaCT ASR)"),
    "generate": ("generate", "audio from a generator, to a file or as it is made (LaCT audio)"),
    "history": ("history", "is what was said before worth anything to a generator? own history, another's, none (LaCT audio)"),
    "profile-generator": ("profile_generator", "what generating audio costs, and how it grows with its length"),
    "align": ("align", "word times for audio and its text"),
    "lm": ("lm", "train or convert an n-gram language model"),
    "pack": ("pack", "lexicons of games: sentences, phrases, prompts"),
    "export": ("export", "a checkpoint → ONNX, INT8, TensorRT, checked against it"),
    "verify": ("verify", "a checkpoint and its exports hear the same utterances: are all texts equal?"),
    "benchmark": ("benchmark", "how fast an artifact is on this machine"),
    "import": ("import_model", "a pretrained Whisper → a checkpoint that needs no training"),
    "serve": ("serve", "serve an artifact or a checkpoint: WebSocket, gRPC, HTTP"),
    "client": ("client", "stream files or the microphone to a server"),
    "cache": ("cache", "what a cache of encoder states holds; --prune frees what nothing reads any more"),
    "plot": ("plot", "curves of training runs, attention and alignment of an utterance, as PNG"),
    "info": ("info", "the parts and parameters of a configuration"),
    "doctor": ("doctor", "what is installed, what is missing, and the command that mends it"),
    "new-recipe": ("new_recipe", "a recipe for your own data from one that is there"),
}

# What the user can mend: one line, no traceback. Everything else is ours and shows where it came from.
USER_ERRORS = (ValueError, OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Returns:
        The exit status: 0, what the sub-command returned, 2 for a mistake of the user's, 130 for Ctrl-C.
    """
    try:
        status = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except SystemExit:  # argparse, after a help or a mistake
        if _deaf():
            return 1
        raise
    except BrokenPipeError:
        _deaf()
        return 1


def _deaf() -> bool:
    """Whether nobody reads what is printed any more (`voxkit --help | head`); then nothing further is said of it."""
    try:
        sys.stdout.flush()
        return False
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True


def _main(argv: list[str]) -> int:
    debug = os.environ.get("VOXKIT_DEBUG", "0") not in ("", "0")
    while argv and argv[0] == "--debug":
        debug, argv = True, argv[1:]
    commands = available_commands()
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(commands))
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"voxkit {__version__}")
        return 0
    name = argv[0]
    if name not in commands:
        print(f"voxkit: no command {name!r}; there are: {', '.join(commands)}", file=sys.stderr)
        return 2
    try:
        return _run(commands[name][0], argv)
    except KeyboardInterrupt:
        print(f"voxkit {name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug or isinstance(error, BrokenPipeError) or not _is_users(error):
            raise
        print(f"voxkit {name}: error: {_message(error)}", file=sys.stderr)
        print("  (VOXKIT_DEBUG=1 shows where)", file=sys.stderr)
        return 2


def available_commands() -> dict[str, tuple[str, str]]:
    """The commands of `COMMANDS` whose module is in the tree, in its order."""
    here = Path(__file__).parent
    return {name: entry for name, entry in COMMANDS.items() if (here / f"{entry[0]}.py").is_file()}


def _run(module_name: str, argv: list[str]) -> int:
    module = importlib.import_module(f"voxkit.cli.{module_name}")
    parser = Parser(prog="voxkit")
    module.add_parser(parser.add_subparsers(dest="command", required=True))
    status = module.run(_parse(parser, argv))
    return 0 if status is None else int(status)


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Overrides `key=value` may stand anywhere, and the last one of a key counts; argparse itself takes them only beside the first
    positional argument, and hands those that follow a list (`--config a.yaml key=value`) to that."""
    args, rest = parser.parse_known_args(argv)
    if any(word.startswith("-") or "=" not in word for word in rest) or (rest and not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(args, "overrides"):
        return args
    given = [*args.overrides, *rest]
    if isinstance(files := getattr(args, "config", None), list):
        given += [word for word in files if "=" in word]
        args.config = [word for word in files if "=" not in word]
    args.overrides = [word for word in argv if word in given]
    return args


def _is_users(error: BaseException) -> bool:
    from voxkit.optional import MissingPackage

    return isinstance(error, (*USER_ERRORS, MissingPackage)) and not isinstance(error, UnicodeError)


def _message(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.filename is not None and error.strerror:
        return f"no such file or folder: {error.filename}"
    return str(error) or type(error).__name__


def _help(commands: dict[str, tuple[str, str]]) -> str:
    width = max(len(name) for name in COMMANDS) + 2
    lines = [f"  {name:<{width}}{entry[1]}" for name, entry in commands.items()]
    return "\n".join([
        "usage: voxkit [--debug] <command> [options]", "", "A recipe-based speech toolkit. The commands:", "", *lines, "",
        "voxkit <command> --help shows its options; voxkit --version the version.",
    ])


if __name__ == "__main__":
    sys.exit(main())
